package fakedynamodb

import (
	"bytes"
	"math/big"
	"slices"
)

// update is a parsed UpdateExpression.
type update struct {
	sets    []assignment
	removes []path
	adds    []assignment
	deletes []assignment
}

// assignment is a path and its new value, computed from the item before the update.
type assignment struct {
	path path
	from operand
}

// update parses the clauses SET, REMOVE, ADD and DELETE, each at most once.
func (p *parser) update() (*update, error) {
	u := &update{}
	seen := map[string]bool{}
	for p.peek().kind != tokenEnd {
		var err error
		clause := ""
		switch {
		case p.accept("SET"):
			clause = "SET"
			u.sets, err = p.assignments(true)
		case p.accept("REMOVE"):
			clause = "REMOVE"
			u.removes, err = p.paths()
		case p.accept("ADD"):
			clause = "ADD"
			u.adds, err = p.assignments(false)
		case p.accept("DELETE"):
			clause = "DELETE"
			u.deletes, err = p.assignments(false)
		default:
			return nil, p.syntax()
		}
		if err != nil {
			return nil, err
		}
		if seen[clause] {
			return nil, invalid("The %q section can only be used once in an update expression;",
				clause)
		}
		seen[clause] = true
	}
	return u, u.disjoint()
}

// assignments parses "path = expression, ..." or, for ADD and DELETE, "path value".
func (p *parser) assignments(set bool) (list []assignment, err error) {
	for {
		a := assignment{}
		if a.path, err = p.path(); err != nil {
			return nil, err
		}
		if set {
			if err := p.expect("="); err != nil {
				return nil, err
			}
			a.from, err = p.sum()
		} else {
			a.from, err = p.operand()
		}
		if err != nil {
			return nil, err
		}
		list = append(list, a)
		if !p.accept(",") {
			return list, nil
		}
	}
}

