package reencrypt

import (
	"bytes"
	"strings"
	"testing"
)

// A ciphertext in the raw form of SM2 libraries, which KMS refuses as invalid, is reported
// with its form as a possible cause.
func TestRawSM2IsHinted(t *testing.T) {
	raw := append([]byte{4}, bytes.Repeat([]byte{0xab}, 64+32+20)...)
	sm2 := &asker{keys: Keys{SourceAlgorithm: "SM2PKE"}}
	if got := sm2.plaintextHint(raw); !strings.Contains(got, "ASN.1 DER") {
		t.Errorf("hint %q", got)
	}
	rsa := &asker{keys: Keys{SourceAlgorithm: "RSAES_OAEP_SHA_256"}}
	if got := rsa.plaintextHint(raw); got != "" {
		t.Errorf("hint %q for an RSA key", got)
	}
}
