package ciphertext

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/scan"
)

// textBodies returns one body for each format that reads text, with the Spec of the format.
func textBodies(t *testing.T) map[string]struct {
	spec Spec
	item scan.Item
} {
	blob := std64(string(kmsBlob("1")))
	bodies := map[string]struct {
		spec Spec
		item scan.Item
	}{}
	add := func(format, key, body string, slots ...SlotSpec) {
		bodies[format+" "+key] = struct {
			spec Spec
			item scan.Item
		}{Spec{Format: format, Kind: Objects, Slots: slots},
			object(key, body, nil)}
	}
	for _, format := range []string{formatSops, formatPulumi, formatBiscuit, formatEJSON,
		formatTinkKeyset} {
		files, err := filepath.Glob(filepath.Join("testdata", format, "*.*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no golden files of %s: %v", format, err)
		}
		for _, file := range files {
			if filepath.Ext(file) == ".md" {
				continue
			}
			add(format, filepath.Base(file), string(read(t, file)))
			add(formatAuto, filepath.Base(file), string(read(t, file)))
		}
	}
	instruction := `{"x-amz-key-v2":"` + blob +
		`","x-amz-iv":"i","x-amz-wrap-alg":"kms","x-amz-matdesc":"{}"}`
	add(formatS3EC, "x.instruction", instruction)
	add(formatAuto, "x.instruction", instruction)
	add(formatAuto, "bare", blob+"\n")
	add(formatBase64, "x", blob, SlotSpec{})
	add(formatHex, "x", strings.Repeat("0a", 40), SlotSpec{})
	add(formatJSON, "x", `{"a":"`+blob+`"}`, SlotSpec{Path: "a"})
	add(formatJSONL, "x", `{"a":"`+blob+`"}`+"\n"+`{"a":"`+blob+`"}`+"\n", SlotSpec{Path: "a"})
	add(formatText, "x", "A="+blob+"\n", SlotSpec{Pattern: `(?m)^A=(\S+)`})
	return bodies
}

// TestByteOrderMark: a byte order mark does not change which slots are found, and it is preserved.
func TestByteOrderMark(t *testing.T) {
	for name, test := range textBodies(t) {
		f := compile(t, test.spec)
		body := test.item.Payload.(*scan.Object).Body
		marked := object(string(test.item.Ref), byteOrderMark+string(body), nil)
		want := f.Find(test.item)
		if diff := cmp.Diff(summary(want), summary(f.Find(marked))); diff != "" || len(want) == 0 {
			t.Errorf("%s, %d slots: %s", name, len(want), diff)
			continue
		}
		got := spliced(t, f, marked, make([][]byte, len(want)))
		if string(got) != byteOrderMark+string(body) {
			t.Errorf("%s: splicing no new blobs changes the body to %q", name, got)
		}
		var blobs [][]byte
		for i := range want {
			blobs = append(blobs, kmsBlob(strings.Repeat("n", i%3*3+1)))
		}
		plain, now := spliced(t, f, test.item, blobs), spliced(t, f, marked, blobs)
		if diff := cmp.Diff(byteOrderMark+string(plain), string(now)); diff != "" {
			t.Errorf("%s with new blobs (-want +got): %s", name, diff)
		}
	}
}

func inUTF16(body []byte, order binary.AppendByteOrder) (out []byte) {
	for _, unit := range utf16.Encode([]rune(string(body))) {
		out = order.AppendUint16(out, unit)
	}
	return out
}

