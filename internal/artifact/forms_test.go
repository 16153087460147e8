package artifact

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rotator/internal/evidence/pack"
	"rotator/internal/report/cbom"
	"rotator/internal/report/document"
	"rotator/internal/report/markdown"
	"rotator/internal/report/page"
	"rotator/internal/report/sheet"
)

// savedDocument returns the document in testdata of the package document.
func savedDocument(t *testing.T) *document.Document {
	t.Helper()
	name := filepath.Join("..", "report", "document", "testdata", "report.json")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	d, err := document.Read(name, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// writtenForms returns the files of an evidence pack that depend on the document, by their name.
func writtenForms(t *testing.T, d *document.Document) map[string]string {
	t.Helper()
	var asPage, asText, asMarkdown, asJSON, materials bytes.Buffer
	if err := errors.Join(page.Write(&asPage, d), d.Text(&asText), markdown.Write(&asMarkdown, d),
		d.JSON(&asJSON), cbom.Write(&materials, d)); err != nil {
		t.Fatal(err)
	}
	forms := map[string]string{
		"report.html": asPage.String(), "report.txt": asText.String(),
		"report.md": asMarkdown.String(), "report.json": asJSON.String(),
		"cbom.json": materials.String(),
	}
	for _, table := range sheet.Tables() {
		var b bytes.Buffer
		if err := sheet.Write(&b, d, table); err != nil {
			t.Fatal(err)
		}
		forms[table+".csv"] = b.String()
	}
	statement, err := json.Marshal(pack.Statement{
		Type:          "https://in-toto.io/Statement/v1",
		Subject:       []pack.Subject{{Name: "report.json"}},
		PredicateType: pack.PredicateType,
	})
	if err != nil {
		t.Fatal(err)
	}
	forms["evidence.statement.json"] = string(statement)
	for _, name := range []string{"VERIFY.sh", "VERIFY.md", "chain.py", "trusted_root.json"} {
		text, err := os.ReadFile(filepath.Join("..", "evidence", "pack", name))
		if err != nil {
			t.Fatal(err)
		}
		forms[name] = string(text)
	}
	return forms
}

// TestForms: all forms of a report and the files of an evidence pack are recognised, also without
// any row. With a ciphertext in them, they are not.
func TestForms(t *testing.T) {
	t.Parallel()
	blob := secretBlob(t)
	full := savedDocument(t)
	empty := *full
	empty.Exceptions.Listed, empty.Copies, empty.KeyUse = nil, nil, nil
	for name, d := range map[string]*document.Document{"full": full, "empty": &empty} {
		for file, text := range writtenForms(t, d) {
			if Kind(object([]byte(text))) == "" {
				t.Errorf("%s: %s is not recognised", name, file)
			}
			if !Named("packs/2026/"+file) || Named("packs/2026/x"+file+".old") {
				t.Errorf("%s is not read in a format that needs no bodies", file)
			}
			half := len(text) / 2
			secret := text[:half] + "\n" + string(blob) + "\n" + text[half:]
			if got := Kind(object([]byte(secret))); got != "" {
				t.Errorf("%s: %s with a ciphertext is recognised as %q", name, file, got)
			}
		}
	}
}

// TestLookalikes: files of users that look like a form of a report are not recognised.
func TestLookalikes(t *testing.T) {
	t.Parallel()
	forms := writtenForms(t, savedDocument(t))
	for name, c := range map[string]struct{ file, old, new string }{
		"a page with another style":      {"report.html", "--bg:#fcfbf9", "--bg:#fcfbfa"},
		"a page with a script":           {"report.html", "</main>", "<script>1</script></main>"},
		"a page without a section":       {"report.html", `id="copies"`, `id="prices"`},
		"a page with something after it": {"report.html", "</html>", "</html>ssn: 078-05-1120"},
		"a page of another program":      {"report.html", "<footer>rotator", "<footer>printer"},
		"Markdown without a table": {"report.md", "| target | key | role |",
			"| target | key | part |"},
		"Markdown in another order":    {"report.md", "\n## Places\n", "\n## Place\n"},
		"a table with another head":    {"inventory.csv", "key_arn", "key"},
		"a table with text as number":  {"inventory.csv", ",0,", ",AQIDAHh,"},
		"a table with another role":    {"inventory.csv", ",source,", ",secret,"},
		"a table with another outcome": {"exceptions.csv", ",failed,", ",ssn,"},
		"a table with a torn row":      {"exceptions.csv", "\r\ncustomers,", "\r\ncustomers\r\n"},
		"a table of another tool":      {"copies.csv", "\r\n", "\n"},
		"materials of another program": {"cbom.json", "rotator job", "printer job"},
		"materials with a library":     {"cbom.json", "cryptographic-asset", "library"},
		"a statement about a release": {"evidence.statement.json", pack.PredicateType,
			"https://slsa.dev/provenance/v1"},
		"a statement with more": {"evidence.statement.json", `{"_type"`,
			`{"secret":"AQIDAHh","_type"`},
		"another script": {"VERIFY.sh", "set -eu", "set -e"},
	} {
		changed := strings.Replace(forms[c.file], c.old, c.new, 1)
		if changed == forms[c.file] {
			t.Errorf("%s: %s does not contain %q", name, c.file, c.old)
		}
		if got := Kind(object([]byte(changed))); got != "" {
			t.Errorf("%s is recognised as %q", name, got)
		}
	}
}
