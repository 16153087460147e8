package ciphertext

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/kmsblob"
	"rotator/internal/scan"
)

// FuzzJSON: in any document and for any path, splicing the same blobs gives the same bytes. New
// blobs are found again in their slots. No byte outside of the slots changes, and no value that
// encoding/json reads. The path of a slot alone finds it again, and JSON preserves everything in a
// slot.
func FuzzJSON(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte, path string, url bool) {
		format := formatBase64
		if url {
			format = formatBase64URL
		}
		template, err := Compile(Spec{Format: formatJSON, Kind: Objects, Slots: []SlotSpec{
			{
				Path:               path,
				Format:             format,
				Context:            map[string]string{"t": "${body.t}", "k": "${key}"},
				DestinationContext: map[string]string{"c": "constant"},
			}, {Path: "k"}}})
		if err != nil {
			return
		}
		compiled := template.Bind(Keys{})
		item := object("key", string(body), nil)
		found := compiled.Find(item)
		same, fresh := make([][]byte, len(found)), make([][]byte, len(found))
		for i, s := range found {
			checkSlot(t, s)
			if same[i] = s.Blob; s.Refused == nil {
				fresh[i] = fmt.Appendf(nil,
					"another blob, of another length, for slot %d\xff\xfb", i)
			}
		}
		if got := spliced(t, compiled, item, same); !bytes.Equal(got, body) {
			t.Fatalf("splicing the same blobs gave %q, want %q", got, body)
		}
		checkPathsFind(t, item, found)
		payload, err := spliceFitting(t, compiled, item, found, fresh)
		if err != nil {
			if !overlap(compiled, item) {
				t.Fatal(err)
			}
			return
		}
		now := payload.(*scan.Object).Body
		if string(item.Payload.(*scan.Object).Body) != string(body) {
			t.Fatal("the body that was read changed")
		}
		after := compiled.Find(object("key", string(now), nil))
		if diff := cmp.Diff(summaryWith(found, fresh), summary(after)); diff != "" {
			t.Fatalf("after the splice of %q (-want +got):\n%s", body, diff)
		}
		if before, after := outside(compiled, body),
			outside(compiled, now); !slices.Equal(before, after) {
			t.Fatalf("bytes outside of the slots changed:\n%q\n%q", before, after)
		}
		checkOtherReader(t, body, now, fresh)
	})
}

// spliceFitting splices blobs and sets those that the format cannot write to nil. In base64
// these are exactly the blobs that need padding where the old text does not show whether
// its writer pads. Under format auto they are also the blobs whose text is valid in one
// alphabet only, where the old text is valid in both.
func spliceFitting(
	t *testing.T,
	f Format,
	item scan.Item,
	found []Slot,
	blobs [][]byte,
) (scan.Payload, error) {
	t.Helper()
	payload, err := f.Splice(item, blobs)
	var spliceErr *SpliceError
	if !errors.As(err, &spliceErr) {
		return payload, err
	}
	for _, s := range spliceErr.Failures {
		was, is := found[s.Index].Blob, blobs[s.Index]
		padding := len(was)%3 == 0 && len(is)%3 != 0
		if neutral := !strings.ContainsAny(std64(string(was)), "+/") &&
			strings.ContainsAny(std64(string(is)), "+/"); !padding &&
			!(neutral && s.Refused.Reason == "ambiguous") {
			t.Fatalf("slot %d, %q: %q cannot replace %q", s.Index, s.Path, is, was)
		}
		blobs[s.Index] = nil
	}
	return f.Splice(item, blobs)
}

// spliced returns the body of an object after a splice.
func spliced(t *testing.T, f Format, item scan.Item, blobs [][]byte) []byte {
	payload, err := f.Splice(item, blobs)
	if err != nil {
		t.Fatal(err)
	}
	return payload.(*scan.Object).Body
}

// checkSlot: a slot has a blob of valid size, or a reason, and JSON preserves its texts.
func checkSlot(t *testing.T, s Slot) {
	if (s.Refused == nil) != (s.Blob != nil) || s.Refused == nil &&
		(len(s.Blob) == 0 || len(s.Blob) > kmsblob.MaxSize) {
		t.Fatalf("slot %s: %d bytes, refused %v", s.Path, len(s.Blob), s.Refused)
	}
	texts := []string{s.Path}
	for name, value := range s.Context {
		texts = append(texts, name, value)
	}
	if s.Refused != nil {
		texts = append(texts, s.Refused.Reason, s.Refused.Detail)
	}
	for _, text := range texts {
		if !utf8.ValidString(text) {
			t.Fatalf("slot %q has %q, which JSON does not preserve", s.Path, text)
		}
	}
}

