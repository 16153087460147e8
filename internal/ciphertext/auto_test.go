package ciphertext

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/kmsblob"
	"rotator/internal/scan"
)

// kmsBlob has the layout of a blob under a symmetric key.
func kmsBlob(sealed string) []byte {
	b := append([]byte{1, 2, 3, 0, 0x78}, strings.Repeat("T", kmsblob.TokenLen)...)
	b = append(b, 1)
	b = append(b, strings.Repeat("R", 16)...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(sealed)+1))
	return append(append(b, 0x30), sealed...)
}

// olderBlob and firstBlob have the two layouts that KMS used before.
func olderBlob(sealed string) []byte {
	b := append([]byte{1, 1, 2, 0, 0x78}, strings.Repeat("T", kmsblob.TokenLen)...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(sealed)+1))
	return append(append(b, 0x30), sealed...)
}

func firstBlob(sealed string) []byte {
	token := strings.Repeat("T", kmsblob.TokenLen)
	inner := "\x01\x01\x01\x02\x00\x78" + token + sealed
	b := append([]byte{0x0a, kmsblob.TokenLen}, token...)
	b = binary.AppendUvarint(append(b, 0x12), uint64(len(inner)))
	return append(b, inner...)
}

func framed(blob []byte, payload string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(blob)))) + string(blob) + payload
}

// esdk returns the header of a message of the AWS Encryption SDK.
func esdk(version string, idLen int, provider string) string {
	field := func(s string) string {
		return string(binary.BigEndian.AppendUint16(nil, uint16(len(s)))) + s
	}
	return version + strings.Repeat("m", idLen) + field("\x00\x01"+field("tenant")+field("t1")) +
		"\x00\x01" + field(provider) + field("arn:aws:kms:...") + field("wrapped") + "\x02rest"
}

// autoCase is an object and the summary of its slots.
type autoCase struct {
	name string
	item scan.Item
	want []string
}

func autoCases() []autoCase {
	v2 := map[string]string{
		s3ecKeyV2:     std64("A"),
		s3ecIV:        "iv",
		s3ecWrapV2:    "kms",
		s3ecContextV2: `{"a":"b"}`,
	}
	bare := func(blob []byte) []string {
		return []string{" " + string(blob) + " map[k:x] map[k:x]"}
	}
	message := esdk("\x02\x05\x78", 32, "aws-kms")
	return []autoCase{
		{"s3 encryption client", object("x", "", v2),
			[]string{"metadata.x-amz-key-v2 A map[a:b] map[a:b]"}},
		{"s3 encryption client, first generation",
			object("x", "", map[string]string{s3ecKeyV1: "k", s3ecIV: "iv"}),
			[]string{"metadata.x-amz-key s3ec-v1"}},
		{"bare blob", object("x", string(kmsBlob("1")), nil), bare(kmsBlob("1"))},
		{"bare blob, older layout", object("x", string(olderBlob("1")), nil), bare(olderBlob("1"))},
		{"bare blob, first layout", object("x", string(firstBlob("1")), nil), bare(firstBlob("1"))},
		{"bare blob in base64", object("x", std64(string(kmsBlob("1")))+"\n", nil),
			bare(kmsBlob("1"))},
		{"bare blob, one byte missing", object("x", string(kmsBlob("1"))[:50], nil), nil},
		{"bare blob, one extra byte", object("x", string(kmsBlob("1"))+"x", nil), nil},
		{"text", object("x", "hello", map[string]string{"owner": "me"}), nil},
		{"empty body", object("x", "", nil), nil},
		{"encryption SDK", object("x", message, nil), []string{" esdk-message"}},
		{"encryption SDK, version 1", object("x", esdk("\x01\x80\x03\x78", 16, "aws-kms"), nil),
			[]string{" esdk-message"}},
		{"encryption SDK, hierarchical keyring",
			object("x", esdk("\x02\x04\x78", 32, "aws-kms-hierarchy"), nil),
			[]string{" esdk-message"}},
		{"encryption SDK in base64", object("x", std64(message), nil), []string{" esdk-message"}},
		{"encryption SDK without KMS", object("x", esdk("\x02\x05\x78", 32, "raw"), nil), nil},
		{"encryption SDK, truncated", object("x", message[:40], nil), nil},
		{"sneaker", object("secrets/x.aes", framed(kmsBlob("1"), "sealed"), nil),
			[]string{" sneaker"}},
		{"tink or sneaker", object("x", framed(kmsBlob("1"), "sealed"), nil),
			[]string{" ambiguous"}},
	}
}

func TestAuto(t *testing.T) {
	for _, test := range autoCases() {
		t.Run(test.name, func(t *testing.T) {
			f := compile(t, Spec{
				Format:  formatAuto,
				Kind:    Objects,
				Context: map[string]string{"k": "${key}"},
			})
			if diff := cmp.Diff(test.want, summary(f.Find(test.item))); diff != "" {
				t.Error(diff)
			}
			checkObjectLaws(t, f, test.item)
			test.item.Payload.(*scan.Object).ServerSideKMS = true
			if test.want == nil {
				test.want = []string{" sse-kms-only"}
			}
			if diff := cmp.Diff(test.want, summary(f.Find(test.item))); diff != "" {
				t.Errorf("under SSE-KMS: %s", diff)
			}
		})
	}
}

