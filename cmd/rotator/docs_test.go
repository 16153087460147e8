package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestEveryReasonIsDocumented: docs/results.md has every reason that the program can give
// for a slot that it did not move.
func TestEveryReasonIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "results.md"))
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]string{}
	for _, dir := range []string{"ciphertext", "rotate", "scan"} {
		err := filepath.WalkDir(filepath.Join("..", "..", "internal", dir), func(
			path string, _ fs.DirEntry, err error,
		) error {
			if err == nil && strings.HasSuffix(path, ".go") &&
				!strings.HasSuffix(path, "_test.go") {
				reasonsOf(t, path, reasons)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(reasons) < 50 {
		t.Errorf("found only %d reasons, %v; the code may state reasons in a new way", len(reasons),
			reasons)
	}
	for reason, path := range reasons {
		if !strings.Contains(string(text), "`"+reason+"`") {
			t.Errorf("docs/results.md does not have the reason %s, of %s", reason, path)
		}
	}
}

var reasonForm = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// reasonsOf finds the reasons in one file: values of the field Reason, constants of that name, and
// the arguments of functions that refuse a slot.
func reasonsOf(t *testing.T, path string, reasons map[string]string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	note := func(e ast.Expr) {
		if literal, ok := e.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if word, err := strconv.Unquote(literal.Value); err == nil &&
				reasonForm.MatchString(word) {
				reasons[word] = path
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			if name, ok := n.Key.(*ast.Ident); ok && strings.EqualFold(name.Name, "reason") {
				note(n.Value)
			}
		case *ast.ValueSpec:
			for i, name := range n.Names {
				if strings.HasPrefix(name.Name, "reason") && i < len(n.Values) {
					note(n.Values[i])
				}
			}
		case *ast.CallExpr:
			// The functions that refuse a slot, and the position of the reason in their arguments.
			position := map[string]int{
				"refuse": 0, "refused": 0, "refusedSitef": 1, "refusedUnless": 1, "refusedSlot": 2,
			}
			if name, ok := n.Fun.(*ast.Ident); ok {
				if i, ok := position[name.Name]; ok && i < len(n.Args) {
					note(n.Args[i])
				}
			}
		}
		return true
	})
}
