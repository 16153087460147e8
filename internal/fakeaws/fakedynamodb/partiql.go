package fakedynamodb

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"unicode/utf8"
)

// maxStatements is the maximum number of statements in a batch (API_BatchExecuteStatement).
const maxStatements = 25

// maxStatement is the maximum number of characters of a statement
// (API_BatchStatementRequest).
const maxStatement = 8192

// statement is one PartiQL statement of a request.
type statement struct {
	Statement                           string
	Parameters                          []value
	ReturnValuesOnConditionCheckFailure string
}

// parsed is a parsed statement: an UPDATE, or a SELECT of one item.
type parsed struct {
	verb   string // "UPDATE" or "SELECT"
	table  string
	update *update
	where  condition
	keys   map[string][]operand // values that WHERE compares with =, by attribute
}

func (s *statement) parse() (*parsed, error) {
	if utf8.RuneCountInString(s.Statement) > maxStatement {
		return nil, invalid("Member must have length less than or equal to %d", maxStatement)
	}
	tokens, err := lex(s.Statement)
	if err != nil {
		return nil, err
	}
	p := &parser{
		tokens:     tokens,
		partiql:    true,
		parameters: s.Parameters,
		usedNames:  map[string]bool{},
		usedValues: map[string]bool{},
	}
	out := &parsed{keys: map[string][]operand{}}
	switch {
	case p.accept("UPDATE"):
		out.verb = "UPDATE"
		err = p.updateStatement(out)
	case p.accept("SELECT"):
		out.verb = "SELECT"
		if err = p.selectAll(); err == nil {
			out.table, err = p.name()
		}
	default:
		return nil, invalid(
			"Statement wasn't well formed, can't be processed: this fake does UPDATE and SELECT " +
				"* alone",
		)
	}
	if err == nil {
		err = p.expect("WHERE")
	}
	if err == nil {
		err = p.where(out)
	}
	if err == nil && p.peek().kind != tokenEnd {
		err = p.syntax()
	}
	if err == nil && len(p.parameters) > 0 {
		err = invalid("Number of parameters in request and statement don't match.")
	}
	return out, err
}

// selectAll parses the rest of SELECT *. The fake does not support projections.
func (p *parser) selectAll() error {
	if err := p.expect("*"); err != nil {
		return err
	}
	return p.expect("FROM")
}

// updateStatement parses UPDATE table SET path = value [, ...] [SET ...] [REMOVE ...].
func (p *parser) updateStatement(out *parsed) (err error) {
	if out.table, err = p.name(); err != nil {
		return err
	}
	out.update = &update{}
	for {
		switch {
		case p.accept("SET"):
			list, err := p.assignments(true)
			if err != nil {
				return err
			}
			out.update.sets = append(out.update.sets, list...)
		case p.accept("REMOVE"):
			list, err := p.paths()
			if err != nil {
				return err
			}
			out.update.removes = append(out.update.removes, list...)
		default:
			if len(out.update.touched()) == 0 {
				return p.syntax()
			}
			return out.update.disjoint()
		}
	}
}

// where parses conditions joined by AND and records the comparisons with =: an UPDATE must
// name one primary key (PartiQL update statements).
func (p *parser) where(out *parsed) error {
	out.where = always
	for {
		first := p.at
		c, err := p.not()
		if err != nil {
			return err
		}
		if name, v, ok := p.equality(first); ok {
			out.keys[name] = append(out.keys[name], v)
		}
		before := out.where
		out.where = func(i item) (bool, error) {
			if ok, err := before(i); !ok || err != nil {
				return false, err
			}
			return c(i)
		}
		if !p.accept("AND") {
			return nil
		}
	}
}

// equality returns the name and the value if the tokens from first to the current one are
// "name = value".
func (p *parser) equality(first int) (string, operand, bool) {
	t := p.tokens[first:p.at]
	if len(t) != 3 || t[1].text != "=" || t[0].kind != tokenQuoted && t[0].kind != tokenName {
		return "", nil, false
	}
	again := &parser{
		tokens:     append(t[2:3:3], token{kind: tokenEnd}),
		partiql:    true,
		usedNames:  map[string]bool{},
		usedValues: map[string]bool{},
	}
	if t[2].kind == tokenMark {
		again.parameters = []value{p.taken[len(p.taken)-1]}
	}
	v, err := again.operand()
	return t[0].text, v, err == nil
}

// key returns the primary key that WHERE names.
func (x *parsed) key(t *table) (item, error) {
	key := item{}
	for name := range t.types {
		if len(x.keys[name]) != 1 {
			return nil, invalid(
				"Where clause does not contain a mandatory equality on all key attributes",
			)
		}
		v, _, err := x.keys[name][0](nil)
		if err != nil {
			return nil, err
		}
		key[name] = v
	}
	return key, t.exactKey(key)
}

