package dynamoscan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"rotator/internal/scan"
)

// Limits of one expression ("Expression parameters" of the quotas of DynamoDB). Each AND
// counts as an operator.
const (
	maxExpression = 4 << 10 // bytes
	maxOperators  = 300
)

// check is one term of the condition of an update.
type check struct {
	path  []scan.Step
	state scan.State
	value scan.Value // used with scan.Equal
}

// checksOf returns the terms of a condition: first one for each edit, in order,
// then the guards. It omits guards on the primary key, which never changes, and
// guards that another term covers.
func checksOf(key *itemKey, edits []edit, guards []scan.Guard) []check {
	checks := make([]check, 0, len(edits)+len(guards))
	for _, e := range edits {
		checks = append(checks, check{path: e.path, value: e.old})
	}
	for _, g := range guards {
		covered := slices.ContainsFunc(checks, func(c check) bool { return c.covers(g) })
		if !covered && !key.has(g.Path[0].Name) {
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

// condition returns the condition expression of an UpdateItem, and its values by placeholder.
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

// holds reports whether an item satisfies the condition of the update.
func (u *update) holds(item map[string]types.AttributeValue) bool {
	return !slices.ContainsFunc(u.checks, func(c check) bool { return !c.holds(item) })
}

func (c check) holds(item map[string]types.AttributeValue) bool {
	var at types.AttributeValue = &types.AttributeValueMemberM{Value: item}
	for _, step := range c.path {
		var next types.AttributeValue
		switch within := at.(type) {
		case *types.AttributeValueMemberM:
			if !step.Element {
				next = within.Value[step.Name]
			}
		case *types.AttributeValueMemberL:
			if step.Element && step.Index < len(within.Value) {
				next = within.Value[step.Index]
			}
		}
		if next == nil {
			return c.state == scan.Absent
		}
		at = next
	}
	if c.state != scan.Equal {
		return c.state == scan.Present
	}
	now, err := fromSDK(at)
	var edits []edit
	return err == nil && diffValue(&edits, nil, c.value, now) == nil && len(edits) == 0
}

// errConditionTooLarge returns the refusal of an item whose write needs a condition that is
// too large.
func errConditionTooLarge(checks int) error {
	return &scan.RefusedError{Reason: "condition-too-large", Detail: fmt.Sprintf(
		"its write depends on %d values, and a condition on all of them exceeds the limits of "+
			"DynamoDB (300 operators, 4 KB); have the application write this item again with the "+
			"new key, or move it with a job whose slots and contexts need fewer attributes",
		checks)}
}
