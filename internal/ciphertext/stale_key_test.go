package ciphertext

import (
	"strings"
	"testing"

	"rotator/internal/scan"
)

// TestStaleKey: the name of a source key next to a slot is found in JSON, JSON
// Lines and rows, in every spelling. Names elsewhere, and names of other keys,
// are ignored.
func TestStaleKey(t *testing.T) {
	const alias = "alias/old"
	id := goldenSource[strings.LastIndexByte(goldenSource, '/')+1:]
	blob := std64(string(kmsBlob("1")))
	names := Keys{Sources: []string{goldenSource, id, alias}}
	for _, test := range []struct{ document, want string }{
		{`{"keyArn":"` + goldenSource + `","s":"BLOB"}`, "keyArn"},
		{`{"s":"BLOB","KeyId":"` + id + `"}`, "KeyId"},
		{`{"s":"BLOB","a":"alias/old"}`, "a"},
		{`{"s":"BLOB","a":"alias\/old"}`, "a"},
		{`{"s":"BLOB","a":"` + strings.ReplaceAll(goldenSource, "/", `\/`) + `"}`, "a"},
		{`{"s":"BLOB","a":"` + goldenDestination + `"}`, ""},
		{`{"s":"BLOB","a":"key ` + id + `"}`, ""},
		{`{"s":"BLOB","m":{"a":"` + id + `"}}`, ""},
	} {
		body := strings.Replace(test.document, "BLOB", blob, 1)
		for _, format := range []string{formatJSON, formatJSONL} {
			spec := Spec{Format: format, Kind: Objects, Slots: []SlotSpec{{Path: "s"}}}
			if s := compile(t, spec).Find(object("k", body, nil))[0]; s.StaleKey != "" {
				t.Errorf("without names %s finds %q", format, s.StaleKey)
			}
			s := bind(t, spec, names).Find(object("k", body, nil))[0]
			if s.Refused != nil || s.StaleKey != test.want {
				t.Errorf("%s, %s: %q, %v", format, test.document, s.StaleKey, s.Refused)
			}
		}
	}
	envelope := scan.Value{
		Kind: scan.KindM,
		Map:  map[string]scan.Value{"b": text(id), "a": text(alias), "s": text(blob)},
	}
	item := row(map[string]scan.Value{"e": envelope, "s": text(blob), "k": text("other")})
	f := bind(t, Spec{
		Format: formatBase64,
		Kind:   Rows,
		Slots:  []SlotSpec{{Path: "e.s"}, {Path: "s"}},
	}, names)
	if found := f.Find(item); found[0].StaleKey != "e.a" || found[1].StaleKey != "" {
		t.Errorf("rows: %q, %q", found[0].StaleKey, found[1].StaleKey)
	}
}
