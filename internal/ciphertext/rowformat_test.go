package ciphertext

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/scan"
)

// rowVectors is testdata/FORMAT/vectors.json: rows as the clients write them, made by hand from the
// sources that the README.md next to it cites.
type rowVectors struct {
	NewBlob []byte      `json:"new_blob"`
	Rows    []rowVector `json:"rows"`
}

type rowVector struct {
	About    string
	Place    string
	Context  map[string]string            // of the target
	Name     string                       // the name of the item in the context file
	Contexts map[string]map[string]string // the context file
	Ref      scan.Ref
	Row      map[string]wireValue
	Slot     *struct {
		Path               string
		Blob               []byte
		Context            map[string]string
		DestinationContext map[string]string `json:"destination_context"`
		Refused, Names     string            // the reason, and a text that its detail must contain
	}
	Spliced map[string]wireValue // the attributes that a new blob changes
}

// vectorKey is the destination key of the vectors.
const vectorKey = "arn:aws:kms:us-east-1:111122223333:key/00000000-0000-4000-8000-00000000000b"

// wireValue is an attribute in the JSON of the DynamoDB API.
type wireValue struct {
	S, N *string
	B    []byte
	BOOL *bool
}

func (w wireValue) value() scan.Value {
	switch {
	case w.S != nil:
		return text(*w.S)
	case w.N != nil:
		return scan.Value{Kind: scan.KindN, Text: *w.N}
	case w.BOOL != nil:
		return scan.Value{Kind: scan.KindBool, Bool: *w.BOOL}
	}
	return scan.Value{Kind: scan.KindB, Bytes: w.B}
}

func values(wire map[string]wireValue) map[string]scan.Value {
	row := map[string]scan.Value{}
	for name, w := range wire {
		row[name] = w.value()
	}
	return row
}

func (v rowVector) spec(format string) Spec {
	spec := Spec{Format: format, Kind: Rows, Container: v.Place, Context: v.Context}
	if v.Contexts != nil {
		spec.ContextFile = &ContextFile{File: "contexts.yaml", Name: v.Name, Contexts: v.Contexts}
	}
	return spec
}

func (v rowVector) item() scan.Item {
	return scan.Item{Ref: v.Ref, Payload: &scan.Row{Attributes: values(v.Row)}}
}

// rowFormats returns the formats of rows that find their slots themselves, each with the attributes
// that may change.
func rowFormats() map[string][]string {
	return map[string][]string{
		"credstash": {"key"}, "credsmash": {"key"}, "confidant": {"data_key"},
		"esdk-branch-keystore":  {"enc", "kms-arn"},
		"ddb-encryption-client": {"*amzn-ddb-map-desc*"},
	}
}

func loadRowVectors(t testing.TB, format string) (vectors rowVectors) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + format + "/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&vectors); err != nil {
		t.Fatalf("%s: %v", format, err)
	}
	return vectors
}

