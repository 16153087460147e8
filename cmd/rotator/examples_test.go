package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rotator/internal/config"
)

// TestExamples loads every job file that the documents show, and compiles its
// formats.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../deploy/examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, document := range []string{"../../README.md", "../../docs/job-file.md", "../../docs/operations.md", "../../docs/formats.md"} {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for n, block := range strings.Split(string(text), "```yaml\n")[1:] {
			body, _, _ := strings.Cut(block, "```")
			file := filepath.Join(t.TempDir(), filepath.Base(document)+string(rune('0'+n))+".yaml")
			if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
	}
	for _, file := range files {
		job, err := config.Load(file, func(string) (string, bool) { return "value", true })
		if err == nil {
			_, err = newFormats(job, "")
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
