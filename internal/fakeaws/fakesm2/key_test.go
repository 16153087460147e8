package fakesm2_test

import (
	"testing"

	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fakesm2"
)

// TestCiphertextsFromOutside: the fake KMS decrypts a ciphertext that was made outside of KMS with
// the public key. SM2 keys exist in the China Regions only.
func TestCiphertextsFromOutside(t *testing.T) {
	kms := fakekms.New(fakekms.Config{Region: "cn-north-1", Account: "111122223333",
		SM2: fakesm2.New})
	key, err := kms.CreateKey(fakekms.SM2)
	if err != nil {
		t.Fatal(err)
	}
	public, err := kms.PublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := fakesm2.Encrypt(public, []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	if text, under, err := kms.Decrypt(key, blob, nil); string(text) != "text" || under != key {
		t.Errorf("Decrypt returns %q under %s, error %v", text, under, err)
	}
	encryptedOutside := fakekms.New(fakekms.Config{Region: "eu-west-1", Account: "111122223333",
		SM2: fakesm2.New})
	if arn, err := encryptedOutside.CreateKey(fakekms.SM2); err == nil {
		t.Errorf("eu-west-1 has the SM2 key %s", arn)
	}
}

// TestShortPlaintexts: each ciphertext of a plaintext of one byte can be decrypted.
func TestShortPlaintexts(t *testing.T) {
	key, err := fakesm2.New()
	if err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		ciphertext, err := key.Encrypt([]byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if plaintext, err := key.Decrypt(ciphertext); err != nil || string(plaintext) != "x" {
			t.Fatalf("Decrypt: %q, %v", plaintext, err)
		}
	}
}
