package fakedynamodb

import (
	"slices"
	"strings"
)

type queryInput struct {
	KeyConditionExpression string
	ScanIndexForward       *bool
	scanInput
}

// query is API_Query, for tables only: the fake has no indexes.
func (s *Service) query(r request) (any, error) {
	var in queryInput
	if err := r.into(&in); err != nil {
		return nil, err
	}
	t, err := s.table(r, "dynamodb:Query", in.TableName)
	if err != nil {
		return nil, err
	}
	if in.KeyConditionExpression == "" {
		return nil, invalid(
			"Either the KeyConditions or KeyConditionExpression parameter must be specified in " +
				"the request.",
		)
	}
	in.keys, in.keyText = t, in.KeyConditionExpression
	c, err := in.compile()
	if err != nil {
		return nil, err
	}
	if in.ExclusiveStartKey != nil {
		if err := t.exactKey(in.ExclusiveStartKey); err != nil {
			return nil, invalid("The provided starting key is invalid")
		}
	}
	return t.collection(in, c)
}

// keyCondition parses a key condition: the partition key equals a value and, if the table has
// a sort key, that key may have one condition. Each key may occur once.
func (p *parser) keyCondition(t *table) (condition, error) {
	seen := map[string]bool{}
	all, err := p.keyParts(t, seen)
	if err == nil && !seen[t.schema[0].AttributeName] {
		err = invalid("Query condition missed key schema element: %s", t.schema[0].AttributeName)
	}
	return all, err
}

// keyParts parses comparisons of key attributes, joined by AND.
func (p *parser) keyParts(t *table, seen map[string]bool) (condition, error) {
	all := condition(always)
	for {
		one, err := p.keyPart(t, seen)
		if err != nil {
			return nil, err
		}
		before := all
		all = func(i item) (bool, error) {
			if ok, err := before(i); !ok || err != nil {
				return false, err
			}
			return one(i)
		}
		if !p.accept("AND") {
			return all, nil
		}
	}
}

// keyPart parses one comparison, or several in parentheses.
func (p *parser) keyPart(t *table, seen map[string]bool) (condition, error) {
	if err := p.nest(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	if p.accept("(") {
		inner, err := p.keyParts(t, seen)
		if err != nil {
			return nil, err
		}
		return inner, p.expect(")")
	}
	name, sign, err := p.subject()
	if err != nil {
		return nil, err
	}
	_, isKey := t.types[name]
	if !isKey || seen[name] || sign == "<>" || name == t.schema[0].AttributeName && sign != "=" {
		return nil, invalid("Query key condition not supported")
	}
	seen[name] = true
	return p.comparison()
}

// subject returns the attribute and the sign of the next comparison without consuming tokens.
// The only function that key conditions allow is begins_with.
func (p *parser) subject() (name, sign string, err error) {
	at := p.at
	defer func() { p.at = at }()
	if strings.EqualFold(p.peek().text, "begins_with") && p.tokens[p.at+1].text == "(" {
		p.at += 2
	}
	if name, err = p.name(); err != nil {
		return "", "", err
	}
	return name, p.peek().text, nil
}

// collection returns a page of the items of a partition, in the order of the sort key.
func (t *table) collection(in queryInput, c *compiled) (any, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var rows []item
	for _, r := range t.rows {
		ok, err := c.key(r.item)
		if err != nil {
			return nil, err
		}
		if ok {
			rows = append(rows, r.item)
		}
	}
	order := t.order(in.ScanIndexForward == nil || *in.ScanIndexForward)
	slices.SortFunc(rows, order)
	if start := in.ExclusiveStartKey; start != nil {
		rows = slices.DeleteFunc(rows, func(i item) bool { return order(i, start) <= 0 })
	}
	items, size, seen := []item{}, 0, 0
	for _, one := range rows {
		if size >= maxPage || in.Limit > 0 && seen == in.Limit {
			break
		}
		size += one.size()
		seen++
		ok, err := c.filter(one)
		if err != nil {
			return nil, err
		}
		if ok {
			items = append(items, one)
		}
	}
	var last item
	if seen > 0 && (seen < len(rows) || seen == in.Limit) { // as in a scan
		last, _ = t.key(rows[seen-1])
	}
	return t.scanned(in.scanInput, c, items, seen, size, last), nil
}

// order returns a function that compares items of a partition by their sort keys.
func (t *table) order(forward bool) func(a, b item) int {
	if len(t.schema) == 1 {
		return func(item, item) int { return 0 } // a partition has at most one item
	}
	name := t.schema[1].AttributeName
	return func(a, b item) int {
		n, _ := compare(a[name], b[name])
		if !forward {
			n = -n
		}
		return n
	}
}
