package dynamoscan

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"golang.org/x/sync/errgroup"

	"rotator/internal/scan"
)

// maxBatch is how many statements one BatchExecuteStatement takes, and
// maxStatement how many characters one statement may have
// (API_BatchExecuteStatement, API_BatchStatementRequest).
const (
	maxBatch     = 25
	maxStatement = 8192
	// singles is how many single updates of one Replace are under way at once.
	singles = 8
)

// update is one conditional update, in the making.
type update struct {
	index int // of its change
	key   map[string]types.AttributeValue
	edits []edit
}

// Batch is the most changes that Replace takes.
func (t *Table) Batch() int { return maxBatch }

// Replace writes every change under the condition that all values it replaces
// are still what was read: in one BatchExecuteStatement where the table is known
// to enforce conditions there, else by single UpdateItem calls.
func (t *Table) Replace(ctx context.Context, changes []scan.Change) []scan.Result {
	results := make([]scan.Result, len(changes))
	var updates []update
	for i, change := range changes {
		u, err := newUpdate(i, change)
		if err != nil {
			results[i].Err = &scan.RefusedError{Reason: "cannot-write", Detail: err.Error()}
			continue
		}
		updates = append(updates, u)
	}
	if len(updates) > 1 && t.batches(ctx) {
		updates = t.replaceBatch(ctx, updates, results)
	}
	var group errgroup.Group
	group.SetLimit(singles)
	for _, u := range updates {
		group.Go(func() error {
			results[u.index] = t.replaceOne(ctx, u)
			return nil
		})
	}
	_ = group.Wait() // errors are in results
	return results
}

func newUpdate(index int, change scan.Change) (update, error) {
	old, ok := change.Item.Payload.(*scan.Row)
	new, fits := change.New.(*scan.Row)
	if !ok || !fits {
		return update{}, errors.New("the change is not one of a row")
	}
	key, err := parseKey(string(change.Item.Ref))
	if err != nil {
		return update{}, err
	}
	edits, err := diff(old, new)
	if err == nil && len(edits) == 0 {
		err = errors.New("the change changes nothing")
	}
	return update{index: index, key: key, edits: edits}, err
}

// replaceOne is one UpdateItem (API_UpdateItem).
func (t *Table) replaceOne(ctx context.Context, u update) scan.Result {
	if err := t.write.wait(ctx); err != nil {
		return scan.Result{Err: err}
	}
	out, err := t.config.Client.UpdateItem(ctx, t.updateItem(u))
	if err == nil {
		t.write.used(out.ConsumedCapacity)
		return scan.Result{}
	}
	var failed *types.ConditionalCheckFailedException
	if errors.As(err, &failed) {
		return t.changed(ctx, failed.Item)
	}
	if vanished(err) {
		return t.changed(ctx, nil)
	}
	return scan.Result{Err: fmt.Errorf("update item of table %s: %w", t.config.Table, err)}
}

func (t *Table) updateItem(u update) *dynamodb.UpdateItemInput {
	names, values := map[string]string{}, map[string]types.AttributeValue{}
	aliases := map[string]string{}
	var sets, conditions []string
	for i, e := range u.edits {
		path := expressionPath(e.path, aliases, names)
		from, to := fmt.Sprintf(":o%d", i), fmt.Sprintf(":n%d", i)
		values[from], values[to] = toSDK(e.old), toSDK(e.new)
		sets = append(sets, path+" = "+to)
		conditions = append(conditions, path+" = "+from)
	}
	return &dynamodb.UpdateItemInput{TableName: &t.config.Table, Key: u.key,
		UpdateExpression:                    aws.String("SET " + strings.Join(sets, ", ")),
		ConditionExpression:                 aws.String(strings.Join(conditions, " AND ")),
		ExpressionAttributeNames:            names,
		ExpressionAttributeValues:           values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		ReturnConsumedCapacity:              types.ReturnConsumedCapacityTotal}
}

// expressionPath writes a path with every name behind an alias, since names may
// be reserved words or hold any character.
func expressionPath(path []step, aliases, names map[string]string) string {
	var b strings.Builder
	for i, s := range path {
		if s.name == "" {
			fmt.Fprintf(&b, "[%d]", s.index)
			continue
		}
		alias, ok := aliases[s.name]
		if !ok {
			alias = fmt.Sprintf("#n%d", len(aliases))
			aliases[s.name], names[alias] = alias, s.name
		}
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(alias)
	}
	return b.String()
}

// vanished says that the document path of an update is no longer there, which
// DynamoDB calls invalid rather than a failed condition.
func vanished(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == "ValidationException" && strings.Contains(api.ErrorMessage(), "document path")
}

// changed is the result of a failed condition: item is what the store returned
// along with it. Without one, whether the item is gone is looked up.
func (t *Table) changed(ctx context.Context, item map[string]types.AttributeValue) scan.Result {
	keys, err := t.keyTypes(ctx)
	if err != nil {
		return scan.Result{Err: err}
	}
	if len(item) > 0 {
		now, err := newItem(keys, item)
		if err != nil {
			return scan.Result{Err: err}
		}
		return scan.Result{Err: scan.ErrChanged, Current: &now}
	}
	return scan.Result{Err: scan.ErrChanged} // the caller loads it, and learns whether it is gone
}
