package ciphertext

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/scan"
)

// TestUnknownPadding: a text whose length is a multiple of three does not show
// whether its writer pads. If no other text shows it, a blob that needs padding
// is not written, all such slots of an item are reported together, and the
// other slots can be written.
func TestUnknownPadding(t *testing.T) {
	unknown, padded := std64("abc"), std64("ab")
	abc := []SlotSpec{{Path: "a"}, {Path: "b"}, {Path: "c"}}
	members := fmt.Sprintf(`{"a":%q,"b":%q,"c":%q}`, unknown, padded, unknown)
	for _, test := range []struct {
		name string
		spec Spec
		item scan.Item
	}{
		{"json", Spec{Format: formatJSON, Kind: Objects, Slots: abc}, object("k", members, nil)},
		{"jsonl", Spec{Format: formatJSONL, Kind: Objects, Slots: abc}, object("k", members, nil)},
		{"text", Spec{Format: formatText, Kind: Objects, Slots: []SlotSpec{
			{Pattern: `a=(\S+)`}, {Pattern: `b=(\S+)`}, {Pattern: `c=(\S+)`},
		}}, object("k", "a="+unknown+" b="+padded+" c="+unknown, nil)},
		{"rows", Spec{Format: formatBase64, Kind: Rows, Slots: abc},
			row(map[string]scan.Value{"a": text(unknown), "b": text(padded), "c": text(unknown)})},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := compile(t, test.spec)
			found := f.Find(test.item)
			fresh := [][]byte{[]byte("wxyz"), []byte("wxyz"), []byte("wxyz")}
			_, err := f.Splice(test.item, fresh)
			var spliceErr *SpliceError
			if !errors.As(err, &spliceErr) || len(spliceErr.Failures) != 2 ||
				spliceErr.Failures[0].Index != 0 || spliceErr.Failures[1].Index != 2 ||
				spliceErr.Failures[1].Path != found[2].Path {
				t.Fatalf("%v", err)
			}
			if r := spliceErr.Failures[1].Refused; r.Reason != "cannot-splice" ||
				!strings.Contains(r.Detail, "padding: always") {
				t.Errorf("%v", r)
			}
			blobs := [][]byte{nil, fresh[1], []byte("ABCDEF")}
			payload, err := f.Splice(test.item, blobs)
			if err != nil {
				t.Fatal(err)
			}
			after := f.Find(scan.Item{Ref: test.item.Ref, Payload: payload})
			if diff := cmp.Diff(summaryWith(found, blobs), summary(after)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestPaddingOfWriter: the job file or the other texts of a rule determine the
// padding of a text that does not show its own. A text that shows its padding
// keeps it. Texts of a rule that disagree determine nothing.
func TestPaddingOfWriter(t *testing.T) {
	unknown, padded, bare := std64("abc"), std64("ab"), strings.TrimRight(std64("ab"), "=")
	fresh := []byte("wxyz")
	yes, no := base64.StdEncoding.EncodeToString(fresh), base64.RawStdEncoding.EncodeToString(fresh)
	for name, test := range map[string]struct {
		setting string
		texts   []string
		want    []string // nil: the first slot cannot be written
	}{
		"always":        {"always", []string{unknown}, []string{yes}},
		"never":         {"never", []string{unknown}, []string{no}},
		"nothing known": {"", []string{unknown, unknown}, nil},
		"inferred: padded": {"", []string{unknown, padded, padded},
			[]string{yes, yes, yes}},
		"inferred: bare": {"", []string{unknown, bare}, []string{no, no}},
		"disagreement":   {"", []string{unknown, padded, bare}, nil},
		"texts disagree, setting": {"never", []string{unknown, padded, bare},
			[]string{no, yes, no}},
		"own padding overrides the setting": {"never", []string{padded}, []string{yes}},
	} {
		t.Run(name, func(t *testing.T) {
			blobs := make([][]byte, len(test.texts))
			for i := range blobs {
				blobs[i] = fresh
			}
			lines := strings.Join(test.texts, "\"}\n{\"s\":\"")
			for format, item := range map[string]scan.Item{
				formatJSON:  object("k", `["`+strings.Join(test.texts, `","`)+`"]`, nil),
				formatJSONL: object("k", `{"s":"`+lines+`"}`, nil),
				formatText:  object("k", "s="+strings.Join(test.texts, "\ns=")+"\n", nil),
			} {
				slot := SlotSpec{Padding: test.setting, Path: "s"}
				switch format {
				case formatJSON:
					slot.Path = "[*]"
				case formatText:
					slot.Path, slot.Pattern = "", `(?m)^s=(\S+)`
				}
				f := compile(t, Spec{Format: format, Kind: Objects, Slots: []SlotSpec{slot}})
				payload, err := f.Splice(item, blobs)
				if test.want == nil {
					var spliceErr *SpliceError
					if !errors.As(err, &spliceErr) || spliceErr.Failures[0].Index != 0 {
						t.Errorf("%s: %v", format, err)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", format, err)
					continue
				}
				body := payload.(*scan.Object).Body
				got := regexp.MustCompile(`[A-Za-z0-9+/]{6}=*`).FindAllString(string(body), -1)
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("%s: %s (-want +got):\n%s", format, body, diff)
				}
			}
		})
	}
}

// TestPaddingAcrossItems: the padding of texts is counted by rule, and a format
// with these counts can write a text that does not show its padding.
func TestPaddingAcrossItems(t *testing.T) {
	f := compile(t, Spec{
		Format: formatBase64,
		Kind:   Rows,
		Slots:  []SlotSpec{{Path: "a"}, {Path: "b"}, {Path: "h", Format: formatHex}},
	})
	items := []scan.Item{
		row(map[string]scan.Value{
			"a": text(std64("abc")),
			"b": text(std64("abc")),
			"h": text("00"),
		}),
		row(map[string]scan.Value{"a": text(std64("ab")), "b": text("YWI")}),
		row(map[string]scan.Value{"b": text("no base64")}),
	}
	seen := PaddingSeen{}
	for _, item := range items {
		for _, s := range f.Find(item) {
			seen.Add(s)
		}
	}
	if diff := cmp.Diff(PaddingSeen{0: {Padded: 1}, 1: {Unpadded: 1}}, seen); diff != "" {
		t.Fatal(diff)
	}
	payload, err := f.WithPadding(seen).Splice(items[0],
		[][]byte{[]byte("wxyz"), []byte("wxyz"), nil})
	if err != nil {
		t.Fatal(err)
	}
	now := payload.(*scan.Row).Attributes
	if a, b := now["a"].Text, now["b"].Text; a != "d3h5eg==" || b != "d3h5eg" {
		t.Errorf("a %q, b %q", a, b)
	}
	if f.WithPadding(PaddingSeen{0: {Padded: 5, Unpadded: 1}, 7: {Padded: 1}}) != f {
		t.Error("texts that disagree, or an unknown rule, changed the format")
	}
}

// TestPaddingSetting: only texts in base64 have padding.
func TestPaddingSetting(t *testing.T) {
	for _, test := range []struct {
		format, padding string
		ok              bool
	}{
		{formatBase64, "always", true}, {formatBase64URL, "never", true}, {formatBase64, "", true},
		{formatBase64, "sometimes", false}, {formatHex, "always", false},
		{formatRaw, "never", false},
	} {
		_, err := Compile(Spec{
			Format: test.format,
			Kind:   Objects,
			Slots:  []SlotSpec{{Padding: test.padding}},
		})
		if (err == nil) != test.ok {
			t.Errorf("format %s, padding %q: %v", test.format, test.padding, err)
		}
	}
	f := compile(t, Spec{Format: "credstash", Kind: Rows}) // credstash pads
	item := row(map[string]scan.Value{"key": text(std64("abc")), "contents": text("x")})
	payload, err := f.Splice(item, [][]byte{[]byte("wxyz")})
	if err != nil || payload.(*scan.Row).Attributes["key"].Text != std64("wxyz") {
		t.Errorf("credstash: %v, %v", payload, err)
	}
}
