package kmsblob

import (
	"bytes"
	"encoding/binary"
	"testing"

	"rotator/internal/fakeaws/fakekms"
)

// layouts returns a blob of each known layout. All have the same token.
func layouts(name [TokenLen]byte) map[byte][]byte {
	rest := append([]byte{derSequence}, bytes.Repeat([]byte{0xab}, 70)...)
	header := func(layout byte, middle ...byte) []byte {
		blob := append([]byte{1, layout, 2, 0, 0x78}, name[:]...)
		blob = binary.BigEndian.AppendUint32(append(blob, middle...), uint32(len(rest)))
		return append(blob, rest...)
	}
	inner := append([]byte{1, 1, 1, 2, 0, 0x78}, append(name[:], rest...)...)
	oldest := append(append([]byte{0x0a, 0x20}, name[:]...), 0x12)
	oldest = append(binary.AppendUvarint(oldest, uint64(len(inner))), inner...)
	return map[byte][]byte{
		layoutCurrent: header(layoutCurrent, append([]byte{1}, bytes.Repeat([]byte{9}, 16)...)...),
		layoutOlder:   header(layoutOlder),
		layoutOldest:  oldest,
	}
}

// TestTokens: ReadToken returns the token of a blob of a known layout. It returns none if the
// blob is truncated, or if a byte differs that the layout fixes.
func TestTokens(t *testing.T) {
	name := [TokenLen]byte(bytes.Repeat([]byte{7}, TokenLen))
	for layout, blob := range layouts(name) {
		if got, ok := ReadToken(blob); !ok || got != (Token{layout, name}) {
			t.Fatalf("layout %d: %v, %v", layout, got, ok)
		}
		if !IsBlob(blob) || IsBlob(append(bytes.Clone(blob), '\n')) {
			t.Errorf("layout %d: IsBlob does not reject a blob with a trailing byte", layout)
		}
		for n := range blob {
			if _, ok := ReadToken(blob[:n]); ok || IsBlob(blob[:n]) {
				t.Errorf("layout %d, cut after %d bytes, has a token", layout, n)
			}
		}
		refused := 0
		for i := range 2 + 3 + TokenLen {
			if layout == layoutOldest && i == 3+TokenLen {
				continue // a length; a shorter one fits as well
			}
			changed := bytes.Clone(blob)
			changed[i] ^= 0x40
			if got, ok := ReadToken(changed); !ok {
				refused++
			} else if got == (Token{layout, name}) {
				t.Errorf("layout %d, byte %d: changed, with the same token", layout, i)
			}
		}
		if refused < 4 {
			t.Errorf("layout %d: only %d bytes are checked", layout, refused)
		}
	}
}

// TestTokensOfKeys: all blobs under one key material have the same token, and blobs under other
// key material have other tokens. Blobs under RSA keys have no token.
func TestTokensOfKeys(t *testing.T) {
	service := fakekms.New(fakekms.Config{Region: "us-east-1", Account: "111122223333"})
	seen := map[Token]string{}
	for _, spec := range []fakekms.KeySpec{fakekms.Symmetric, fakekms.Symmetric, fakekms.RSA2048} {
		key, err := service.CreateKey(spec)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			if i == 2 && spec == fakekms.Symmetric {
				if _, err := service.Rotate(key); err != nil {
					t.Fatal(err)
				}
			}
			blob, err := service.Encrypt(key, []byte("secret"), nil)
			if err != nil {
				t.Fatal(err)
			}
			read, ok := ReadToken(blob)
			if ok != (spec == fakekms.Symmetric) {
				t.Errorf("%s: ReadToken returns %v", spec, ok)
			}
			if of, known := seen[read]; ok && known && of != key {
				t.Errorf("%s and %s have the same token", of, key)
			}
			if ok {
				seen[read] = key
			}
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d tokens of 2 keys with 2 materials each", len(seen))
	}
}

// FuzzToken: if ReadToken returns a token, the input contains it.
func FuzzToken(f *testing.F) {
	for _, blob := range layouts([TokenLen]byte{1, 2, 3}) {
		f.Add(blob)
	}
	f.Fuzz(func(t *testing.T, blob []byte) {
		if read, ok := ReadToken(blob); ok && !bytes.Contains(blob, read.name[:]) {
			t.Errorf("%x has the token %x", blob, read.name)
		}
	})
}
