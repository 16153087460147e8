package dynamoscan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sort"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"rotator/internal/awserr"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/scan"
)

// textOf returns a value of type S.
func textOf(s string) scan.Value { return scan.Value{Kind: scan.KindS, Text: s} }

// TestGuards: a write is refused if a path on which it depends has changed since it was read.
// This holds in a batch and in a single update, for every type. Changes of other paths do not
// matter.
func TestGuards(t *testing.T) {
	store := newStore(t, simple)
	table := store.source(whole)
	at := func(steps ...scan.Step) []scan.Step { return steps }
	every := attributes(0)["other"].Map
	guards := map[string]scan.Guard{
		"tenant": {Path: at(scan.Step{Name: "tenant"}), Value: textOf("tenant 0")},
		"absent": {Path: at(scan.Step{Name: "absent"}), State: scan.Absent},
		"there":  {Path: at(scan.Step{Name: "tenant"}), State: scan.Present},
		"element": {
			Path:  at(scan.Step{Name: "unread"}, scan.Step{Element: true}, scan.Step{Name: "s"}),
			Value: every["s"],
		},
	}
	for name, value := range every {
		path := at(scan.Step{Name: "other"}, scan.Step{Name: name})
		guards["member "+name] = scan.Guard{Path: path, Value: value}
	}
	for name, guard := range guards {
		for _, n := range []int{1, 2} {
			for _, edit := range []string{"", "beside", "guarded path"} {
				changes := store.changesOf(table, n, "new")
				changes[0].Guards = []scan.Guard{guard}
				ref, names := changes[0].Item.Ref, aliases{}
				path := names.path(guard.Path)
				switch {
				case edit == "beside":
					store.update(ref, "SET beside = :v", nil,
						map[string]scan.Value{":v": textOf("v")})
				case edit == "guarded path" && guard.State == scan.Present:
					store.update(ref, "REMOVE "+path, names.expression(), nil)
				case edit == "guarded path":
					store.update(ref, "SET "+path+" = :v", names.expression(),
						map[string]scan.Value{":v": textOf("another")})
				}
				before := store.rest(ref)
				result := table.Replace(t.Context(), changes)[0]
				now, err := table.Load(t.Context(), ref)
				if err != nil {
					t.Fatal(err)
				}
				written := string(slot(now.Payload)) == "new"
				if edit != "guarded path" && (result.Err != nil || !written) {
					t.Errorf("%s, %d changes, edited %q: %v, want it written", name, n,
						edit, result.Err)
				}
				if edit == "guarded path" && (!errors.Is(result.Err, scan.ErrChanged) || written ||
					result.Current == nil || store.rest(ref) != before) {
					t.Errorf("%s, %d changes: %v, want ErrChanged with the item", name,
						n, result.Err)
				}
			}
		}
	}
}

// TestGuardsAreSentOnce: the condition omits guards that the primary key or
// another term covers.
func TestGuardsAreSentOnce(t *testing.T) {
	store := newStore(t, simple)
	table := store.source(nil)
	change := store.changesOf(table, 1, "new")[0]
	key := change.Item.Payload.(*scan.Row).Attributes["id"]
	tenant := []scan.Step{{Name: "tenant"}}
	change.Guards = []scan.Guard{
		{Path: []scan.Step{{Name: "id"}}, Value: key},
		{Path: slotPath, Value: scan.Value{Kind: scan.KindB, Bytes: []byte("old")}},
		{Path: tenant, Value: textOf("tenant 0")}, {Path: tenant, Value: textOf("tenant 0")},
		{Path: tenant, State: scan.Present},
	}
	store.faults.Set("dynamodb:UpdateItem", fault.Fault{Before: func(_ *http.Request, body []byte) {
		var in struct{ ConditionExpression string }
		_ = json.Unmarshal(body, &in)
		if in.ConditionExpression != "#n0.#n1[1].#n2 = :o0 AND #n3 = :o1" {
			t.Errorf("the condition is %q", in.ConditionExpression)
		}
	}})
	if err := table.Replace(t.Context(), []scan.Change{change})[0].Err; err != nil {
		t.Error(err)
	}
}

