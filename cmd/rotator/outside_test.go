package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"hash"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fakesm2"
	"rotator/internal/report"
)

// TestEncryptedOutside moves ciphertexts that were made outside of KMS: by a library and by
// openssl, with the public key of each RSA key spec and padding, and of an SM2 key.
func TestEncryptedOutside(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		fmt.Println("SKIPPED: ciphertexts of openssl were not tested, because it is not installed")
	}
	kinds := []keyKind{{"SM2", fakekms.SM2, "SM2PKE"}}
	for _, spec := range []fakekms.KeySpec{fakekms.RSA2048, fakekms.RSA3072, fakekms.RSA4096} {
		for _, algorithm := range []string{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"} {
			kinds = append(kinds, keyKind{string(spec) + " " + algorithm, spec, algorithm})
		}
	}
	for _, from := range kinds {
		t.Run(from.name, func(t *testing.T) { tryOutside(t, openssl, from) })
	}
}

// outsideTexts returns named plaintexts. For RSA keys, one of them has the maximum length that
// the padding allows.
func outsideTexts(from keyKind) map[string]string {
	longest := map[string]int{ // API_Encrypt
		"RSA_2048 RSAES_OAEP_SHA_1": 214, "RSA_2048 RSAES_OAEP_SHA_256": 190,
		"RSA_3072 RSAES_OAEP_SHA_1": 342, "RSA_3072 RSAES_OAEP_SHA_256": 318,
		"RSA_4096 RSAES_OAEP_SHA_1": 470, "RSA_4096 RSAES_OAEP_SHA_256": 446,
		"SM2": 1024,
	}[from.name]
	// About one of 130 SM2 ciphertexts of a single byte cannot be decrypted by the library.
	return map[string]string{"short": "short text", "longest": strings.Repeat("l", longest)}
}

func tryOutside(t *testing.T, openssl string, from keyKind) {
	b := newCombination(t, from, keyKind{"symmetric", fakekms.Symmetric, ""})
	public, err := b.server.KMS().PublicKey(b.old)
	must(t, err)
	want := map[string]string{}
	put := func(name, text string, blob []byte) {
		want[name] = text
		b.putRow(t, name, blob)
		b.putObject(t, name, blob)
	}
	for name, text := range outsideTexts(from) {
		put("library "+name, text, encryptOutside(t, public, from.algorithm, text))
		if openssl != "" {
			put("openssl "+name, text, encryptOpenSSL(t, openssl, public, from.algorithm, text))
		}
	}
	moved := b.result(t, exitDone, "run")
	all := int64(2 * len(want))
	if expected := (report.Slots{Seen: all, Rotated: all}); moved.Slots != expected {
		t.Errorf("counted %+v, want %+v", moved.Slots, expected)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		for place, blob := range map[string][]byte{
			"row": b.row(t, name), "object": b.object(t, name)} {
			plaintext, key, err := b.server.KMS().Decrypt(b.new, blob,
				map[string]string{"purpose": "moved"})
			if err != nil || string(plaintext) != want[name] || key != b.new {
				t.Errorf("%s: %d bytes under %s, %v", name, len(plaintext), key, err)
			}
			t.Logf("%-27s by %-15s %-6s moved", from.name, name, place)
		}
	}
	if verified := b.result(t, exitDone, "verify"); !verified.Converged {
		t.Error("verify: not converged")
	}
}

// encryptOutside encrypts with a public key, like a program without access to KMS.
func encryptOutside(t *testing.T, public []byte, algorithm, plaintext string) []byte {
	t.Helper()
	if algorithm == "SM2PKE" {
		blob, err := fakesm2.Encrypt(public, []byte(plaintext))
		must(t, err)
		return blob
	}
	key, err := x509.ParsePKIXPublicKey(public)
	must(t, err)
	digest := map[string]func() hash.Hash{
		"RSAES_OAEP_SHA_1": sha1.New, "RSAES_OAEP_SHA_256": sha256.New}[algorithm]
	blob, err := rsa.EncryptOAEP(digest(), rand.Reader, key.(*rsa.PublicKey), []byte(plaintext),
		nil)
	must(t, err)
	return blob
}

// encryptOpenSSL is like encryptOutside, with the openssl command.
func encryptOpenSSL(
	t *testing.T, openssl string, public []byte, algorithm, plaintext string,
) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "public.der")
	must(t, os.WriteFile(file, public, 0o600))
	args := []string{"pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", file}
	if digest, ok := strings.CutPrefix(algorithm, "RSAES_OAEP_"); ok {
		digest = strings.ToLower(strings.ReplaceAll(digest, "_", ""))
		args = append(args, "-pkeyopt", "rsa_padding_mode:oaep",
			"-pkeyopt", "rsa_oaep_md:"+digest, "-pkeyopt", "rsa_mgf1_md:"+digest)
	}
	cmd := exec.CommandContext(t.Context(), openssl, args...)
	cmd.Stdin = strings.NewReader(plaintext)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, &log)
	}
	return out.Bytes()
}
