package fakedynamodb

import (
	"bytes"
	"slices"
	"strings"
)

// function returns the parser of a condition function (Condition and filter expressions), or
// nil if there is no such function.
func (p *parser) function(name string) func() (condition, error) {
	switch name {
	case "attribute_exists", "attribute_not_exists":
		return func() (condition, error) {
			at, err := p.path()
			return func(i item) (bool, error) {
				_, ok := at.get(i)
				return ok == (name == "attribute_exists"), nil
			}, err
		}
	case "attribute_type":
		return p.pair(func(v, kind value) bool { return v.kind == kind.text })
	case "begins_with":
		return p.pair(func(v, prefix value) bool {
			return v.kind == prefix.kind &&
				(v.kind == "S" && strings.HasPrefix(v.text, prefix.text) ||
					v.kind == "B" && bytes.HasPrefix(v.bytes, prefix.bytes))
		})
	case "contains":
		return p.pair(contains)
	}
	return nil
}

// pair parses "path, operand" and returns a condition that tests both values.
func (p *parser) pair(test func(a, b value) bool) func() (condition, error) {
	return func() (condition, error) {
		left, err := p.operand()
		if err != nil {
			return nil, err
		}
		if err := p.expect(","); err != nil {
			return nil, err
		}
		right, err := p.operand()
		return func(i item) (bool, error) {
			a, okA, err := left(i)
			if err != nil {
				return false, err
			}
			b, okB, err := right(i)
			return okA && okB && err == nil && test(a, b), err
		}, err
	}
}

func contains(v, part value) bool {
	switch v.kind {
	case "S":
		return part.kind == "S" && strings.Contains(v.text, part.text)
	case "B":
		return part.kind == "B" && bytes.Contains(v.bytes, part.bytes)
	case "SS":
		return part.kind == "S" && slices.Contains(v.texts, part.text)
	case "NS":
		return part.kind == "N" && slices.Contains(v.texts, part.text)
	case "BS":
		return part.kind == "B" && slices.ContainsFunc(v.blobs, func(b []byte) bool {
			return bytes.Equal(b, part.bytes)
		})
	case "L":
		return slices.ContainsFunc(v.l, func(e value) bool { return equal(e, part) })
	}
	return false
}
