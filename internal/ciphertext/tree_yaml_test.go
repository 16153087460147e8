package ciphertext

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestYAMLTreesMatchOtherReaders: a map of texts in a YAML document, such as an encryption context,
// is read as other YAML readers read it, or is refused. The readings are those of the tests of
// context files.
func TestYAMLTreesMatchOtherReaders(t *testing.T) {
	text, err := os.ReadFile("../config/testdata/readers.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for line := range bytes.Lines(text) {
		var r struct {
			Text   string                       `json:"text"`
			PyYAML map[string]map[string]string `json:"pyyaml"`
			JSYAML map[string]map[string]string `json:"js-yaml"`
			YAML   map[string]map[string]string `json:"yaml"`
		}
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		body := r.Text
		readers := map[string]map[string]map[string]string{
			"PyYAML": r.PyYAML, "js-yaml": r.JSYAML, "yaml": r.YAML,
		}
		for _, s := range yamlSections([]byte(body)) {
			found, refused := yamlNode([]byte(body), s, s.name)
			got, ok := textsOf(found)
			if refused != nil || !ok {
				continue
			}
			read++
			for name, whole := range readers {
				if other, there := whole[s.name]; there && !reflect.DeepEqual(got, other) {
					t.Errorf("%q: %s is read as %q, but %s reads %q", body, s.name,
						got, name, other)
				}
			}
		}
	}
	if read < 50 {
		t.Errorf("%d maps were read, want more", read)
	}
}

// textsOf returns the content of a node that is a map of texts.
func textsOf(n *node) (map[string]string, bool) {
	if n == nil || n.kind != nodeMap {
		return nil, false
	}
	texts := map[string]string{}
	for _, m := range n.members {
		if m.value.kind != nodeText {
			return nil, false
		}
		texts[m.name] = m.value.text
	}
	return texts, true
}

// TestSopsContextInFlowStyle: the encryption context of a sops file in flow style is the one that
// sops sends to KMS.
func TestSopsContextInFlowStyle(t *testing.T) {
	stanza := "sops:\n  kms:\n  - arn: ARN\n    context: { app:tenant: t1, a: b:c }\n" +
		"    enc: BLOB\n" +
		"  lastmodified: \"2026-03-01T12:00:00Z\"\n  mac: ENC[x]\n  version: 3.13.3\n"
	body := strings.NewReplacer("ARN", goldenSource, "BLOB", std64(string(kmsBlob("old")))).
		Replace(stanza)
	f := compile(t, Spec{Format: formatSops, Kind: Files})
	found := f.Find(object("x.yaml", body, nil))
	if len(found) != 1 || found[0].Refused != nil {
		t.Fatalf("%v", summary(found))
	}
	want := map[string]string{"app:tenant": "t1", "a": "b:c"}
	if !reflect.DeepEqual(found[0].Context, want) {
		t.Errorf("context %q, want %q", found[0].Context, want)
	}
}