// execute runs one statement.
func (s *Service) execute(r request, st statement) (item, float64, error) {
	x, err := st.parse()
	if err != nil {
		return nil, 0, err
	}
	action := map[string]string{
		"UPDATE": "dynamodb:PartiQLUpdate",
		"SELECT": "dynamodb:PartiQLSelect",
	}[x.verb]
	t, err := s.table(r, action, x.table)
	if err != nil {
		return nil, 0, err
	}
	key, err := x.key(t)
	if err != nil {
		return nil, 0, err
	}
	if x.update != nil {
		if err := errors.Join(x.update.keepsKeys(t), s.throttleHot(t, key)); err != nil {
			return nil, 0, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.find(key)
	ok := old != nil
	if ok {
		if ok, err = x.where(old); err != nil {
			return nil, 0, err
		}
	}
	switch {
	case x.verb == "SELECT" && ok:
		return old, readUnits(old.size(), false), nil
	case x.verb == "SELECT":
		return nil, 0.5, nil
	case !ok:
		return nil, 1, conditionFailed(old, st.ReturnValuesOnConditionCheckFailure == "ALL_OLD")
	}
	now, err := x.update.apply(old, maps.Clone(old))
	if err == nil && now.size() > maxItem {
		err = invalid("Item size to update has exceeded the maximum allowed size")
	}
	if err != nil {
		return nil, 0, err
	}
	return nil, writeUnits(old, now), t.put(key, now)
}

func (s *Service) executeStatement(r request) (any, error) {
	var in statement
	if err := r.into(&in); err != nil {
		return nil, err
	}
	found, _, err := s.execute(r, in)
	if err != nil {
		return nil, err
	}
	items := []item{}
	if found != nil {
		items = append(items, found)
	}
	return map[string]any{"Items": items}, nil
}

// batchExecuteStatement answers with HTTP 200 and one response for each statement. A response
// can be an error.
func (s *Service) batchExecuteStatement(r request) (any, error) {
	var in struct {
		Statements             []statement
		ReturnConsumedCapacity string
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	if len(in.Statements) == 0 || len(in.Statements) > maxStatements {
		return nil, invalid("Member must have length less than or equal to %d", maxStatements)
	}
	if err := s.distinct(in.Statements); err != nil {
		return nil, err
	}
	responses := make([]map[string]any, len(in.Statements))
	units := map[string]float64{}
	for i, st := range in.Statements {
		responses[i] = map[string]any{}
		found, used, err := s.execute(r, st)
		table := ""
		if x, parse := st.parse(); parse == nil {
			table = x.table
			responses[i]["TableName"] = table
		}
		units[table] += used
		if err != nil {
			responses[i]["Error"] = batchError(err)
		} else if found != nil {
			responses[i]["Item"] = found
		}
	}
	out := map[string]any{"Responses": responses}
	if in.ReturnConsumedCapacity == "TOTAL" || in.ReturnConsumedCapacity == "INDEXES" {
		var list []capacity
		for table, n := range units {
			list = append(list, capacity{TableName: table, CapacityUnits: n})
		}
		out["ConsumedCapacity"] = list
	}
	return out, nil
}

// distinct refuses a batch that mixes reads and writes, or names an item twice.
func (s *Service) distinct(statements []statement) error {
	verbs, keys := map[string]bool{}, map[string]bool{}
	for _, st := range statements {
		x, err := st.parse()
		if err != nil {
			continue // its response has the error
		}
		verbs[x.verb] = true
		s.mu.RLock()
		t := s.tables[x.table]
		s.mu.RUnlock()
		if t == nil {
			continue
		}
		if key, err := x.key(t); err == nil {
			id, _ := t.id(key)
			if id = x.table + id; keys[id] {
				return invalid("Provided list of item keys contains duplicates")
			}
			keys[id] = true
		}
	}
	if len(verbs) > 1 {
		return invalid("Batch statements must be either all reads or all writes")
	}
	return nil
}

// batchError returns the error element of a response (API_BatchStatementError).
func batchError(err error) map[string]any {
	var f *failure
	if !errors.As(err, &f) {
		return map[string]any{"Code": "InternalServerError", "Message": fmt.Sprint(err)}
	}
	code := map[string]string{
		"ValidationException":                    "ValidationError",
		"ConditionalCheckFailedException":        "ConditionalCheckFailed",
		"ResourceNotFoundException":              "ResourceNotFound",
		"AccessDeniedException":                  "AccessDenied",
		"ProvisionedThroughputExceededException": "ProvisionedThroughputExceeded",
	}[f.code]
	out := map[string]any{"Code": strings.TrimSuffix(code, "Exception"), "Message": f.message}
	if f.item != nil {
		out["Item"] = f.item
	}
	return out
}
