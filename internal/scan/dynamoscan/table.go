// Package dynamoscan reads and rewrites the items of a DynamoDB table: a
// parallel scan that pages through frozen segments, and conditional updates that
// replace exactly the attribute values that were read.
package dynamoscan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"rotator/internal/scan"
)

// Config says which table to read, and what of its items.
type Config struct {
	Client *dynamodb.Client // with its own retries off
	Table  string           // name or ARN
	// Segments is the TotalSegments of a new pass; a pass that was begun keeps
	// its own.
	Segments int
	// Attributes are the top-level attributes to read beside the key; Writes
	// those among them that may be replaced.
	Attributes, Writes []string
	// PageLimit is the most items of a page; 0 means what fits into 1 MB.
	PageLimit int32
	// ReadCapacity and WriteCapacity are the most capacity units to use per
	// second; 0 means no limit.
	ReadCapacity, WriteCapacity float64
}

// Table is one DynamoDB table. It is safe for concurrent use.
type Table struct {
	config      Config
	read, write *capacity

	mu    sync.Mutex
	keys  map[string]types.ScalarAttributeType // key attributes; nil until asked for
	batch support
	notes []string
}

// New makes a Table. It asks nothing of the service.
func New(c Config) *Table {
	return &Table{config: c, read: newCapacity(c.ReadCapacity), write: newCapacity(c.WriteCapacity)}
}

// Notes are facts about the table that belong in the report.
func (t *Table) Notes() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.notes)
}

// Check says whether the table can be used: *scan.MissingError when there is no
// such table, or a slot is a key attribute, which no update can change.
func (t *Table) Check(ctx context.Context) error {
	keys, err := t.keyTypes(ctx)
	if err != nil {
		return err
	}
	for _, name := range t.config.Writes {
		if _, ok := keys[name]; ok {
			return &scan.MissingError{Field: "slots", Detail: fmt.Sprintf(
				"attribute %s is part of the primary key of table %s, which DynamoDB never changes in place; a ciphertext in a key cannot be moved", name, t.config.Table)}
		}
	}
	return nil
}

// keyTypes returns the key attributes and their types, asked for once.
func (t *Table) keyTypes(ctx context.Context) (map[string]types.ScalarAttributeType, error) {
	t.mu.Lock()
	keys := t.keys
	t.mu.Unlock()
	if keys != nil {
		return keys, nil
	}
	out, err := t.config.Client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &t.config.Table})
	if missing := (*types.ResourceNotFoundException)(nil); errors.As(err, &missing) {
		return nil, &scan.MissingError{Field: "dynamodb.table", Detail: fmt.Sprintf(
			"there is no table %s in %s in this account; check the name, the Region and the account", t.config.Table, t.config.Client.Options().Region)}
	}
	if err != nil {
		return nil, fmt.Errorf("describe table %s: %w", t.config.Table, err)
	}
	keys = map[string]types.ScalarAttributeType{}
	for _, element := range out.Table.KeySchema {
		for _, definition := range out.Table.AttributeDefinitions {
			if aws.ToString(definition.AttributeName) == aws.ToString(element.AttributeName) {
				keys[*element.AttributeName] = definition.AttributeType
			}
		}
	}
	t.mu.Lock()
	t.keys = keys
	t.mu.Unlock()
	return keys, nil
}

// segment is the Spec of a partition.
type segment struct {
	Segment int32 `json:"segment"`
	Total   int32 `json:"total"`
}

// Partitions cuts the table into the segments of a parallel scan. A key of one
// segment is no valid start in another, nor under another total, so both stay
// with the partition (API_Scan).
func (t *Table) Partitions(context.Context) ([]scan.Partition, error) {
	var partitions []scan.Partition
	for i := range t.config.Segments {
		spec, err := json.Marshal(segment{Segment: int32(i), Total: int32(t.config.Segments)})
		if err != nil {
			return nil, err
		}
		partitions = append(partitions, scan.Partition{Name: fmt.Sprintf("segment %d of %d", i+1, t.config.Segments), Spec: spec})
	}
	return partitions, nil
}

