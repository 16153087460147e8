package fakedynamodb

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// call sends one request to a service and decodes the response into out, unless out is nil.
func call(t *testing.T, s *Service, operation, body string, out any) error {
	t.Helper()
	result, err := s.operations()[operation](request{body: []byte(body)})
	if err != nil || out == nil {
		return err
	}
	text, err := json.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	return json.Unmarshal(text, out)
}

// described returns the number of items and the size that DescribeTable reports.
func described(t *testing.T, s *Service) (items, size int) {
	t.Helper()
	var out struct {
		Table struct{ ItemCount, TableSizeBytes int }
	}
	if err := call(t, s, "DescribeTable", `{"TableName":"table"}`, &out); err != nil {
		t.Fatal(err)
	}
	return out.Table.ItemCount, out.Table.TableSizeBytes
}

func newSized(t *testing.T) *Service {
	t.Helper()
	s := New(Config{Region: "us-west-2", Account: "111122223333"})
	if err := call(t, s, "CreateTable", `{"TableName":"table","BillingMode":"PAY_PER_REQUEST",
		"KeySchema":[{"AttributeName":"id","KeyType":"HASH"}],
		"AttributeDefinitions":[{"AttributeName":"id","AttributeType":"S"}]}`, nil); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestTableSizeIsTheSumOfItsItems: after each kind of write, successful or refused, the size
// of a table is the sum of the sizes of its items.
func TestTableSizeIsTheSumOfItsItems(t *testing.T) {
	s := newSized(t)
	for _, c := range []struct{ operation, body string }{
		{"PutItem", `{"TableName":"table","Item":{"id":{"S":"a"},"v":{"S":"12345"}}}`},
		{"PutItem", `{"TableName":"table","Item":{"id":{"S":"a"},"v":{"S":"1"},"w":{"N":"7"}}}`},
		{
			"PutItem",
			`{"TableName":"table","Item":{"id":{"S":"b"},"m":{"M":{"x":{"L":[{"S":"z"}]}}}}}`,
		},
		{
			"UpdateItem",
			`{"TableName":"table","Key":{"id":{"S":"b"}},"UpdateExpression":"SET m.x[0] = :v",
			"ExpressionAttributeValues":{":v":{"S":"longer than before"}}}`,
		},
		{"UpdateItem", `{"TableName":"table","Key":{"id":{"S":"c"}},"UpdateExpression":"SET v = :v",
			"ExpressionAttributeValues":{":v":{"S":"new"}}}`},
		{"UpdateItem",
			`{"TableName":"table","Key":{"id":{"S":"c"}},"UpdateExpression":"REMOVE v"}`},
		{
			"BatchExecuteStatement",
			`{"Statements":[{"Statement":"UPDATE \"table\" SET v=? WHERE id=?",
			"Parameters":[{"S":"by a statement"},{"S":"a"}]}]}`,
		},
		{"TransactWriteItems", `{"TransactItems":[
			{"Put":{"TableName":"table","Item":{"id":{"S":"d"},"v":{"S":"in a transaction"}}}},
			{"Delete":{"TableName":"table","Key":{"id":{"S":"c"}}}}]}`},
		{"BatchWriteItem", `{"RequestItems":{"table":[
			{"PutRequest":{"Item":{"id":{"S":"e"},"v":{"S":"in a batch"}}}},
			{"DeleteRequest":{"Key":{"id":{"S":"d"}}}}]}}`},
		{"PutItem", `{"TableName":"table","Item":{"id":{"S":"a"}},
			"ConditionExpression":"attribute_not_exists(id)"}`},
		{"DeleteItem", `{"TableName":"table","Key":{"id":{"S":"a"}}}`},
		{"DeleteItem", `{"TableName":"table","Key":{"id":{"S":"a"}}}`},
	} {
		err := call(t, s, c.operation, c.body, nil)
		want := 0
		for _, r := range s.tables["table"].rows {
			want += r.item.size()
		}
		items, size := described(t, s)
		if size != want || items != len(s.tables["table"].rows) {
			t.Errorf("after %s %s (%v): %d items of %d bytes, want %d items of %d",
				c.operation, c.body, err, items, size, len(s.tables["table"].rows), want)
		}
	}
	if items, size := described(t, s); items != 2 || size == 0 {
		t.Errorf("%d items of %d bytes are left, want 2 items", items, size)
	}
}

// TestDescribeTableDoesNotReadTheItems: DescribeTable takes as long for a table of many items
// as for an empty one.
func TestDescribeTableDoesNotReadTheItems(t *testing.T) {
	const items, attributes, calls = 2000, 400, 20
	s := newSized(t)
	fastest := func() time.Duration {
		best := time.Hour
		for range calls { // the fastest of several calls, because the machine has other load
			began := time.Now()
			described(t, s)
			best = min(best, time.Since(began))
		}
		return best
	}
	small := fastest()
	large := item{}
	for i := range attributes {
		large[fmt.Sprintf("a%d", i)] = value{kind: "S", text: "text"}
	}
	table := s.tables["table"]
	for i := range items {
		key := item{"id": {kind: "S", text: fmt.Sprint(i)}}
		if err := table.put(key, large); err != nil {
			t.Fatal(err)
		}
	}
	if took := fastest(); took > 10*small+time.Millisecond {
		t.Errorf("%v for %d items, %v for none", took, items, small)
	}
}
