package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"
)

// parse returns the one document of a job file.
func parse(data []byte) (*yaml.Node, *Problem) {
	if problem := readable(data); problem != nil {
		return nil, problem
	}
	bodies, problem := documents(data)
	switch {
	case problem != nil:
		return nil, problem
	case len(bodies) == 0:
		return nil, &Problem{Detail: `the file is empty; a job file starts with "job: NAME"`}
	case len(bodies) > 1:
		p := start(bodies[1])
		return nil, &Problem{
			Line:   p.line,
			Column: p.column,
			Detail: `a second document starts here; write one job per file, without "---"`,
		}
	}
	return bodies[0], nil
}

// documents reads a YAML stream, up to its second document that is not empty.
func documents(data []byte) (bodies []*yaml.Node, problem *Problem) {
	// The parser may panic on unusual input.
	defer func() {
		if recover() != nil {
			bodies, problem = nil, &Problem{Detail: "is not valid YAML"}
		}
	}()
	text := bytes.TrimPrefix(data, []byte("\ufeff"))
	loader, err := yaml.NewLoader(bytes.NewReader(text))
	if err != nil {
		return nil, syntaxProblem(text, err)
	}
	for len(bodies) < 2 {
		var document yaml.Node
		err := loader.Load(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, syntaxProblem(text, err)
		}
		if body := bodyOf(&document); body != nil {
			bodies = append(bodies, body)
		}
	}
	for _, body := range bodies {
		if problem := tooMuch(body); problem != nil {
			return nil, problem
		}
	}
	return bodies, nil
}

// bodyOf returns the root node of a document, or nil for an empty document.
func bodyOf(document *yaml.Node) *yaml.Node {
	body := document
	if document.Kind == yaml.DocumentNode && len(document.Content) == 1 {
		body = document.Content[0]
	}
	if body.Kind == 0 || body.Kind == yaml.DocumentNode || body.Kind == yaml.StreamNode ||
		body.Kind == yaml.ScalarNode && body.Value == "" && body.Style == 0 && body.Anchor == "" {
		return nil
	}
	return body
}

// tooMuch refuses documents with too many values or levels.
func tooMuch(body *yaml.Node) *Problem {
	left := maxValues
	deepest := deeper(body, maxNesting, &left)
	switch {
	case deepest != nil && !anchorName.MatchString(deepest.Anchor):
		at := start(deepest)
		return &Problem{
			Line:   at.line,
			Column: at.column,
			Detail: "the name of an anchor must consist of letters, digits, - and _; " +
				"put text that starts with & in quotes",
		}
	case left < 0:
		return &Problem{Detail: fmt.Sprintf(
			"the file has more than %d YAML values; split it into several jobs", maxValues)}
	case deepest != nil:
		at := start(deepest)
		return &Problem{Line: at.line, Column: at.column, Detail: fmt.Sprintf(
			"the file is nested more than %d levels deep here; a job file needs fewer", maxNesting)}
	}
	return nil
}

// anchorName matches names of anchors that all readers interpret in the same
// way.
var anchorName = regexp.MustCompile(`^[A-Za-z0-9_-]*$`)

// deeper returns the first node that is nested too deeply or has an ambiguous
// anchor name. It subtracts the visited nodes from left.
func deeper(node *yaml.Node, levels int, left *int) *yaml.Node {
	if *left--; *left < 0 {
		return nil
	}
	if levels < 0 || !anchorName.MatchString(node.Anchor) {
		return node
	}
	for _, inner := range node.Content {
		if found := deeper(inner, levels-1, left); found != nil || *left < 0 {
			return found
		}
	}
	return nil
}

// syntaxProblem returns the position and the reason of a syntax error. It does not quote the
// text, which may contain a secret.
func syntaxProblem(text []byte, err error) *Problem {
	var wrong *yaml.LoadError
	if !errors.As(err, &wrong) {
		return &Problem{Detail: "is not valid YAML"}
	}
	at := inside(text, position{wrong.Mark.Line, wrong.Mark.Column})
	p := &Problem{Line: at.line, Column: at.column}
	if column, ok := tab(text, at.line); ok {
		p.Column = column
		p.Detail = "is not valid YAML: the line has a tab; indent with spaces"
		return p
	}
	if anchor := unknownAnchor.FindStringSubmatch(wrong.Message); anchor != nil {
		p.Detail = fmt.Sprintf("the anchor &%s is not defined above this line", anchor[1])
		return p
	}
	p.Detail = fmt.Sprintf(
		`is not valid YAML: %s; a value that contains any of {}[]:# needs quotes, `+
			`such as "${name}"`,
		wrong.Message)
	return p
}

var unknownAnchor = regexp.MustCompile(`^unknown anchor '([^']*)' referenced$`)

// inside returns a position, or the end of the text if the position is after it.
func inside(text []byte, at position) position {
	end := positionOf(text, len(bytes.TrimRight(text, "\n")))
	switch {
	case at.line < 1 || at.column < 1:
		return position{}
	case at.line > end.line:
		return end
	}
	return at
}

// tab returns the column of the first tab in the indentation of a line.
func tab(text []byte, line int) (column int, ok bool) {
	lines := strings.Split(string(text), "\n")
	if line < 1 || line > len(lines) {
		return 0, false
	}
	indent := lines[line-1]
	indent = indent[:len(indent)-len(strings.TrimLeft(indent, " \t"))]
	at := strings.IndexByte(indent, '\t')
	return at + 1, at >= 0
}
