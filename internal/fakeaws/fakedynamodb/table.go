package fakedynamodb

import (
	"bytes"
	"cmp"
	"encoding/json"
	"hash/fnv"
	"slices"
	"sort"
	"sync"
	"time"
)

// table is one table. Its rows are in the order of a scan, by the hash of the partition key,
// so an update never moves an item.
type table struct {
	name    string
	made    time.Time
	schema  []keyElement
	types   map[string]string // of the key attributes
	billing string
	copied  tableCopies

	mu   sync.Mutex
	rows []*row
	byID map[string]*row
	size int // the sum of the sizes of rows
}

type row struct {
	hash uint64
	id   string // canonical text of the key
	item item
	size int // size of item in bytes
}

type keyElement struct{ AttributeName, KeyType string }

type attributeDefinition struct{ AttributeName, AttributeType string }

type tableInput struct {
	TableName            string
	KeySchema            []keyElement
	AttributeDefinitions []attributeDefinition
	BillingMode          string
	StreamSpecification  *streamSpecification
}

func (s *Service) createTable(r request) (any, error) {
	var in tableInput
	if err := r.into(&in); err != nil {
		return nil, err
	}
	t := &table{
		name:    in.TableName,
		made:    time.Now(),
		schema:  in.KeySchema,
		types:   map[string]string{},
		billing: cmp.Or(in.BillingMode, "PROVISIONED"),
		byID:    map[string]*row{},
	}
	if len(in.TableName) < 3 || len(in.KeySchema) == 0 || len(in.KeySchema) > 2 ||
		in.KeySchema[0].KeyType != "HASH" {
		return nil, invalid(
			"One or more parameter values were invalid: the key schema is a HASH key, and a " +
				"RANGE key at most",
		)
	}
	for _, element := range in.KeySchema {
		i := slices.IndexFunc(in.AttributeDefinitions, func(d attributeDefinition) bool {
			return d.AttributeName == element.AttributeName
		})
		if i < 0 || !slices.Contains([]string{
			"S",
			"N",
			"B",
		}, in.AttributeDefinitions[i].AttributeType) {
			return nil, invalid(
				"One or more parameter values were invalid: Some index key attributes are not "+
					"defined in AttributeDefinitions. Keys: [%s]", element.AttributeName,
			)
		}
		t.types[element.AttributeName] = in.AttributeDefinitions[i].AttributeType
	}
	if len(in.AttributeDefinitions) != len(in.KeySchema) {
		return nil, invalid(
			"One or more parameter values were invalid: Number of attributes in KeySchema does " +
				"not exactly match number of attributes defined in AttributeDefinitions",
		)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tables[in.TableName] != nil {
		return nil, &failure{
			code:    "ResourceInUseException",
			message: "Table already exists: " + in.TableName,
		}
	}
	t.setStream(in.StreamSpecification)
	s.tables[in.TableName] = t
	return map[string]any{"TableDescription": s.describe(t)}, nil
}

func (s *Service) describe(t *table) map[string]any {
	t.mu.Lock()
	defer t.mu.Unlock()
	var definitions []attributeDefinition
	for _, element := range t.schema {
		definitions = append(definitions, attributeDefinition{
			element.AttributeName,
			t.types[element.AttributeName],
		})
	}
	description := map[string]any{
		"TableName":            t.name,
		"TableArn":             s.arn(t.name),
		"TableStatus":          "ACTIVE",
		"KeySchema":            t.schema,
		"AttributeDefinitions": definitions,
		"ItemCount":            len(t.rows),
		"TableSizeBytes":       t.size,
		"CreationDateTime":     float64(t.made.UnixMilli()) / 1000,
		"BillingModeSummary":   map[string]string{"BillingMode": t.billing},
	}
	s.describeCopies(t, description)
	return description
}

func (s *Service) describeTable(r request) (any, error) {
	var in tableInput
	if err := r.into(&in); err != nil {
		return nil, err
	}
	t, err := s.table(r, "dynamodb:DescribeTable", in.TableName)
	if err != nil {
		return nil, err
	}
	return map[string]any{"Table": s.describe(t)}, nil
}

func (s *Service) deleteTable(r request) (any, error) {
	var in tableInput
	if err := r.into(&in); err != nil {
		return nil, err
	}
	t, err := s.table(r, "dynamodb:DeleteTable", in.TableName)
	if err != nil {
		return nil, err
	}
	description := s.describe(t)
	description["TableStatus"] = "DELETING"
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tables, t.name)
	return map[string]any{"TableDescription": description}, nil
}

