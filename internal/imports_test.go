// Package internal_test checks which packages import which.
package internal_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// allowedInBasics covers the job file, and packages about names, text and errors.
func allowedInBasics() map[string][]string {
	return map[string][]string{
		"internal/nearest":   {},
		"internal/columns":   {"internal/printable"},
		"internal/plural":    {},
		"internal/awserr":    {},
		"internal/config":    {"internal/nearest"},
		"internal/printable": {},
		"internal/version":   {},
		"internal/redact":    {},
		"internal/telemetry": {"internal/printable", "zap"},
	}
}

// allowedInSources covers the packages that read and write items.
func allowedInSources() map[string][]string {
	return map[string][]string{
		"internal/scan":         {},
		"internal/scan/prewarm": {"sdk"},
		"internal/scan/dynamoscan": {"internal/awserr", "internal/scan", "internal/scan/prewarm",
			"sdk"},
		"internal/scan/s3scan": {"internal/awserr", "internal/plural", "internal/redact",
			"internal/scan", "internal/scan/prewarm", "sdk"},
		"internal/scan/filescan": {"internal/scan"},
		"internal/scan/scantest": {"internal/scan", "internal/fakeaws/fault"},
	}
}

// allowedInEngine covers the packages that find slots, decide about them, move them, and keep the
// state of a pass.
func allowedInEngine() map[string][]string {
	return map[string][]string{
		"internal/ciphertext": {"internal/kmsblob", "internal/nearest", "internal/plural",
			"internal/scan"},
		"internal/contentdigest": {"internal/scan"},
		"internal/kmsblob":       {},
		"internal/flowcontrol":   {"zap"},
		"internal/retry": {"internal/awserr", "internal/flowcontrol", "internal/outage",
			"internal/redact", "internal/scan"},
		"internal/reencrypt": {"internal/awserr", "internal/ciphertext", "internal/flowcontrol",
			"internal/kmsblob", "internal/outage", "internal/retry", "internal/scan", "sdk", "zap"},
		"internal/checkpoint":  {"internal/awserr", "sdk"},
		"internal/answerlimit": {"sdk"},
		"internal/fastkms":     {"internal/answerlimit", "internal/awserr", "sdk"},
		"internal/outage":      {"internal/answerlimit", "internal/awserr", "sdk"},
		"internal/rotate": {"internal/awserr", "internal/checkpoint", "internal/ciphertext",
			"internal/contentdigest", "internal/flowcontrol", "internal/kmsblob",
			"internal/reencrypt", "internal/retry", "internal/scan", "zap"},
		"internal/accept": {"internal/checkpoint", "internal/plural"},
	}
}

// allowedInResults covers the packages that report, prove and judge results.
func allowedInResults() map[string][]string {
	return map[string][]string{
		"internal/verdict": {"internal/plural"},
		"internal/report": {"internal/checkpoint", "internal/columns", "internal/plural",
			"internal/printable", "internal/verdict"},
		"internal/report/document": {"internal/checkpoint", "internal/columns", "internal/copies",
			"internal/plural", "internal/printable", "internal/report", "internal/verdict",
			"internal/watch"},
		"internal/report/page": {"internal/checkpoint", "internal/copies", "internal/plural",
			"internal/printable", "internal/report", "internal/report/document",
			"internal/verdict", "internal/watch"},
		"internal/report/sheet": {"internal/checkpoint", "internal/printable",
			"internal/report/document"},
		"internal/report/markdown": {"internal/copies", "internal/printable", "internal/report",
			"internal/report/document", "internal/verdict"},
		"internal/report/reporttest": {"internal/checkpoint", "internal/report/document",
			"internal/watch"},
		"internal/report/auditlog": {"internal/plural", "internal/printable", "internal/reencrypt",
			"internal/rotate", "internal/scan"},
		"internal/watch": {
			"internal/awserr",
			"internal/columns",
			"internal/plural",
			"internal/printable",
			"internal/retry",
			"sdk",
		},
		"internal/copies": {
			"internal/awserr",
			"internal/plural",
			"internal/printable",
			"internal/retry",
			"sdk",
		},
		"internal/evidence":        {"internal/awserr", "internal/report/auditlog", "sdk"},
		"internal/evidence/pack":   {"internal/awserr", "sdk"},
		"internal/report/cbom":     {"internal/report/document"},
		"internal/report/hashrefs": {"internal/checkpoint", "internal/report/document"},
		"internal/artifact": {"internal/checkpoint", "internal/evidence/pack", "internal/kmsblob",
			"internal/reencrypt", "internal/report", "internal/report/auditlog",
			"internal/report/sheet", "internal/rotate", "internal/scan"},
	}
}

