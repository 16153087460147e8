package dynamoscan

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"go.uber.org/goleak"

	"rotator/internal/fakeaws/fakedynamodb"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/scan"
	"rotator/internal/scan/scantest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// schema is a primary key: attribute names with their types, hash key first.
type schema []struct {
	name string
	kind types.ScalarAttributeType
}

const tableName = "customers"

// top is the attribute that contains the slots. Its name must be quoted everywhere. The item
// also has values of all other types.
const top = `pro"file.docs[0]`

// slotPath is the path of the slot of an item.
var slotPath = []scan.Step{{Name: top}, {Name: "size"}, {Index: 1, Element: true},
	{Name: `k'ey "?`}}

// store is a table of a fake DynamoDB.
type store struct {
	t      *testing.T
	fake   *fakedynamodb.Service
	faults *fault.Injector
	schema schema
	client *dynamodb.Client // sends requests through the faults
	direct *dynamodb.Client
}

func newClient(t *testing.T, h http.Handler) *dynamodb.Client {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return dynamodb.NewFromConfig(aws.Config{Region: "eu-west-1", BaseEndpoint: &server.URL,
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		HTTPClient:  &http.Client{Transport: onlyRead{transport}},
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} }})
}

// onlyRead hides that the body of a request is an io.WriterTo, as rotator's own clients do.
// Otherwise the SDK closes the body early, and net/http then closes the connection.
type onlyRead struct{ http.RoundTripper }

func (t onlyRead) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r = r.Clone(r.Context())
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return t.RoundTripper.RoundTrip(r)
}

func newStore(t *testing.T, s schema) *store {
	st := &store{
		t:      t,
		schema: s,
		faults: fault.New(1),
		fake:   fakedynamodb.New(fakedynamodb.Config{Region: "eu-west-1", Account: "111122223333"}),
	}
	st.client = newClient(t, st.faults.Handler(st.fake))
	st.direct = newClient(t, st.fake)
	in := &dynamodb.CreateTableInput{
		TableName:   aws.String(tableName),
		BillingMode: types.BillingModePayPerRequest,
	}
	for i, key := range s {
		in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{
			AttributeName: &key.name,
			AttributeType: key.kind,
		})
		in.KeySchema = append(in.KeySchema, types.KeySchemaElement{
			AttributeName: &key.name,
			KeyType:       []types.KeyType{types.KeyTypeHash, types.KeyTypeRange}[i],
		})
	}
	if _, err := st.direct.CreateTable(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	return st
}

// source returns a source that reads and writes all attributes except "unread".
func (s *store) source(change func(*Config)) *Table {
	c := Config{
		Client:     s.client,
		Table:      tableName,
		Segments:   3,
		Attributes: []string{top, "tenant", "other"},
		Writes:     []string{top},
		PageLimit:  6,
	}
	if change != nil {
		change(&c)
	}
	return New(c)
}

// whole configures a source that reads all attributes.
func whole(c *Config) { c.AllAttributes, c.Attributes = true, nil }

// key returns the n-th key.
func (s *store) key(n int) map[string]types.AttributeValue {
	key := map[string]types.AttributeValue{}
	for i, k := range s.schema {
		part := n
		if i == 0 && len(s.schema) == 2 {
			part = n / 3 // some items share a partition key
		}
		switch k.kind {
		case types.ScalarAttributeTypeN:
			key[k.name] = &types.AttributeValueMemberN{Value: fmt.Sprintf("-%d.5", part)}
		case types.ScalarAttributeTypeB:
			key[k.name] = &types.AttributeValueMemberB{Value: []byte{0, 0xff, byte(part)}}
		default:
			key[k.name] = &types.AttributeValueMemberS{Value: fmt.Sprintf(`<"é>&%d`, part)}
		}
	}
	return key
}

