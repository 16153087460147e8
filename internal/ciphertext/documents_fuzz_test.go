package ciphertext

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/scan"
)

// fuzzFormat checks a format with any bytes: Find does not panic, and each refused slot has a
// reason. Splicing the same blobs gives the same bytes. Spliced blobs are found again. Only the
// slots and, with siblings, the names of keys change.
func fuzzFormat(f *testing.F, spec Spec, siblings bool) {
	if files, _ := filepath.Glob(filepath.Join("testdata", spec.Format, "*.*")); len(files) > 0 {
		for _, file := range files {
			f.Add(read(f, file), filepath.Base(file))
		}
	}
	compiled := compile(f, spec)
	f.Fuzz(func(t *testing.T, body []byte, key string) {
		if !json.Valid([]byte(`"`+key+`"`)) || key != strings.ToValidUTF8(key, "") {
			key = "key"
		}
		item := object(key, string(body), nil)
		found := compiled.Find(item)
		same, fresh := make([][]byte, len(found)), make([][]byte, len(found))
		for i, s := range found {
			checkSlot(t, s)
			if same[i] = s.Blob; s.Refused == nil {
				fresh[i] = goldenBlob("fuzz", i)
			}
		}
		if got := spliced(t, compiled, item, same); !bytes.Equal(got, body) {
			t.Fatalf("splicing the same blobs gave %q, want %q", got, body)
		}
		if got := spliced(t, compiled, item, make([][]byte, len(found))); !bytes.Equal(got, body) {
			t.Fatalf("splicing no blobs gave %q, want %q", got, body)
		}
		now := spliced(t, compiled, item, fresh)
		if string(item.Payload.(*scan.Object).Body) != string(body) {
			t.Fatal("the body that was read changed")
		}
		if diff := cmp.Diff(summaryWith(found, fresh),
			summary(compiled.Find(object(key, string(now), nil)))); diff != "" {
			t.Fatalf("%q became %q (-want +got):\n%s", body, now, diff)
		}
		checkMask(t, compiled, item, object(key, string(now), nil).Payload)
		for i, s := range found {
			if s.Refused == nil && i < 4 {
				one := make([][]byte, len(found))
				one[i] = fresh[i]
				checkDifference(t, body, spliced(t, compiled, item, one), s.Blob, fresh[i],
					siblings)
			}
		}
	})
}

// checkDifference compares two bodies without knowledge of the format. was is the blob before the
// splice, is the new one. The new body must contain the new blob once and, with siblings, the name
// of the new key. All bytes between them must be in the old body, in the same order, and the old
// blob must be in the place of the new one.
func checkDifference(t *testing.T, before, after, was, is []byte, siblings bool) {
	marks, at := []string{}, 0
	rest := string(after)
	for rest != "" {
		first, mark := len(rest), ""
		for _, m := range writings(is) {
			if i := strings.Index(rest, m); i >= 0 && i < first {
				first, mark = i, m
			}
		}
		// a URL has a slash before the key
		for _, m := range []string{goldenDestination, "/" + goldenDestination} {
			if i := strings.Index(rest, m); siblings && i >= 0 && i < first {
				first, mark = i, m
			}
		}
		if mark == "" {
			break
		}
		marks = append(marks, rest[:first], mark)
		rest = rest[first+len(mark):]
	}
	blobs := 0
	for i := 1; i < len(marks); i += 2 {
		if !strings.HasSuffix(marks[i], goldenDestination) {
			blobs++
		}
	}
	if blobs != 1 {
		return // the blob has line breaks or escapes, so its text cannot be searched for
	}
	if !strings.HasPrefix(string(before), marks[0]) || !strings.HasSuffix(string(before), rest) {
		t.Fatalf("bytes around the slots changed: %q became %q", before, after)
	}
	at = len(marks[0])
	for i := 1; i < len(marks); i += 2 {
		next := rest
		if i+1 < len(marks) {
			next = marks[i+1]
		}
		end := len(before) - len(rest)
		if i+1 < len(marks) {
			n := bytes.Index(before[at:], []byte(next))
			if n < 0 {
				t.Fatalf("bytes between the slots changed: %q became %q", before, after)
			}
			end = at + n
		}
		if !strings.HasSuffix(marks[i], goldenDestination) && len(marks) == 2 &&
			!reads(before[at:end], was) {
			t.Fatalf("the new blob replaced %q, which is not the old blob: %q became %q",
				before[at:end], before,
				after)
		}
		at = min(end+len(next), len(before))
	}
}