// sum parses an operand, or two with + or - between them.
func (p *parser) sum() (operand, error) {
	left, err := p.term()
	if err != nil {
		return nil, err
	}
	sign := p.peek().text
	if p.peek().kind != tokenSign || sign != "+" && sign != "-" {
		return left, nil
	}
	p.at++
	right, err := p.term()
	return func(i item) (value, bool, error) {
		a, okA, errA := left(i)
		b, okB, errB := right(i)
		switch {
		case errA != nil || errB != nil || !okA || !okB:
			return value{}, false, firstOf(errA, errB)
		case a.kind != "N" || b.kind != "N":
			return value{}, false, invalid(
				"An operand in the update expression has an incorrect data type",
			)
		}
		r := new(big.Rat).Add(number(a.text), number(b.text))
		if sign == "-" {
			r = new(big.Rat).Sub(number(a.text), number(b.text))
		}
		text, err := printNumber(r)
		return value{kind: "N", text: text}, true, err
	}, err
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// term parses an operand or one of the functions of SET.
func (p *parser) term() (operand, error) {
	switch {
	case p.peek().kind == tokenName && p.peek().text == "if_not_exists" &&
		p.tokens[p.at+1].text == "(":
		return p.function2(func(a value, okA bool, b value, okB bool) (value, bool, error) {
			if okA {
				return a, true, nil
			}
			return b, okB, nil
		})
	case p.peek().kind == tokenName && p.peek().text == "list_append" &&
		p.tokens[p.at+1].text == "(":
		return p.function2(func(a value, okA bool, b value, okB bool) (value, bool, error) {
			if !okA || !okB {
				return value{}, false, nil
			}
			if a.kind != "L" || b.kind != "L" {
				return value{}, false, invalid(
					"An operand in the update expression has an incorrect data type",
				)
			}
			return value{kind: "L", l: slices.Concat(a.l, b.l)}, true, nil
		})
	}
	return p.operand()
}

func (p *parser) function2(
	f func(a value, okA bool, b value, okB bool) (value, bool, error),
) (operand, error) {
	p.at += 2
	if err := p.nest(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	left, err := p.term()
	if err != nil {
		return nil, err
	}
	if err := p.expect(","); err != nil {
		return nil, err
	}
	right, err := p.term()
	if err != nil {
		return nil, err
	}
	return func(i item) (value, bool, error) {
		a, okA, err := left(i)
		if err != nil {
			return value{}, false, err
		}
		b, okB, err := right(i)
		if err != nil {
			return value{}, false, err
		}
		return f(a, okA, b, okB)
	}, p.expect(")")
}

// touched returns all paths that the update names.
func (u *update) touched() (paths []path) {
	for _, list := range [][]assignment{u.sets, u.adds, u.deletes} {
		for _, a := range list {
			paths = append(paths, a.path)
		}
	}
	return append(paths, u.removes...)
}

// disjoint refuses paths that overlap.
func (u *update) disjoint() error {
	paths := u.touched()
	for i, a := range paths {
		for _, b := range paths[:i] {
			if a.overlaps(b) {
				return invalid(
					"Two document paths overlap with each other; must remove or rewrite one of "+
						"these paths; path one: [%s], path two: [%s]", b, a,
				)
			}
		}
	}
	return nil
}

// keepsKeys refuses an update of a key attribute.
func (u *update) keepsKeys(t *table) error {
	for _, p := range u.touched() {
		if _, ok := t.types[p[0].name]; ok {
			return invalid(
				"One or more parameter values were invalid: Cannot update attribute %s. This "+
					"attribute is part of the key", p[0].name,
			)
		}
	}
	return nil
}

// apply computes all values from was, the item before the update, and returns now with the
// changes.
func (u *update) apply(before, now item) (item, error) {
	for _, a := range u.sets {
		v, ok, err := a.from(before)
		if err == nil && !ok {
			err = invalid(
				"The provided expression refers to an attribute that does not exist in the item",
			)
		}
		if err == nil {
			now, err = a.path.set(now, v)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, a := range u.adds {
		v, _, err := a.from(before)
		old, ok := a.path.get(before)
		if err == nil && ok {
			v, err = add(old, v)
		}
		if err == nil {
			now, err = a.path.set(now, v)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, a := range u.deletes {
		v, _, err := a.from(before)
		old, ok := a.path.get(before)
		if err != nil || !ok {
			continue
		}
		if left, some := without(old, v); some {
			now, err = a.path.set(now, left)
		} else {
			now, err = a.path.remove(now)
		}
		if err != nil {
			return nil, err
		}
	}
	// Remove from the end of lists, so that the other indexes stay valid.
	removes := slices.Clone(u.removes)
	slices.SortFunc(removes, func(a, b path) int { return b[len(b)-1].index - a[len(a)-1].index })
	for _, p := range removes {
		var err error
		if now, err = p.remove(now); err != nil {
			return nil, err
		}
	}
	return now, nil
}

// add returns the result of ADD for two numbers or two sets.
func add(old, v value) (value, error) {
	switch {
	case old.kind == "N" && v.kind == "N":
		text, err := printNumber(new(big.Rat).Add(number(old.text), number(v.text)))
		return value{kind: "N", text: text}, err
	case old.kind == v.kind && (v.kind == "SS" || v.kind == "NS"):
		texts := slices.Compact(slices.Sorted(slices.Values(slices.Concat(old.texts, v.texts))))
		return value{kind: v.kind, texts: texts}, nil
	case old.kind == v.kind && v.kind == "BS":
		blobs := slices.SortedFunc(slices.Values(slices.Concat(old.blobs, v.blobs)), bytes.Compare)
		return value{kind: v.kind, blobs: slices.CompactFunc(blobs, bytes.Equal)}, nil
	}
	return value{}, invalid("An operand in the update expression has an incorrect data type")
}

// without removes members from a set. It returns false if no member is left.
func without(old, v value) (value, bool) {
	if old.kind != v.kind {
		return old, true
	}
	old.texts = slices.DeleteFunc(slices.Clone(old.texts), func(t string) bool {
		return slices.Contains(v.texts, t)
	})
	old.blobs = slices.DeleteFunc(slices.Clone(old.blobs), func(b []byte) bool {
		return slices.ContainsFunc(v.blobs, func(o []byte) bool { return bytes.Equal(b, o) })
	})
	return old, len(old.texts)+len(old.blobs) > 0
}
