package ciphertext

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rotator/internal/kmsblob"
	"rotator/internal/scan"
)

// compile compiles a Spec and binds it to goldenDestination.
func compile(t testing.TB, spec Spec) *Compiled {
	t.Helper()
	return bind(t, spec, Keys{Destination: goldenDestination})
}

// bind compiles a Spec and binds it to keys.
func bind(t testing.TB, spec Spec, keys Keys) *Compiled {
	t.Helper()
	template, err := Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	return template.Bind(keys)
}

func text(s string) scan.Value { return scan.Value{Kind: scan.KindS, Text: s} }
func blob(b string) scan.Value { return scan.Value{Kind: scan.KindB, Bytes: []byte(b)} }
func std64(b string) string    { return base64.StdEncoding.EncodeToString([]byte(b)) }
func row(m map[string]scan.Value) scan.Item {
	return scan.Item{Ref: "r", Payload: &scan.Row{Attributes: m}}
}

func object(key, body string, metadata map[string]string) scan.Item {
	return scan.Item{
		Ref:     scan.Ref(key),
		Payload: &scan.Object{Bucket: "b", Key: key, Body: []byte(body), Metadata: metadata},
	}
}

// summary describes slots in a form that test tables can compare.
func summary(slots []Slot) []string {
	var out []string
	for _, s := range slots {
		if s.Refused != nil {
			out = append(out, s.Path+" "+s.Refused.Reason)
			continue
		}
		out = append(out,
			fmt.Sprintf("%s %s %v %v", s.Path, s.Blob, s.Context, s.DestinationContext))
	}
	return out
}

// rowCase is a slot of findRow.
type rowCase struct {
	name string
	slot SlotSpec
	want []string
}

func findRow() scan.Item {
	return row(map[string]scan.Value{
		"id":    blob("A"),
		"ssn":   blob("A"),
		"b64":   text(std64("B")),
		"null":  {Kind: scan.KindNull},
		"n":     {Kind: scan.KindN, Text: "12.5"},
		"empty": blob(""),
		"set":   {Kind: scan.KindBS, ByteSet: [][]byte{[]byte("C"), []byte("D")}},
		"texts": {Kind: scan.KindSS, Texts: []string{std64("E"), "!"}},
		"doc": {
			Kind: scan.KindM,
			Map: map[string]scan.Value{"list": {Kind: scan.KindL, List: []scan.Value{
				{
					Kind: scan.KindM,
					Map:  map[string]scan.Value{"key": blob("F"), "a.b": blob("G")},
				}, text("x"), {Kind: scan.KindM, Map: map[string]scan.Value{"key": blob("H")}}}}},
		},
		"bin":  blob(std64("I")),
		"long": blob(strings.Repeat("x", kmsblob.MaxSize+1)),
		"flag": {Kind: scan.KindBool, Bool: true},
		"esdk": blob(esdk("\x02\x05\x78", 32, "aws-kms")),
	})
}

func rowCases() []rowCase {
	return []rowCase{
		{"B", SlotSpec{Path: "ssn"}, []string{"ssn A map[] map[]"}},
		{"missing attribute", SlotSpec{Path: "nobody"}, nil},
		{"NULL", SlotSpec{Path: "null"}, nil},
		{"wrong type", SlotSpec{Path: "n"}, []string{"n wrong-type"}},
		{"S is not raw", SlotSpec{Path: "b64"}, []string{"b64 wrong-type"}},
		{"base64 in S", SlotSpec{Path: "b64", Format: "base64"}, []string{"b64 B map[] map[]"}},
		{"base64 in B", SlotSpec{Path: "bin", Format: "base64"}, []string{"bin I map[] map[]"}},
		{"empty", SlotSpec{Path: "empty"}, []string{"empty empty"}},
		{"too large", SlotSpec{Path: "long"}, []string{"long too-large"}},
		{"encryption SDK", SlotSpec{Path: "esdk"}, []string{"esdk esdk-message"}},
		{"BS", SlotSpec{Path: "set"}, []string{"set{0} C map[] map[]", "set{1} D map[] map[]"}},
		{"SS", SlotSpec{Path: "texts", Format: "base64"},
			[]string{"texts{0} E map[] map[]", "texts{1} not-base64"}},
		{"every element", SlotSpec{Path: "doc.list[*].key"},
			[]string{"doc.list[0].key F map[] map[]", "doc.list[2].key H map[] map[]"}},
		{"every member", SlotSpec{Path: "doc.list[0].*"},
			[]string{`doc.list[0]["a.b"] G map[] map[]`, "doc.list[0].key F map[] map[]"}},
		{"odd name", SlotSpec{Path: `doc.list[0]["a.b"]`},
			[]string{`doc.list[0]["a.b"] G map[] map[]`}},
		{"index after the end", SlotSpec{Path: "doc.list[7].key"}, nil},
	}
}

