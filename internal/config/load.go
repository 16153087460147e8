package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The bounds of a job file. They keep a wrong file (a dump, a binary) from
// taking minutes and gigabytes before it is refused: the parser takes time that
// grows with the square of both counts.
const (
	MaxSize    = 1 << 20 // bytes
	maxTokens  = 50_000  // YAML tokens; a slot takes about ten
	maxNesting = 64      // levels opened on one line, or in flow style
)

// Load reads a job file. Its fields have their defaults, and its checkpoint and
// audit log the paths that they have for this process. lookupEnv answers
// ${env:NAME}, as os.LookupEnv does. Every error is a *Problems.
func Load(path string, lookupEnv func(string) (string, bool)) (*Job, error) {
	data, err := readAtMost(path, MaxSize+1)
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err // the path itself is printed anyway
	}
	if err != nil {
		return nil, &Problems{File: path, List: []Problem{{
			Detail: fmt.Sprintf("cannot read the job file: %v; name another with -f", err),
		}}}
	}
	return Parse(path, data, lookupEnv)
}

func readAtMost(path string, bytes int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return io.ReadAll(io.LimitReader(file, bytes))
}

// Parse is Load for the text of a job file that was already read from path.
func Parse(path string, data []byte, lookupEnv func(string) (string, bool)) (*Job, error) {
	body, problem := parse(data)
	if problem != nil {
		return nil, &Problems{File: path, List: []Problem{*problem}}
	}
	job := &Job{source: source{file: path, places: map[string]place{}}}
	b := &binder{
		anchors:   anchors(body),
		lookupEnv: lookupEnv,
		places:    job.source.places,
		left:      maxTokens,
	}
	b.bind(body, reflect.ValueOf(job).Elem(), "")
	job.setDefaults(filepath.Dir(path))
	problems := &Problems{File: path, List: b.problems}
	problems.List = append(problems.List, job.validate(b.refused)...)
	if len(problems.List) > 0 {
		problems.sort()
		return nil, problems
	}
	return job, nil
}

// parse returns the one document of a job file.
func parse(data []byte) (ast.Node, *Problem) {
	text, problem := readable(data)
	if problem != nil {
		return nil, problem
	}
	tokens := lexer.Tokenize(text)
	if problem := tooMuch(tokens); problem != nil {
		return nil, problem
	}
	// The binder reports duplicate keys, so that it can go on to other problems.
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, syntaxProblem(err)
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			bodies = append(bodies, doc.Body)
		}
	}
	switch {
	case len(bodies) == 0:
		return nil, &Problem{Detail: `the file is empty; a job file begins with "job: NAME"`}
	case len(bodies) > 1:
		p := start(bodies[1])
		return nil, &Problem{Line: p.line, Column: p.column,
			Detail: `a second document begins here; write one job per file, without "---" between`}
	}
	return bodies[0], nil
}

// tooMuch bounds what the parser has to do.
func tooMuch(tokens token.Tokens) *Problem {
	if len(tokens) > maxTokens {
		return &Problem{Detail: fmt.Sprintf("the file holds more than %d YAML tokens; split it into several jobs", maxTokens)}
	}
	var flow, row, line int
	for _, t := range tokens {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType:
			if t.Position.Line != line {
				row, line = 0, t.Position.Line
			}
			row++
		}
		if max(flow, row) > maxNesting {
			return problemAt(t, fmt.Sprintf("nested more than %d levels deep; no field of a job file is", maxNesting))
		}
	}
	return nil
}

// syntaxProblem leaves out the excerpt of the file that the parser adds: it may
// hold a secret.
func syntaxProblem(err error) *Problem {
	var yamlErr yaml.Error
	if !errors.As(err, &yamlErr) {
		return &Problem{Detail: "is not valid YAML"}
	}
	if strings.Contains(yamlErr.GetMessage(), "'\t'") {
		return problemAt(yamlErr.GetToken(), "is not valid YAML: there is a tab; indent with spaces")
	}
	return problemAt(yamlErr.GetToken(), fmt.Sprintf(
		`is not valid YAML: %s; a value that holds any of {}[]:# needs quotes, such as "${name}"`, yamlErr.GetMessage()))
}

func problemAt(t *token.Token, detail string) *Problem {
	p := &Problem{Detail: detail}
	if t != nil && t.Position != nil {
		p.Line, p.Column = t.Position.Line, t.Position.Column
	}
	return p
}