// attributes returns values of every type, with the slot nested in one of them.
func attributes(n int) map[string]scan.Value {
	slot := func(value string) scan.Value {
		return scan.Value{Kind: scan.KindB, Bytes: []byte(value)}
	}
	every := map[string]scan.Value{
		"s":     {Kind: scan.KindS, Text: "text <&>"},
		"n":     {Kind: scan.KindN, Text: "3.14159265358979323846264338327950288"},
		"b":     slot("\x00\xff"),
		"empty": {Kind: scan.KindS},
		"true":  {Kind: scan.KindBool, Bool: true},
		"null":  {Kind: scan.KindNull},
		"ss":    {Kind: scan.KindSS, Texts: []string{"a", "b"}},
		"ns":    {Kind: scan.KindNS, Texts: []string{"1", "2"}},
		"bs":    {Kind: scan.KindBS, ByteSet: [][]byte{{1}, {2}}},
		"l":     {Kind: scan.KindL, List: []scan.Value{}},
		"m":     {Kind: scan.KindM, Map: map[string]scan.Value{}},
	}
	docs := []scan.Value{slot("first"),
		{
			Kind: scan.KindM,
			Map:  map[string]scan.Value{slotPath[3].Name: slot("old"), "name": slot("kept")},
		}}
	return map[string]scan.Value{
		top: {
			Kind: scan.KindM,
			Map: map[string]scan.Value{
				"size":  {Kind: scan.KindL, List: docs},
				"every": {Kind: scan.KindM, Map: every},
			},
		},
		"tenant": {Kind: scan.KindS, Text: fmt.Sprint("tenant ", n)},
		"other":  {Kind: scan.KindM, Map: every},
		"unread": {Kind: scan.KindL, List: []scan.Value{{Kind: scan.KindM, Map: every}}},
	}
}

func (s *store) put(n int) scan.Ref {
	item := s.key(n)
	for name, value := range attributes(n) {
		item[name] = toSDK(value)
	}
	if _, err := s.direct.PutItem(s.t.Context(), &dynamodb.PutItemInput{
		TableName: aws.String(tableName),
		Item:      item,
	}); err != nil {
		s.t.Fatal(err)
	}
	ref, err := printKey(s.key(n))
	if err != nil {
		s.t.Fatal(err)
	}
	return scan.Ref(ref)
}

func (s *store) keyOf(ref scan.Ref) map[string]types.AttributeValue {
	key, err := parseKey(string(ref))
	if err != nil {
		s.t.Fatal(err)
	}
	return key
}

// update changes an item without a condition, like another writer.
func (s *store) update(
	ref scan.Ref, expression string, names map[string]string, values map[string]scan.Value,
) {
	in := &dynamodb.UpdateItemInput{
		TableName:                 aws.String(tableName),
		Key:                       s.keyOf(ref),
		UpdateExpression:          &expression,
		ExpressionAttributeNames:  names,
		ExpressionAttributeValues: map[string]types.AttributeValue{},
	}
	for name, value := range values {
		in.ExpressionAttributeValues[name] = toSDK(value)
	}
	if _, err := s.direct.UpdateItem(s.t.Context(), in); err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) remove(ref scan.Ref) {
	if _, err := s.direct.DeleteItem(s.t.Context(), &dynamodb.DeleteItemInput{
		TableName: aws.String(tableName),
		Key:       s.keyOf(ref),
	}); err != nil {
		s.t.Fatal(err)
	}
}

