package dynamoscan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"rotator/internal/scan"
)

// segment is the Spec of a partition.
type segment struct {
	Segment int32 `json:"segment"`
	Total   int32 `json:"total"`
}

// Partitions divides the table into the segments of a parallel scan. A start key is valid
// only in its segment and with the same total, so the Spec contains both (API_Scan).
func (t *Table) Partitions(context.Context) ([]scan.Partition, error) {
	var partitions []scan.Partition
	for i := range t.config.Segments {
		spec, err := json.Marshal(segment{Segment: int32(i), Total: int32(t.config.Segments)})
		if err != nil {
			return nil, err
		}
		partitions = append(partitions, scan.Partition{
			Name: fmt.Sprintf("segment %d of %d", i+1, t.config.Segments),
			Spec: spec,
		})
	}
	return partitions, nil
}

// Page reads one page of a segment. Unless Config.Consistent is set, the read
// is eventually consistent, which costs half. If an item is stale, the
// condition refuses its write, and the item is read again.
func (t *Table) Page(ctx context.Context, p scan.Partition, cursor scan.Cursor) (scan.Page, error) {
	var s segment
	err := json.Unmarshal(p.Spec, &s)
	if err == nil && (s.Total < 1 || s.Segment < 0 || s.Segment >= s.Total) {
		err = fmt.Errorf("segment %d of %d is invalid", s.Segment, s.Total)
	}
	if err != nil {
		return scan.Page{}, fmt.Errorf("read the partition of table %s: %w", t.config.Table, err)
	}
	keys, err := t.primaryKey(ctx)
	if err != nil {
		return scan.Page{}, err
	}
	in := &dynamodb.ScanInput{
		TableName:              &t.config.Table,
		Segment:                &s.Segment,
		TotalSegments:          &s.Total,
		ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
	}
	if t.config.Consistent {
		in.ConsistentRead = aws.Bool(true)
	}
	in.ProjectionExpression, in.ExpressionAttributeNames = t.projection(keys)
	if t.config.PageLimit > 0 {
		in.Limit = &t.config.PageLimit
	}
	if len(cursor) > 0 {
		if in.ExclusiveStartKey, err = parseKey(string(cursor)); err != nil {
			return scan.Page{}, fmt.Errorf("read the cursor of table %s: %w", t.config.Table, err)
		}
	}
	if err := t.read.wait(ctx, 1); err != nil {
		return scan.Page{}, err
	}
	r := &reader{table: t, keys: keys}
	var options []func(*dynamodb.Options)
	if !t.config.SDKOnly {
		options = append(options, r.install)
	}
	out, err := t.config.Client.Scan(ctx, in, options...)
	if err != nil {
		return scan.Page{}, fmt.Errorf("scan table %s: %w", t.config.Table, markHotPartition(err))
	}
	t.read.charge(1, consumed(out.ConsumedCapacity)...)
	page, err := t.page(keys, out, r)
	if err != nil {
		return scan.Page{}, fmt.Errorf("scan table %s: %w", t.config.Table, err)
	}
	if !page.Last {
		t.mu.Lock()
		t.severalPages = true
		t.mu.Unlock()
	}
	return page, nil
}

// page converts a response to a page. r may already have parsed the items.
func (t *Table) page(keys keyTypes, out *dynamodb.ScanOutput, r *reader) (scan.Page, error) {
	page := scan.Page{Items: r.items, Last: len(out.LastEvaluatedKey) == 0}
	for _, attributes := range out.Items {
		item, err := t.newItem(keys, attributes)
		if err != nil {
			return scan.Page{}, err
		}
		page.Items = append(page.Items, item)
	}
	if page.Last {
		return page, nil
	}
	next, err := printKey(out.LastEvaluatedKey)
	page.Next = scan.Cursor(next)
	return page, err
}

// Load reads one item with a strongly consistent read. It returns scan.ErrGone if the item
// does not exist.
func (t *Table) Load(ctx context.Context, ref scan.Ref) (scan.Item, error) {
	key, err := parseKey(string(ref))
	if err != nil {
		return scan.Item{}, fmt.Errorf("get item of table %s: %w", t.config.Table, err)
	}
	keys, err := t.primaryKey(ctx)
	if err != nil {
		return scan.Item{}, err
	}
	in := &dynamodb.GetItemInput{
		TableName:              &t.config.Table,
		Key:                    key,
		ConsistentRead:         aws.Bool(true),
		ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
	}
	in.ProjectionExpression, in.ExpressionAttributeNames = t.projection(keys)
	if err := t.read.wait(ctx, 1); err != nil {
		return scan.Item{}, err
	}
	out, err := t.config.Client.GetItem(ctx, in)
	if err != nil {
		return scan.Item{}, fmt.Errorf("get item of table %s: %w", t.config.Table,
			markHotPartition(err))
	}
	t.read.charge(1, consumed(out.ConsumedCapacity)...)
	if len(out.Item) == 0 {
		return scan.Item{}, scan.ErrGone
	}
	item, err := t.newItem(keys, out.Item)
	if err != nil {
		return scan.Item{}, fmt.Errorf("get item of table %s: %w", t.config.Table, err)
	}
	return item, nil
}

// newItem converts the attributes of an item, which must include its key. It drops attributes
// that the job does not need, even if the server returned them.
func (t *Table) newItem(
	keys keyTypes, attributes map[string]types.AttributeValue,
) (scan.Item, error) {
	key := map[string]types.AttributeValue{}
	row := &scan.Row{Attributes: map[string]scan.Value{}}
	for name, value := range attributes {
		_, isKey := keys[name]
		if isKey {
			key[name] = value
		}
		if !isKey && !t.config.AllAttributes && !slices.Contains(t.config.Attributes, name) {
			continue
		}
		converted, err := fromSDK(value)
		if err != nil {
			return scan.Item{}, fmt.Errorf("attribute %s: %w", name, err)
		}
		row.Attributes[name] = converted
	}
	if len(key) != len(keys) {
		return scan.Item{}, errors.New("the server returned an item without its primary key")
	}
	ref, err := printKey(key)
	return scan.Item{Ref: scan.Ref(ref), Payload: row}, err
}

// projection requests only the key and the attributes of the job. It uses aliases, because
// names can be reserved words or contain any character. It reduces the transferred data but
// not the consumed capacity (API_Scan). Without a projection, whole items are returned.
func (t *Table) projection(keys keyTypes) (expression *string, names map[string]string) {
	if t.config.AllAttributes {
		return nil, nil
	}
	wanted := slices.Clone(t.config.Attributes)
	for name := range keys {
		wanted = append(wanted, name)
	}
	slices.Sort(wanted)
	names = map[string]string{}
	var parts []string
	for i, name := range slices.Compact(wanted) {
		alias := fmt.Sprintf("#p%d", i)
		names[alias] = name
		parts = append(parts, alias)
	}
	return aws.String(strings.Join(parts, ", ")), names
}

// consumed returns the capacity as a list, because a server may omit it.
func consumed(c *types.ConsumedCapacity) []types.ConsumedCapacity {
	if c == nil {
		return nil
	}
	return []types.ConsumedCapacity{*c}
}
