package ciphertext

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/scan"
)

// TestS3ECVectors: the slots of objects that the real clients stored are found, and only the
// wrapped key changes. Formats s3-encryption-client and auto agree.
func TestS3ECVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/s3-encryption-client/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors map[string]struct {
		Key, Body, Path   string
		Metadata, Context map[string]string
		Blob              []byte
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors) < 8 {
		t.Fatalf("%d vectors, %v", len(vectors), err)
	}
	for _, name := range []string{formatS3EC, formatAuto} {
		f := compile(t, Spec{Format: name, Kind: Objects})
		for key, v := range vectors {
			if inFile := strings.HasSuffix(key, s3ecInstruction); f.NeedsBody(v.Key,
				v.Metadata) != inFile {
				t.Errorf("%s: body needed: %v, want %v", key, !inFile, inFile)
			}
			item := object(v.Key, v.Body, v.Metadata)
			want := []Slot{{
				Path:               v.Path,
				Blob:               v.Blob,
				Context:            v.Context,
				DestinationContext: v.Context,
			}}
			if diff := cmp.Diff(want, f.Find(item)); diff != "" {
				t.Errorf("%s: -want +got\n%s", key, diff)
			}
			checkObjectLaws(t, f, item)
		}
	}
}

// checkObjectLaws checks the laws that hold for every format of objects: splicing the same blobs
// changes nothing. Another blob in one slot is found again, no other slot changes, and exactly one
// range of bytes differs, in the body or in one metadata value. Formats with siblings have their
// own tests.
func checkObjectLaws(t *testing.T, f Format, item scan.Item) {
	t.Helper()
	before := *item.Payload.(*scan.Object)
	found := f.Find(item)
	same := make([][]byte, len(found))
	for i, s := range found {
		checkSlot(t, s)
		same[i] = s.Blob
	}
	for _, blobs := range [][][]byte{same, make([][]byte, len(found))} {
		payload, err := f.Splice(item, blobs)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&before, payload); diff != "" {
			t.Fatalf("splicing the same blobs changed the object:\n%s", diff)
		}
	}
	for i := range found {
		if found[i].Refused != nil {
			continue
		}
		fresh := make([][]byte, len(found))
		fresh[i] = kmsBlob(fmt.Sprintf("another blob for slot %d\xff\xfb", i))
		payload, err := spliceFitting(t, f, item, found, fresh)
		if fresh[i] == nil {
			continue
		}
		if err != nil {
			if metadataSize(before.Metadata) > maxMetadata-200 {
				continue // the new blob does not fit
			}
			t.Fatal(err)
		}
		after := payload.(*scan.Object)
		if diff := cmp.Diff(&before, item.Payload); diff != "" {
			t.Fatalf("the object that was read changed:\n%s", diff)
		}
		if diff := cmp.Diff(summaryWith(found, fresh),
			summary(f.Find(scan.Item{Ref: item.Ref, Payload: after}))); diff != "" {
			t.Fatalf("after the splice (-want +got):\n%s", diff)
		}
		checkOneChange(t, before, *after, fresh[i])
		checkMask(t, f, item, after)
	}
}

// checkOneChange: two objects differ only in the text of one blob.
func checkOneChange(t *testing.T, before, after scan.Object, blob []byte) {
	t.Helper()
	changes := 0
	if !bytes.Equal(before.Body, after.Body) {
		changes++
		text := middle(string(before.Body), string(after.Body))
		checkIsBlob(t, text, blob)
	}
	for name, value := range after.Metadata {
		if was := before.Metadata[name]; was != value {
			changes++
			text := middle(was, value)
			checkIsBlob(t, text, blob)
		}
	}
	if len(before.Metadata) != len(after.Metadata) || changes != 1 {
		t.Fatalf("%d changes: %s", changes, cmp.Diff(before, after))
	}
	before.Body, after.Body, before.Metadata, after.Metadata = nil, nil, nil, nil
	if diff := cmp.Diff(before, after); diff != "" {
		t.Fatal(diff)
	}
}