// allowedInFakes covers the packages that only tests and the demo use.
func allowedInFakes() map[string][]string {
	return map[string][]string{
		"internal/fakeaws/fault":          {},
		"internal/fakeaws/fakekms":        {"internal/fakeaws/fault"},
		"internal/fakeaws/fakesm2":        {"internal/fakeaws/fakekms"},
		"internal/fakeaws/fakedynamodb":   {"internal/fakeaws/fault"},
		"internal/fakeaws/fakes3":         {"internal/fakeaws/fault"},
		"internal/fakeaws/fakecloudtrail": {"internal/fakeaws/fault"},
		"internal/fakeaws": {
			"internal/fakeaws/fault",
			"internal/fakeaws/fakecloudtrail",
			"internal/fakeaws/fakekms",
			"internal/fakeaws/fakedynamodb",
			"internal/fakeaws/fakes3",
		},
		"internal/fakeaws/awsspec": {"sdk"},
		"internal/harness": {
			"internal/checkpoint",
			"internal/fakeaws",
			"internal/fakeaws/fault",
			"internal/fakeaws/fakekms",
			"internal/fakeaws/fakes3",
			"internal/report",
			"sdk",
		},
	}
}

// allowedInPrograms covers the packages of cmd.
func allowedInPrograms() map[string][]string {
	return map[string][]string{
		"cmd/rotator": {
			"internal/accept",
			"internal/answerlimit",
			"internal/artifact",
			"internal/awserr",
			"internal/fastkms",
			"internal/checkpoint",
			"internal/ciphertext",
			"internal/columns",
			"internal/config",
			"internal/contentdigest",
			"internal/evidence",
			"internal/evidence/pack",
			"internal/flowcontrol",
			"internal/nearest",
			"internal/outage",
			"internal/plural",
			"internal/printable",
			"internal/redact",
			"internal/reencrypt",
			"internal/report",
			"internal/report/auditlog",
			"internal/report/cbom",
			"internal/report/document",
			"internal/report/hashrefs",
			"internal/report/markdown",
			"internal/report/page",
			"internal/report/sheet",
			"internal/retry",
			"internal/rotate",
			"internal/scan",
			"internal/scan/dynamoscan",
			"internal/scan/filescan",
			"internal/scan/s3scan",
			"internal/telemetry",
			"internal/verdict",
			"internal/version",
			"internal/copies", "internal/watch",
			"sdk",
			"zap",
		},
		"cmd/rotator-demo": {
			"internal/fakeaws",
			"internal/fakeaws/fakekms",
			"internal/report",
			"internal/verdict",
			"internal/version",
			"internal/watch",
			"sdk",
		},
	}
}

// allowed returns the packages of this module that each package may import, except in tests.
// "sdk" stands for aws-sdk-go-v2, "zap" for go.uber.org/zap.
func allowed(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, layer := range []map[string][]string{
		allowedInBasics(),
		allowedInSources(),
		allowedInEngine(),
		allowedInResults(),
		allowedInFakes(),
		allowedInPrograms(),
	} {
		for dir, may := range layer {
			if _, twice := all[dir]; twice {
				t.Errorf("%s is in the table twice", dir)
			}
			all[dir] = may
		}
	}
	return all
}

