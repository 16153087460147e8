package dynamoscan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"rotator/internal/scan"
)

// Limits of one expression ("Expression parameters" of the quotas of DynamoDB). AND
// counts as an operator too.
const (
	maxExpression = 4 << 10 // bytes
	maxOperators  = 300
)

// check is one term of the condition of an update.
type check struct {
	path  []scan.Step
	state scan.State
	value scan.Value // with scan.Equal
}

// checksOf returns the terms of a condition: first one for each edit, in order,
// then the guards. It omits guards on the primary key, which never changes, and
// guards that another term covers.
func checksOf[V any](key map[string]V, edits []edit, guards []scan.Guard) []check {
	checks := make([]check, 0, len(edits)+len(guards))
	for _, e := range edits {
		checks = append(checks, check{path: e.path, value: e.old})
	}
	for _, g := range guards {
		_, ofKey := key[g.Path[0].Name]
		covered := slices.ContainsFunc(checks, func(c check) bool { return c.covers(g) })
		if !ofKey && !covered {
			checks = append(checks, check{path: g.Path, state: g.State, value: g.Value})
		}
	}
	return checks
}

// covers reports whether the check implies the guard: it compares the value at
// the place of the guard, or a value that contains it, or is the same check.
func (c check) covers(g scan.Guard) bool {
	if len(c.path) > len(g.Path) || !slices.Equal(c.path, g.Path[:len(c.path)]) {
		return false
	}
	return c.state == scan.Equal || c.state == g.State && len(c.path) == len(g.Path)
}

// widenGuards returns guards on the whole attributes that the guards are about.
func widenGuards(guards []scan.Guard, old *scan.Row) []scan.Guard {
	wide := make([]scan.Guard, 0, len(guards))
	for _, g := range guards {
		whole, ok := old.Attributes[g.Path[0].Name]
		if ok && len(g.Path) > 1 {
			g = scan.Guard{Path: g.Path[:1], Value: whole}
		}
		wide = append(wide, g)
	}
	return wide
}

// fits reports whether the expressions of an update are within the limits of
// DynamoDB.
func (u update) fits() bool {
	if 2*len(u.checks)-1 > maxOperators {
		return false
	}
	const longestStep, longestRest = len(".#n99999"), len("attribute_not_exists() AND ")
	most := 0
	for _, c := range u.checks {
		most += len(c.path)*longestStep + longestRest
	}
	if most <= maxExpression {
		return true
	}
	names := aliases{}
	condition, _ := u.condition(names)
	return len(condition) <= maxExpression && len(u.assignments(names)) <= maxExpression
}

// condition writes the condition of an UpdateItem, and returns its values by
// placeholder.
func (u update) condition(names aliases) (string, map[string]types.AttributeValue) {
	values := make(map[string]types.AttributeValue, len(u.checks)+len(u.edits))
	terms := make([]string, 0, len(u.checks))
	for i, c := range u.checks {
		path := names.path(c.path)
		switch c.state {
		case scan.Present:
			terms = append(terms, "attribute_exists("+path+")")
		case scan.Absent:
			terms = append(terms, "attribute_not_exists("+path+")")
		default:
			placeholder := fmt.Sprintf(":o%d", i)
			values[placeholder] = toSDK(c.value)
			terms = append(terms, path+" = "+placeholder)
		}
	}
	return strings.Join(terms, " AND "), values
}

// where writes the same condition after the primary key of a PartiQL statement,
// and appends the values to parameters ("Using the MISSING function with
// PartiQL for DynamoDB").
func (u update) where(
	b *strings.Builder, parameters []types.AttributeValue,
) []types.AttributeValue {
	for _, c := range u.checks {
		b.WriteString(" AND " + partiPath(c.path))
		switch c.state {
		case scan.Present:
			b.WriteString(" IS NOT MISSING")
		case scan.Absent:
			b.WriteString(" IS MISSING")
		default:
			b.WriteString(" = ?")
			parameters = append(parameters, toSDK(c.value))
		}
	}
	return parameters
}

// asksPresence reports whether a term of the condition tests presence instead
// of equality.
func (u update) asksPresence() bool {
	return slices.ContainsFunc(u.checks, func(c check) bool { return c.state != scan.Equal })
}

// errConditionTooLarge refuses an item whose write needs a condition that is
// too large.
func errConditionTooLarge(checks int) error {
	return &scan.RefusedError{Reason: "condition-too-large", Detail: fmt.Sprintf(
		"its write depends on %d values, and a condition on all of them exceeds the limits of "+
			"DynamoDB (300 operators, 4 KB); have the application write this item again with the "+
			"new key, or move it with a job whose slots and contexts need fewer attributes",
		checks)}
}
