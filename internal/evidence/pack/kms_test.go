package pack

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"rotator/internal/awserr"
	"rotator/internal/fakeaws"
)

// newKMS returns a client of a fake KMS.
func newKMS(t *testing.T) *kms.Client {
	t.Helper()
	server, err := fakeaws.Start(fakeaws.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return kms.New(kms.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(server.Endpoint()),
		Credentials:  credentials.NewStaticCredentialsProvider("AKIA", "not-a-secret", ""),
		Retryer:      aws.NopRetryer{},
	})
}

// newKey creates a key and returns its id.
func newKey(
	t *testing.T, client *kms.Client, spec types.KeySpec, usage types.KeyUsageType,
) string {
	t.Helper()
	out, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage})
	if err != nil {
		t.Fatal(err)
	}
	return *out.KeyMetadata.KeyId
}

// TestKMSSigner: packs that are signed by KMS verify with Check and with VERIFY.sh, for ECDSA and
// RSASSA-PSS.
func TestKMSSigner(t *testing.T) {
	verify, shells := script(t)
	client := newKMS(t)
	for spec, algorithm := range map[types.KeySpec]string{
		types.KeySpecEccNistP256: "ECDSA_SHA_256",
		types.KeySpecRsa2048:     "RSASSA_PSS_SHA_256",
	} {
		key := newKey(t, client, spec, types.KeyUsageTypeSignVerify)
		signer, err := NewKMSSigner(t.Context(), client, key)
		if err != nil {
			t.Fatal(err)
		}
		if got := signer.Identity().Algorithm; got != algorithm {
			t.Errorf("%s signs with %s, want %s", spec, got, algorithm)
		}
		base := t.TempDir()
		dir, public := filepath.Join(base, "pack"), filepath.Join(base, "key.pem")
		write(t, dir, signer)
		if err := os.WriteFile(public, signer.PublicKey(), 0o600); err != nil {
			t.Fatal(err)
		}
		if signed, err := check(t, dir, signer.PublicKey()); err != nil || !signed {
			t.Errorf("%s: signed %v, %v", spec, signed, err)
		}
		for _, shell := range shells {
			if out, code := runScript(t, shell, verify, public, dir); code != 0 {
				t.Errorf("%s, %s: exit code %d: %s", spec, shell, code, out)
			}
		}
	}
}

// TestKeysThatCannotSign: a key of another usage or spec is a *KeyError, and that of a disabled key
// is the error of KMS.
func TestKeysThatCannotSign(t *testing.T) {
	client := newKMS(t)
	for _, c := range []struct {
		spec  types.KeySpec
		usage types.KeyUsageType
	}{
		{types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt},
		{types.KeySpecRsa2048, types.KeyUsageTypeEncryptDecrypt},
		{types.KeySpecEccNistP384, types.KeyUsageTypeSignVerify},
	} {
		_, err := NewKMSSigner(t.Context(), client, newKey(t, client, c.spec, c.usage))
		if !errors.As(err, new(*KeyError)) {
			t.Errorf("%s, %s: %v, want a *KeyError", c.spec, c.usage, err)
		}
	}
	key := newKey(t, client, types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify)
	signer, err := NewKMSSigner(t.Context(), client, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &key}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := signer.Sign(t.Context(), make([]byte, 32)); awserr.Code(err) !=
		"DisabledException" {
		t.Errorf("Sign: %v", err)
	}
	if _, err := NewKMSSigner(t.Context(), client, key); awserr.Code(err) !=
		"DisabledException" {
		t.Errorf("NewKMSSigner: %v", err)
	}
}
