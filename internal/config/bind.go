package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// binder copies a YAML tree into a Job. The decoder of the YAML package is not used because
// it stops at the first problem, accepts a number as a string, and does not return the
// positions of fields.
type binder struct {
	lookupEnv func(string) (string, bool)
	positions map[string]position
	refused   map[string]bool // fields with a problem
	problems  []Problem
	left      int // number of values that may still be visited, because aliases multiply them
}

// spend subtracts n values from left. It returns false if none are left, and reports this
// once.
func (b *binder) spend(n int, node *yaml.Node, field string) bool {
	if b.left < 0 {
		return false
	}
	if b.left -= n; b.left >= 0 {
		return true
	}
	b.refuse(node, field, fmt.Sprintf("with its aliases expanded, the file has more than %d "+
		"values here; use fewer aliases, or split it into several jobs", maxValues))
	b.refused[""] = true // the rest was not visited and cannot be validated
	return false
}

// bind sets into from node and reports values of a wrong type.
func (b *binder) bind(node *yaml.Node, into reflect.Value, field string) {
	node, ok := b.resolve(node, field)
	if !ok {
		return
	}
	if into.Kind() == reflect.Pointer {
		into.Set(reflect.New(into.Type().Elem()))
		into = into.Elem()
	}
	switch into.Type() {
	case reflect.TypeFor[Duration]():
		b.bindDuration(node, into, field)
		return
	case reflect.TypeFor[Size]():
		b.bindSize(node, into, field)
		return
	case reflect.TypeFor[Share]():
		b.bindShare(node, into, field)
		return
	}
	if into.Type() == reflect.TypeFor[Segments]() && node.Kind == yaml.ScalarNode &&
		node.Value == autoWord {
		into.SetInt(int64(segmentsAuto))
		return
	}
	switch into.Kind() {
	case reflect.Struct:
		b.bindStruct(node, into, field)
	case reflect.Slice:
		b.bindList(node, into, field)
	case reflect.Map:
		b.bindMap(node, into, field)
	case reflect.String:
		if text, ok := b.text(node, field); ok {
			into.SetString(text)
		}
	default:
		b.bindScalar(node, into, field)
	}
}

// resolve follows aliases. It returns false after it reported that there is no value.
func (b *binder) resolve(node *yaml.Node, field string) (*yaml.Node, bool) {
	for {
		if !b.spend(1, node, field) {
			return nil, false
		}
		switch {
		case node.Kind == yaml.AliasNode && node.Alias != nil:
			node = node.Alias
		case node.Style&yaml.TaggedStyle != 0:
			b.refuse(node, field, "YAML tags are not allowed in a job file; write text in quotes, "+
				"and numbers without quotes")
			return nil, false
		case node.Kind == yaml.ScalarNode && scalarOf(node) == null:
			b.refuse(node, field, "has no value; set one, or remove the field")
			return nil, false
		default:
			return node, true
		}
	}
}

func (b *binder) bindStruct(node *yaml.Node, into reflect.Value, field string) {
	pairs, ok := b.pairs(node, field)
	if !ok {
		return
	}
	fields := map[string]int{}
	for i := range into.NumField() {
		if name, ok := into.Type().Field(i).Tag.Lookup("yaml"); ok {
			fields[name] = i
		}
	}
	for _, p := range pairs {
		i, ok := fields[p.key]
		if !ok {
			b.refuse(p.keyNode, join(field, p.key),
				"is not a field of a job file"+suggestion(p.key, fields))
			continue
		}
		name := join(field, p.key)
		b.mark(name, p.keyNode, p.value)
		if !b.noChoice(p.value, name, choices(into.Type().Field(i))) {
			b.bind(p.value, into.Field(i), name)
		}
	}
}

// choices returns the values that a field of a struct can have, or nil if it can have any.
func choices(field reflect.StructField) (values []string) {
	for rule := range strings.SplitSeq(field.Tag.Get("jsonschema"), ",") {
		if value, ok := strings.CutPrefix(rule, "enum="); ok {
			values = append(values, value)
		}
	}
	return values
}

// noChoice refuses a bool or a number in a field with a list of choices, because a choice
// that looks like one must be in quotes.
func (b *binder) noChoice(node *yaml.Node, field string, choices []string) bool {
	if len(choices) == 0 || node.Kind != yaml.ScalarNode {
		return false
	}
	switch scalarOf(node) {
	case boolean, whole, fraction, number:
		b.refuse(node, field, node.Value+" is not one of "+strings.Join(choices, ", "))
		return true
	}
	return false
}