// middle returns b without the prefix and the suffix that it has in common with a.
func middle(a, b string) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	a, b = a[n:], b[n:]
	m := 0
	for m < len(a) && m < len(b) && a[len(a)-1-m] == b[len(b)-1-m] {
		m++
	}
	return b[:len(b)-m]
}

// checkIsBlob: a changed text, without the parts in common with the old text, is part of the
// encoding of the blob.
func checkIsBlob(t *testing.T, text string, blob []byte) {
	t.Helper()
	plain := strings.NewReplacer("\r", "", "\n", "", `\r`, "", `\n`, "", "-", "+", "_", "/", "=",
		"", " ", "").Replace(text)
	whole := strings.TrimRight(std64(string(blob)), "=")
	if !strings.Contains(whole, plain) && !strings.Contains(string(blob), text) {
		t.Fatalf("%q is not part of the encoded blob", text)
	}
}

// s3ecV2 and s3ecV3 return the metadata of an object of the second and the third generation.
func s3ecV2() map[string]string {
	return map[string]string{
		s3ecKeyV2:     std64("A"),
		s3ecIV:        "iv",
		s3ecWrapV2:    "kms+context",
		s3ecContextV2: `{"aws:x-amz-cek-alg":"AES/GCM/NoPadding"}`,
	}
}

func s3ecV3() map[string]string {
	return map[string]string{
		s3ecKeyV3:        std64("B"),
		s3ecWrapV3:       "12",
		s3ecCipherV3:     "115",
		s3ecCommitmentV3: "d",
		s3ecMessageV3:    "i",
	}
}

// s3ecGCM is the context of s3ecV2 in a summary.
const s3ecGCM = "map[aws:x-amz-cek-alg:AES/GCM/NoPadding]"

// with returns metadata with other values. An empty value removes the name.
func with(m map[string]string, pairs ...string) map[string]string {
	m = maps.Clone(m)
	for i := 0; i < len(pairs); i += 2 {
		if m[pairs[i]] = pairs[i+1]; pairs[i+1] == "" {
			delete(m, pairs[i])
		}
	}
	return m
}

func generationCases() []autoCase {
	return []autoCase{
		{"v2", object("x", "", s3ecV2()),
			[]string{"metadata.x-amz-key-v2 A " + s3ecGCM + " " + s3ecGCM}},
		{"nothing",
			object("x", "",
				map[string]string{
					"owner":                            "me",
					s3ecIV:                             "iv",
					"x-amz-unencrypted-content-length": "3",
				}), nil},
		{"v3 without a context", object("x", "", s3ecV3()),
			[]string{"metadata.x-amz-3 B map[] map[]"}},
		{"v3 with an empty context, as Go writes x-amz-m",
			object("x", "", with(s3ecV3(), s3ecContextV3, "{}", "x-amz-m", " ")),
			[]string{"metadata.x-amz-3 B map[] map[]"}},
		{"v3 with the key in an instruction file",
			object("x", "", with(s3ecV3(), s3ecKeyV3, "", s3ecWrapV3, "")), nil},
		{"x-amz-3 of other software", object("x", "", map[string]string{s3ecKeyV3: "mine"}), nil},
		{"v3 of another cipher", object("x", "", with(s3ecV3(), s3ecCipherV3, "116")),
			[]string{"metadata.x-amz-3 s3ec-malformed"}},
		{"v3 under AES", object("x", "", with(s3ecV3(), s3ecWrapV3, "02")),
			[]string{"metadata.x-amz-3 s3ec-raw-key"}},
		{"v1", object("x", "",
			map[string]string{s3ecKeyV1: "k", s3ecIV: "iv", s3ecContextV2: "{}"}),
			[]string{"metadata.x-amz-key s3ec-v1"}},
		{"v1 and v2", object("x", "", with(s3ecV2(), s3ecKeyV1, "k")),
			[]string{"metadata.x-amz-key ambiguous"}},
	}
}

