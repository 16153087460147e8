package contentdigest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rotator/internal/scan"
)

// TestItemGolden pins the digests: with another digest of any item, Scheme must change too.
func TestItemGolden(t *testing.T) {
	row := &scan.Row{Attributes: map[string]scan.Value{
		"s":    {Kind: scan.KindS, Text: "x"},
		"n":    {Kind: scan.KindN, Text: "1.5"},
		"b":    {Kind: scan.KindB, Bytes: []byte{0, 1}},
		"bool": {Kind: scan.KindBool, Bool: true},
		"null": {Kind: scan.KindNull},
		"l":    {Kind: scan.KindL, List: []scan.Value{{Kind: scan.KindS, Text: "y"}}},
		"ss":   {Kind: scan.KindSS, Texts: []string{"b", "a"}},
		"ns":   {Kind: scan.KindNS, Texts: []string{"2", "1"}},
		"bs":   {Kind: scan.KindBS, ByteSet: [][]byte{{2}, {1}}},
		"m":    {Kind: scan.KindM, Map: map[string]scan.Value{"k": {Kind: scan.KindNull}}},
	}}
	object := &scan.Object{Key: "k", Body: []byte("body"), Metadata: map[string]string{"a": "b"}}
	properties := map[string]string{"tags": "x=y"}
	for want, got := range map[string]Digest{
		"ab20f144622dd3b40d6c1a97ba52e2d539e91eaed75264ba61a2f7802122b336": Item(
			`{"id":{"S":"1"}}`, row, nil),
		"fbd01b2f4b502f35f236cd2244a122fc0d2481b11ac32b4c9e2459e6aa6aac27": Item(
			"k", object, properties),
	} {
		if hex.EncodeToString(got[:]) != want {
			t.Errorf("digest %x, want %s", got, want)
		}
	}
}

func encoded(ref scan.Ref, payload scan.Payload, properties map[string]string) []byte {
	var out bytes.Buffer
	(&encoder{w: &out}).item(ref, payload, properties)
	return out.Bytes()
}

// TestEncodingIsInjective: the item can be read back from its encoding, so two items that differ
// have different encodings. Only the order of the members of sets is lost.
func TestEncodingIsInjective(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		ref := scan.Ref(rapid.String().Draw(r, "ref"))
		properties := drawTexts(r)
		var payload scan.Payload = &scan.Row{Attributes: drawValues(r, 3)}
		if rapid.Bool().Draw(r, "object") {
			payload = &scan.Object{
				Body:     rapid.SliceOf(rapid.Byte()).Draw(r, "body"),
				Metadata: drawTexts(r),
			}
		}
		d := &decoder{rest: encoded(ref, payload, properties)}
		gotRef, gotPayload, gotProperties := d.item()
		if d.err != nil || len(d.rest) > 0 {
			r.Fatalf("decode: %v, %d bytes left", d.err, len(d.rest))
		}
		want := canonical(payload)
		if gotRef != ref || !cmp.Equal(gotPayload, want) || !maps.Equal(gotProperties, properties) {
			r.Fatalf("the item was read back differently: %s", cmp.Diff(want, gotPayload))
		}
	})
}

func drawTexts(r *rapid.T) map[string]string {
	return rapid.MapOf(rapid.String(), rapid.String()).Draw(r, "texts")
}

func drawValues(r *rapid.T, depth int) map[string]scan.Value {
	values := map[string]scan.Value{}
	for range rapid.IntRange(0, 3).Draw(r, "members") {
		values[rapid.String().Draw(r, "name")] = drawValue(r, depth-1)
	}
	return values
}