// sources returns the Go files of the program by directory, without tests.
func sources(t *testing.T) map[string][]string {
	t.Helper()
	files := map[string][]string{}
	for _, root := range []string{"internal", "cmd"} {
		err := filepath.WalkDir(filepath.Join("..", root), func(
			path string, _ fs.DirEntry, err error,
		) error {
			if err == nil && strings.HasSuffix(path, ".go") &&
				!strings.HasSuffix(path, "_test.go") {
				dir := filepath.ToSlash(strings.TrimPrefix(filepath.Dir(path),
					".."+string(filepath.Separator)))
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
	rules := allowed(t)
	for dir, files := range sources(t) {
		may, known := rules[dir]
		if !known {
			t.Errorf(
				"%s is not in the table: add it to its layer, with the packages that it may import",
				dir,
			)
		}
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range parsed.Imports {
				path := strings.Trim(spec.Path.Value, `"`)
				if name := layer(path); name != "" && !slices.Contains(may, name) {
					t.Errorf("%s imports %s, but may import only %v", file, path, may)
				}
			}
		}
	}
}

// layer returns the name of an import path in the table, or "" if the table does not restrict it.
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

// TestOnePackageReadsAWSErrors: only internal/awserr reads the code, the status and the message
// of an error of the AWS SDK.
func TestOnePackageReadsAWSErrors(t *testing.T) {
	reads := regexp.MustCompile(`\.(ErrorCode|ErrorMessage|HTTPStatusCode)\(\)`)
	for dir, files := range sources(t) {
		if dir == "internal/awserr" || dir == "internal/fakeaws/awsspec" {
			continue
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if found := reads.Find(text); found != nil {
				t.Errorf("%s calls %s", file, found)
			}
		}
	}
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

// shipped is the program of the release. It does not contain the fake AWS and the demo.
const shipped = "rotator/cmd/rotator"

// linked is a package of this module that a program links.
type linked struct {
	ImportPath, Dir         string
	GoFiles, IgnoredGoFiles []string
}

// linkedBy returns the packages of this module that a program links, according to the go command.
func linkedBy(t *testing.T, program string) (packages []linked) {
	t.Helper()
	list := exec.Command("go", "list", "-deps",
		"-json=ImportPath,Dir,GoFiles,IgnoredGoFiles", program)
	list.Stderr = t.Output()
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for decoder := json.NewDecoder(bytes.NewReader(out)); decoder.More(); {
		var p linked
		if err := decoder.Decode(&p); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(p.ImportPath, "rotator/") {
			packages = append(packages, p)
		}
	}
	if len(packages) == 0 {
		t.Fatalf("go list names no package of this module in %s", program)
	}
	return packages
}

func TestShippedBinaryLinksNoFake(t *testing.T) {
	for _, p := range linkedBy(t, shipped) {
		if strings.Contains(p.ImportPath, "fake") || strings.Contains(p.ImportPath, "demo") ||
			strings.Contains(p.ImportPath, "harness") {
			t.Errorf("%s links %s", shipped, p.ImportPath)
		}
	}
}

// mentionsPlaintext returns an identifier or string literal in a file that names an operation
// of KMS with a plaintext in its response. Comments do not count.
func mentionsPlaintext(file *ast.File) (found string) {
	operation := regexp.MustCompile(`Decrypt|GenerateDataKey|GenerateRandom|DeriveSharedSecret`)
	ast.Inspect(file, func(node ast.Node) bool {
		text := ""
		switch n := node.(type) {
		case *ast.Ident:
			text = n.Name
		case *ast.BasicLit:
			text = n.Value
		}
		// The usage of a key is a value in a response of DescribeKey.
		if text != "KeyUsageTypeEncryptDecrypt" && operation.MatchString(text) {
			found = text
		}
		return found == ""
	})
	return found
}

// TestNothingDecrypts: no package of the shipped program has code for a request to KMS that
// returns a plaintext.
func TestNothingDecrypts(t *testing.T) {
	for _, p := range linkedBy(t, shipped) {
		for _, name := range slices.Concat(p.GoFiles, p.IgnoredGoFiles) {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			if found := mentionsPlaintext(file); found != "" {
				t.Errorf("%s/%s mentions %s", p.ImportPath, name, found)
			}
		}
	}
}

func TestMentionsPlaintext(t *testing.T) {
	for text, want := range map[string]string{
		"client.Decrypt(ctx, nil)":           "Decrypt",
		"kms.DecryptInput{}":                 "DecryptInput",
		`header.Set("TrentService.Decrypt")`: `"TrentService.Decrypt"`,
		"client.GenerateDataKey()":           "GenerateDataKey",
		"client.ReEncrypt() // not Decrypt":  "",
		"types.KeyUsageTypeEncryptDecrypt":   "",
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "", "package p\nvar _ = "+text, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := mentionsPlaintext(file); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