// TestAutoContext: the context of a bare blob comes from the target. A missing reference is
// refused.
func TestAutoContext(t *testing.T) {
	f := compile(t, Spec{
		Format:             formatAuto,
		Kind:               Objects,
		Context:            map[string]string{"t": "${metadata.tenant}"},
		DestinationContext: map[string]string{},
	})
	for _, test := range []struct {
		metadata map[string]string
		want     []string
	}{{nil, []string{" missing-context"}},
		{map[string]string{"tenant": "t1"},
			[]string{" " + string(kmsBlob("1")) + " map[t:t1] map[]"}}} {
		if diff := cmp.Diff(test.want,
			summary(f.Find(object("x", string(kmsBlob("1")), test.metadata)))); diff != "" {
			t.Error(diff)
		}
	}
}

// TestAmbiguousBase64Alphabet: a text without + / - _ is valid base64 and valid base64url, so the
// alphabet that its reader accepts is unknown. Format auto reads it and recognizes a current slot,
// but never replaces it with a text that is valid in only one of the two.
func TestAmbiguousBase64Alphabet(t *testing.T) {
	neutral, plus := kmsBlob("123"), kmsBlob("\xff\xff\xff\xff\xff")
	url := base64.URLEncoding.EncodeToString
	for _, test := range []struct {
		name, body, want string
		blob             []byte
	}{
		{"neutral", std64(string(neutral)), "", plus},
		{"neutral, replaced by neutral", std64(string(neutral)), std64(string(kmsBlob("456"))),
			kmsBlob("456")},
		{"base64", std64(string(plus)), std64(string(neutral)), neutral},
		{"base64, replaced by base64", std64(string(plus)),
			std64(string(kmsBlob("\xfe\xff\xff\xff\xff"))), kmsBlob("\xfe\xff\xff\xff\xff")},
		{"base64url", url(plus), url(kmsBlob("\xfe\xff\xff\xff\xff")),
			kmsBlob("\xfe\xff\xff\xff\xff")},
	} {
		f := compile(t, Spec{Format: formatAuto, Kind: Objects})
		item := object("x", test.body, nil)
		found := f.Find(item)
		if len(found) != 1 || found[0].Refused != nil {
			t.Fatalf("%s: %v", test.name, summary(found))
		}
		payload, err := f.Splice(item, [][]byte{test.blob})
		var spliceErr *SpliceError
		switch {
		case test.want == "" &&
			(!errors.As(err, &spliceErr) || spliceErr.Failures[0].Refused.Reason != "ambiguous"):
			t.Errorf("%s: error %v, want reason ambiguous", test.name, err)
		case test.want != "" && (err != nil || string(payload.(*scan.Object).Body) != test.want):
			t.Errorf("%s: spliced %v, %v, want %q", test.name, payload, err, test.want)
		}
	}
}

// FuzzAuto: the laws of objects (see checkObjectLaws) hold for every object, and a bare blob is
// found in a file.
func FuzzAuto(f *testing.F) {
	f.Add("x", kmsBlob("1"), "", "")
	f.Add("x", []byte(std64(string(olderBlob("1")))), "", "")
	f.Add("x", firstBlob("1"), "", "")
	f.Add("x.aes", []byte(framed(kmsBlob("1"), "sealed")), "", "")
	f.Add("x", []byte(esdk("\x02\x05\x78", 32, "aws-kms")), "", "")
	f.Add("x", []byte(nil), s3ecKeyV2, "QQ==")
	f.Fuzz(func(t *testing.T, key string, body []byte, name, value string) {
		item := object(key, string(body), map[string]string{
			name:          value,
			s3ecWrapV2:    "kms",
			s3ecIV:        "iv",
			s3ecContextV2: "{}",
		})
		for _, kind := range []Kind{Objects, Files} {
			auto := compile(t, Spec{
				Format:  formatAuto,
				Kind:    kind,
				Context: map[string]string{"k": "constant"},
			})
			checkObjectLaws(t, auto, item)
			if kind == Files && len(auto.Find(item)) == 0 && bytes.Equal(body, kmsBlob("1")) {
				t.Fatal("a bare blob was not found")
			}
		}
	})
}

// TestLayoutOfFakeBlobs: the blobs of the fake KMS have the layout that rotator recognizes.
func TestLayoutOfFakeBlobs(t *testing.T) {
	text, err := os.ReadFile("testdata/s3-encryption-client/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, piece := range strings.Split(string(text), `"blob": "`)[1:] {
		blob, _, ok := decodeText([]byte(piece[:strings.IndexByte(piece, '"')]), false)
		if !ok || !kmsblob.IsBlob(blob) {
			t.Errorf("%q is not recognized as a blob", blob)
		}
		n++
	}
	if n < 8 {
		t.Errorf("%d blobs in the vectors, want at least 8", n)
	}
}