// TestPresenceIsProbed: if the batches of a server do not support IS MISSING, changes that
// need it are sent one by one, and all others in batches.
func TestPresenceIsProbed(t *testing.T) {
	store := newStore(t, simple)
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		batch := store.fake.Operation(r) == "dynamodb:BatchExecuteStatement"
		if batch && strings.Contains(bodyOf(t, r), "MISSING") {
			_, _ = w.Write([]byte(`{"Responses":[{"Error":{"Code":"ValidationError"}}]}`))
			return
		}
		store.faults.Handler(store.fake).ServeHTTP(w, r)
	}))
	table := store.source(func(c *Config) { c.Client = client })
	changes := store.changesOf(table, 4, "new")
	absent := scan.Guard{Path: []scan.Step{{Name: "absent"}}, State: scan.Absent}
	changes[2].Guards = []scan.Guard{absent}
	changes[3].Guards = []scan.Guard{absent}
	store.update(changes[3].Item.Ref, "SET absent = :v", nil,
		map[string]scan.Value{":v": textOf("v")})
	for i, result := range table.Replace(t.Context(), changes) {
		if want := i == 3; errors.Is(result.Err, scan.ErrChanged) != want ||
			!want && result.Err != nil {
			t.Errorf("change %d: %v", i, result.Err)
		}
	}
	if n := store.faults.Counts()["dynamodb:UpdateItem"]; n != 2 {
		t.Errorf("%d items were updated alone, want 2", n)
	}
	if notes := fmt.Sprint(table.Notes()); !strings.Contains(notes, "ValidationException") {
		t.Errorf("notes %s", notes)
	}
}