// writings returns the texts that can represent a blob.
func writings(blob []byte) []string {
	return []string{base64.StdEncoding.EncodeToString(blob),
		base64.RawURLEncoding.EncodeToString(blob),
		strings.TrimRight(base64.StdEncoding.EncodeToString(blob), "="), hex.EncodeToString(blob),
		strings.ToUpper(hex.EncodeToString(blob)), string(blob)}
}

// reads reports whether text represents blob. The text may have escapes and line breaks.
func reads(text, blob []byte) bool {
	var unquoted string
	if json.Unmarshal([]byte(`"`+strings.Trim(string(text), `"`)+`"`), &unquoted) != nil {
		unquoted = strings.Trim(string(text), `"'`+"`")
	}
	bare := strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "", `\n`, "", "=",
		"").Replace(unquoted)
	for _, w := range writings(blob) {
		if strings.TrimRight(w, "=") == bare {
			return true
		}
	}
	return bytes.HasSuffix(text, blob)
}

func FuzzSops(f *testing.F) { fuzzFormat(f, Spec{Format: formatSops, Kind: Objects}, true) }

func FuzzPulumi(f *testing.F) { fuzzFormat(f, Spec{Format: formatPulumi, Kind: Objects}, true) }

func FuzzBiscuit(f *testing.F) { fuzzFormat(f, Spec{Format: formatBiscuit, Kind: Objects}, true) }

func FuzzEJSON(f *testing.F) { fuzzFormat(f, Spec{Format: formatEJSON, Kind: Objects}, true) }

func FuzzTinkKeyset(f *testing.F) {
	fuzzFormat(f, Spec{
		Format:  formatTinkKeyset,
		Kind:    Objects,
		Context: map[string]string{"associatedData": "617070"},
	}, false)
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("{\"s\":\"QUJD\",\"l\":[{\"k\":\"QUJD\"}]}\r\n\n{\"s\": \"QQ==\"}"), "k")
	fuzzFormat(f, Spec{
		Format: formatJSONL,
		Kind:   Objects,
		Slots: []SlotSpec{
			{Path: "s", Context: map[string]string{"k": "${key}"}},
			{Path: "l[*].k", Format: formatBase64URL},
		},
	}, false)
}

func FuzzText(f *testing.F) {
	f.Add([]byte("A=QUJD\r\n# B='0aff'\nC: \"_-8\" C: \"QUJD\"\nA=QUJD"), "k")
	fuzzFormat(f, Spec{Format: formatText, Kind: Objects, Slots: []SlotSpec{
		{Pattern: `(?m)^A=(.*?)\r?$`},
		{Pattern: `B='([^']*)'`, Format: formatHex},
		{Pattern: `C: "([^"]*)"`, Format: formatBase64URL, Context: map[string]string{"c": "d"}},
	}}, false)
}

// FuzzFramed: for each width, a framed body that can be read is written back unchanged, and another
// blob does not change the payload.
func FuzzFramed(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01Apayload"), uint8(0))
	f.Fuzz(func(t *testing.T, body []byte, which uint8) {
		framing := framings()[int(which)%len(framings())]
		spec := Spec{Format: framing.format, Kind: Objects}
		if framing.format != formatTinkEnvelope {
			spec.Slots = []SlotSpec{{}}
		}
		compiled := compile(t, spec)
		item := object("key", string(body), nil)
		found := compiled.Find(item)
		checkSlot(t, found[0])
		if got := spliced(t, compiled, item, [][]byte{found[0].Blob}); !bytes.Equal(got, body) {
			t.Fatalf("%s: %q became %q", framing.format, body, got)
		}
		if found[0].Refused != nil {
			return
		}
		payload := body[framing.width+len(found[0].Blob):]
		now := spliced(t, compiled, item, [][]byte{goldenBlob("fuzz", 0)})
		if !bytes.Equal(now[framing.width:], append(goldenBlob("fuzz", 0), payload...)) {
			t.Fatalf("%s: %q became %q", framing.format, body, now)
		}
		if again := compiled.Find(object("key", string(now), nil)); !bytes.Equal(again[0].Blob,
			goldenBlob("fuzz", 0)) {
			t.Fatalf("%s: slots of %q: %v", framing.format, now, summary(again))
		}
	})
}
