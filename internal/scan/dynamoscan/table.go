// Package dynamoscan reads and rewrites the items of a DynamoDB table: a
// parallel scan that pages through frozen segments, and conditional updates that
// replace exactly the values that were read, and nothing else.
//
// Every write names in its condition the old value of all that it replaces, and the
// places that it depends on beside these. An item that was deleted meanwhile fails that
// condition, so it is never created again; an attribute that others changed is left to
// them. No request is tried twice here: the caller decides what an error means.
package dynamoscan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"rotator/internal/scan"
)

// Config says which table to read, and what of its items.
type Config struct {
	Client *dynamodb.Client // with its own retries off
	Table  string           // name or ARN
	// Segments is the TotalSegments of a new pass, at least 1; a pass that was
	// begun keeps its own.
	Segments int
	// Attributes are the top-level attributes to read beside the key; Writes
	// those among them that may be replaced.
	Attributes, Writes []string
	// Whole: read every attribute instead, since the format needs to know of those
	// that it cannot name. Reading costs the same (API_Scan).
	AllAttributes bool
	// PageLimit is the most items of a page; 0 means what fits into 1 MB.
	PageLimit int32
	// ReadCapacity and WriteCapacity are the most capacity units to use per
	// second; 0 means no limit.
	ReadCapacity, WriteCapacity float64
	// Connections is for how many requests at once connections are opened before the
	// first write, where there are several pages; 0 leaves it to the requests.
	Connections int
	// Consistent asks for strongly consistent pages, which consume twice the capacity.
	Consistent bool
	// Unbatched turns batches off: each update is sent as a separate request.
	Unbatched bool
	// SDK leaves answers to the SDK alone, which takes more time and memory for them.
	SDKOnly bool
}

// Table is one DynamoDB table. It is safe for concurrent use.
type Table struct {
	config      Config
	read, write *capacity
	probing     chan struct{} // held by the goroutine that probes
	spare       chan struct{} // one in it for each spare turn that is taken
	bodies      sync.Pool     // of *bytes.Buffer: bodies of answers
	opening     sync.Once     // of connections
	// shapes are the shapes of updates so far, at most maxShapes. The slice is replaced,
	// never modified.
	shapes atomic.Pointer[[]*shape]
	// proven is a bit set of the forms of which a statement has succeeded.
	proven atomic.Uint64

	mu    sync.Mutex
	keys  keyTypes // nil until asked for
	batch [forms]support
	// compared is the number of comparisons in a statement of a form that the server checks.
	compared [forms]int
	notes    []string
	items    int64
	arn      string // "" before Check
	pages    bool   // there is more than one
	// endpoint is the URL of the service; "" before the first DescribeTable.
	endpoint string
}

// keyTypes are the attributes of a primary key.
type keyTypes map[string]types.ScalarAttributeType

// New makes a Table. It asks nothing of the service.
func New(c Config) *Table {
	c.Segments = max(1, c.Segments)
	return &Table{
		config:  c,
		probing: make(chan struct{}, 1),
		spare:   make(chan struct{}, spareTurns),
		bodies:  sync.Pool{New: func() any { return new(bytes.Buffer) }},
		read:    newCapacity("read", c.ReadCapacity),
		write:   newCapacity("write", c.WriteCapacity),
	}
}

// Notes are facts about the table that belong in the report.
func (t *Table) Notes() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.notes)
}

// Items is how many items the table had when DynamoDB last counted, which it does
// about every six hours (API_TableDescription); 0 before Check.
func (t *Table) Items() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.items
}

func (t *Table) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if text := fmt.Sprintf(format, args...); !slices.Contains(t.notes, text) {
		t.notes = append(t.notes, text)
	}
}

// Check says, without writing, whether the table can be used: *scan.MissingError
// when there is no such table, when it is not in use, or when a slot is a key
// attribute, which no update can change.
func (t *Table) Check(ctx context.Context) error {
	table, err := t.describe(ctx)
	if err != nil {
		return err
	}
	switch table.TableStatus {
	case types.TableStatusActive, types.TableStatusUpdating, "": // some servers give none
	default:
		return &scan.MissingError{Field: "dynamodb.table", Detail: fmt.Sprintf(
			"table %s is %s, so its items cannot be read and written now; run again when it is "+
				"ACTIVE", t.config.Table, table.TableStatus)}
	}
	keys := keysOf(table)
	t.mu.Lock()
	t.items = aws.ToInt64(table.ItemCount)
	t.arn = aws.ToString(table.TableArn)
	t.keys = keys
	t.mu.Unlock()
	for _, name := range t.config.Writes {
		if _, ok := keys[name]; ok {
			return &scan.MissingError{Field: "slots", Detail: fmt.Sprintf(
				"attribute %s is part of the primary key of table %s, which DynamoDB never "+
					"changes in place; a ciphertext in a key cannot be moved", name,
				t.config.Table)}
		}
	}
	if len(table.Replicas) > 0 &&
		table.MultiRegionConsistency != types.MultiRegionConsistencyStrong {
		t.note("table %s is a global table whose replicas follow later: a conditional write "+
			"protects against concurrent updates in %s alone, so run where the writers are",
			t.config.Table, t.config.Client.Options().Region)
	}
	return nil
}

// describe asks for the table (API_DescribeTable).
func (t *Table) describe(ctx context.Context) (*types.TableDescription, error) {
	in := &dynamodb.DescribeTableInput{TableName: &t.config.Table}
	out, err := t.config.Client.DescribeTable(ctx, in, t.recordEndpoint)
	if missing := (*types.ResourceNotFoundException)(nil); errors.As(err, &missing) {
		return nil, &scan.MissingError{Field: "dynamodb.table", Detail: fmt.Sprintf(
			"there is no table %s in %s in this account; check the name, the Region and the "+
				"account", t.config.Table, t.config.Client.Options().Region)}
	}
	if err != nil {
		return nil, fmt.Errorf("describe table %s: %w", t.config.Table, err)
	}
	if out.Table == nil || len(keysOf(out.Table)) == 0 {
		return nil, fmt.Errorf("describe table %s: the server names no primary key", t.config.Table)
	}
	return out.Table, nil
}

func keysOf(table *types.TableDescription) keyTypes {
	keys := keyTypes{}
	for _, element := range table.KeySchema {
		for _, definition := range table.AttributeDefinitions {
			if aws.ToString(definition.AttributeName) == aws.ToString(element.AttributeName) {
				keys[aws.ToString(element.AttributeName)] = definition.AttributeType
			}
		}
	}
	return keys
}

// primaryKey returns the key attributes and their types, which never change. It calls
// DescribeTable only if Check was not called.
func (t *Table) primaryKey(ctx context.Context) (keyTypes, error) {
	t.mu.Lock()
	keys := t.keys
	t.mu.Unlock()
	if keys != nil {
		return keys, nil
	}
	table, err := t.describe(ctx)
	if err != nil {
		return nil, err
	}
	keys = keysOf(table)
	t.mu.Lock()
	t.keys = keys
	t.mu.Unlock()
	return keys, nil
}
