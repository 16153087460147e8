// Package internal_test keeps the layers of the program apart.
package internal_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// allowed says which packages of ours each package may import, without its tests.
// "sdk" stands for aws-sdk-go-v2, "zap" for go.uber.org/zap.
func allowed() map[string][]string {
	return map[string][]string{
		"internal/scan":            {},
		"internal/scan/prewarm":    {"sdk"},
		"internal/scan/dynamoscan": {"internal/scan", "internal/scan/prewarm", "sdk"},
		"internal/scan/s3scan": {"internal/redact", "internal/scan",
			"internal/scan/prewarm", "sdk"},
		"internal/scan/filescan": {"internal/scan"},
		"internal/scan/scantest": {"internal/scan", "internal/fakeaws/fault"},
		"internal/nearest":       {},
		"internal/ciphertext":    {"internal/kmsblob", "internal/nearest", "internal/scan"},
		"internal/kmsblob":       {},
		"internal/config":        {"internal/nearest"},
		"internal/checkpoint":    {"sdk"},
		"internal/answerlimit":   {"sdk"},
		"internal/fastkms":       {"internal/answerlimit", "sdk"},
		"internal/printable":     {},
		"internal/redact":        {},
		"internal/telemetry":     {"internal/printable", "zap"},
		"internal/outage":        {"internal/answerlimit", "sdk"},
		"internal/rotate": {"internal/redact", "internal/scan", "internal/ciphertext",
			"internal/checkpoint", "internal/kmsblob", "internal/outage", "sdk", "zap"},
		"internal/accept":          {"internal/checkpoint"},
		"internal/report":          {"internal/checkpoint", "internal/printable"},
		"internal/report/auditlog": {"internal/printable", "internal/rotate", "internal/scan"},
		"internal/artifact": {"internal/checkpoint", "internal/kmsblob",
			"internal/report", "internal/report/auditlog", "internal/rotate", "internal/scan"},
		"internal/fakeaws/fault":        {},
		"internal/fakeaws/fakekms":      {"internal/fakeaws/fault"},
		"internal/fakeaws/fakesm2":      {"internal/fakeaws/fakekms"},
		"internal/fakeaws/fakedynamodb": {"internal/fakeaws/fault"},
		"internal/fakeaws/fakes3":       {"internal/fakeaws/fault"},
		"internal/fakeaws":              {"internal/fakeaws/fault", "internal/fakeaws/fakekms", "internal/fakeaws/fakedynamodb", "internal/fakeaws/fakes3"},
		"internal/fakeaws/awsspec":      {"sdk"},
		"internal/demo":                 {"internal/fakeaws", "internal/fakeaws/fakekms", "internal/report", "sdk"},
		"internal/harness":              {"internal/checkpoint", "internal/fakeaws", "internal/fakeaws/fault", "internal/fakeaws/fakekms", "internal/fakeaws/fakes3", "internal/report", "sdk"},
		"cmd/rotator": {
			"internal/accept",
			"internal/answerlimit",
			"internal/artifact",
			"internal/fastkms",
			"internal/checkpoint",
			"internal/ciphertext",
			"internal/config",
			"internal/demo",
			"internal/nearest",
			"internal/outage",
			"internal/printable",
			"internal/redact",
			"internal/report",
			"internal/report/auditlog",
			"internal/rotate",
			"internal/scan",
			"internal/scan/dynamoscan",
			"internal/scan/filescan",
			"internal/scan/s3scan",
			"internal/telemetry",
			"sdk",
			"zap",
		},
	}
}

// sources returns every Go file of the program but tests, by directory.
func sources(t *testing.T) map[string][]string {
	t.Helper()
	files := map[string][]string{}
	for _, root := range []string{"internal", "cmd"} {
		err := filepath.WalkDir(filepath.Join("..", root), func(path string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				dir := filepath.ToSlash(strings.TrimPrefix(filepath.Dir(path), ".."+string(filepath.Separator)))
				files[dir] = append(files[dir], path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestImportDirection(t *testing.T) {
	rules := allowed()
	for dir, files := range sources(t) {
		may, known := rules[dir]
		if !known {
			t.Errorf("%s is in no layer: add it to allowed, with what it may import", dir)
		}
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range parsed.Imports {
				path := strings.Trim(spec.Path.Value, `"`)
				if name := layer(path); name != "" && !slices.Contains(may, name) {
					t.Errorf("%s imports %s, and may import only %v", file, path, may)
				}
			}
		}
	}
}

// layer names what an import path is in the rules; "" is not ruled.
func layer(path string) string {
	switch {
	case strings.HasPrefix(path, "rotator/"):
		return strings.TrimPrefix(path, "rotator/")
	case strings.HasPrefix(path, "github.com/aws/aws-sdk-go-v2"):
		return "sdk"
	case strings.HasPrefix(path, "go.uber.org/zap"):
		return "zap"
	}
	return ""
}

// sm2Package is the only package with the cryptography of SM2. No program imports it.
const sm2Package = "internal/fakeaws/fakesm2"

// TestFakesUseTheStandardLibraryAlone keeps the fakes free of dependencies.
func TestFakesUseTheStandardLibraryAlone(t *testing.T) {
	for dir, files := range sources(t) {
		if !strings.HasPrefix(dir, "internal/fakeaws") || dir == "internal/fakeaws/awsspec" ||
			dir == sm2Package {
			continue
		}
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range parsed.Imports {
				path := strings.Trim(spec.Path.Value, `"`)
				if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") {
					t.Errorf("%s imports %s", file, path)
				}
			}
		}
	}
}

// TestOnlyTestsLinkSM2: one package imports the SM2 library, and only tests import this
// package, so no program links the library.
func TestOnlyTestsLinkSM2(t *testing.T) {
	library := 0
	for dir, files := range sources(t) {
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range parsed.Imports {
				path := strings.Trim(spec.Path.Value, `"`)
				ofLibrary := strings.HasPrefix(path, "github.com/emmansun/gmsm/")
				if ofLibrary && dir == sm2Package {
					library++
				} else if ofLibrary || path == "rotator/"+sm2Package {
					t.Errorf("%s imports %s", file, path)
				}
			}
		}
	}
	if library == 0 {
		t.Error(sm2Package + " imports no SM2 library, so this test proves nothing")
	}
}

// TestNothingDecrypts fails when code outside of the fake, the demo's checking
// client and the tests' own world can ask KMS for a plaintext, or a policy lets it.
func TestNothingDecrypts(t *testing.T) {
	decrypt := regexp.MustCompile(`\bDecrypt(Input|Output)?\b|kms:Decrypt|\bGenerateDataKey`)
	comment := regexp.MustCompile(`(?m)//.*$`)
	for dir, files := range sources(t) {
		if strings.HasPrefix(dir, "internal/fakeaws") || dir == "internal/harness" {
			continue
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			found := decrypt.FindString(comment.ReplaceAllString(string(text), ""))
			if checker := filepath.ToSlash(file) == "../internal/demo/truth.go"; found != "" && !checker {
				t.Errorf("%s says %s", file, found)
			}
		}
	}
}