func malformedCases() []autoCase {
	return []autoCase{
		{"v2 under RSA", object("x", "", with(s3ecV2(), s3ecWrapV2, "RSA-OAEP-SHA1")),
			[]string{"metadata.x-amz-key-v2 s3ec-raw-key"}},
		{"v2 with an unknown wrapping", object("x", "", with(s3ecV2(), s3ecWrapV2, "kms2")),
			[]string{"metadata.x-amz-key-v2 s3ec-malformed"}},
		{"v2 without a context", object("x", "", with(s3ecV2(), s3ecContextV2, "")),
			[]string{"metadata.x-amz-key-v2 missing-context"}},
		{"v2 without an iv", object("x", "", with(s3ecV2(), s3ecIV, "")),
			[]string{"metadata.x-amz-key-v2 s3ec-malformed"}},
		{"v2 with a duplicate name",
			object("x", "", with(s3ecV2(), s3ecContextV2, `{"a":"1","a":"1"}`)),
			[]string{"metadata.x-amz-key-v2 s3ec-malformed"}},
		{"v2 with a number", object("x", "", with(s3ecV2(), s3ecContextV2, `{"a":1}`)),
			[]string{"metadata.x-amz-key-v2 s3ec-malformed"}},
		{"v2 without base64", object("x", "", with(s3ecV2(), s3ecKeyV2, "!")),
			[]string{"metadata.x-amz-key-v2 not-base64"}},
		{"as S3 returns ü",
			object("x", "", with(s3ecV2(), s3ecContextV2, `=?UTF-8?Q?{"t":"=C3=83=C2=BC"}?=`)),
			[]string{"metadata.x-amz-key-v2 A map[t:ü] map[t:ü]"}},
		{"as other servers return ü", object("x", "", with(s3ecV2(), s3ecContextV2, `{"t":"ü"}`)),
			[]string{"metadata.x-amz-key-v2 A map[t:ü] map[t:ü]"}},
		{"ü encoded once",
			object("x", "", with(s3ecV2(), s3ecContextV2, `=?UTF-8?Q?{"t":"=C3=BC"}?=`)),
			[]string{"metadata.x-amz-key-v2 metadata-encoding"}},
		{"another character set",
			object("x", "", with(s3ecV2(), s3ecContextV2, `=?KOI8-R?Q?{"t":"=C3=BC"}?=`)),
			[]string{"metadata.x-amz-key-v2 metadata-encoding"}},
	}
}

func instructionCases() []autoCase {
	return []autoCase{
		{"instruction file with ü",
			object("x.instruction",
				`{"x-amz-tag-len":128,"x-amz-wrap-alg":"kms","x-amz-key-v2":"`+std64("C")+
					`","x-amz-iv":"i","x-amz-matdesc":"{\"t\":\"ü\"}"}`, nil),
			[]string{"x-amz-key-v2 C map[t:ü] map[t:ü]"}},
		{"instruction file by its mark",
			object("x.other",
				`{"x-amz-wrap-alg":"kms","x-amz-key-v2":"`+std64("C")+`","x-amz-matdesc":"{}"}`,
				map[string]string{s3ecInstructionMark: ""}),
			[]string{"x-amz-key-v2 C map[] map[]"}},
		{"instruction file, name twice",
			object("x.instruction", `{"x-amz-3":"QQ==","x-amz-3":"QQ==","x-amz-w":"12"}`, nil),
			[]string{"x-amz-3 ambiguous"}},
		{"instruction file, context that is an object",
			object("x.instruction", `{"x-amz-3":"QQ==","x-amz-w":"12","x-amz-t":{"a":"b"}}`, nil),
			[]string{"x-amz-3 s3ec-malformed"}},
		{"instruction file of v1",
			object("x.instruction", `{"x-amz-key":"QQ==","x-amz-iv":"12"}`, nil),
			[]string{"x-amz-key s3ec-v1"}},
		{".instruction file of other software", object("x.instruction", `{"read":"me"}`, nil), nil},
		{"encrypted .instruction file", object("x.instruction", "\x00", s3ecV2()),
			[]string{"metadata.x-amz-key-v2 A " + s3ecGCM + " " + s3ecGCM}},
	}
}

