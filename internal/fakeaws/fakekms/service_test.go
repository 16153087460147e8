package fakekms_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"rotator/internal/fakeaws/awsspec"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fakesm2"
	"rotator/internal/fakeaws/fault"
)

const region = "us-west-2"

// start serves a fake KMS. It also returns the injector and the configuration for clients.
func start(t testing.TB) (*fakekms.Service, *fault.Injector, aws.Config) {
	t.Helper()
	return startIn(t, region)
}

func startIn(t testing.TB, region string) (*fakekms.Service, *fault.Injector, aws.Config) {
	t.Helper()
	service := fakekms.New(fakekms.Config{
		Region: region, Account: "111122223333", SM2: fakesm2.New,
		Principal: func(id string) string { return "arn:aws:iam::" + account(id) + ":user/" + id },
	})
	faults := fault.New(1)
	server := httptest.NewServer(faults.Handler(service))
	t.Cleanup(server.Close)
	return service, faults, aws.Config{
		Region:       region,
		BaseEndpoint: aws.String(server.URL),
		Credentials:  credentials.NewStaticCredentialsProvider("AKIAALICE", "secret", ""),
		Retryer:      func() aws.Retryer { return aws.NopRetryer{} },
	}
}

// account returns the account of an access key. Bob's account is not the account of the keys.
func account(accessKeyID string) string {
	if accessKeyID == "AKIABOB" {
		return "444455556666"
	}
	return "111122223333"
}

func TestConformance(t *testing.T) {
	for _, region := range []string{region, "cn-north-1"} {
		t.Run(region, func(t *testing.T) {
			_, _, cfg := startIn(t, region)
			awsspec.KMS(t, cfg)
		})
	}
}

// newKey creates a key without HTTP.
func newKey(t testing.TB, s *fakekms.Service, spec fakekms.KeySpec) string {
	t.Helper()
	arn, err := s.CreateKey(spec)
	if err != nil {
		t.Fatal(err)
	}
	return arn
}

// newBlob encrypts without HTTP.
func newBlob(t testing.TB, s *fakekms.Service, arn string, context map[string]string) []byte {
	t.Helper()
	blob, err := s.Encrypt(arn, []byte("text"), context)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

// code returns the error code of a call, "" if it succeeded.
func code(t testing.TB, err error) string {
	t.Helper()
	var api smithy.APIError
	if err != nil && !errors.As(err, &api) {
		t.Fatalf("%v is not an API error", err)
	}
	if err == nil {
		return ""
	}
	return api.ErrorCode()
}

// TestKeyStates checks DescribeKey and ReEncrypt in every key state (developer guide, "Key
// states").
func TestKeyStates(t *testing.T) {
	service, _, cfg := start(t)
	client := kms.NewFromConfig(cfg)
	arn, other := newKey(t, service, fakekms.Symmetric), newKey(t, service, fakekms.Symmetric)
	from, to := newBlob(t, service, arn, nil), newBlob(t, service, other, nil)
	for state, want := range map[fakekms.KeyState]string{
		fakekms.Enabled:                "",
		fakekms.Updating:               "",
		fakekms.Disabled:               "DisabledException",
		fakekms.PendingDeletion:        "KMSInvalidStateException",
		fakekms.PendingReplicaDeletion: "KMSInvalidStateException",
		fakekms.PendingImport:          "KMSInvalidStateException",
		fakekms.Unavailable:            "KMSInvalidStateException",
		fakekms.Creating:               "KMSInvalidStateException",
	} {
		if err := service.SetState(arn, state); err != nil {
			t.Fatal(err)
		}
		key, err := client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &arn})
		if err != nil || key.KeyMetadata.KeyState != types.KeyState(state) ||
			key.KeyMetadata.Enabled != (state == fakekms.Enabled) ||
			(key.KeyMetadata.DeletionDate != nil) != (state == fakekms.PendingDeletion) {
			t.Errorf("DescribeKey in state %s: %+v, %v", state, key, err)
		}
		_, err = client.ReEncrypt(t.Context(), &kms.ReEncryptInput{
			CiphertextBlob:   from,
			DestinationKeyId: &other,
		})
		if got := code(t, err); got != want {
			t.Errorf("ReEncrypt from a key in state %s: %q, want %q", state, got, want)
		}
		_, err = client.ReEncrypt(t.Context(), &kms.ReEncryptInput{
			CiphertextBlob:   to,
			DestinationKeyId: &arn,
		})
		if got := code(t, err); got != want {
			t.Errorf("ReEncrypt to a key in state %s: %q, want %q", state, got, want)
		}
	}
}

