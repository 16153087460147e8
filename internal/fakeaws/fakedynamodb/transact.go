package fakedynamodb

import (
	"errors"
	"slices"
)

// maxActions is the maximum number of actions in a transaction (API_TransactWriteItems).
const maxActions = 100

// action is one element of TransactItems. Exactly one of the four fields is set.
type action struct {
	Put, Update, Delete, ConditionCheck *write
}

func (a action) write() (string, *write) {
	switch {
	case a.Put != nil:
		return "PutItem", a.Put
	case a.Update != nil:
		return "UpdateItem", a.Update
	case a.Delete != nil:
		return "DeleteItem", a.Delete
	case a.ConditionCheck != nil:
		return "ConditionCheck", a.ConditionCheck
	}
	return "", nil
}

// planned is an action that is ready to run.
type planned struct {
	w      *write
	table  *table
	key    item
	c      *compiled
	change func(item) (item, []path, error)
}

func (p planned) run(dry bool) error {
	_, err := p.w.apply(p.table, p.key, p.c, p.change, dry)
	return err
}

// transactWriteItems checks all actions before it performs any of them.
func (s *Service) transactWriteItems(r request) (any, error) {
	var in struct{ TransactItems []action }
	if err := r.into(&in); err != nil {
		return nil, err
	}
	if len(in.TransactItems) == 0 || len(in.TransactItems) > maxActions {
		return nil, invalid("Member must have length less than or equal to %d", maxActions)
	}
	plans, err := s.planAll(r, in.TransactItems)
	if err != nil {
		return nil, err
	}
	defer lockAll(plans)()
	reasons := make([]cancellation, len(plans))
	cancelled := false
	for i, p := range plans {
		reasons[i] = cancellation{Code: "None"}
		if err := p.run(true); err != nil {
			f := (*failure)(nil)
			if !errors.As(err, &f) {
				return nil, err
			}
			code := map[string]string{
				"ConditionalCheckFailedException": "ConditionalCheckFailed",
				"ValidationException":             "ValidationError",
			}[f.code]
			reasons[i], cancelled = cancellation{Code: code, Message: f.message, Item: f.item}, true
		}
	}
	if cancelled {
		text := "Transaction cancelled, please refer cancellation reasons for specific reasons ["
		for i, reason := range reasons {
			if i > 0 {
				text += ", "
			}
			text += reason.Code
		}
		return nil, &failure{
			code:    "TransactionCanceledException",
			message: text + "]",
			reasons: reasons,
		}
	}
	for _, p := range plans {
		if err := p.run(false); err != nil {
			return nil, err
		}
	}
	return map[string]any{}, nil
}

func (s *Service) planAll(r request, actions []action) ([]planned, error) {
	var plans []planned
	seen := map[string]bool{}
	for _, a := range actions {
		name, w := a.write()
		if w == nil {
			return nil, invalid(
				"TransactItems can only contain one of Check, Put, Update or Delete",
			)
		}
		action := "dynamodb:" + name
		if name == "ConditionCheck" {
			action = "dynamodb:ConditionCheckItem"
		}
		t, err := s.table(r, action, w.TableName)
		if err != nil {
			return nil, err
		}
		p := planned{w: w, table: t}
		if p.key, p.c, p.change, err = w.plan(t, name); err != nil {
			return nil, err
		}
		id, _ := t.id(p.key)
		if seen[t.name+id] {
			return nil, invalid(
				"Transaction request cannot include multiple operations on one item",
			)
		}
		seen[t.name+id] = true
		plans = append(plans, p)
	}
	return plans, nil
}

// lockAll locks each table once, in a fixed order. It returns a function that unlocks them.
func lockAll(plans []planned) (unlock func()) {
	var tables []*table
	for _, p := range plans {
		if !slices.Contains(tables, p.table) {
			tables = append(tables, p.table)
		}
	}
	slices.SortFunc(tables, func(a, b *table) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	for _, t := range tables {
		t.mu.Lock()
	}
	return func() {
		for _, t := range tables {
			t.mu.Unlock()
		}
	}
}

// batchWriteItem puts and deletes up to 25 items, without conditions.
func (s *Service) batchWriteItem(r request) (any, error) {
	var in struct {
		RequestItems map[string][]struct {
			PutRequest    *struct{ Item item }
			DeleteRequest *struct{ Key item }
		}
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	n := 0
	for name, requests := range in.RequestItems {
		t, err := s.table(r, "dynamodb:BatchWriteItem", name)
		if err != nil {
			return nil, err
		}
		if n += len(requests); n > 25 {
			return nil, invalid("Too many items requested for the BatchWriteItem call")
		}
		for _, one := range requests {
			w, action := &write{}, "PutItem"
			if one.DeleteRequest != nil {
				w.Key, action = one.DeleteRequest.Key, "DeleteItem"
			} else if one.PutRequest != nil {
				w.Item = one.PutRequest.Item
			}
			key, c, change, err := w.plan(t, action)
			if err != nil {
				return nil, err
			}
			t.mu.Lock()
			_, err = w.apply(t, key, c, change, false)
			t.mu.Unlock()
			if err != nil {
				return nil, err
			}
		}
	}
	return map[string]any{"UnprocessedItems": map[string]any{}}, nil
}
