package fakedynamodb

import (
	"encoding/json"
	"strings"
	"testing"
)

// namesIn returns the names of an expression, or nil if it uses none.
func namesIn(expression string) map[string]string {
	if !strings.Contains(expression, "#n") {
		return nil
	}
	return map[string]string{"#n": "a"}
}

// FuzzExpressions: no text causes a panic of the parsers or of the evaluation. A condition
// and its negation never agree, evaluation is repeatable, and an update does not change the
// original item.
func FuzzExpressions(f *testing.F) {
	values := map[string]value{":v": {kind: "S", text: "x"}}
	one := item{
		"pk": {kind: "S", text: "k"},
		"a": {kind: "M", m: map[string]value{
			"b": {kind: "L", l: []value{{kind: "N", text: "1"}}},
			"v": values[":v"],
		}},
		"s": {kind: "SS", texts: []string{"x", "y"}},
	}
	before := printed(f, one)
	condition := func(text string) (result, compiles bool, err error) {
		e := expressions{
			ConditionExpression:       text,
			ExpressionAttributeNames:  namesIn(text),
			ExpressionAttributeValues: values,
		}
		c, err := e.compile()
		if err != nil || c.condition == nil {
			return false, false, nil
		}
		result, err = c.condition(one)
		return result, true, err
	}
	f.Fuzz(func(t *testing.T, text string) {
		if result, ok, err := condition(text); ok {
			not, okNot, errNot := condition("NOT (" + text + ")")
			both, okBoth, errBoth := condition("(" + text + ") AND (" + text + ")")
			shallow := strings.Count(text,
				"(")+strings.Count(strings.ToUpper(text), "NOT") < maxDepth/4
			if shallow &&
				(!okNot || !okBoth || (err == nil) != (errNot == nil) || err == nil &&
					(not == result || errBoth != nil || both != result)) {
				t.Errorf("%q: %v (%v); negation: %v (%v); evaluated twice: %v (%v)", text, result,
					err, not, errNot, both, errBoth)
			}
		}
		e := expressions{
			UpdateExpression:          text,
			ExpressionAttributeNames:  namesIn(text),
			ExpressionAttributeValues: values,
		}
		if c, err := e.compile(); err == nil && c.update != nil {
			_, _ = c.update.apply(one, one)
		}
		s := statement{Statement: text}
		for range min(strings.Count(text, "?"), 100) {
			s.Parameters = append(s.Parameters, values[":v"])
		}
		if x, err := s.parse(); err == nil {
			_, _ = x.where(one)
			if x.update != nil {
				_, _ = x.update.apply(one, one)
			}
		}
		if after := printed(t, one); after != before {
			t.Errorf("%q changed the item in place, from %s to %s", text, before, after)
		}
	})
}

func printed(t testing.TB, i item) string {
	text, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
