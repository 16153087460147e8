package fakedynamodb

import (
	"maps"
	"slices"
	"strings"
)

// expressions are the fields of requests with expressions.
type expressions struct {
	ConditionExpression       string
	UpdateExpression          string
	FilterExpression          string
	ProjectionExpression      string
	ExpressionAttributeNames  map[string]string
	ExpressionAttributeValues map[string]value

	// keys is the table of a query and keyText its key condition. Other requests leave them
	// empty.
	keys    *table
	keyText string
}

// compiled holds the parsed expressions of one request.
type compiled struct {
	condition  condition // always true if the request has none
	filter     condition
	key        condition
	projection []path
	update     *update
}

func always(item) (bool, error) { return true, nil }

// compile parses all expressions of a request. It refuses names and values that no expression
// uses.
func (e *expressions) compile() (*compiled, error) {
	used := placeholders{names: map[string]bool{}, values: map[string]bool{}}
	c := &compiled{condition: always, filter: always, key: always}
	for _, field := range []struct {
		name, text string
		read       func(*parser) error
	}{
		{"ConditionExpression", e.ConditionExpression, func(p *parser) (err error) {
			c.condition, err = p.or()
			return err
		}},
		{"FilterExpression", e.FilterExpression, func(p *parser) (err error) {
			c.filter, err = p.or()
			return err
		}},
		{"KeyConditionExpression", e.keyText, func(p *parser) (err error) {
			c.key, err = p.keyCondition(e.keys)
			return err
		}},
		{"ProjectionExpression", e.ProjectionExpression, func(p *parser) (err error) {
			c.projection, err = p.paths()
			return err
		}},
		{"UpdateExpression", e.UpdateExpression, func(p *parser) (err error) {
			c.update, err = p.update()
			return err
		}},
	} {
		if err := e.parse(field.name, field.text, used, field.read); err != nil {
			return nil, err
		}
	}
	if err := refuseUnused("Names", e.ExpressionAttributeNames, used.names); err != nil {
		return nil, err
	}
	if err := refuseUnused("Values", e.ExpressionAttributeValues, used.values); err != nil {
		return nil, err
	}
	return c, nil
}

// placeholders records which placeholders the expressions of a request use.
type placeholders struct{ names, values map[string]bool }

// parse parses the expression of one field of the request.
func (e *expressions) parse(
	field, text string, used placeholders, read func(*parser) error,
) error {
	if text == "" {
		return nil
	}
	tokens, err := lex(text)
	if err == nil {
		err = withinLimits(text, tokens, field == "UpdateExpression")
	}
	if err == nil {
		p := &parser{
			tokens:     tokens,
			names:      e.ExpressionAttributeNames,
			values:     e.ExpressionAttributeValues,
			usedNames:  used.names,
			usedValues: used.values,
		}
		if err = read(p); err == nil && p.peek().kind != tokenEnd {
			err = p.syntax()
		}
	}
	if f, ok := err.(*failure); ok {
		return invalid("Invalid %s: %s", field, f.message)
	}
	return err
}

// refuseUnused returns an error for the first placeholder that no expression uses.
func refuseUnused[V any](kind string, given map[string]V, used map[string]bool) error {
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !used[name] {
			return invalid("Value provided in ExpressionAttribute%s unused in expressions: "+
				"keys: {%s}", kind, name)
		}
	}
	return nil
}

// Limits of an expression (Quotas, "Expression parameters").
const (
	maxExpression = 4 << 10
	maxOperators  = 300
)

// withinLimits refuses an expression that is too long or has too many operators and
// functions. The = of an update does not count.
func withinLimits(text string, tokens []token, update bool) error {
	if len(text) > maxExpression {
		return invalid("Expression size has exceeded the maximum allowed size; expression size: %d",
			len(text))
	}
	n := 0
	for i, t := range tokens[:len(tokens)-1] {
		word := t.kind == tokenName && slices.Contains(operatorWords(), strings.ToUpper(t.text))
		function := t.kind == tokenName && tokens[i+1].text == "("
		sign := t.kind == tokenSign && strings.Contains(" = <> < <= > >= + - ", " "+t.text+" ")
		if word || function || sign && !(update && t.text == "=") {
			n++
		}
	}
	if n > maxOperators {
		return invalid("The expression contains too many operators; operator count: %d", n)
	}
	return nil
}

func operatorWords() []string { return []string{"AND", "OR", "NOT", "BETWEEN", "IN"} }

// paths parses a comma-separated list of paths.
func (p *parser) paths() (list []path, err error) {
	for {
		one, err := p.path()
		if err != nil {
			return nil, err
		}
		for _, other := range list {
			if one.overlaps(other) {
				return nil, invalid(
					"Two document paths overlap with each other; must remove or rewrite one of "+
						"these paths; path one: [%s], path two: [%s]", other, one,
				)
			}
		}
		list = append(list, one)
		if !p.accept(",") {
			return list, nil
		}
	}
}

