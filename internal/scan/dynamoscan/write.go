package dynamoscan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"rotator/internal/awserr"
	"rotator/internal/scan"
)

// maxBatch is the maximum number of statements of one BatchExecuteStatement, and maxStatement
// the maximum length of a statement in characters (API_BatchExecuteStatement,
// API_BatchStatementRequest).
const (
	maxBatch     = 25
	maxStatement = 8192
	// maxExtraWrites is the number of single updates that all calls of Replace may have in
	// progress, in addition to one for each call. One call alone has up to 8. Many concurrent
	// calls have little more than one each.
	maxExtraWrites = 7
)

// update is one conditional update before it is sent.
type update struct {
	index  int // index of its change
	ref    scan.Ref
	key    itemKey
	edits  []edit
	checks []check
	shape  *shape // nil if the update is never sent in a batch
	// refused is the code with which the server refused the update in a batch.
	refused string
}

// Batch returns the maximum number of changes of one Replace.
func (t *Table) Batch() int { return maxBatch }

// Replace writes each change with the condition that all values it replaces, and all its
// guards, are unchanged since they were read. It sends one BatchExecuteStatement if the table
// is known to enforce conditions in batches. Otherwise, and for changes with Unbatched, it
// sends UpdateItem requests. Each change must be of a different item.
func (t *Table) Replace(ctx context.Context, changes []scan.Change) []scan.Result {
	t.connectOnce.Do(func() { t.connect(ctx) })
	results := make([]scan.Result, len(changes))
	var updates, alone []update
	for i, change := range changes {
		u, err := t.newUpdate(i, change)
		switch refused := (*scan.RefusedError)(nil); {
		case errors.As(err, &refused):
			results[i].Err = refused
		case err != nil:
			results[i].Err = &scan.RefusedError{Reason: "cannot-write", Detail: err.Error()}
		case change.Unbatched:
			alone = append(alone, u)
		default:
			updates = append(updates, u)
		}
	}
	batched, single := t.batchable(ctx, updates)
	var again []update
	if len(batched) > 0 {
		again = t.replaceBatch(ctx, batched, results)
	}
	t.replaceSingly(ctx, slices.Concat(single, again, alone), results)
	t.learn(again, results)
	return results
}

// batchable divides updates, in place, into those for one batch and those that
// must be sent one by one.
func (t *Table) batchable(ctx context.Context, updates []update) (batched, single []update) {
	if len(updates) < 2 || t.config.Unbatched {
		return nil, updates
	}
	n, refused := 0, uint64(0) // at most one probe for each form, even if its result is unclear
	for i := range updates {
		u := &updates[i]
		u.shape = t.shapeOf(u)
		bit := uint64(1) << u.shape.form
		switch longest := len(u.shape.repeated); { // repeated is longer than listed
		case longest > maxStatement || refused&bit != 0:
		case t.supports(ctx, u):
			updates[n], updates[i] = updates[i], updates[n]
			n++
		default:
			refused |= bit
		}
	}
	return updates[:n], updates[n:]
}

// replaceSingly sends each update as a separate request and sets its result. It always has
// one update in progress, and more while permits are available. So the number of concurrent
// updates is at most the number of Replace calls plus maxExtraWrites. Idle connections are
// kept for that number; more concurrency would open a connection for nearly every update. It
// never waits for a permit.
func (t *Table) replaceSingly(ctx context.Context, updates []update, results []scan.Result) {
	var others sync.WaitGroup
	defer others.Wait()
	for _, u := range updates {
		select {
		case t.extraPermits <- struct{}{}:
			others.Go(func() {
				defer func() { <-t.extraPermits }()
				results[u.index] = t.replaceOne(ctx, u)
			})
		default:
			results[u.index] = t.replaceOne(ctx, u)
		}
	}
}

func (t *Table) newUpdate(index int, change scan.Change) (update, error) {
	old, ok := change.Item.Payload.(*scan.Row)
	new, fits := change.New.(*scan.Row)
	if !ok || !fits {
		return update{}, errors.New("the change is not for a row")
	}
	key, err := t.keyOf(change.Item.Ref, old)
	if err != nil {
		return update{}, err
	}
	edits, err := diff(old, new)
	if err != nil {
		return update{}, err
	}
	if len(edits) == 0 {
		return update{}, errors.New("the change changes nothing")
	}
	for _, e := range edits {
		if key.has(e.path[0].Name) {
			return update{}, fmt.Errorf("%s is part of the primary key, which cannot be changed "+
				"in place", printPath(e.path[:1]))
		}
	}
	u := update{index: index, ref: change.Item.Ref, key: key, edits: edits}
	if u.checks = checksOf(&u.key, edits, change.Guards); u.fits() {
		return u, nil
	}
	u.edits = widen(edits, old, new)
	u.checks = checksOf(&u.key, u.edits, widenGuards(change.Guards, old))
	if !u.fits() {
		return update{}, errConditionTooLarge(len(u.checks))
	}
	return u, nil
}