// checkPathsFind: a retry can find a slot by the path in its ledger entry.
func checkPathsFind(t *testing.T, item scan.Item, found []Slot) {
	for _, s := range found[:min(len(found), 20)] {
		if s.Refused != nil {
			continue
		}
		for _, format := range []string{formatBase64, formatBase64URL} {
			one, err := Compile(Spec{
				Format: formatJSON,
				Kind:   Objects,
				Slots:  []SlotSpec{{Path: s.Path, Format: format}},
			})
			if err != nil {
				t.Fatalf("slot %q: %v", s.Path, err)
			}
			again := one.Bind(Keys{}).Find(item)
			if len(again) != 1 || again[0].Path != s.Path {
				t.Fatalf("path %q finds %v", s.Path, summary(again))
			}
			if again[0].Refused == nil && bytes.Equal(again[0].Blob, s.Blob) {
				return
			}
		}
		t.Fatalf("path %q does not find its blob again", s.Path)
	}
}

// overlap reports whether two slots overlap in the document. The format may refuse to splice them.
func overlap(c *Compiled, item scan.Item) bool {
	seen := map[int]bool{}
	text, _, _ := c.text(item)
	for _, p := range c.Format.(*bodyFormat).sites(text.Payload.(*scan.Object)) {
		for _, e := range p.edits {
			if seen[e.start] {
				return true
			}
			seen[e.start] = true
		}
	}
	return false
}

// summaryWith returns the summary of slots after blobs were written to them.
func summaryWith(slots []Slot, blobs [][]byte) []string {
	slots = slices.Clone(slots)
	for i := range slots {
		if blobs[i] != nil {
			slots[i].Blob = blobs[i]
		}
	}
	return summary(slots)
}

// outside returns the parts of a document between its slots.
func outside(c *Compiled, body []byte) []string {
	body = bytes.TrimPrefix(body, []byte(byteOrderMark))
	sites := c.Format.(*bodyFormat).sites(&scan.Object{Key: "key", Body: body})
	sites = slices.DeleteFunc(sites, func(p editSite) bool { return p.Refused != nil })
	slices.SortFunc(sites, func(a, b editSite) int { return a.edits[0].start - b.edits[0].start })
	var pieces []string
	at := 0
	for _, p := range sites {
		pieces = append(pieces, string(body[at:p.edits[0].start]))
		at = p.edits[0].end
	}
	return append(pieces, string(body[at:]))
}

// checkOtherReader compares two documents as encoding/json reads them. They must differ only in
// values that are new blobs.
func checkOtherReader(t *testing.T, before, after []byte, fresh [][]byte) {
	mark := []byte(byteOrderMark) // most readers skip it
	before, after = bytes.TrimPrefix(before, mark), bytes.TrimPrefix(after, mark)
	old, err := otherReader(before)
	if err != nil {
		if !bytes.Equal(before, after) {
			t.Fatalf("%q is not JSON, but was changed to %q", before, after)
		}
		return
	}
	now, err := otherReader(after)
	if err != nil {
		t.Fatalf("the result %q is not JSON: %v", after, err)
	}
	was, is := map[string]string{}, map[string]string{}
	scalars("", old, was)
	scalars("", now, is)
	for at := range was {
		if text, ok := is[at]; !ok || text != was[at] && !holds(text, fresh) {
			t.Fatalf("%s changed from %q to %q", at, was[at], text)
		}
	}
	if len(was) != len(is) {
		t.Fatalf("the document had %d values and has %d", len(was), len(is))
	}
}

func otherReader(document []byte) (v any, err error) {
	if !json.Valid(document) {
		return nil, fmt.Errorf("not JSON")
	}
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	err = decoder.Decode(&v)
	return v, err
}

func scalars(at string, v any, out map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			scalars(fmt.Sprintf("%s.%q", at, name), member, out)
		}
	case []any:
		for i, element := range v {
			scalars(fmt.Sprintf("%s[%d]", at, i), element, out)
		}
	default:
		out[at] = fmt.Sprint(v)
	}
}

// holds reports whether a text is the encoding of one of the blobs in base64 or base64url.
func holds(text string, blobs [][]byte) bool {
	plain := strings.Map(func(r rune) rune {
		switch r {
		case '-':
			return '+'
		case '_':
			return '/'
		case '=', '\r', '\n', ' ', '\t':
			return -1
		}
		return r
	}, text)
	return slices.ContainsFunc(blobs, func(b []byte) bool {
		return b != nil && base64.RawStdEncoding.EncodeToString(b) == plain
	})
}