func TestDelete(t *testing.T) {
	service, _, cfg := start(t)
	client := kms.NewFromConfig(cfg)
	arn, other := newKey(t, service, fakekms.Symmetric), newKey(t, service, fakekms.Symmetric)
	if err := service.SetAlias("alias/gone", arn); err != nil {
		t.Fatal(err)
	}
	blob := newBlob(t, service, arn, nil)
	if err := service.Delete(arn); err != nil {
		t.Fatal(err)
	}
	_, err := client.ReEncrypt(t.Context(), &kms.ReEncryptInput{
		CiphertextBlob:   blob,
		DestinationKeyId: &other,
	})
	if got := code(t, err); got != "AccessDeniedException" {
		t.Errorf("ReEncrypt from a deleted key: %q, want AccessDeniedException", got)
	}
	_, err = client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/gone")})
	if got := code(t, err); got != "NotFoundException" {
		t.Errorf("DescribeKey with the alias of a deleted key: %q, want NotFoundException", got)
	}
}

// newGrant creates a grant to re-encrypt and describe, and returns its token.
func newGrant(t *testing.T, client *kms.Client, key, to string, context map[string]string) string {
	t.Helper()
	in := &kms.CreateGrantInput{KeyId: &key, GranteePrincipal: &to,
		Operations: []types.GrantOperation{types.GrantOperationReEncryptFrom,
			types.GrantOperationReEncryptTo, types.GrantOperationDescribeKey}}
	if context != nil {
		in.Constraints = &types.GrantConstraints{EncryptionContextSubset: context}
	}
	out, err := client.CreateGrant(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return *out.GrantToken
}

// TestGrants: a grant allows calls that no policy allows, within its constraints and until it
// is revoked. Until it is visible, the call needs the token of the grant.
func TestGrants(t *testing.T) {
	service, _, cfg := start(t)
	client := kms.NewFromConfig(cfg)
	from, to := newKey(t, service, fakekms.Symmetric), newKey(t, service, fakekms.Symmetric)
	const alice = "arn:aws:iam::111122223333:user/AKIAALICE"
	context := map[string]string{"tenant": "a"}
	service.HoldGrants(true)
	tokens := []string{newGrant(t, client, from, alice, context),
		newGrant(t, client, to, alice, nil)}
	service.SetPolicy(func(c fakekms.Call) bool {
		return !strings.Contains(c.Action, "ReEncrypt") && c.Action != "kms:DescribeKey"
	})
	ask := func(context map[string]string, tokens ...string) string {
		_, err := client.ReEncrypt(t.Context(), &kms.ReEncryptInput{
			CiphertextBlob: newBlob(t, service, from, context), SourceKeyId: &from,
			SourceEncryptionContext: context, DestinationKeyId: &to, GrantTokens: tokens})
		return code(t, err)
	}
	describe := func(tokens ...string) string {
		_, err := client.DescribeKey(t.Context(),
			&kms.DescribeKeyInput{KeyId: &from, GrantTokens: tokens})
		return code(t, err)
	}
	const denied, invalid = "AccessDeniedException", "InvalidGrantTokenException"
	check := func(when string, got, want []string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	check("not visible", []string{ask(context), ask(context, tokens[0]), ask(context, tokens...),
		ask(nil, tokens...), ask(context, append(tokens, "forged")...), describe(),
		describe(tokens...), describe("forged")},
		[]string{denied, denied, "", denied, invalid, denied, "", invalid})
	service.HoldGrants(false)
	check("visible", []string{ask(context), ask(nil), describe()}, []string{"", denied, ""})
	list, err := client.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: &from})
	if err != nil || len(list.Grants) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	revoke := &kms.RevokeGrantInput{KeyId: &from, GrantId: list.Grants[0].GrantId}
	if _, err := client.RevokeGrant(t.Context(), revoke); err != nil {
		t.Fatal(err)
	}
	check("revoked", []string{ask(context), ask(context, tokens...)}, []string{denied, invalid})
}