// keyOf returns the primary key of an item. It uses the attributes of the row if it has them,
// and parses the Ref otherwise.
func (t *Table) keyOf(ref scan.Ref, row *scan.Row) (key itemKey, err error) {
	t.mu.Lock()
	names := t.keys
	t.mu.Unlock()
	for name := range names {
		if value, ok := row.Attributes[name]; ok {
			key.add(name, toSDK(value))
		}
	}
	if key.n > 0 && key.n == len(names) {
		return key, nil
	}
	parsed, err := parseKey(string(ref))
	if err != nil {
		return itemKey{}, err
	}
	key = itemKey{}
	for name, value := range parsed {
		if !key.add(name, value) {
			return itemKey{},
				fmt.Errorf("%q is not a primary key: it has more than two attributes", ref)
		}
	}
	return key, nil
}

// replaceOne sends one UpdateItem (API_UpdateItem).
func (t *Table) replaceOne(ctx context.Context, u update) scan.Result {
	if err := t.write.wait(ctx, 1); err != nil {
		return scan.Result{Err: err}
	}
	out, err := t.config.Client.UpdateItem(ctx, t.updateItem(u))
	if err == nil {
		t.write.charge(1, consumed(out.ConsumedCapacity)...)
		return scan.Result{}
	}
	var failed *types.ConditionalCheckFailedException
	if errors.As(err, &failed) {
		return t.conditionFailed(ctx, failed.Item)
	}
	if result, ok := t.itemError(err); ok {
		return result
	}
	return scan.Result{
		Err: fmt.Errorf("update item of table %s: %w", t.config.Table, markHotPartition(err)),
	}
}

func (t *Table) updateItem(u update) *dynamodb.UpdateItemInput {
	names := aliases{}
	condition, values := u.condition(names)
	for i, e := range u.edits {
		values[newValue(i)] = toSDK(e.new)
	}
	return &dynamodb.UpdateItemInput{
		TableName:                           &t.config.Table,
		Key:                                 u.key.item(),
		UpdateExpression:                    aws.String(u.assignments(names)),
		ConditionExpression:                 aws.String(condition),
		ExpressionAttributeNames:            names.expression(),
		ExpressionAttributeValues:           values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		ReturnConsumedCapacity:              types.ReturnConsumedCapacityTotal,
	}
}

// assignments returns the update expression.
func (u update) assignments(names aliases) string {
	sets := make([]string, len(u.edits))
	for i, e := range u.edits {
		sets[i] = names.path(e.path) + " = " + newValue(i)
	}
	return "SET " + strings.Join(sets, ", ")
}

// newValue returns the placeholder of the new value of the i-th edit.
func newValue(i int) string { return fmt.Sprintf(":n%d", i) }

// aliases maps names to the placeholders that represent them in an expression, because names
// can be reserved words or contain any character.
type aliases map[string]string

func (a aliases) path(path []scan.Step) string {
	var b strings.Builder
	for i, s := range path {
		if s.Element {
			fmt.Fprintf(&b, "[%d]", s.Index)
			continue
		}
		if _, ok := a[s.Name]; !ok {
			a[s.Name] = fmt.Sprintf("#n%d", len(a))
		}
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(a[s.Name])
	}
	return b.String()
}

// expression returns the names by placeholder, as for ExpressionAttributeNames.
func (a aliases) expression() map[string]string {
	names := make(map[string]string, len(a))
	for name, alias := range a {
		names[alias] = name
	}
	return names
}

// ofItem returns the result of an update that DynamoDB refuses because of the
// item, not because of the request: a document path no longer exists, or the item
// or its item collection would be too large. DynamoDB has an error code only for
// the last one.
func (t *Table) itemError(err error) (scan.Result, bool) {
	text := awserr.Message(err)
	switch code := awserr.Code(err); {
	case code == "ItemCollectionSizeLimitExceededException":
		return refused("item-collection-too-large", "the new ciphertext is longer, and the "+
			"items with this partition key would exceed the DynamoDB limit of 10 GB for tables "+
			"with a local secondary index; delete or move some of these items, then run "+
			"rotator retry"), true
	case code != "ValidationException":
	case pathMissing(err):
		return scan.Result{Err: scan.ErrChanged}, true
	case strings.Contains(text, "Item size") && strings.Contains(text, "exceeded"):
		return refused("item-too-large", "the new ciphertext is longer, and the item would "+
			"exceed the DynamoDB limit of 400 KB; make the item smaller, then run rotator "+
			"retry"), true
	}
	return scan.Result{}, false
}

// pathMissing reports whether the error states that the item lacks a path that is set.
func pathMissing(err error) bool {
	return strings.Contains(awserr.Message(err), "document path")
}

func refused(reason, detail string) scan.Result {
	return scan.Result{Err: &scan.RefusedError{Reason: reason, Detail: detail}}
}

// conditionFailed returns the result of a failed condition. item is the item that the store
// returned with the error. If there is none, the item was most likely deleted, but some
// servers never return the item. The caller loads the item under its read limit to find out.
func (t *Table) conditionFailed(
	ctx context.Context, item map[string]types.AttributeValue,
) scan.Result {
	if len(item) == 0 {
		return scan.Result{Err: scan.ErrChanged}
	}
	keys, err := t.primaryKey(ctx)
	if err != nil { // the condition failed in any case
		return scan.Result{Err: scan.ErrChanged}
	}
	now, err := t.newItem(keys, item)
	if err != nil {
		return scan.Result{Err: scan.ErrChanged}
	}
	return scan.Result{Err: scan.ErrChanged, Current: &now}
}
