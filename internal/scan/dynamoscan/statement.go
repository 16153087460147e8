package dynamoscan

import (
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"rotator/internal/scan"
)

// form is the set of features of PartiQL that a statement needs, beyond setting
// one attribute with a plain name under conditions of equality. Servers other
// than DynamoDB may lack some of them.
type form uint8

const (
	severalFields form = 1 << iota // sets more than one field
	mapMembers                     // "a"."b"
	listElements                   // "a"[0]
	oddNames                       // names that are not only letters, digits, - and _
	absence                        // IS MISSING
	presence                       // IS NOT MISSING

	forms = 1 << iota // the number of forms
)

// String describes the form in a sentence about batched updates.
func (f form) String() string {
	var features []string
	for i, feature := range []string{
		"several fields", "members of maps", "elements of lists", "names with special characters",
		"the condition that an attribute does not exist", "the condition that an attribute exists",
	} {
		if f&(1<<i) != 0 {
			features = append(features, feature)
		}
	}
	return strings.Join(features, ", ")
}

// shape is the part that statements with the same paths and conditions share:
// everything except the values.
type shape struct {
	keys   []string // names of the primary key, in order
	sets   int      // number of fields that are set; their paths are those of the first checks
	checks []check  // without values
	form   form
	// listed is the text with one SET clause for all fields, and repeated is the
	// text with one SET clause for each field. DynamoDB documents both.
	listed, repeated string
	parameters       int
}

// maxShapes limits the shapes that a table keeps.
const maxShapes = 16

// shapeOf returns the shape of an update.
func (t *Table) shapeOf(u *update) *shape {
	kept := t.shapes.Load()
	var known []*shape
	if kept != nil {
		known = *kept
	}
	for _, s := range known {
		if s.of(u) {
			return s
		}
	}
	s := newShape(t.config.Table, u)
	if len(known) < maxShapes {
		more := append(slices.Clip(known), s)
		t.shapes.CompareAndSwap(kept, &more)
	}
	return s
}

// of reports whether s is the shape of the update.
func (s *shape) of(u *update) bool {
	if len(u.edits) != s.sets || len(u.checks) != len(s.checks) || u.key.n != len(s.keys) {
		return false
	}
	for i, c := range u.checks {
		if c.state != s.checks[i].state || !slices.Equal(c.path, s.checks[i].path) {
			return false
		}
	}
	for i, part := range u.key.attributes() {
		if part.name != s.keys[i] {
			return false
		}
	}
	return true
}

// newShape writes the statements of an update. WHERE contains the whole primary
// key, which PartiQL requires, every value that is replaced, and the guards
// ("PartiQL update statements for DynamoDB", "Using the MISSING function with
// PartiQL for DynamoDB").
func newShape(table string, u *update) *shape {
	s := &shape{
		sets:   len(u.edits),
		checks: make([]check, len(u.checks)),
	}
	s.parameters = s.sets + u.key.n
	var sets []string
	for _, e := range u.edits {
		sets = append(sets, partiPath(e.path)+" = ?")
	}
	var where []string
	for _, part := range u.key.attributes() {
		s.keys = append(s.keys, part.name)
		s.form |= formOf([]scan.Step{{Name: part.name}})
		where = append(where, quote(part.name)+" = ?")
	}
	for i, c := range u.checks {
		s.checks[i] = check{path: c.path, state: c.state}
		s.form |= formOf(c.path)
		switch c.state {
		case scan.Present:
			s.form |= presence
			where = append(where, partiPath(c.path)+" IS NOT MISSING")
		case scan.Absent:
			s.form |= absence
			where = append(where, partiPath(c.path)+" IS MISSING")
		default:
			s.parameters++
			where = append(where, partiPath(c.path)+" = ?")
		}
	}
	if s.sets > 1 {
		s.form |= severalFields
	}
	update, condition := "UPDATE "+quote(table)+" SET ", " WHERE "+strings.Join(where, " AND ")
	s.listed = update + strings.Join(sets, ", ") + condition
	s.repeated = update + strings.Join(sets, " SET ") + condition
	return s
}

// comparisons returns the number of conditions that compare a value.
func (s *shape) comparisons() (n int) {
	for _, c := range s.checks {
		if c.state == scan.Equal {
			n++
		}
	}
	return n
}

// formOf returns the features that a path needs.
func formOf(path []scan.Step) (f form) {
	for i, step := range path {
		switch {
		case step.Element:
			f |= listElements
		case i > 0:
			f |= mapMembers
		}
		if strings.ContainsFunc(step.Name, odd) {
			f |= oddNames
		}
	}
	return f
}

// odd reports whether r is a character that some servers do not accept in a quoted
// name.
func odd(r rune) bool {
	letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	return !letter && (r < '0' || r > '9') && r != '-' && r != '_'
}

// statement returns the statement of an update of this shape.
func (s *shape) statement(u *update, style support) types.BatchStatementRequest {
	parameters := make([]types.AttributeValue, 0, s.parameters)
	for _, e := range u.edits {
		parameters = append(parameters, toSDK(e.new))
	}
	for _, part := range u.key.attributes() {
		parameters = append(parameters, part.value)
	}
	for _, c := range u.checks {
		if c.state == scan.Equal {
			parameters = append(parameters, toSDK(c.value))
		}
	}
	request := types.BatchStatementRequest{
		Statement:                           &s.listed,
		Parameters:                          parameters,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	if style == supportedRepeated {
		request.Statement = &s.repeated
	}
	return request
}

func partiPath(path []scan.Step) string {
	var b strings.Builder
	for i, s := range path {
		if s.Element {
			b.WriteString("[" + strconv.Itoa(s.Index) + "]")
			continue
		}
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(quote(s.Name))
	}
	return b.String()
}

// quote returns a name as a PartiQL identifier.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