func (b *binder) bindList(node *yaml.Node, into reflect.Value, field string) {
	if node.Kind != yaml.SequenceNode {
		b.refuse(node, field,
			"must be a list: [a, b], or one line with a dash per element, not "+kind(node))
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), len(node.Content), len(node.Content)))
	for i, value := range node.Content {
		name := fmt.Sprintf("%s[%d]", field, i)
		b.mark(name, value, value)
		b.bind(value, into.Index(i), name)
	}
}

// bindMap sets an encryption context, whose names are case-sensitive. It refuses scalars that
// are not text for some YAML readers, because a context must match exactly.
func (b *binder) bindMap(node *yaml.Node, into reflect.Value, field string) {
	pairs, ok := b.pairs(node, field)
	if !ok {
		return
	}
	into.Set(reflect.MakeMap(into.Type()))
	for _, p := range pairs {
		name := join(field, p.key)
		b.mark(name, p.keyNode, p.value)
		if reference.MatchString(p.key) {
			b.refuse(p.keyNode, name,
				"${env:...} is expanded only in values; write the name itself")
			continue
		}
		value, ok := b.resolve(p.value, name)
		if !ok || b.doubtful(p.keyNode, name) || b.doubtful(value, name) {
			continue
		}
		if text, ok := b.text(value, name); ok {
			into.SetMapIndex(reflect.ValueOf(p.key), reflect.ValueOf(text))
		}
	}
}

// doubtful refuses a scalar that is not text for readers of YAML 1.1.
func (b *binder) doubtful(node *yaml.Node, field string) bool {
	if node.Kind != yaml.ScalarNode || scalarOf(node) != doubtful {
		return false
	}
	b.refuse(node, field, fmt.Sprintf(
		"%s is a bool, a number or a date in YAML 1.1; put it in quotes", node.Value))
	return true
}

// text returns a string scalar with ${env:NAME} expanded. It refuses a number: an encryption
// context that is 0x10 in the file must not become 16.
func (b *binder) text(node *yaml.Node, field string) (string, bool) {
	if node.Kind != yaml.ScalarNode {
		b.refuse(node, field, "must be text, not "+kind(node))
		return "", false
	}
	if is := scalarOf(node); is != text && is != doubtful {
		b.refuse(node, field, "must be text, not "+kind(node)+"; put it in quotes")
		return "", false
	}
	text, details := expand(node.Value, b.lookupEnv)
	for _, detail := range details {
		b.refuse(node, field, detail)
	}
	return text, len(details) == 0
}