// key returns the key attributes of an item after it checks them.
func (t *table) key(i item) (item, error) {
	key := item{}
	for name, kind := range t.types {
		v, ok := i[name]
		if !ok {
			return nil, invalid(
				"One or more parameter values were invalid: Missing the key %s in the item", name,
			)
		}
		if v.kind != kind {
			return nil, invalid(
				"One or more parameter values were invalid: Type mismatch for key %s expected: "+
					"%s actual: %s", name, kind, v.kind,
			)
		}
		if n, _ := v.length(); n == 0 && kind != "N" {
			return nil, invalid("One or more parameter values are not valid. The AttributeValue "+
				"for a key attribute cannot contain an empty %s value. Key: %s",
				map[string]string{"S": "string", "B": "binary"}[kind], name)
		}
		key[name] = v
	}
	return key, nil
}

// exactKey checks the key in a request.
func (t *table) exactKey(i item) error {
	if len(i) != len(t.types) {
		return invalid("The provided key element does not match the schema")
	}
	for name, kind := range t.types {
		if v, ok := i[name]; !ok || v.kind != kind {
			return invalid("The provided key element does not match the schema")
		}
	}
	_, err := t.key(i)
	return err
}

// id returns the canonical text of a key and the hash of its partition key.
func (t *table) id(key item) (id string, hash uint64) {
	text, _ := json.Marshal(key) // values always marshal, names are sorted
	partition, _ := json.Marshal(key[t.schema[0].AttributeName])
	h := fnv.New64a()
	_, _ = h.Write(partition)
	return string(text), mix(h.Sum64())
}

// mix distributes the bits of an FNV hash. Its high bits hardly differ for short texts.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// find returns the item with the key. It must be called with t.mu held.
func (t *table) find(key item) item {
	id, _ := t.id(key)
	if r := t.byID[id]; r != nil {
		return r.item
	}
	return nil
}

// after returns the index of the first row after (hash, id).
func (t *table) after(hash uint64, id string) int {
	return sort.Search(len(t.rows), func(i int) bool {
		r := t.rows[i]
		return r.hash > hash || r.hash == hash && r.id > id
	})
}

// maxItem is the maximum size of an item in bytes (Quotas).
const maxItem = 400 << 10

// put stores an item in place of the item with the same key; nil deletes that item. It must
// be called with t.mu held.
func (t *table) put(key, i item) error {
	id, hash := t.id(key)
	old := t.byID[id]
	size := i.size()
	switch {
	case i != nil && size > maxItem:
		return invalid("Item size has exceeded the maximum allowed size")
	case i == nil && old != nil:
		at := t.after(hash, id) - 1
		t.rows = slices.Delete(t.rows, at, at+1)
		delete(t.byID, id)
		t.size -= old.size
	case i != nil && old != nil:
		t.size += size - old.size
		old.item, old.size = i, size
	case i != nil:
		r := &row{hash: hash, id: id, item: i, size: size}
		t.rows = slices.Insert(t.rows, t.after(hash, id), r)
		t.byID[id] = r
		t.size += size
	}
	return nil
}

// Items returns a copy of all items of a table, for tests that compare tables. The key of the
// map is the canonical text of the item's key; the values are the JSON of the API.
func (s *Service) Items(tableName string) map[string]json.RawMessage {
	s.mu.RLock()
	t := s.tables[tableName]
	s.mu.RUnlock()
	out := map[string]json.RawMessage{}
	if t == nil {
		return out
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.rows {
		text, _ := json.Marshal(r.item)
		out[r.id] = bytes.Clone(text)
	}
	return out
}