// rest returns all attributes of the item, with the slot blanked.
func (s *store) rest(ref scan.Ref) string {
	out, err := s.direct.GetItem(s.t.Context(), &dynamodb.GetItemInput{
		TableName:      aws.String(tableName),
		Key:            s.keyOf(ref),
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if len(out.Item) == 0 {
		return ""
	}
	row := &scan.Row{Attributes: map[string]scan.Value{}}
	for name, value := range out.Item {
		if row.Attributes[name], err = fromSDK(value); err != nil {
			s.t.Fatal(err)
		}
	}
	text, err := json.MarshalIndent(splice(row, nil), "", " ")
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// at returns the value with the value at a path replaced.
func at(v scan.Value, path []scan.Step, replace func(scan.Value) scan.Value) scan.Value {
	if len(path) == 0 {
		return replace(v)
	}
	if path[0].Element {
		v.List = slices.Clone(v.List)
		v.List[path[0].Index] = at(v.List[path[0].Index], path[1:], replace)
		return v
	}
	v.Map = maps.Clone(v.Map)
	v.Map[path[0].Name] = at(v.Map[path[0].Name], path[1:], replace)
	return v
}

func splice(p scan.Payload, value []byte) scan.Payload {
	row := scan.Value{Map: p.(*scan.Row).Attributes}
	return &scan.Row{
		Attributes: at(row, slotPath, func(v scan.Value) scan.Value {
			v.Bytes = value
			return v
		}).Map,
	}
}

func slot(p scan.Payload) (value []byte) {
	at(scan.Value{Map: p.(*scan.Row).Attributes}, slotPath, func(v scan.Value) scan.Value {
		value = v.Bytes
		return v
	})
	return value
}

// conditional returns an error if a request sets a path without comparing it.
func conditional(_ *http.Request, body []byte) error {
	var in struct {
		UpdateExpression, ConditionExpression string
		Statements                            []struct{ Statement string }
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return err
	}
	check := func(sets []string, condition string) error {
		for _, set := range sets {
			path, _, _ := strings.Cut(set, " = ")
			if !slices.ContainsFunc(strings.Split(condition, " AND "), func(c string) bool {
				return strings.HasPrefix(c, path+" = ")
			}) {
				return fmt.Errorf("%s is set and not compared: %s", path, body)
			}
		}
		return nil
	}
	if len(in.Statements) == 0 {
		return check(strings.Split(strings.TrimPrefix(in.UpdateExpression, "SET "), ", "),
			in.ConditionExpression)
	}
	for _, s := range in.Statements {
		head, where, _ := strings.Cut(s.Statement, " WHERE ")
		_, sets, _ := strings.Cut(head, " SET ")
		if err := check(strings.Split(sets, ", "), where); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) subject() scantest.Subject {
	names := map[string]string{
		"#top":    top,
		"#size":   "size",
		"#key":    slotPath[3].Name,
		"#unread": "unread",
	}
	without := func(drop string) map[string]string {
		kept := maps.Clone(names)
		delete(kept, drop)
		return kept
	}
	return scantest.Subject{
		Source: s.source(nil), Faults: s.faults,
		Reads:             []string{"dynamodb:DescribeTable", "dynamodb:Scan", "dynamodb:GetItem"},
		Writes:            []string{"dynamodb:UpdateItem", "dynamodb:BatchExecuteStatement"},
		CheckPrecondition: conditional,
		Put:               s.put,
		Rewrite: func(ref scan.Ref) {
			s.update(ref, "SET #top.#size[1].#key = :v", without("#unread"), map[string]scan.Value{
				":v": {Kind: scan.KindB, Bytes: []byte("foreign")},
			})
		},
		Touch: func(ref scan.Ref) {
			s.update(ref, "SET #top.#size[0] = :v, #unread = :v REMOVE tenant", without("#key"),
				map[string]scan.Value{":v": {Kind: scan.KindS, Text: "touched"}})
		},
		Delete: s.remove, Rest: s.rest, Slot: slot, Splice: splice,
	}
}

func TestConformance(t *testing.T) {
	const (
		s = types.ScalarAttributeTypeS
		n = types.ScalarAttributeTypeN
		b = types.ScalarAttributeTypeB
	)
	for name, schema := range map[string]schema{
		"key S":             {{`i"d`, s}},
		"key N with B":      {{"number", n}, {"binary key", b}},
		"key B with N":      {{"b", b}, {"WHERE", n}},
		"key S, no PartiQL": {{"id", s}},
		"key S, whole":      {{"id", s}},
		"key S with N, SDK": {{"id", s}, {"n", n}},
	} {
		t.Run(name, func(t *testing.T) {
			scantest.Run(t, func(t *testing.T) scantest.Subject {
				store := newStore(t, schema)
				if strings.Contains(name, "no PartiQL") {
					store.fake.SetPolicy(func(c fakedynamodb.Call) bool {
						return c.Action != "dynamodb:PartiQLUpdate"
					})
				}
				subject := store.subject()
				if strings.Contains(name, "whole") {
					subject.Source = store.source(whole)
				}
				if strings.Contains(name, "SDK") {
					subject.Source = store.source(func(c *Config) { c.SDKOnly = true })
				}
				return subject
			})
		})
	}
}