// FuzzBase64: splicing the same blob gives the same bytes. A new blob is found again, and its text
// has the same layout. Texts that are not base64 are not changed.
func FuzzBase64(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte, url bool) {
		format := formatBase64
		if url {
			format = formatBase64URL
		}
		compiled := compile(t, Spec{Format: format, Kind: Objects, Slots: []SlotSpec{{}}})
		item := object("key", string(text), nil)
		found := compiled.Find(item)
		if len(found) != 1 {
			t.Fatalf("%d slots in one body", len(found))
		}
		checkSlot(t, found[0])
		if got := spliced(t, compiled, item, [][]byte{found[0].Blob}); !bytes.Equal(got, text) {
			t.Fatalf("splicing the same blob gave %[2]q, want %[1]q", text, got)
		}
		if blob, ok := lines64(string(text), url); ok && len(blob) > 0 &&
			len(blob) <= kmsblob.MaxSize && !bytes.Equal(found[0].Blob, blob) {
			t.Fatalf("%q is base64 of %q, but is read as %q, %v", text, blob, found[0].Blob,
				found[0].Refused)
		}
		if found[0].Refused != nil {
			return
		}
		another := []byte("another blob, long enough for several lines of whatever width they " +
			"have: " + strings.Repeat("\xfbx\xff", 100))
		another = another[:len(another)/3*3]
		if len(found[0].Blob)%3 == 0 { // the text does not show whether its writer pads
			var spliceErr *SpliceError
			if _, err := compiled.Splice(item, [][]byte{append(another, 'x')}); !errors.As(err,
				&spliceErr) || spliceErr.Failures[0].Index != 0 {
				t.Fatalf("%q: %v, for a blob that needs padding", text, err)
			}
		} else {
			another = append(another, 'x')
		}
		now := spliced(t, compiled, item, [][]byte{another})
		again := compiled.Find(object("key", string(now), nil))[0]
		if again.Refused != nil || !bytes.Equal(again.Blob, another) {
			t.Fatalf("the spliced text %q is read as %q, %v", now, again.Blob, again.Refused)
		}
		width := base64.RawStdEncoding.EncodedLen(len(another))
		if was, is := layoutOf(text, width), layoutOf(now, width); was != is {
			t.Fatalf("%q became %q: the layout changed from %q to %q", text, now, was, is)
		}
	})
}

// lines64 decodes base64 independently of the format: one text, padded or not, in lines of equal
// length except the last one, which may be shorter, with white space around it.
func lines64(text string, url bool) ([]byte, bool) {
	newline := "\n"
	if strings.Contains(text, "\r\n") {
		newline = "\r\n"
	}
	lines := strings.Split(strings.Trim(text, " \t\r\n"), newline)
	for i, line := range lines {
		if line == "" || strings.ContainsAny(line, "\r\n") || len(line) > len(lines[0]) ||
			i < len(lines)-1 && len(line) != len(lines[0]) {
			return nil, false
		}
	}
	encoding := base64.StdEncoding.Strict()
	if url {
		encoding = base64.URLEncoding.Strict()
	}
	joined := strings.Join(lines, "")
	if len(joined)%4 != 0 {
		encoding = encoding.WithPadding(base64.NoPadding)
	}
	blob, err := encoding.DecodeString(joined)
	return blob, err == nil
}

// layoutOf describes the layout of a base64 text: the white space around it, and the end of its
// first line if lines are shorter than width.
func layoutOf(text []byte, width int) string {
	inner := bytes.Trim(text, " \t\r\n")
	at := bytes.Index(text, inner)
	around := fmt.Sprintf("%q %q", text[:at], text[at+len(inner):])
	if end := bytes.IndexAny(inner, "\r\n"); end >= 0 && end < width {
		around += fmt.Sprintf(" %d %v", end, inner[end] == '\r')
	}
	return around
}

// FuzzPath: the printed form of a path is parsed to the same path. In any document, a path finds no
// slot, or slots that their own paths find again.
func FuzzPath(f *testing.F) {
	leaf := func(n int) scan.Value { return blob(fmt.Sprintf("blob %d", n)) }
	list := scan.Value{
		Kind: scan.KindL,
		List: []scan.Value{leaf(1), text("x"), {Kind: scan.KindL, List: []scan.Value{leaf(2)}}},
	}
	names := map[string]scan.Value{
		"a":   leaf(3),
		"":    leaf(4),
		"a.b": leaf(5),
		"[0]": leaf(6),
		`"`:   leaf(7),
		"ü":   leaf(8),
		"*":   leaf(9),
		"\n":  leaf(10),
		"l":   list,
	}
	tree := map[string]scan.Value{
		"m":   {Kind: scan.KindM, Map: names},
		"l":   list,
		"set": {Kind: scan.KindBS, ByteSet: [][]byte{[]byte("blob 11"), []byte("blob 12")}},
	}
	for name, value := range names {
		tree[name] = value
	}
	f.Fuzz(func(t *testing.T, input string) {
		path, err := ParsePath(input)
		if err != nil {
			return
		}
		again, err := ParsePath(path.String())
		if err != nil || !slices.Equal(path, again) {
			t.Fatalf("%q is printed as %q, which is parsed to %v, %v", input, path, again, err)
		}
		template, err := Compile(Spec{
			Format: formatRaw,
			Kind:   Rows,
			Slots:  []SlotSpec{{Path: input}},
		})
		if err != nil {
			return // does not begin with an attribute
		}
		for _, s := range template.Bind(Keys{}).Find(row(tree)) {
			if s.Refused != nil {
				continue
			}
			own, _, _ := strings.Cut(s.Path, "{") // a member of a set has no own path
			if strings.HasSuffix(s.Path, `"]`) {
				own = s.Path
			}
			one := compile(t, Spec{Format: formatRaw, Kind: Rows, Slots: []SlotSpec{{Path: own}}})
			if !slices.ContainsFunc(one.Find(row(tree)), func(o Slot) bool {
				return o.Path == s.Path && bytes.Equal(o.Blob, s.Blob)
			}) {
				t.Fatalf("path %q finds slot %q, which its own path does not find", input, s.Path)
			}
		}
	})
}