// codeOfDryRun returns the error code of a dry run without a ciphertext.
func codeOfDryRun(t *testing.T, client *kms.Client, from, to string) string {
	t.Helper()
	_, err := client.ReEncrypt(t.Context(), &kms.ReEncryptInput{
		SourceKeyId:      &from,
		DestinationKeyId: &to,
		DryRun:           aws.Bool(true),
		DryRunModifiers:  []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext},
	})
	return code(t, err)
}

// checkDenials sends a request with each action denied, and checks the text of the errors. deny
// is the action that the policy denies.
func checkDenials(
	t *testing.T, client *kms.Client, in *kms.ReEncryptInput, deny *string, from, to string,
) {
	t.Helper()
	for _, c := range []struct {
		deny string
		pin  *string
		text string // of the error
	}{
		{"kms:ReEncryptFrom", &from,
			"not authorized to perform: kms:ReEncryptFrom on resource: " + from},
		{"kms:ReEncryptFrom", nil,
			"The ciphertext refers to a customer master key that does not exist"},
		{"kms:ReEncryptTo", nil, "not authorized to perform: kms:ReEncryptTo on resource: " + to},
	} {
		*deny, in.SourceKeyId = c.deny, c.pin
		_, err := client.ReEncrypt(t.Context(), in)
		if got := code(t, err); got != "AccessDeniedException" ||
			!strings.Contains(err.Error(), c.text) {
			t.Errorf("%s denied: %v, want %q", c.deny, err, c.text)
		}
	}
}

func TestPolicy(t *testing.T) {
	service, _, cfg := start(t)
	client := kms.NewFromConfig(cfg)
	from, to := newKey(t, service, fakekms.Symmetric), newKey(t, service, fakekms.Symmetric)
	context := map[string]string{"tenant": "a"}
	token := newGrant(t, client, from, "arn:aws:iam::111122223333:user/other", nil)
	in := &kms.ReEncryptInput{
		CiphertextBlob:               newBlob(t, service, from, context),
		SourceEncryptionContext:      context,
		DestinationKeyId:             &to,
		DestinationEncryptionContext: map[string]string{"tenant": "b"},
		GrantTokens:                  []string{token},
	}
	var asked []fakekms.Call
	deny := ""
	service.SetPolicy(func(c fakekms.Call) bool {
		asked = append(asked, c)
		return c.Action != deny
	})
	if _, err := client.ReEncrypt(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	call := func(action, key string, context map[string]string) fakekms.Call {
		return fakekms.Call{Action: action, KeyARN: key, EncryptionContext: context,
			Principal: "arn:aws:iam::111122223333:user/AKIAALICE", GrantTokens: []string{token}}
	}
	want := []fakekms.Call{
		call("kms:ReEncryptFrom", from, context),
		call("kms:ReEncryptTo", to, in.DestinationEncryptionContext),
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("calls of the policy (-want +got):\n%s", diff)
	}
	checkDenials(t, client, in, &deny, from, to)
	// The policy also applies to a dry run without a ciphertext.
	if got := codeOfDryRun(t, client, from, to); got != "AccessDeniedException" {
		t.Errorf("denied dry run: %q, want AccessDeniedException", got)
	}
	deny = "kms:DescribeKey"
	_, err := client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &to})
	if got := code(t, err); got != "AccessDeniedException" {
		t.Errorf("denied DescribeKey: %q, want AccessDeniedException", got)
	}
	deny = ""
	foreign := strings.Replace(to, "111122223333", "444455556666", 1)
	_, err = client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &foreign})
	if got := code(t, err); got != "AccessDeniedException" {
		t.Errorf("DescribeKey in another account: %q, want AccessDeniedException", got)
	}
}