// write is the input of the operations that write one item.
type write struct {
	TableName string
	Key, Item item
	expressions
	ReturnValues                        string
	ReturnConsumedCapacity              string
	ReturnValuesOnConditionCheckFailure string
}

// written is the result of a write.
type written struct {
	old, new item
	changed  []path
}

// apply checks the condition of a write and performs the write, unless dry is true. It must
// be called with the lock of the table held.
func (w *write) apply(
	t *table, key item, c *compiled, change func(old item) (item, []path, error), dry bool,
) (written, error) {
	old := t.find(key)
	ok, err := c.condition(orNothing(old))
	if err != nil {
		return written{}, err
	}
	if !ok {
		return written{}, conditionFailed(old, w.ReturnValuesOnConditionCheckFailure == "ALL_OLD")
	}
	now, changed, err := change(old)
	if err != nil {
		return written{}, err
	}
	if now != nil && now.size() > maxItem {
		return written{}, invalid("Item size to update has exceeded the maximum allowed size")
	}
	if dry {
		return written{}, nil
	}
	return written{old: old, new: now, changed: changed}, t.put(key, now)
}

func orNothing(i item) item {
	if i == nil {
		return item{}
	}
	return i
}

// plan returns the key of a write, its expressions, and a function that computes the change.
func (w *write) plan(
	t *table, action string,
) (key item, c *compiled, change func(item) (item, []path, error), err error) {
	if c, err = w.compile(); err != nil {
		return nil, nil, nil, err
	}
	switch action {
	case "PutItem":
		key, err = t.key(w.Item)
		change = func(item) (item, []path, error) { return w.Item, nil, nil }
	case "DeleteItem":
		key, err = w.Key, t.exactKey(w.Key)
		change = func(item) (item, []path, error) { return nil, nil, nil }
	case "UpdateItem":
		key, err = w.Key, t.exactKey(w.Key)
		if err == nil && c.update != nil {
			err = c.update.keepsKeys(t)
		}
		change = func(old item) (item, []path, error) {
			now := maps.Clone(old)
			if now == nil {
				now = maps.Clone(w.Key)
			}
			if c.update == nil {
				return now, nil, nil
			}
			now, err := c.update.apply(orNothing(old), now)
			return now, c.update.touched(), err
		}
	case "ConditionCheck":
		key, err = w.Key, t.exactKey(w.Key)
		change = func(old item) (item, []path, error) { return old, nil, nil }
	}
	return key, c, change, err
}

func (s *Service) write(r request, action string) (any, error) {
	var w write
	if err := r.into(&w); err != nil {
		return nil, err
	}
	t, err := s.table(r, "dynamodb:"+action, w.TableName)
	if err != nil {
		return nil, err
	}
	key, c, change, err := w.plan(t, action)
	if err == nil && action == "UpdateItem" {
		err = s.throttleHot(t, key)
	}
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	done, err := w.apply(t, key, c, change, false)
	t.mu.Unlock()
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	if returned := w.returned(done); returned != nil {
		out["Attributes"] = returned
	}
	if used := consumed(w.ReturnConsumedCapacity, t.name,
		writeUnits(done.old, done.new)); used != nil {
		out["ConsumedCapacity"] = used
	}
	return out, nil
}

// returned returns the attributes that ReturnValues asks for.
func (w *write) returned(done written) item {
	switch w.ReturnValues {
	case "ALL_OLD":
		return done.old
	case "ALL_NEW":
		return done.new
	case "UPDATED_OLD":
		return project(orNothing(done.old), done.changed)
	case "UPDATED_NEW":
		return project(orNothing(done.new), done.changed)
	}
	return nil
}

func (s *Service) putItem(r request) (any, error)    { return s.write(r, "PutItem") }
func (s *Service) updateItem(r request) (any, error) { return s.write(r, "UpdateItem") }
func (s *Service) deleteItem(r request) (any, error) { return s.write(r, "DeleteItem") }

func (s *Service) getItem(r request) (any, error) {
	var in struct {
		TableName string
		Key       item
		expressions
		ConsistentRead         bool
		ReturnConsumedCapacity string
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	t, err := s.table(r, "dynamodb:GetItem", in.TableName)
	if err != nil {
		return nil, err
	}
	c, err := in.compile()
	if err != nil {
		return nil, err
	}
	if err := t.exactKey(in.Key); err != nil {
		return nil, err
	}
	t.mu.Lock()
	found := t.find(in.Key)
	t.mu.Unlock()
	out := map[string]any{}
	if found != nil {
		out["Item"] = project(found, c.projection)
	}
	if used := consumed(in.ReturnConsumedCapacity, t.name,
		readUnits(found.size(), in.ConsistentRead)); used != nil {
		out["ConsumedCapacity"] = used
	}
	return out, nil
}
