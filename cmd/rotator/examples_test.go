package main

import (
	"fmt"
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
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(documents) == 0 {
		t.Fatalf("documents: %v, %v", documents, err)
	}
	contexts, err := os.ReadFile("../../deploy/examples/contexts.csv")
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range append(documents, "../../README.md") {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for n, block := range strings.Split(string(text), "```yaml\n")[1:] {
			body, _, _ := strings.Cut(block, "```")
			file := filepath.Join(t.TempDir(), fmt.Sprintf("%s-%d.yaml", filepath.Base(document), n))
			if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(filepath.Dir(file), "contexts.csv"), contexts, 0o600); err != nil {
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
