package cbom

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"rotator/internal/report/document"
	"rotator/internal/report/reporttest"
)

// schema returns the schema of CycloneDX 1.6, which the module of the library contains.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "schema")
	compiler := jsonschema.NewCompiler()
	for name, file := range map[string]string{
		"bom-1.6.schema.json":  "bom-1.6.schema.json",
		"spdx.schema.json":     "spdx.schema.json",
		"jsf-0.82.schema.json": "jsf-0.82.schemax.json",
	} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource("http://cyclonedx.org/schema/"+name, parsed); err != nil {
			t.Fatal(err)
		}
	}
	compiled, err := compiler.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// TestWrite: the bill of materials of each document is valid, and has every key once with the slots
// of the inventory.
func TestWrite(t *testing.T) {
	valid := schema(t)
	for name, d := range map[string]*document.Document{
		"saved":   reporttest.Saved(t),
		"hostile": reporttest.Attacked(t),
	} {
		var b bytes.Buffer
		if err := Write(&b, d); err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(b.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if err := valid.Validate(value); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var bom cyclonedx.BOM
		if err := json.Unmarshal(b.Bytes(), &bom); err != nil {
			t.Fatal(err)
		}
		if name == "saved" {
			sameKeys(t, d, *bom.Components)
			statedBy(t, d.KeyUse[0], *bom.Components)
		}
	}
}

// sameKeys fails unless the components are the keys of a document.
func sameKeys(t *testing.T, d *document.Document, components []cyclonedx.Component) {
	t.Helper()
	after := map[string]string{}
	for _, c := range components {
		if c.Type != cyclonedx.ComponentTypeCryptographicAsset {
			t.Errorf("%s has the type %s", c.Name, c.Type)
		}
		for _, p := range *c.Properties {
			if p.Name == "rotator:slots_after" {
				after[c.CryptoProperties.RelatedCryptoMaterialProperties.ID] = p.Value
			}
		}
	}
	want := map[string]int64{d.DestinationKey: 0}
	for _, s := range d.SourceKeys {
		want[s.Key] = 0
	}
	for _, h := range d.Inventory {
		if h.Key != "" {
			want[h.Key] += h.After
		}
	}
	if len(after) != len(want) || len(components) != len(want) {
		t.Errorf("%d components for %d keys", len(components), len(want))
	}
	for arn, n := range want {
		if got, _ := json.Marshal(n); after[arn] != string(got) {
			t.Errorf("%s has %q slots, want %d", arn, after[arn], n)
		}
	}
}

// statedBy fails unless the component of a key has its state and dates.
func statedBy(t *testing.T, k document.KeyUse, components []cyclonedx.Component) {
	t.Helper()
	for _, c := range components {
		m := c.CryptoProperties.RelatedCryptoMaterialProperties
		if m.ID != k.ARN {
			continue
		}
		if string(m.State) != string(k.NIST) || m.CreationDate != "2025-10-01T09:00:00Z" ||
			m.UpdateDate != "2026-10-01T09:00:00Z" || m.ExpirationDate != "" {
			t.Errorf("the component of %s is %+v", k.ARN, m)
		}
		return
	}
	t.Errorf("there is no component of %s", k.ARN)
}