// Page reads one page of a segment, eventually consistent, which costs half: a
// stale item is refused by the condition of its write, and read again.
func (t *Table) Page(ctx context.Context, p scan.Partition, cursor scan.Cursor) (scan.Page, error) {
	var s segment
	if err := json.Unmarshal(p.Spec, &s); err != nil {
		return scan.Page{}, fmt.Errorf("read the partition of table %s: %w", t.config.Table, err)
	}
	keys, err := t.keyTypes(ctx)
	if err != nil {
		return scan.Page{}, err
	}
	in := &dynamodb.ScanInput{TableName: &t.config.Table, Segment: &s.Segment, TotalSegments: &s.Total,
		ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal}
	in.ProjectionExpression, in.ExpressionAttributeNames = t.projection(keys)
	if t.config.PageLimit > 0 {
		in.Limit = &t.config.PageLimit
	}
	if len(cursor) > 0 {
		if in.ExclusiveStartKey, err = parseKey(string(cursor)); err != nil {
			return scan.Page{}, fmt.Errorf("read the cursor of table %s: %w", t.config.Table, err)
		}
	}
	if err := t.read.wait(ctx); err != nil {
		return scan.Page{}, err
	}
	out, err := t.config.Client.Scan(ctx, in)
	if err != nil {
		return scan.Page{}, fmt.Errorf("scan table %s: %w", t.config.Table, err)
	}
	t.read.used(out.ConsumedCapacity)
	return t.page(keys, out)
}

func (t *Table) page(keys map[string]types.ScalarAttributeType, out *dynamodb.ScanOutput) (scan.Page, error) {
	page := scan.Page{Last: len(out.LastEvaluatedKey) == 0}
	for _, attributes := range out.Items {
		item, err := newItem(keys, attributes)
		if err != nil {
			return scan.Page{}, fmt.Errorf("scan table %s: %w", t.config.Table, err)
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

// newItem makes an item of attributes, which include its key.
func newItem(keys map[string]types.ScalarAttributeType, attributes map[string]types.AttributeValue) (scan.Item, error) {
	key := map[string]types.AttributeValue{}
	row := &scan.Row{Attributes: make(map[string]scan.Value, len(attributes))}
	for name, value := range attributes {
		converted, err := fromSDK(value)
		if err != nil {
			return scan.Item{}, fmt.Errorf("attribute %s: %w", name, err)
		}
		row.Attributes[name] = converted
		if _, ok := keys[name]; ok {
			key[name] = value
		}
	}
	ref, err := printKey(key)
	return scan.Item{Ref: scan.Ref(ref), Payload: row}, err
}

// Load reads one item, consistently.
func (t *Table) Load(ctx context.Context, ref scan.Ref) (scan.Item, error) {
	key, err := parseKey(string(ref))
	if err != nil {
		return scan.Item{}, fmt.Errorf("read the key of an item of table %s: %w", t.config.Table, err)
	}
	keys, err := t.keyTypes(ctx)
	if err != nil {
		return scan.Item{}, err
	}
	in := &dynamodb.GetItemInput{TableName: &t.config.Table, Key: key, ConsistentRead: aws.Bool(true),
		ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal}
	in.ProjectionExpression, in.ExpressionAttributeNames = t.projection(keys)
	if err := t.read.wait(ctx); err != nil {
		return scan.Item{}, err
	}
	out, err := t.config.Client.GetItem(ctx, in)
	if err != nil {
		return scan.Item{}, fmt.Errorf("get item of table %s: %w", t.config.Table, err)
	}
	t.read.used(out.ConsumedCapacity)
	if len(out.Item) == 0 {
		return scan.Item{}, scan.ErrGone
	}
	return newItem(keys, out.Item)
}

// projection asks for the key and the attributes of the job alone. It saves
// network, not capacity (API_Scan).
func (t *Table) projection(keys map[string]types.ScalarAttributeType) (expression *string, names map[string]string) {
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