// TestQuota: the quota applies only to ReEncrypt, including dry runs, and to each account
// separately.
func TestQuota(t *testing.T) {
	service, _, cfg := start(t)
	alice := kms.NewFromConfig(cfg)
	bob := kms.NewFromConfig(cfg, func(o *kms.Options) {
		o.Credentials = credentials.NewStaticCredentialsProvider("AKIABOB", "secret", "")
	})
	arn := newKey(t, service, fakekms.Symmetric)
	in := &kms.ReEncryptInput{CiphertextBlob: newBlob(t, service, arn, nil), DestinationKeyId: &arn}
	dry := *in
	dry.DryRun = aws.Bool(true)
	call := func(c *kms.Client, in *kms.ReEncryptInput) string {
		_, err := c.ReEncrypt(t.Context(), in)
		return code(t, err)
	}
	service.SetReEncryptQuota(3)
	got := []string{call(alice, in), call(alice, &dry), call(alice, in), call(alice, in),
		call(bob, in)}
	want := []string{"", "DryRunOperationException", "", "ThrottlingException", ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("error codes (-want +got):\n%s", diff)
	}
	if _, err := alice.Decrypt(t.Context(),
		&kms.DecryptInput{CiphertextBlob: in.CiphertextBlob}); err != nil {
		t.Error(err)
	}
	service.SetReEncryptQuota(0)
	if got := call(alice, in); got != "" {
		t.Errorf("without a quota: %s", got)
	}
}

// TestCorruptBlob: a blob with any changed bit is refused. A changed key token is reported as
// an unknown key.
func TestCorruptBlob(t *testing.T) {
	service, _, _ := start(t)
	blob := newBlob(t, service, newKey(t, service, fakekms.Symmetric), map[string]string{"a": "b"})
	if _, _, err := service.Decrypt("", blob, map[string]string{"a": "b"}); err != nil {
		t.Fatal(err)
	}
	for i := range blob {
		want := "InvalidCiphertextException"
		if i >= 5 && i < 37 {
			want = "AccessDeniedException"
		}
		for bit := range 8 {
			bad := bytes.Clone(blob)
			bad[i] ^= 1 << bit
			_, _, err := service.Decrypt("", bad, map[string]string{"a": "b"})
			var e *fakekms.Error
			if !errors.As(err, &e) || e.Code != want {
				t.Errorf("with bit %d of byte %d changed: %v, want %s", bit, i, err, want)
			}
		}
	}
}

// FuzzDecrypt: only blobs that the service made decrypt; other bytes neither decrypt nor
// cause a panic.
func FuzzDecrypt(f *testing.F) {
	service, _, _ := start(f)
	blob := newBlob(f, service, newKey(f, service, fakekms.Symmetric), nil)
	f.Add(blob)
	f.Add(blob[:58])
	f.Add(append(bytes.Clone(blob), 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		plaintext, _, err := service.Decrypt("", data, nil)
		if err == nil && !bytes.Equal(data, blob) {
			t.Errorf("%x decrypts to %q", data, plaintext)
		}
	})
}

// TestRotateChangesToken: rotated material has a new key token.
func TestRotateChangesToken(t *testing.T) {
	service, _, _ := start(t)
	arn := newKey(t, service, fakekms.Symmetric)
	before := newBlob(t, service, arn, nil)
	if _, err := service.Rotate(arn); err != nil {
		t.Fatal(err)
	}
	after := newBlob(t, service, arn, nil)
	if bytes.Equal(before[5:37], after[5:37]) {
		t.Error("the token did not change with the rotation")
	}
	for _, blob := range [][]byte{before, after} {
		if _, under, err := service.Decrypt("", blob, nil); err != nil || under != arn {
			t.Errorf("the blob decrypts under %s, %v", under, err)
		}
	}
}

