package config

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one problem of a job file.
type Problem struct {
	Field  string // "targets[0].slots[1].path", or empty for the whole file
	Detail string // the problem, and how to fix it
	Line   int    // from 1, or 0 if the position is unknown
	Column int
}

// Problems is all problems of a job file, in the order of the file.
type Problems struct {
	File string
	List []Problem
}

// Error returns one problem per line in the format of compilers, so that editors can open the
// position.
func (p *Problems) Error() string { return strings.Join(p.Lines(), "\n") }

// Lines returns the lines of Error. A line can contain line breaks of its problem.
func (p *Problems) Lines() []string {
	lines := make([]string, len(p.List))
	for i, problem := range p.List {
		var b strings.Builder
		b.WriteString(p.File)
		if problem.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", problem.Line, problem.Column)
		}
		if problem.Field != "" {
			b.WriteString(": " + problem.Field)
		}
		b.WriteString(": " + problem.Detail)
		lines[i] = b.String()
	}
	return lines
}

func (p *Problems) sort() {
	slices.SortStableFunc(p.List, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
}

// source is the positions of the fields of a job in its file.
type source struct {
	file      string
	positions map[string]position
}

type position struct{ line, column int }

// File returns the path that was passed to Load.
func (j *Job) File() string { return j.source.file }

// At returns the position of a field, such as "targets[0].dynamodb.table". If the field is not
// in the file, it returns the position of its nearest parent.
func (j *Job) At(field string) (line, column int) { return j.source.at(field) }

// Problem returns a problem with the position of a field, for checks outside of this package.
// Report such problems as Problems{File: j.File()}.
func (j *Job) Problem(field, detail string) Problem {
	line, column := j.At(field)
	return Problem{Field: field, Detail: detail, Line: line, Column: column}
}

// written reports whether the file sets the field.
func (s source) written(field string) bool {
	_, ok := s.positions[field]
	return ok
}

func (s source) at(field string) (line, column int) {
	for {
		if p, ok := s.positions[field]; ok {
			return p.line, p.column
		}
		if field == "" {
			return 1, 1
		}
		field = parent(field)
	}
}

// parent removes the last step of a field: "a.b[0]" becomes "a.b".
func parent(field string) string {
	if strings.HasSuffix(field, `"]`) {
		return field[:max(strings.LastIndex(field, `["`), 0)]
	}
	return field[:max(strings.LastIndexAny(field, ".["), 0)]
}