func compressedBy(t *testing.T, body []byte, to func(io.Writer) io.WriteCloser) []byte {
	var out bytes.Buffer
	w := to(&out)
	if _, err := w.Write(body); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestUnreadableBody: a body that is compressed, or in UTF-16, has one refused slot in every format
// that reads text, regardless of the number of its ciphertexts. It is never changed.
func TestUnreadableBody(t *testing.T) {
	for name, test := range textBodies(t) {
		f := compile(t, test.spec)
		plain := test.item.Payload.(*scan.Object).Body
		little, big := inUTF16(plain, binary.LittleEndian), inUTF16(plain, binary.BigEndian)
		gzipped := compressedBy(t, plain,
			func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
		zlibbed := compressedBy(t, plain,
			func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) })
		for _, body := range []struct{ name, body, encoding, want string }{
			{"UTF-16 LE", string(little), "", "not-utf8"},
			{"UTF-16 BE", string(big), "", "not-utf8"},
			{"UTF-16 LE with mark", "\xff\xfe" + string(little), "", "not-utf8"},
			{"UTF-16 LE mark and one byte", "\xff\xfe0", "", "not-utf8"},
			{"UTF-16 BE with mark", "\xfe\xff" + string(big), "", "not-utf8"},
			{"gzip", string(gzipped), "", "compressed"},
			{"gzip, declared", string(gzipped), "gzip", "compressed"},
			{"zlib", string(zlibbed), "", "compressed"},
			{"zstd", "\x28\xb5\x2f\xfd\x04\x00", "", "compressed"},
			{"bzip2", "BZh91AY&SY\x00", "", "compressed"},
			{"xz", "\xfd7zXZ\x00\x00", "", "compressed"},
			{"zip", "PK\x03\x04\x14", "", "compressed"},
			{"brotli, declared", "\x0b\x02\x80\xf0", "aws-chunked, br", "compressed"},
		} {
			item := object(string(test.item.Ref), body.body, nil)
			item.Payload.(*scan.Object).ContentEncoding = body.encoding
			found := f.Find(item)
			if len(found) != 1 || found[0].Refused == nil || found[0].Refused.Reason != body.want {
				t.Errorf("%s in %s: %v", name, body.name, summary(found))
				continue
			}
			if got := spliced(t, f, item, [][]byte{[]byte("new")}); string(got) != body.body {
				t.Errorf("%s in %s: the body changed", name, body.name)
			}
		}
	}
}

// TestReadableBody: bodies that only resemble compressed bodies or UTF-16 are read. Format raw and
// formats of metadata read bodies that begin with any bytes.
func TestReadableBody(t *testing.T) {
	blob := std64(string(kmsBlob("1")))
	plain := Spec{Format: formatText, Kind: Objects, Slots: []SlotSpec{{Pattern: `A=(\S+)`}}}
	raw := Spec{Format: formatRaw, Kind: Objects, Slots: []SlotSpec{{}}}
	v2 := map[string]string{s3ecKeyV2: blob, s3ecIV: "iv", s3ecWrapV2: "kms", s3ecContextV2: `{}`}
	for _, test := range []struct {
		name, body, encoding string
		spec                 Spec
		metadata             map[string]string
		refused              string
	}{
		{"plain text declared as gzip", "A=" + blob, "gzip", plain, nil, ""},
		{"Content-Encoding without compression", "\xffA=" + blob, "aws-chunked, utf-8",
			plain, nil, ""},
		{"text that begins like zlib", "x^A=" + blob, "", plain, nil, ""},
		{"Latin-1", "# gr\xfc\xdfe\nA=" + blob, "", plain, nil, ""},
		{"text with a NUL", "\x00\x00A=" + blob, "", plain, nil, ""},
		{"ciphertext that begins like gzip", "\x1f\x8b\x08" + strings.Repeat("r", 253), "",
			raw, nil, ""},
		{"ciphertext that begins like UTF-16", "\xff\xfe" + strings.Repeat("r", 254), "",
			raw, nil, ""},
		{"raw, declared as gzip", "\x1f\x8b\x08\x00\xff", "gzip", raw, nil, "compressed"},
		{"compressed body, slot in the metadata", "\x1f\x8b\x08", "gzip",
			Spec{Format: formatS3EC, Kind: Objects}, v2, ""},
		{"compressed body, slot in the metadata, auto", "\x1f\x8b\x08", "gzip",
			Spec{Format: formatAuto, Kind: Objects}, v2, ""},
	} {
		item := object("x", test.body, test.metadata)
		item.Payload.(*scan.Object).ContentEncoding = test.encoding
		found := compile(t, test.spec).Find(item)
		got := ""
		if len(found) == 1 && found[0].Refused != nil {
			got = found[0].Refused.Reason
		}
		if len(found) != 1 || got != test.refused {
			t.Errorf("%s: %v", test.name, summary(found))
		}
	}
}