func drawValue(r *rapid.T, depth int) scan.Value {
	kinds := []scan.Kind{scan.KindS, scan.KindN, scan.KindB, scan.KindBool, scan.KindNull,
		scan.KindSS, scan.KindNS, scan.KindBS}
	if depth > 0 {
		kinds = append(kinds, scan.KindM, scan.KindL)
	}
	v := scan.Value{Kind: rapid.SampledFrom(kinds).Draw(r, "kind")}
	switch v.Kind {
	case scan.KindS, scan.KindN:
		v.Text = rapid.String().Draw(r, "text")
	case scan.KindB:
		v.Bytes = rapid.SliceOf(rapid.Byte()).Draw(r, "bytes")
	case scan.KindBool:
		v.Bool = rapid.Bool().Draw(r, "bool")
	case scan.KindM:
		v.Map = drawValues(r, depth)
	case scan.KindL:
		v.List = []scan.Value{}
		for range rapid.IntRange(0, 3).Draw(r, "length") {
			v.List = append(v.List, drawValue(r, depth-1))
		}
	case scan.KindSS, scan.KindNS:
		v.Texts = rapid.SliceOf(rapid.String()).Draw(r, "set")
	case scan.KindBS:
		v.ByteSet = rapid.SliceOf(rapid.SliceOf(rapid.Byte())).Draw(r, "set")
	}
	return v
}

// canonical returns the payload with sorted sets.
func canonical(payload scan.Payload) scan.Payload {
	row, ok := payload.(*scan.Row)
	if !ok {
		return payload
	}
	return &scan.Row{Attributes: sortedSets(scan.Value{Map: row.Attributes}).Map}
}

func sortedSets(v scan.Value) scan.Value {
	if v.Map != nil {
		members := map[string]scan.Value{}
		for name, member := range v.Map {
			members[name] = sortedSets(member)
		}
		v.Map = members
	}
	for i := range v.List {
		v.List[i] = sortedSets(v.List[i])
	}
	if v.Texts != nil {
		v.Texts = append([]string{}, v.Texts...)
		slices.Sort(v.Texts)
	}
	if v.ByteSet != nil {
		v.ByteSet = append([][]byte{}, v.ByteSet...)
		slices.SortFunc(v.ByteSet, bytes.Compare)
	}
	return v
}

// decoder reads what encoder writes.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) item() (ref scan.Ref, payload scan.Payload, properties map[string]string) {
	if d.text() != Scheme {
		d.err = errors.New("wrong scheme")
	}
	ref = scan.Ref(d.text())
	switch d.take(1)[0] {
	case kindRow:
		payload = &scan.Row{Attributes: d.values()}
	case kindObject:
		payload = &scan.Object{Body: d.bytes(), Metadata: d.texts()}
	}
	return ref, payload, d.texts()
}

func (d *decoder) values() map[string]scan.Value {
	values := map[string]scan.Value{}
	for range d.number() {
		name := d.text()
		values[name] = d.value()
	}
	return values
}

func (d *decoder) value() scan.Value {
	v := scan.Value{Kind: scan.Kind(d.take(1)[0])}
	switch v.Kind {
	case scan.KindS, scan.KindN:
		v.Text = d.text()
	case scan.KindB:
		v.Bytes = d.bytes()
	case scan.KindBool:
		v.Bool = d.text() == "true"
	case scan.KindM:
		v.Map = d.values()
	case scan.KindL:
		v.List = []scan.Value{}
		for range d.number() {
			v.List = append(v.List, d.value())
		}
	case scan.KindSS, scan.KindNS:
		v.Texts = []string{}
		for range d.number() {
			v.Texts = append(v.Texts, d.text())
		}
	case scan.KindBS:
		v.ByteSet = [][]byte{}
		for range d.number() {
			v.ByteSet = append(v.ByteSet, d.bytes())
		}
	}
	return v
}

func (d *decoder) texts() map[string]string {
	texts := map[string]string{}
	for range d.number() {
		name := d.text()
		texts[name] = d.text()
	}
	return texts
}

func (d *decoder) text() string { return string(d.bytes()) }

func (d *decoder) bytes() []byte { return append([]byte{}, d.take(d.number())...) }

func (d *decoder) number() int { return int(binary.BigEndian.Uint64(d.take(8))) }

func (d *decoder) take(n int) []byte {
	if n > len(d.rest) {
		d.err = errors.New("the encoding is too short")
		return make([]byte, n)
	}
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken
}