// TestFaults: after a lost response or a reset, the last use of the destination key shows
// whether the request was applied.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		kind    fault.Kind
		code    string // "" for a broken connection
		applied bool
	}{
		{fault.Reset, "", false},
		{fault.LostResponse, "", true},
		{fault.Throttle, "ThrottlingException", false},
		{fault.InternalError, "KMSInternalException", false},
	} {
		t.Run(fmt.Sprint(c.kind), func(t *testing.T) {
			service, faults, cfg := start(t)
			client := kms.NewFromConfig(cfg)
			from, to := newKey(t, service, fakekms.Symmetric), newKey(t, service, fakekms.Symmetric)
			in := &kms.ReEncryptInput{
				CiphertextBlob:   newBlob(t, service, from, nil),
				DestinationKeyId: &to,
			}
			faults.Set("kms:ReEncrypt", fault.Fault{Kind: c.kind, Times: 1})
			_, err := client.ReEncrypt(t.Context(), in)
			var api smithy.APIError
			if answered := errors.As(err, &api); err == nil || answered != (c.code != "") ||
				(answered && api.ErrorCode() != c.code) {
				t.Errorf("error %v, want %q", err, c.code)
			}
			last, err := client.GetKeyLastUsage(t.Context(), &kms.GetKeyLastUsageInput{KeyId: &to})
			if err != nil {
				t.Fatal(err)
			}
			if applied := last.KeyLastUsage.Operation != ""; applied != c.applied {
				t.Errorf("applied: %v, want %v", applied, c.applied)
			}
			if _, err := client.ReEncrypt(t.Context(), in); err != nil {
				t.Errorf("the fault did not end after one request: %v", err)
			}
			want := map[string]int{"kms:ReEncrypt": 2, "kms:GetKeyLastUsage": 1}
			if got := faults.Counts(); !maps.Equal(got, want) {
				t.Errorf("counts %v, want %v", got, want)
			}
		})
	}
}

// TestConcurrentUse: ciphertexts are re-encrypted while keys rotate and aliases change. All
// stay readable, and each is under the key that the answer names.
func TestConcurrentUse(t *testing.T) {
	service, _, cfg := start(t)
	client := kms.NewFromConfig(cfg)
	old := newKey(t, service, fakekms.Symmetric)
	next := []string{newKey(t, service, fakekms.Symmetric), newKey(t, service, fakekms.Symmetric)}
	if err := service.SetAlias("alias/next", next[0]); err != nil {
		t.Fatal(err)
	}
	blob := newBlob(t, service, old, nil)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 25 {
				out, err := client.ReEncrypt(t.Context(), &kms.ReEncryptInput{
					CiphertextBlob:   blob,
					SourceKeyId:      &old,
					DestinationKeyId: aws.String("alias/next"),
				})
				if err != nil {
					t.Error(err)
					return
				}
				if _, under, err := service.Decrypt("", out.CiphertextBlob, nil); err != nil ||
					under != *out.KeyId {
					t.Errorf("the answer names %s, the blob decrypts under %s, %v", *out.KeyId,
						under, err)
				}
				if _, err := service.Rotate(next[i%2]); err != nil {
					t.Error(err)
				}
				if err := service.SetAlias("alias/next", next[(w+i)%2]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkReEncrypt measures a ReEncrypt in the service, without the network.
func BenchmarkReEncrypt(b *testing.B) {
	service, _, _ := start(b)
	arn := newKey(b, service, fakekms.Symmetric)
	blob := newBlob(b, service, arn, map[string]string{"tenant": "a"})
	body := fmt.Sprintf(
		`{"CiphertextBlob":"%s","DestinationKeyId":%q,"SourceEncryptionContext":{"tenant":"a"}}`,
		base64.StdEncoding.EncodeToString(blob), arn)
	for b.Loop() {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.Header.Set("X-Amz-Target", "TrentService.ReEncrypt")
		w := httptest.NewRecorder()
		service.ServeHTTP(w, r)
		if w.Code != 200 {
			b.Fatal(w.Body)
		}
	}
}