func TestS3ECFind(t *testing.T) {
	for _, test := range slices.Concat(generationCases(), malformedCases(), instructionCases()) {
		t.Run(test.name, func(t *testing.T) {
			f := compile(t, Spec{Format: formatS3EC, Kind: Objects})
			if diff := cmp.Diff(test.want, summary(f.Find(test.item))); diff != "" {
				t.Error(diff)
			}
			checkObjectLaws(t, f, test.item)
		})
	}
}

// TestFullMetadata: S3 allows 2 KB of user metadata, so a longer blob may not fit.
func TestFullMetadata(t *testing.T) {
	f := compile(t, Spec{Format: formatS3EC, Kind: Objects})
	metadata := map[string]string{
		s3ecKeyV2:     std64("A"),
		s3ecIV:        "iv",
		s3ecWrapV2:    "kms",
		s3ecContextV2: "{}",
	}
	metadata["filler"] = strings.Repeat("x", maxMetadata-metadataSize(metadata)-len("filler"))
	item := object("x", "", metadata)
	if _, err := f.Splice(item, [][]byte{[]byte("B")}); err != nil {
		t.Errorf("a blob of the same length: %v", err)
	}
	if _, err := f.Splice(item, [][]byte{[]byte("BBBB")}); err == nil {
		t.Error("a longer blob was accepted")
	}
}

// FuzzS3EC: the laws of objects hold for any object, and format auto finds the same slots as
// s3-encryption-client.
func FuzzS3EC(f *testing.F) {
	f.Add("x", "A", "kms+context", `{"a":"b"}`, "", "", "", []byte(nil))
	f.Add("x", "", "", "", std64("B"), "12", `{"a":"b"}`, []byte(nil))
	f.Add("x.instruction", "", "", "", "", "", "",
		[]byte(`{"x-amz-3":"QQ==","x-amz-w":"12","x-amz-t":"{}"}`))
	f.Add("x.instruction", "", "", "", "", "", "", []byte(`{"x-amz-3":"QQ==","x-amz-w":"12"`))
	f.Add("x", std64("A"), "kms", `=?UTF-8?Q?{"t":"=C3=83=C2=BC"}?=`, "", "", "", []byte(nil))
	f.Fuzz(func(
		t *testing.T,
		key, key2, wrap2, context2, key3, wrap3, context3 string,
		body []byte,
	) {
		metadata := map[string]string{
			s3ecIV:           "iv",
			s3ecCipherV3:     "115",
			s3ecCommitmentV3: "d",
			s3ecMessageV3:    "i",
		}
		for name, value := range map[string]string{
			s3ecKeyV2:     key2,
			s3ecWrapV2:    wrap2,
			s3ecContextV2: context2,
			s3ecKeyV3:     key3,
			s3ecWrapV3:    wrap3,
			s3ecContextV3: context3,
		} {
			if value != "" {
				metadata[name] = value
			}
		}
		item := object(key, string(body), metadata)
		own, auto := compile(t, Spec{Format: formatS3EC, Kind: Objects}),
			compile(t, Spec{Format: formatAuto, Kind: Objects})
		checkObjectLaws(t, own, item)
		checkObjectLaws(t, auto, item)
		if found := own.Find(item); len(found) > 0 && !cmp.Equal(found, auto.Find(item)) &&
			auto.Find(item)[0].Refused == nil {
			t.Fatalf("auto finds something else: %s", cmp.Diff(found, auto.Find(item)))
		}
		if own.NeedsBody(key, metadata) {
			return
		}
		without := *item.Payload.(*scan.Object)
		without.Body = nil
		if diff := cmp.Diff(own.Find(item), own.Find(scan.Item{Payload: &without})); diff != "" {
			t.Fatalf("it reads a body although NeedsBody is false:\n%s", diff)
		}
	})
}