// durationForm matches a duration. Unlike Go, it does not allow +5s and .5s.
var durationForm = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`)

func (b *binder) bindDuration(node *yaml.Node, into reflect.Value, field string) {
	const want = "must be a number with a unit, such as 90s, 10m or 1h30m"
	if !isText(node) {
		b.refuse(node, field, want+", not "+kind(node))
		return
	}
	text, ok := b.text(node, field)
	if !ok {
		return
	}
	d, err := time.ParseDuration(text)
	if err != nil || !durationForm.MatchString(strings.TrimPrefix(text, "-")) {
		b.refuse(node, field, want)
		return
	}
	into.SetInt(int64(d))
}

// sizeForm matches a size of less than a terabyte.
var sizeForm = regexp.MustCompile(`^([0-9]{1,6})(KiB|MiB)$`)

func (b *binder) bindSize(node *yaml.Node, into reflect.Value, field string) {
	const want = "must be a number with the unit KiB or MiB, such as 512KiB or 32MiB"
	if !isText(node) {
		b.refuse(node, field, want+", not "+kind(node))
		return
	}
	text, ok := b.text(node, field)
	if !ok {
		return
	}
	parts := sizeForm.FindStringSubmatch(text)
	if parts == nil {
		b.refuse(node, field, want)
		return
	}
	number, _ := strconv.ParseInt(parts[1], 10, 64) // at most 6 digits
	unit := map[string]Size{"KiB": KiB, "MiB": MiB}[parts[2]]
	into.SetInt(number * int64(unit))
}

// bindShare sets a percentage. Its value is validated later.
func (b *binder) bindShare(node *yaml.Node, into reflect.Value, field string) {
	if !isText(node) {
		b.refuse(node, field, "must be a percentage, such as 60%, not "+kind(node))
		return
	}
	if text, ok := b.text(node, field); ok {
		into.SetString(text)
	}
}

// isText reports whether a node is a scalar that a text field accepts.
func isText(node *yaml.Node) bool {
	if node.Kind != yaml.ScalarNode {
		return false
	}
	is := scalarOf(node)
	return is == text || is == doubtful
}

// bindScalar sets a number or a bool.
func (b *binder) bindScalar(node *yaml.Node, into reflect.Value, field string) {
	is := text
	if node.Kind == yaml.ScalarNode {
		is = scalarOf(node)
	}
	want := "a number"
	switch into.Kind() {
	case reflect.Bool:
		if is == boolean {
			into.SetBool(strings.EqualFold(node.Value, "true"))
			return
		}
		want = "true or false"
	case reflect.Int:
		if n, ok := integer(node, is); ok {
			into.SetInt(n)
			return
		}
		want = "a whole number"
	case reflect.Float64:
		if n, err := strconv.ParseFloat(node.Value, 64); err == nil && (is == whole ||
			is == fraction) {
			into.SetFloat(n)
			return
		}
	}
	got := kind(node)
	switch {
	case is == text && node.Kind == yaml.ScalarNode && reference.MatchString(node.Value):
		b.refuse(node, field, fmt.Sprintf(
			"must be %s; ${env:...} is expanded only in fields that are text", want))
		return
	case is == text && node.Kind == yaml.ScalarNode:
		advice := adviceOn(node, into.Kind())
		if want += advice; advice == noUnit || advice == noSeparators {
			got = node.Value
		}
	case is == number && separated.MatchString(node.Value):
		want, got = want+noSeparators, node.Value
	case is != text && is != boolean && is != null:
		got = node.Value
	}
	b.refuse(node, field, fmt.Sprintf("must be %s, not %s", want, got))
}

// The ways in which a text must change to become a number or a bool.
const (
	noQuotes     = " without quotes"
	noUnit       = " with no unit"
	noSeparators = " with no separators between its digits"
)

// withUnit matches a number with a short text around it, such as 1000/s, $5 or 10k.
var withUnit = regexp.MustCompile(`^[$~<>=]?[0-9]+([.][0-9]+)?[ /%A-Za-z]{1,20}$`)

// separated matches a number with separators between its digits.
var separated = regexp.MustCompile(`^[0-9]{1,3}([,'_ ][0-9]{3})+$`)

// adviceOn returns how a text must change to become a number or a bool. It returns
// "" if the text contains neither.
func adviceOn(node *yaml.Node, into reflect.Kind) string {
	bare := *node
	bare.Style = 0
	is := scalarOf(&bare)
	isNumber := is == whole || into == reflect.Float64 && is == fraction
	switch {
	case into == reflect.Bool && is == boolean, into != reflect.Bool && isNumber:
		return noQuotes
	case into == reflect.Bool:
	case withUnit.MatchString(node.Value):
		return noUnit
	case separated.MatchString(node.Value):
		return noSeparators
	}
	return ""
}

// integer returns a whole number, or math.MaxInt64 for a larger number.
func integer(node *yaml.Node, is scalar) (int64, bool) {
	if is != whole {
		return 0, false
	}
	n, err := strconv.ParseInt(node.Value, 10, 64)
	return n, err == nil || errors.Is(err, strconv.ErrRange)
}

// mark records the position of a field: the value of a scalar, or the name of another field.
func (b *binder) mark(field string, name, value *yaml.Node) {
	at := name
	switch {
	case value.Kind == yaml.AliasNode,
		value.Kind == yaml.ScalarNode && !isBlock(value) && scalarOf(value) != null:
		at = value
	}
	b.positions[field] = start(at)
}

// isBlock reports whether a scalar is written as | or >.
func isBlock(node *yaml.Node) bool { return node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 }

// refuse reports a problem at a node.
func (b *binder) refuse(node *yaml.Node, field, detail string) {
	at := start(node)
	if node == nil || at.line == 0 {
		at.line, at.column = source{positions: b.positions}.at(field)
	}
	if b.refused == nil {
		b.refused = map[string]bool{}
	}
	b.refused[field] = true
	b.problems = append(b.problems, Problem{
		Field:  field,
		Detail: detail,
		Line:   at.line,
		Column: at.column,
	})
}
