package config

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a job file.
type Problem struct {
	Field  string // "targets[0].slots[1].path"; empty when it is the file itself
	Detail string // what is wrong, and how to mend it
	Line   int    // counted from 1; 0 when there is no place to point at
	Column int
}

// Problems is everything that is wrong with a job file, in the order of the
// file.
type Problems struct {
	File string
	List []Problem
}

// Error prints one problem per line, as compilers do, so that editors can jump
// to the place.
func (p *Problems) Error() string { return strings.Join(p.Lines(), "\n") }

// Lines returns the lines of Error. A line break inside a problem does not end its line.
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

// source remembers where the fields of a job stand in its file.
type source struct {
	file   string
	places map[string]place
}

type place struct{ line, column int }

// File is the path of the job file, as it was given to Load.
func (j *Job) File() string { return j.source.file }

// At says where a field stands in the file, such as "targets[0].dynamodb.table".
// A field that was left out stands where its nearest parent does.
func (j *Job) At(field string) (line, column int) { return j.source.at(field) }

// Problem points at a field of the job file, for checks that only a service can
// answer: wrap such problems in Problems{File: j.File()}.
func (j *Job) Problem(field, detail string) Problem {
	line, column := j.At(field)
	return Problem{Field: field, Detail: detail, Line: line, Column: column}
}

// written is true when the file itself gives the field a value.
func (s source) written(field string) bool {
	_, ok := s.places[field]
	return ok
}

func (s source) at(field string) (line, column int) {
	for {
		if p, ok := s.places[field]; ok {
			return p.line, p.column
		}
		if field == "" {
			return 1, 1
		}
		field = parent(field)
	}
}

// parent cuts the last step off a field: "a.b[0]" becomes "a.b".
func parent(field string) string {
	if strings.HasSuffix(field, `"]`) {
		return field[:max(strings.LastIndex(field, `["`), 0)]
	}
	return field[:max(strings.LastIndexAny(field, ".["), 0)]
}