// TestConditionTooLarge: guards that exceed one expression are compared as whole attributes.
// If that is too large as well, the item is refused with a reason, and other items are
// written.
func TestConditionTooLarge(t *testing.T) {
	store := newStore(t, simple)
	table := store.source(whole)
	guards := func(n int, path func(i int) []scan.Step) (list []scan.Guard) {
		for i := range n {
			list = append(list, scan.Guard{Path: path(i), Value: textOf(fmt.Sprint("value ", i))})
		}
		return list
	}
	inside := func(i int) []scan.Step {
		return []scan.Step{{Name: "context"}, {Name: fmt.Sprint("name", i)}}
	}
	top := func(i int) []scan.Step { return []scan.Step{{Name: fmt.Sprint("name", i)}} }
	members := map[string]scan.Value{}
	for i := range 400 {
		members[fmt.Sprint("name", i)] = textOf(fmt.Sprint("value ", i))
	}
	for _, n := range []int{1, 3} {
		changes := store.changesOf(table, n, "new")
		ref := changes[0].Item.Ref
		store.update(ref, "SET context = :v", nil,
			map[string]scan.Value{":v": {Kind: scan.KindM, Map: members}})
		item, err := table.Load(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		changes[0] = scan.Change{Item: item, New: splice(item.Payload, []byte("new"))}
		changes[0].Guards = guards(400, top)
		results := table.Replace(t.Context(), changes)
		var refused *scan.RefusedError
		if !errors.As(results[0].Err, &refused) || refused.Reason != "condition-too-large" {
			t.Errorf("%d changes: %v, want condition-too-large", n, results[0].Err)
		}
		for i, result := range results[1:] {
			if result.Err != nil {
				t.Errorf("neighbour %d: %v", i, result.Err)
			}
		}
		changes[0].Guards = guards(400, inside)
		names := map[string]string{"#c": "context"}
		edit := map[string]scan.Value{":v": textOf("another")}
		store.update(ref, "SET #c.name399 = :v", names, edit)
		if err := table.Replace(t.Context(), changes[:1])[0].Err; !errors.Is(err, scan.ErrChanged) {
			t.Errorf("an edited guard of a whole attribute: %v, want ErrChanged", err)
		}
		edit[":v"] = members["name399"]
		store.update(ref, "SET #c.name399 = :v", names, edit)
		if err := table.Replace(t.Context(), changes[:1])[0].Err; err != nil {
			t.Errorf("guards of a whole attribute: %v, want it written", err)
		}
	}
}

// TestDeepConditions: an expression over 4 KB is never sent.
func TestDeepConditions(t *testing.T) {
	store := newStore(t, simple)
	table := store.source(whole)
	deep := textOf("value")
	path := []scan.Step{{Name: "deep"}}
	for i := range 30 {
		deep = scan.Value{
			Kind: scan.KindM,
			Map:  map[string]scan.Value{fmt.Sprint("level", 30-i): deep},
		}
		path = append(path, scan.Step{Name: fmt.Sprint("level", i+1)})
	}
	ref := store.put(0)
	var guards []scan.Guard
	for i := range 60 {
		name := fmt.Sprint("deep", i)
		own := append([]scan.Step{{Name: name}}, path[1:]...)
		store.update(ref, "SET "+name+" = :v", nil, map[string]scan.Value{":v": deep})
		guards = append(guards, scan.Guard{Path: own, Value: textOf("value")})
	}
	item, err := table.Load(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	change := scan.Change{Item: item, New: splice(item.Payload, []byte("new")), Guards: guards}
	if err := table.Replace(t.Context(), []scan.Change{change})[0].Err; err != nil {
		t.Errorf("replace: %v, want it written under a condition on whole attributes", err)
	}
}

// TestItemTooLarge: an item that a longer value would make larger than the limit of DynamoDB
// is refused with its own reason. Other items of the batch are written.
func TestItemTooLarge(t *testing.T) {
	for _, n := range []int{1, 2} {
		store := newStore(t, simple)
		table := store.source(whole)
		changes := store.changesOf(table, n, "old, and longer")
		ref := changes[0].Item.Ref
		store.fill(ref)
		before := store.rest(ref)
		results := table.Replace(t.Context(), changes)
		var refused *scan.RefusedError
		if !errors.As(results[0].Err, &refused) || refused.Reason != "item-too-large" ||
			!strings.Contains(refused.Detail, "400 KB") || store.rest(ref) != before {
			t.Errorf("%d changes: %v, want item-too-large", n, results[0].Err)
		}
		for _, result := range results[1:] {
			if result.Err != nil {
				t.Errorf("the neighbour: %v", result.Err)
			}
		}
	}
}

// TestItemRefused: an update that DynamoDB refuses because of the item gets the reason for
// that cause, in a batch and in a single update. An update that is refused for another cause
// has the code of the error.
func TestItemRefused(t *testing.T) {
	for _, c := range []struct{ statement, alone, message, reason, code string }{
		{"ValidationError", "ValidationException",
			"Item size to update has exceeded the maximum allowed size", "item-too-large", ""},
		{"ValidationError", "ValidationException",
			"Item size has exceeded the maximum allowed size", "item-too-large", ""},
		{"ItemCollectionSizeLimitExceeded", "ItemCollectionSizeLimitExceededException",
			"Collection size exceeded.", "item-collection-too-large", ""},
		{"ValidationError", "ValidationException",
			"The size limit is exceeded", "", "ValidationException"},
		{"ResourceNotFound", "ResourceNotFoundException",
			"Requested resource not found", "", "ResourceNotFoundException"},
		{"ProvisionedThroughputExceeded", "ProvisionedThroughputExceededException",
			"The level of configured provisioned throughput for the table was exceeded", "",
			"ProvisionedThroughputExceededException"},
	} {
		for _, n := range []int{1, 2} {
			store := newStore(t, simple)
			client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch operation := store.fake.Operation(r); {
				case operation == "dynamodb:UpdateItem":
					w.WriteHeader(http.StatusBadRequest)
					_, _ = fmt.Fprintf(w,
						`{"__type":"com.amazonaws.dynamodb.v20120810#%s","message":%q}`,
						c.alone, c.message)
				case operation == "dynamodb:BatchExecuteStatement" && statements(r) == 2:
					_, _ = fmt.Fprintf(w, `{"Responses":[{"Error":{"Code":%q,"Message":%q}},{}]}`,
						c.statement, c.message)
				case operation == "dynamodb:BatchExecuteStatement":
					_, _ = w.Write(
						[]byte(`{"Responses":[{"Error":{"Code":"ConditionalCheckFailed"}}]}`))
				default:
					store.fake.ServeHTTP(w, r)
				}
			}))
			table := store.source(func(c *Config) { c.Client = client })
			results := table.Replace(t.Context(), store.changesOf(table, n, "new"))
			var refused *scan.RefusedError
			reason := ""
			if errors.As(results[0].Err, &refused) {
				reason = refused.Reason
			}
			if reason != c.reason || awserr.Code(results[0].Err) != c.code ||
				n == 2 && results[1].Err != nil {
				t.Errorf("%s, %d changes: %v, want reason %q, code %q, and the neighbour written",
					c.message,
					n, results, c.reason, c.code)
			}
		}
	}
}

// fill gives an item the maximum size of DynamoDB.
func (s *store) fill(ref scan.Ref) {
	pad := func(bytes int) bool {
		_, err := s.direct.UpdateItem(s.t.Context(), &dynamodb.UpdateItemInput{
			TableName:        aws.String(tableName),
			Key:              s.keyOf(ref),
			UpdateExpression: aws.String("SET padding = :v"),
			ExpressionAttributeValues: map[string]types.AttributeValue{
				":v": toSDK(textOf(strings.Repeat("x", bytes))),
			},
		})
		return err == nil
	}
	most := sort.Search(400<<10, func(bytes int) bool { return !pad(bytes) })
	if !pad(most - 1) {
		s.t.Fatal("the item cannot be filled")
	}
}

// bodyOf returns the body of a request, which can be read again afterwards.
func bodyOf(t *testing.T, r *http.Request) string {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return string(body)
}