func rowContextCases() []rowCase {
	return []rowCase{
		{"context", SlotSpec{
			Path: "ssn",
			Context: map[string]string{
				"c": "x",
				"n": "${n}!",
				"b": "${id}",
				"t": "$${${flag}",
				"d": "${doc.list[1]}",
			},
		},
			[]string{"ssn A map[b:QQ== c:x d:x n:12.5! t:${true] map[b:QQ== c:x d:x n:12.5! " +
				"t:${true]"}},
		{"other destination context", SlotSpec{
			Path:               "ssn",
			Context:            map[string]string{"n": "${n}"},
			DestinationContext: map[string]string{"v": "2"},
		},
			[]string{"ssn A map[n:12.5] map[v:2]"}},
		{"no destination context",
			SlotSpec{
				Path:               "ssn",
				Context:            map[string]string{"n": "1"},
				DestinationContext: map[string]string{},
			}, []string{"ssn A map[n:1] map[]"}},
		{"missing field", SlotSpec{Path: "ssn", Context: map[string]string{"t": "${tenant}"}},
			[]string{"ssn missing-context"}},
		{"field of a map", SlotSpec{Path: "ssn", Context: map[string]string{"t": "${doc}"}},
			[]string{"ssn missing-context"}},
	}
}

func TestFindInRows(t *testing.T) {
	for _, test := range append(rowCases(), rowContextCases()...) {
		t.Run(test.name, func(t *testing.T) {
			f := compile(t, Spec{Format: "raw", Kind: Rows, Slots: []SlotSpec{test.slot}})
			if diff := cmp.Diff(test.want, summary(f.Find(findRow()))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// objectCase is a target and an object of it.
type objectCase struct {
	name string
	spec Spec
	item scan.Item
	want []string
}

func bodyCases() []objectCase {
	tenant := Spec{
		Format:     "raw",
		KeyPattern: `^p/(?P<tenant>[^/]*)/`,
		Slots:      []SlotSpec{{Context: map[string]string{"t": "${key.tenant}"}}},
	}
	return []objectCase{
		{"raw body", Spec{
			Format: "raw",
			Slots: []SlotSpec{{
				Context: map[string]string{
					"k": "${key}",
					"b": "${bucket}",
					"o": "${metadata.Owner}",
				},
			}},
		},
			object("p/x", "A", map[string]string{"owner": "me"}),
			[]string{" A map[b:b k:p/x o:me] map[b:b k:p/x o:me]"}},
		{"base64 body", Spec{Format: "base64", Slots: []SlotSpec{{}}},
			object("x", "  "+std64("A")+"\n", nil), []string{" A map[] map[]"}},
		{"not base64", Spec{Format: "base64", Slots: []SlotSpec{{}}},
			object("x", "not base64", nil), []string{" not-base64"}},
		{"named group", tenant,
			object("p/t1/x", "A", nil), []string{" A map[t:t1] map[t:t1]"}},
		{"key does not match", tenant,
			object("q/x", "A", nil), []string{" key-pattern"}},
		{"empty group", tenant,
			object("p//x", "A", nil), []string{" missing-context"}},
		{"no metadata",
			Spec{
				Format: "raw",
				Slots:  []SlotSpec{{Context: map[string]string{"t": "${metadata.t}"}}},
			}, object("x", "A", nil), []string{" missing-context"}},
	}
}

func documentCases() []objectCase {
	document := fmt.Sprintf(` {"tenant":"t1","n":1.50, "keys":[{"k":"%s"},{"k":null},{"k":7}], `+
		`"twice":"x","twice":"%s","esc":"\u0051Q=="}`, std64("A"), std64("B"))
	return []objectCase{
		{"json", Spec{
			Format: "json",
			Slots: []SlotSpec{{
				Path:    "keys[*].k",
				Context: map[string]string{"t": "${body.tenant}", "n": "${body.n}"},
			}},
		}, object("x", document, nil),
			[]string{"keys[0].k A map[n:1.50 t:t1] map[n:1.50 t:t1]", "keys[2].k wrong-type"}},
		{"duplicate name", Spec{Format: "json", Slots: []SlotSpec{{Path: "twice"}}},
			object("x", document, nil), []string{"twice ambiguous"}},
		{"escapes", Spec{Format: "json", Slots: []SlotSpec{{Path: "esc"}}},
			object("x", document, nil), []string{"esc A map[] map[]"}},
		{"not json", Spec{Format: "json", Slots: []SlotSpec{{Path: "k"}}}, object("x", "{", nil),
			[]string{"k not-json"}},
		{"too deep", Spec{Format: "json", Slots: []SlotSpec{{Path: "k"}}},
			object("x", strings.Repeat("[", 300)+strings.Repeat("]", 300), nil),
			[]string{"k not-json"}},
	}
}

func TestFindInObjects(t *testing.T) {
	for _, test := range append(bodyCases(), documentCases()...) {
		t.Run(test.name, func(t *testing.T) {
			test.spec.Kind = Objects
			if diff := cmp.Diff(test.want,
				summary(compile(t, test.spec).Find(test.item))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCompileReportsAllProblems(t *testing.T) {
	for _, test := range []struct {
		spec Spec
		want []string
	}{
		{Spec{Format: "zip", Kind: Rows}, []string{"format"}},
		{Spec{Format: "json", Kind: Rows, Slots: []SlotSpec{{Path: "a"}}}, []string{"format"}},
		{Spec{Format: "raw", Kind: Rows}, []string{"slots"}},
		{Spec{
			Format: "raw",
			Kind:   Rows,
			Slots: []SlotSpec{{Path: "a..b"}, {Path: "[0]"}, {Path: ""}, {
				Path:   "a",
				Format: "json",
			}},
		},
			[]string{"slots[0].path", "slots[1].path", "slots[2].path", "slots[3].format"}},
		{Spec{Format: "raw", Kind: Objects, Slots: []SlotSpec{{Path: "a"}, {}}},
			[]string{"slots", "slots[0].path"}},
		{Spec{Format: "raw", Kind: Objects, KeyPattern: "(", Slots: []SlotSpec{{}}},
			[]string{"s3.key_pattern"}},
		{Spec{
			Format: "raw",
			Kind:   Objects,
			Slots: []SlotSpec{{
				Context:            map[string]string{"a": "${key.nobody}"},
				DestinationContext: map[string]string{"a": "${body.x}"},
			}},
		},
			[]string{"slots[0].context", "slots[0].destination_context"}},
		{Spec{
			Format: "raw",
			Kind:   Rows,
			Slots:  []SlotSpec{{Path: "a", Context: map[string]string{"a": "${"}}},
		}, []string{"slots[0].context"}},
		{Spec{
			Format: "raw",
			Kind:   Rows,
			Slots:  []SlotSpec{{Path: "a", Context: map[string]string{"a": "${b[*]}"}}},
		}, []string{"slots[0].context"}},
	} {
		_, err := Compile(test.spec)
		var got []string
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range joined.Unwrap() {
				var one *SpecError
				if errors.As(e, &one) {
					got = append(got, one.Field)
				}
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%+v: %v (-want +got):\n%s", test.spec, err, diff)
		}
	}
}

// TestFormatsOfSlots: a target needs no format if each slot has a format that defines how
// the item is stored. An error in the format of a slot is reported at the slot.
func TestFormatsOfSlots(t *testing.T) {
	for _, test := range []struct {
		kind  Kind
		slots []SlotSpec
		want  string // the problem, or "" for none
	}{
		{Rows, []SlotSpec{{Path: "a", Format: "base64"}, {Path: "b", Format: "raw"}}, ""},
		{Objects, []SlotSpec{{Format: "base64"}}, ""},
		{Rows, []SlotSpec{{Path: "a", Format: "raw"}, {Path: "b", Format: "base46"}},
			`slots[1].format: unknown format "base46"; formats for these items are base64, `},
		{Rows, []SlotSpec{{Path: "a", Format: "json"}},
			`slots[0].format: unknown format "json"; formats for these items are base64, `},
		{Rows, []SlotSpec{{Path: "a", Format: "credstash"}},
			"slots[0].format: format credstash finds its slots itself; set it at the target"},
		{Objects, []SlotSpec{{Path: "a", Format: "base64"}},
			"slots[0].format: format base64 defines how the ciphertext is stored, but the target "},
		{Files, []SlotSpec{{Path: "a", Format: "json"}},
			"slots[0].format: format json defines how a whole body is stored; set it at the " +
				"target"},
		{Objects, []SlotSpec{{Format: "sops"}},
			"slots[0].format: format sops finds its slots itself"},
	} {
		_, err := Compile(Spec{Kind: test.kind, Slots: test.slots})
		if test.want == "" && err != nil || test.want != "" && (err == nil ||
			!strings.HasPrefix(err.Error(), test.want)) {
			t.Errorf("%v: %v, want %q", test.slots, err, test.want)
		}
	}
	f := compile(t, Spec{Kind: Rows, Slots: []SlotSpec{
		{Path: "a", Format: "base64"}, {Path: "b", Format: "raw"},
	}})
	found := f.Find(row(map[string]scan.Value{"a": text(std64("A")), "b": blob("B")}))
	want := []string{"a A map[] map[]", "b B map[] map[]"}
	if diff := cmp.Diff(want, summary(found)); diff != "" {
		t.Error(diff)
	}
	_, err := Compile(Spec{
		Kind:   Objects,
		Format: "json",
		Slots:  []SlotSpec{{Path: "a", Format: "raw"}},
	})
	if err == nil || !strings.HasPrefix(err.Error(),
		`slots[0].format: a slot cannot have format "raw" if the target has format json; `) {
		t.Errorf("a slot whose format the target does not allow: %v", err)
	}
}

func TestAttributesAndWrites(t *testing.T) {
	f := compile(t, Spec{Format: "raw", Kind: Rows, Slots: []SlotSpec{
		{Path: "doc.a", Context: map[string]string{"x": "${tenant}-${meta.id}"}},
		{Path: "doc.b", DestinationContext: map[string]string{"y": "${v}"}}}})
	if diff := cmp.Diff([]string{"doc", "meta", "tenant", "v"}, f.Attributes()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"doc"}, f.Writes()); diff != "" {
		t.Error(diff)
	}
}

// drawValue draws an attribute value, often one with blobs.
func drawValue(r *rapid.T, depth int) scan.Value {
	switch kind := rapid.IntRange(0, 9).Draw(r, "kind"); {
	case kind < 3:
		return scan.Value{
			Kind:  scan.KindB,
			Bytes: rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(r, "bytes"),
		}
	case kind == 3:
		return text(rapid.String().Draw(r, "text"))
	case kind == 4:
		return text(std64(rapid.StringN(1, 9, 20).Draw(r, "encoded")))
	case kind == 5:
		return scan.Value{
			Kind:    scan.KindBS,
			ByteSet: rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 9), 1, 3).Draw(r, "set"),
		}
	case kind == 6:
		return scan.Value{
			Kind:  scan.KindSS,
			Texts: rapid.SliceOfN(rapid.Just(std64("abc")), 1, 2).Draw(r, "texts"),
		}
	case depth == 0:
		return scan.Value{Kind: scan.KindNull}
	case kind == 7:
		v := scan.Value{Kind: scan.KindL}
		for range rapid.IntRange(0, 3).Draw(r, "elements") {
			v.List = append(v.List, drawValue(r, depth-1))
		}
		return v
	}
	v := scan.Value{Kind: scan.KindM, Map: map[string]scan.Value{}}
	for range rapid.IntRange(0, 3).Draw(r, "members") {
		v.Map[rapid.SampledFrom([]string{"a", "b", "odd.name", "ü"}).Draw(r,
			"name")] = drawValue(r, depth-1)
	}
	return v
}

// leaves maps the path of each leaf of a value to its text. It does not depend on formats.
func leaves(at string, v scan.Value, out map[string]string) {
	switch v.Kind {
	case scan.KindM:
		for name, member := range v.Map {
			leaves(at+"/"+name, member, out)
		}
	case scan.KindL:
		for i, element := range v.List {
			leaves(fmt.Sprintf("%s/%d", at, i), element, out)
		}
	case scan.KindBS:
		for i, b := range v.ByteSet {
			out[fmt.Sprintf("%s/%d", at, i)] = string(b)
		}
	case scan.KindSS:
		for i, s := range v.Texts {
			out[fmt.Sprintf("%s/%d", at, i)] = s
		}
	default:
		out[at] = fmt.Sprintf("%s %s %s %v", v.Kind, v.Text, v.Bytes, v.Bool)
	}
}

// TestRowLaws: splicing the same blobs changes nothing. Splicing new blobs changes only the slots,
// which then hold the new blobs. The item that was read never changes.
func TestRowLaws(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		attributes := map[string]scan.Value{"top": drawValue(r, 3), "other": drawValue(r, 1)}
		path := rapid.SampledFrom([]string{"top", "top.*", "top[*]", "top.a", "top[0].b",
			"top.*[*]", `top["odd.name"].*`}).Draw(r, "path")
		format := rapid.SampledFrom([]string{"raw", "base64", "base64url", "hex"}).Draw(r, "format")
		f := compile(t, Spec{Format: format, Kind: Rows, Slots: []SlotSpec{{Path: path}}})
		item := row(attributes)
		before := map[string]string{}
		leaves("", scan.Value{Kind: scan.KindM, Map: attributes}, before)
		found := f.Find(item)
		same, fresh := make([][]byte, len(found)), make([][]byte, len(found))
		for i, s := range found {
			same[i] = s.Blob
			if s.Refused == nil && rapid.Bool().Draw(r, "replace") {
				// needs no padding, because the old text may not show whether its writer pads
				fresh[i] = fmt.Appendf(nil, "new blob %03d", i)
			}
		}
		checkRowLaw(r, f, item, attributes, before, same, found, nil)
		checkRowLaw(r, f, item, attributes, before, fresh, found, fresh)
	})
}

func checkRowLaw(
	r *rapid.T,
	f *Compiled,
	item scan.Item,
	attributes map[string]scan.Value,
	before map[string]string,
	blobs [][]byte,
	found []Slot,
	want [][]byte,
) {
	payload, err := f.Splice(item, blobs)
	if err != nil {
		r.Fatal(err)
	}
	checkMask(r, f, item, payload)
	now, unchanged := map[string]string{}, map[string]string{}
	leaves("", scan.Value{Kind: scan.KindM, Map: payload.(*scan.Row).Attributes}, now)
	leaves("", scan.Value{Kind: scan.KindM, Map: attributes}, unchanged)
	if !maps.Equal(before, unchanged) {
		r.Fatalf("the item that was read changed: %s", cmp.Diff(before, unchanged))
	}
	changed := 0
	for at := range before {
		if before[at] != now[at] {
			changed++
		}
	}
	expected := 0
	after := f.Find(scan.Item{Ref: item.Ref, Payload: payload})
	for i := range found {
		if i < len(want) && want[i] != nil {
			expected++
			if !bytes.Equal(after[i].Blob, want[i]) {
				r.Fatalf("slot %s holds %q, want %q", found[i].Path, after[i].Blob, want[i])
			}
		} else if !bytes.Equal(after[i].Blob, found[i].Blob) {
			r.Fatalf("slot %s changed", found[i].Path)
		}
	}
	if changed != expected || len(now) != len(before) {
		r.Fatalf("%d values changed, want %d: %s", changed, expected, cmp.Diff(before, now))
	}
}