func TestRowVectors(t *testing.T) {
	for format := range rowFormats() {
		vectors := loadRowVectors(t, format)
		for _, v := range vectors.Rows {
			t.Run(format+"/"+v.About, func(t *testing.T) {
				compiled := bind(t, v.spec(format), Keys{Destination: vectorKey})
				found := compiled.Find(projected(compiled, v.item()))
				switch {
				case v.Slot == nil:
					if len(found) != 0 {
						t.Fatalf("found %v in a row without the marks of the format",
							summary(found))
					}
					return
				case len(found) != 1:
					t.Fatalf("%d slots", len(found))
				case v.Slot.Refused != "":
					checkRefused(t, found[0], v)
					return
				}
				want := Slot{
					Path:               v.Slot.Path,
					Blob:               v.Slot.Blob,
					Context:            v.Slot.Context,
					DestinationContext: v.Slot.DestinationContext,
				}
				if diff := cmp.Diff(want, found[0]); diff != "" {
					t.Fatalf("slot (-want +got):\n%s", diff)
				}
				payload, err := compiled.Splice(v.item(), [][]byte{vectors.NewBlob})
				if err != nil {
					t.Fatal(err)
				}
				checkMask(t, compiled, v.item(), payload)
				changed := values(v.Row)
				maps.Copy(changed, values(v.Spliced))
				if diff := cmp.Diff(changed, payload.(*scan.Row).Attributes); diff != "" {
					t.Errorf("row with another blob (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// projected returns the item as the source returns it if it reads only the attributes that the
// format needs, and the primary key.
func projected(compiled *Compiled, item scan.Item) scan.Item {
	if compiled.Whole() {
		return item
	}
	key := map[string]any{"name": nil, "version": nil}
	_ = json.Unmarshal([]byte(item.Ref), &key)
	row := map[string]scan.Value{}
	for name, value := range item.Payload.(*scan.Row).Attributes {
		if _, ok := key[name]; ok || slices.Contains(compiled.Attributes(), name) {
			row[name] = value
		}
	}
	return scan.Item{Ref: item.Ref, Payload: &scan.Row{Attributes: row}}
}

func checkRefused(t *testing.T, found Slot, v rowVector) {
	t.Helper()
	if found.Refused == nil || found.Refused.Reason != v.Slot.Refused ||
		found.Path != v.Slot.Path || !strings.Contains(found.Refused.Detail, v.Slot.Names) {
		t.Errorf("slot %s, refused %v, want path %s and reason %s with %q in the detail",
			found.Path, found.Refused, v.Slot.Path, v.Slot.Refused, v.Slot.Names)
	}
	if found.Blob != nil || found.Context != nil || found.DestinationContext != nil {
		t.Error("a refused slot has a blob or a context")
	}
}

func TestRowFormatsRefuseSpecs(t *testing.T) {
	named := &ContextFile{File: "c.csv", Name: "${name}"}
	for _, test := range []struct {
		spec Spec
		want []string // the fields with a problem
	}{
		{Spec{Format: "credstash", Slots: []SlotSpec{{Path: "key"}}}, []string{"slots"}},
		{Spec{Format: "credstash", ContextFile: &ContextFile{Name: "${name"}},
			[]string{"context_file.name"}},
		{Spec{Format: "confidant", Context: map[string]string{}, ContextFile: named},
			[]string{"context", "context_file"}},
		{Spec{
			Format:  "esdk-branch-keystore",
			Context: map[string]string{"tablename": "a", "type": "b"},
		}, []string{"context"}},
		{Spec{Format: "esdk-branch-keystore", Context: map[string]string{"tablename": ""}},
			[]string{"context"}},
		{Spec{Format: "esdk-branch-keystore", DestinationContext: map[string]string{}},
			[]string{"destination_context"}},
		{Spec{Format: "esdk-branch-keystore", ContextFile: named}, []string{"context_file"}},
		{Spec{
			Format:             "ddb-encryption-client",
			Context:            map[string]string{"table": "a"},
			DestinationContext: map[string]string{},
		}, []string{"context", "destination_context"}},
		{Spec{Format: "credsmash", Kind: Objects}, []string{"format"}},
	} {
		_, err := Compile(test.spec)
		var fields []string
		for _, line := range strings.Split(fmt.Sprint(err), "\n") {
			field, _, _ := strings.Cut(line, ":")
			fields = append(fields, field)
		}
		for _, want := range test.want {
			if !slices.Contains(fields, want) {
				t.Errorf("%+v: %v, want a problem of %s", test.spec, err, want)
			}
		}
	}
}

// For the following fuzz tests see fuzzRows.
func FuzzCredstash(f *testing.F) { fuzzRows(f, "credstash", nil) }
func FuzzCredsmash(f *testing.F) { fuzzRows(f, "credsmash", nil) }
func FuzzConfidant(f *testing.F) { fuzzRows(f, "confidant", nil) }

func FuzzBranchKeystore(f *testing.F) { fuzzRows(f, "esdk-branch-keystore", nil) }

// FuzzDDBEncryption also parses the description independently: another blob changes the value of
// one entry, and neither the order nor the number of entries.
func FuzzDDBEncryption(f *testing.F) {
	fuzzRows(f, "ddb-encryption-client", func(t *testing.T, before, after map[string]scan.Value) {
		was, is := readEntries(t, before["*amzn-ddb-map-desc*"].Bytes),
			readEntries(t, after["*amzn-ddb-map-desc*"].Bytes)
		if len(was) != len(is) {
			t.Fatalf("the description had %d entries and has %d", len(was), len(is))
		}
		for i := range was {
			if was[i] != is[i] && (was[i].name != is[i].name || is[i].name != "amzn-ddb-env-key") {
				t.Fatalf("entry %d: %q became %q", i, was[i], is[i])
			}
		}
	})
}

type descriptionEntry struct{ name, value string }

func readEntries(t *testing.T, text []byte) (entries []descriptionEntry) {
	r := bytes.NewReader(text[4:])
	next := func() string {
		var size uint32
		if err := binary.Read(r, binary.BigEndian, &size); err != nil || int(size) > r.Len() {
			t.Fatalf("%q: %v", text, err)
		}
		value := make([]byte, size)
		_, _ = io.ReadFull(r, value)
		return string(value)
	}
	for r.Len() > 0 {
		entries = append(entries, descriptionEntry{next(), next()})
	}
	return entries
}

// fuzzRows checks a format with any row: it has at most one slot. Splicing the same blob or no blob
// changes nothing. Another blob is found again, under the destination context of the slot, and
// changes only the attributes that may change, and no type. The row that was read does not change.
func fuzzRows(
	f *testing.F,
	format string,
	more func(t *testing.T, before, after map[string]scan.Value),
) {
	may := rowFormats()[format]
	names := attributeNames(f, format)
	for _, v := range loadRowVectors(f, format).Rows {
		f.Add(rowBytes(values(v.Row), names), string(v.Ref), "customers")
	}
	f.Fuzz(func(t *testing.T, data []byte, ref, name string) {
		compiled := compile(t, fuzzSpec(format, name))
		item := scan.Item{Ref: scan.Ref(ref), Payload: &scan.Row{Attributes: rowOf(data, names)}}
		before := rowOf(data, names)
		found := compiled.Find(item)
		if len(found) > 1 {
			t.Fatalf("%d slots in a row", len(found))
		}
		checkSameRow(t, compiled, item, found, before)
		if len(found) == 0 {
			return
		}
		checkSlot(t, found[0])
		for name, value := range found[0].DestinationContext {
			if !utf8.ValidString(name) || !utf8.ValidString(value) {
				t.Fatalf("destination context %q: %q", name, value)
			}
		}
		fresh := []byte("another blob, longer than any value in the row: \xff\xfb\x00")
		after := splicedRow(t, compiled, item, [][]byte{fresh})
		if diff := cmp.Diff(before, item.Payload.(*scan.Row).Attributes); diff != "" {
			t.Fatalf("the row that was read changed:\n%s", diff)
		}
		if found[0].Refused != nil {
			checkChanges(t, before, after, nil)
			return
		}
		checkChanges(t, before, after, may)
		again := compiled.Find(scan.Item{Ref: item.Ref, Payload: &scan.Row{Attributes: after}})
		want := []Slot{{
			Path:               found[0].Path,
			Blob:               fresh,
			Context:            found[0].DestinationContext,
			DestinationContext: found[0].DestinationContext,
		}}
		if diff := cmp.Diff(want, again); diff != "" {
			t.Fatalf("found after the splice (-want +got):\n%s", diff)
		}
		if more != nil {
			more(t, before, after)
		}
	})
}

// fuzzSpec returns the target of fuzzRows. A format with a context file has contexts for name.
func fuzzSpec(format, name string) Spec {
	spec := Spec{Format: format, Kind: Rows, Container: "customers"}
	if formatFor, _ := formatOf(format, Rows); formatFor.contexts == contextFromFile {
		spec.ContextFile = &ContextFile{
			File:     "contexts.json",
			Name:     "${name}",
			Contexts: map[string]map[string]string{name: {"n": name}, "*": {}},
		}
	}
	return spec
}

// checkSameRow splices no blob, and the same blob, into a row.
func checkSameRow(
	t *testing.T,
	compiled *Compiled,
	item scan.Item,
	found []Slot,
	before map[string]scan.Value,
) {
	t.Helper()
	for _, blobs := range [][][]byte{make([][]byte, len(found)), sameBlobs(found)} {
		if diff := cmp.Diff(before, splicedRow(t, compiled, item, blobs)); diff != "" {
			t.Fatalf("splicing the same blob, or none, changed the row:\n%s", diff)
		}
	}
}

func sameBlobs(found []Slot) (blobs [][]byte) {
	for _, s := range found {
		blobs = append(blobs, s.Blob)
	}
	return blobs
}

func splicedRow(t *testing.T, f Format, item scan.Item, blobs [][]byte) map[string]scan.Value {
	payload, err := f.Splice(item, blobs)
	if err != nil {
		t.Fatal(err)
	}
	return payload.(*scan.Row).Attributes
}

// checkChanges compares two rows without knowing what they mean.
func checkChanges(t *testing.T, before, after map[string]scan.Value, may []string) {
	if len(before) != len(after) {
		t.Fatalf("the row had %d attributes and has %d", len(before), len(after))
	}
	for name, was := range before {
		is, ok := after[name]
		switch {
		case !ok || is.Kind != was.Kind:
			t.Fatalf("attribute %q of type %s: exists %v, with type %q", name, was.Kind, ok,
				is.Kind)
		case !cmp.Equal(was, is) && !slices.Contains(may, name):
			t.Fatalf("attribute %q changed", name)
		}
	}
}

// attributeNames returns the names in the vectors of a format, and two others.
func attributeNames(t testing.TB, format string) []string {
	names := map[string]bool{"aws_dbe_head": true, "\xff": true}
	for _, v := range loadRowVectors(t, format).Rows {
		for name := range v.Row {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

var fuzzKinds = [...]scan.Kind{scan.KindS, scan.KindN, scan.KindB, scan.KindBool, scan.KindNull,
	scan.KindM}

// rowOf decodes a row from any bytes: for each attribute the number of its name, its kind, two
// bytes of length and a value.
func rowOf(data []byte, names []string) map[string]scan.Value {
	row := map[string]scan.Value{}
	for len(data) >= 4 {
		name, kind := names[int(data[0])%len(names)], fuzzKinds[int(data[1])%len(fuzzKinds)]
		size := min(int(data[2])<<8|int(data[3]), len(data)-4)
		value := data[4 : 4+size]
		data = data[4+size:]
		switch kind {
		case scan.KindS, scan.KindN:
			row[name] = scan.Value{Kind: kind, Text: string(value)}
		case scan.KindB:
			row[name] = scan.Value{Kind: kind, Bytes: slices.Clone(value)}
		default:
			row[name] = scan.Value{Kind: kind, Bool: size > 0 && kind == scan.KindBool}
		}
	}
	return row
}

// rowBytes encodes a row for rowOf.
func rowBytes(row map[string]scan.Value, names []string) (data []byte) {
	for _, name := range slices.Sorted(maps.Keys(row)) {
		v := row[name]
		value := append([]byte(v.Text), v.Bytes...)
		data = append(data, byte(slices.Index(names, name)),
			byte(slices.Index(fuzzKinds[:], v.Kind)), byte(len(value)>>8), byte(len(value)))
		data = append(data, value...)
	}
	return data
}
