package fakedynamodb

import (
	"strconv"
	"strings"
)

// step is one step of a document path: a name, or an index if name is empty.
type step struct {
	name  string
	index int
}

type path []step

// operand computes a value from an item. It returns false if there is no value.
type operand func(item) (value, bool, error)

// condition is a condition on an item.
type condition func(item) (bool, error)

// parser reads expressions and PartiQL statements.
type parser struct {
	tokens []token
	at     int
	depth  int
	// names and values are ExpressionAttributeNames and ExpressionAttributeValues. usedNames
	// and usedValues record the placeholders that the expressions use.
	names      map[string]string
	values     map[string]value
	usedNames  map[string]bool
	usedValues map[string]bool
	// partiql is true for a statement. Its values come from parameters.
	partiql    bool
	parameters []value // not used yet
	taken      []value // already used
}

// maxDepth is the maximum nesting of conditions and paths.
const maxDepth = 100

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) next() token {
	t := p.tokens[p.at]
	if t.kind != tokenEnd {
		p.at++
	}
	return t
}

// accept consumes the next token if it is the given sign or keyword.
func (p *parser) accept(text string) bool {
	t := p.peek()
	if t.kind == tokenSign && t.text == text || t.kind == tokenName &&
		strings.EqualFold(t.text, text) {
		p.at++
		return true
	}
	return false
}

func (p *parser) expect(text string) error {
	if !p.accept(text) {
		return p.syntax()
	}
	return nil
}

func (p *parser) syntax() error {
	t := p.peek()
	if t.kind == tokenEnd {
		return invalid("Syntax error; the expression ends too early")
	}
	return invalid("Syntax error; token: %q", t.text)
}

func (p *parser) nest() error {
	if p.depth++; p.depth > maxDepth {
		return invalid("The expression nests too deep")
	}
	return nil
}

// name parses one name of a path.
func (p *parser) name() (string, error) {
	t := p.peek()
	switch {
	case t.kind == tokenAlias:
		p.at++
		p.usedNames[t.text] = true
		name, ok := p.names[t.text]
		if !ok {
			return "", invalid(
				"An expression attribute name used in the document path is not defined; "+
					"attribute name: %s", t.text,
			)
		}
		return name, nil
	case t.kind == tokenQuoted && p.partiql, t.kind == tokenName:
		p.at++
		return t.text, nil
	}
	return "", p.syntax()
}

// path parses a document path such as a.b[0].#c.
func (p *parser) path() (path, error) {
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	steps := path{{name: name}}
	for len(steps) <= maxDepth {
		switch {
		case p.accept("."):
			if name, err = p.name(); err != nil {
				return nil, err
			}
			steps = append(steps, step{name: name})
		case p.accept("["):
			t := p.next()
			index, err := strconv.Atoi(t.text)
			if t.kind != tokenNumber || err != nil {
				return nil, invalid("Syntax error; token: %q", t.text)
			}
			if err := p.expect("]"); err != nil {
				return nil, err
			}
			steps = append(steps, step{index: index})
		default:
			return steps, nil
		}
	}
	return nil, invalid("The document path has too many nesting elements")
}

