package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

//go:embed words.txt
var words string

// rule is one line of words.txt.
type rule struct {
	pattern *regexp.Regexp
	instead string
}

// parseRules parses text in the format of words.txt.
func parseRules(text string) ([]rule, error) {
	var rules []rule
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		expression, instead, ok := strings.Cut(line, " => ")
		if !ok {
			return nil, fmt.Errorf("words.txt:%d: no \" => \"", i+1)
		}
		expression = strings.ReplaceAll(strings.TrimSpace(expression), " ", `\s+`)
		pattern, err := regexp.Compile("(?im)" + expression)
		if err != nil {
			return nil, fmt.Errorf("words.txt:%d: %w", i+1, err)
		}
		rules = append(rules, rule{pattern, strings.TrimSpace(instead)})
	}
	return rules, nil
}

// passage is prose that begins on a line of a file.
type passage struct {
	line int
	text string
}

// checkWords returns one finding for each match of a rule in the prose of a file.
func checkWords(file string, text []byte, rules []rule) ([]string, error) {
	var passages []passage
	switch filepath.Ext(file) {
	case ".md":
		passages = markdownPassages(string(text))
	case ".go":
		var err error
		if passages, err = goPassages(file, text); err != nil {
			return nil, err
		}
	}
	var findings []string
	for _, p := range passages {
		for _, r := range rules {
			for _, at := range r.pattern.FindAllStringIndex(p.text, -1) {
				line := p.line + strings.Count(p.text[:at[0]], "\n")
				match := strings.Join(strings.Fields(p.text[at[0]:at[1]]), " ")
				findings = append(findings,
					fmt.Sprintf("%s:%d: %q: write: %s", file, line, match, r.instead))
			}
		}
	}
	return findings, nil
}

// goPassages returns the comments of a Go file, without their markers, and its strings. A
// comment group is one passage. Struct tags, import paths, and strings without a space
// are no prose.
func goPassages(file string, text []byte) ([]passage, error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, text, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var passages []passage
	for _, group := range parsed.Comments {
		var lines []string
		for _, c := range group.List {
			lines = append(lines, strings.TrimPrefix(strings.TrimPrefix(c.Text, "//"), "/*"))
		}
		line := files.Position(group.Pos()).Line
		passages = append(passages, passage{line, strings.Join(lines, "\n")})
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			n.Tag = nil
		case *ast.ImportSpec:
			return false
		case *ast.BasicLit:
			value, err := strconv.Unquote(n.Value)
			if n.Kind == token.STRING && err == nil && strings.Contains(value, " ") {
				passages = append(passages, passage{files.Position(n.Pos()).Line, value})
			}
		}
		return true
	})
	slices.SortStableFunc(passages, func(a, b passage) int { return a.line - b.line })
	return passages, nil
}

var (
	fence      = regexp.MustCompile("^\\s*(```|~~~)")
	inlineCode = regexp.MustCompile("`[^`\n]*`")
)

// markdownPassages returns the text of a document without its code.
func markdownPassages(text string) []passage {
	code := false
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if fence.MatchString(line) {
			code = !code
			lines[i] = ""
		} else if code {
			lines[i] = ""
		} else {
			lines[i] = inlineCode.ReplaceAllString(line, "`code`")
		}
	}
	return []passage{{1, strings.Join(lines, "\n")}}
}

// listFiles returns the Go and Markdown files below the paths, without testdata,
// node_modules and directories whose name begins with a dot.
func listFiles(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		err := filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name := d.Name()
			if d.IsDir() {
				skip := name == "testdata" || name == "node_modules" || name == "bin" ||
					len(name) > 1 && strings.HasPrefix(name, ".") && name != ".."
				if skip {
					return fs.SkipDir
				}
				return nil
			}
			if ext := filepath.Ext(name); ext == ".go" || ext == ".md" {
				files = append(files, filepath.ToSlash(filepath.Clean(path)))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// isGenerated reports whether a program wrote the Go file, according to its first lines.
func isGenerated(text []byte) bool {
	return bytes.Contains(text[:min(len(text), 200)], []byte("Code generated "))
}
