// Package dynamoscan reads and rewrites the items of a DynamoDB table. It reads the segments
// of a parallel scan page by page. It writes with conditional updates that replace exactly
// the values that were read.
//
// The condition of every write contains the old value of everything that it replaces, and the
// guards of the change. An item that was deleted in the meantime fails the condition, so it
// is not created again. Attributes that other writers changed are preserved. The package does
// not retry requests: the caller decides about errors.
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

// Config selects the table and the attributes to read.
type Config struct {
	Client *dynamodb.Client // its own retries must be turned off
	Table  string           // name or ARN
	// Segments is the TotalSegments of a new pass, at least 1. A pass in progress keeps its
	// own number.
	Segments int
	// Attributes are the top-level attributes to read in addition to the key. Writes are
	// those that may be replaced.
	Attributes, Writes []string
	// AllAttributes reads every attribute, because the format cannot list the attributes that
	// it needs. It costs the same (API_Scan).
	AllAttributes bool
	// PageLimit is the maximum number of items of a page. 0 means up to 1 MB.
	PageLimit int32
	// ReadCapacity and WriteCapacity are the maximum capacity units per second. 0 means no
	// limit.
	ReadCapacity, WriteCapacity float64
	// Connections is the number of connections to open before the first write, if the table
	// has several pages. 0 opens none in advance.
	Connections int
	// Consistent requests strongly consistent pages, which consume twice the capacity.
	Consistent bool
	// Unbatched disables batches: each update is sent as a separate request.
	Unbatched bool
	// SDKOnly lets the SDK parse all responses, which takes more time and memory.
	SDKOnly bool
}

// Table is one DynamoDB table. It is safe for concurrent use.
type Table struct {
	config       Config
	read, write  *capacity
	probing      chan struct{} // held by the goroutine that sends a probe
	extraPermits chan struct{} // holds one element for each extra write in progress
	bodies       sync.Pool     // of *bytes.Buffer, for the bodies of responses
	connectOnce  sync.Once     // opens the connections
	// shapes are the shapes of updates so far, at most maxShapes. The slice is replaced,
	// never modified.
	shapes atomic.Pointer[[]*shape]
	// proven is a bit set of the forms of which a statement has succeeded.
	proven atomic.Uint64

	mu    sync.Mutex
	keys  keyTypes // nil if unknown
	batch [forms]support
	// compared is the number of comparisons in a statement of a form that the server checks.
	compared     [forms]int
	notes        []string
	items        int64
	arn          string // "" before Check
	severalPages bool   // the table has more than one page
	// endpoint is the URL of the service; "" before the first DescribeTable.
	endpoint string
}

// keyTypes are the types of the key attributes by name.
type keyTypes map[string]types.ScalarAttributeType

// New returns a Table. It sends no request.
func New(c Config) *Table {
	c.Segments = max(1, c.Segments)
	return &Table{
		config:       c,
		probing:      make(chan struct{}, 1),
		extraPermits: make(chan struct{}, maxExtraWrites),
		bodies:       sync.Pool{New: func() any { return new(bytes.Buffer) }},
		read:         newCapacity("read", c.ReadCapacity),
		write:        newCapacity("write", c.WriteCapacity),
	}
}

// Notes returns facts about the table for the report.
func (t *Table) Notes() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.notes)
}

// Items returns the item count of the table, which DynamoDB updates about every six hours
// (API_TableDescription). It is 0 before Check.
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

// Check reports, without writing, whether the table can be used. It returns a
// *scan.MissingError if the table does not exist or is not active, or if a slot is a key
// attribute, which no update can change.
func (t *Table) Check(ctx context.Context) error {
	table, err := t.describe(ctx)
	if err != nil {
		return err
	}
	switch table.TableStatus {
	case types.TableStatusActive, types.TableStatusUpdating, "": // some servers return no status
	default:
		return &scan.MissingError{Field: "dynamodb.table", Detail: fmt.Sprintf(
			"table %s is %s, so its items cannot be read and written; run again when it is "+
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
					"changes in place; a ciphertext in a key cannot be re-encrypted", name,
				t.config.Table)}
		}
	}
	if len(table.Replicas) > 0 &&
		table.MultiRegionConsistency != types.MultiRegionConsistencyStrong {
		t.note("table %s is a global table with asynchronous replication: a conditional write "+
			"protects against concurrent updates in %s only, so run in the Region of the writers",
			t.config.Table, t.config.Client.Options().Region)
	}
	return nil
}

// describe returns the description of the table (API_DescribeTable).
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
		return nil, fmt.Errorf("describe table %s: the server returned no primary key",
			t.config.Table)
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