func (p *parser) or() (condition, error) {
	if err := p.nest(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	left, err := p.and()
	for err == nil && p.accept("OR") {
		var right condition
		if right, err = p.and(); err == nil {
			first := left
			left = func(i item) (bool, error) {
				if ok, err := first(i); ok || err != nil {
					return ok, err
				}
				return right(i)
			}
		}
	}
	return left, err
}

func (p *parser) and() (condition, error) {
	left, err := p.not()
	for err == nil && p.accept("AND") {
		var right condition
		if right, err = p.not(); err == nil {
			first := left
			left = func(i item) (bool, error) {
				if ok, err := first(i); !ok || err != nil {
					return false, err
				}
				return right(i)
			}
		}
	}
	return left, err
}

func (p *parser) not() (condition, error) {
	if err := p.nest(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	if !p.accept("NOT") {
		return p.comparison()
	}
	inner, err := p.not()
	return func(i item) (bool, error) {
		ok, err := inner(i)
		return !ok, err
	}, err
}

// comparison parses a comparison, a function, or a condition in parentheses.
func (p *parser) comparison() (condition, error) {
	if p.accept("(") {
		inner, err := p.or()
		if err != nil {
			return nil, err
		}
		return inner, p.expect(")")
	}
	if t := p.peek(); t.kind == tokenName && p.tokens[p.at+1].text == "(" {
		if function := p.function(strings.ToLower(t.text)); function != nil {
			p.at += 2
			c, err := function()
			if err != nil {
				return nil, err
			}
			return c, p.expect(")")
		}
	}
	left, err := p.operand()
	if err != nil {
		return nil, err
	}
	switch {
	case p.accept("BETWEEN"):
		return p.between(left)
	case p.accept("IN"):
		return p.in(left)
	case p.partiql && p.accept("IS"):
		return p.missing(left)
	}
	t := p.peek()
	if t.kind != tokenSign || !strings.Contains(" = <> < <= > >= ", " "+t.text+" ") {
		return nil, p.syntax()
	}
	p.at++
	right, err := p.operand()
	return compareOperands(left, t.text, right), err
}

// missing parses the words after IS: MISSING or NOT MISSING.
func (p *parser) missing(left operand) (condition, error) {
	not := p.accept("NOT")
	return func(i item) (bool, error) {
		_, ok, err := left(i)
		return ok == not, err
	}, p.expect("MISSING")
}

func (p *parser) between(left operand) (condition, error) {
	low, err := p.operand()
	if err != nil {
		return nil, err
	}
	if err := p.expect("AND"); err != nil {
		return nil, err
	}
	high, err := p.operand()
	first, second := compareOperands(left, ">=", low), compareOperands(left, "<=", high)
	return func(i item) (bool, error) {
		if ok, err := first(i); !ok || err != nil {
			return false, err
		}
		return second(i)
	}, err
}

func (p *parser) in(left operand) (condition, error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	var any []condition
	for {
		one, err := p.operand()
		if err != nil {
			return nil, err
		}
		any = append(any, compareOperands(left, "=", one))
		if !p.accept(",") {
			break
		}
	}
	return func(i item) (bool, error) {
		for _, c := range any {
			if ok, err := c(i); ok || err != nil {
				return ok, err
			}
		}
		return false, nil
	}, p.expect(")")
}

func compareOperands(left operand, sign string, right operand) condition {
	return func(i item) (bool, error) {
		a, okA, err := left(i)
		if err != nil {
			return false, err
		}
		b, okB, err := right(i)
		if err != nil {
			return false, err
		}
		switch {
		case sign == "<>":
			return !okA || !okB || !equal(a, b), nil
		case !okA || !okB:
			return false, nil
		case sign == "=":
			return equal(a, b), nil
		}
		order, ok := compare(a, b)
		return ok && map[string]bool{
			"<":  order < 0,
			"<=": order <= 0,
			">":  order > 0,
			">=": order >= 0,
		}[sign], nil
	}
}

// operand parses a path, a value, or size(path).
func (p *parser) operand() (operand, error) {
	t := p.peek()
	switch {
	case t.kind == tokenValue && !p.partiql:
		p.at++
		p.usedValues[t.text] = true
		v, ok := p.values[t.text]
		if !ok {
			return nil, invalid(
				"An expression attribute value used in expression is not defined; attribute "+
					"value: %s", t.text,
			)
		}
		return constant(v), nil
	case t.kind == tokenMark && p.partiql:
		p.at++
		if len(p.parameters) == 0 {
			return nil, invalid("Number of parameters in request and statement don't match.")
		}
		v := p.parameters[0]
		p.parameters, p.taken = p.parameters[1:], append(p.taken, v)
		return constant(v), nil
	case t.kind == tokenText && p.partiql:
		p.at++
		return constant(value{kind: "S", text: t.text}), nil
	case t.kind == tokenNumber && p.partiql:
		p.at++
		return constant(value{kind: "N", text: t.text}), nil
	case t.kind == tokenName && strings.EqualFold(t.text, "size") && p.tokens[p.at+1].text == "(":
		p.at += 2
		of, err := p.path()
		if err != nil {
			return nil, err
		}
		return sizeOf(of), p.expect(")")
	}
	at, err := p.path()
	return func(i item) (value, bool, error) {
		v, ok := at.get(i)
		return v, ok, nil
	}, err
}

func constant(v value) operand { return func(item) (value, bool, error) { return v, true, nil } }

func sizeOf(of path) operand {
	return func(i item) (value, bool, error) {
		v, ok := of.get(i)
		if !ok {
			return value{}, false, nil
		}
		n, ok := v.length()
		return value{kind: "N", text: strconv.Itoa(n)}, ok, nil
	}
}
