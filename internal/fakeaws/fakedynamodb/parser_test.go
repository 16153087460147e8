package fakedynamodb

import "testing"

// FuzzExpressions: no text makes the parsers panic, nor what they make of it.
func FuzzExpressions(f *testing.F) {
	for _, seed := range []string{"a = :v", "NOT (a.b[0] < :v OR size(#n) IN (:v, :v))", "SET a = if_not_exists(b, :v) + :v REMOVE c[1]", "a BETWEEN :v AND :v",
		`UPDATE "t" SET a."b"[0]=? WHERE pk=? AND a=?`, "contains(", "((((", "SET a=:v,", "ADD a :v DELETE b :v"} {
		f.Add(seed)
	}
	values := map[string]value{":v": {kind: "S", text: "x"}}
	one := item{"pk": {kind: "S", text: "k"}, "a": {kind: "M", m: map[string]value{"b": {kind: "L", l: []value{{kind: "N", text: "1"}}}}}}
	f.Fuzz(func(t *testing.T, text string) {
		e := expressions{ConditionExpression: text, ExpressionAttributeNames: map[string]string{"#n": "a"}, ExpressionAttributeValues: values}
		if c, err := e.compile(); err == nil {
			_, _ = c.condition(one)
		}
		e = expressions{UpdateExpression: text, ExpressionAttributeNames: map[string]string{"#n": "a"}, ExpressionAttributeValues: values}
		if c, err := e.compile(); err == nil && c.update != nil {
			_, _ = c.update.apply(one, one)
		}
		s := statement{Statement: text, Parameters: []value{values[":v"], values[":v"], values[":v"]}}
		if x, err := s.parse(); err == nil {
			_, _ = x.where(one)
		}
	})
}
