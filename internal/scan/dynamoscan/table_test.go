package dynamoscan

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"rotator/internal/awserr"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/scan"
)

var simple = schema{{"id", types.ScalarAttributeTypeS}}

// changesOf stores n items and returns a change of each.
func (s *store) changesOf(table *Table, n int, value string) (changes []scan.Change) {
	s.t.Helper()
	for i := range n {
		item, err := table.Load(s.t.Context(), s.put(i))
		if err != nil {
			s.t.Fatal(err)
		}
		changes = append(changes, scan.Change{Item: item, New: splice(item.Payload, []byte(value))})
	}
	return changes
}

// respondWith returns a configuration in which batch responds to BatchExecuteStatement instead of
// the fake.
func (s *store) respondWith(batch http.HandlerFunc) func(*Config) {
	client := newClient(s.t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.fake.Operation(r) == "dynamodb:BatchExecuteStatement" {
			batch(w, r)
			return
		}
		s.faults.Handler(s.fake).ServeHTTP(w, r)
	}))
	return func(c *Config) { c.Client = client }
}

// statements returns the number of statements of a request.
func statements(r *http.Request) int {
	var in struct{ Statements []json.RawMessage }
	body, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(body, &in)
	return len(in.Statements)
}

func TestCheck(t *testing.T) {
	store := newStore(t, schema{
		{"id", types.ScalarAttributeTypeS},
		{"part", types.ScalarAttributeTypeS},
	})
	for _, c := range []struct {
		name   string
		change func(*Config)
		field  string // of the MissingError; "" if there is no error
		detail string
	}{
		{"usable", nil, "", ""},
		{
			"no such table",
			func(c *Config) { c.Table = "nowhere" },
			"dynamodb.table",
			"there is no table nowhere in eu-west-1",
		},
		{
			"a slot in the hash key",
			func(c *Config) { c.Writes = []string{"other", "id"} },
			"slots",
			"attribute id is part of the primary key",
		},
		{
			"a slot in the range key",
			func(c *Config) { c.Writes = []string{"part"} },
			"slots",
			"attribute part is part of the primary key",
		},
	} {
		err := store.source(c.change).Check(t.Context())
		var missing *scan.MissingError
		switch {
		case c.field == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.field != "" &&
			(!errors.As(err, &missing) || missing.Field != c.field ||
				!strings.Contains(missing.Detail, c.detail)):
			t.Errorf("%s: %v, want %s: %s", c.name, err, c.field, c.detail)
		}
	}
	store.faults.Set("dynamodb:DescribeTable", fault.Fault{Kind: fault.InternalError})
	var missing *scan.MissingError
	if err := store.source(nil).Check(t.Context()); err == nil || errors.As(err, &missing) ||
		awserr.Code(err) != "InternalServerError" {
		t.Errorf("check of a failing server: %v", err)
	}
}

// probeCase is a response to a probe.
type probeCase struct {
	name    string
	respond http.HandlerFunc
	note    string // expected note; "" if the next batch sends another probe
}

func probeCases() []probeCase {
	respond := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	typeOf := func(code string) string {
		return `{"__type":"com.amazonaws.dynamodb.v20120810#` + code + `"}`
	}
	failed := func(code string) string {
		return `{"Responses":[{"Error":{"Code":"` + code + `"}}]}`
	}
	const denied = "dynamodb:PartiQLUpdate is not allowed"
	return []probeCase{
		{
			"condition ignored",
			respond(200, `{"Responses":[{}]}`),
			"reports success for a condition",
		},
		{"request denied", respond(400, typeOf("AccessDeniedException")), denied},
		{"statement denied", respond(200, failed("AccessDenied")), denied},
		{
			"unknown operation",
			respond(400, typeOf("UnknownOperationException")),
			"UnknownOperation",
		},
		{"statement invalid", respond(200, failed("ValidationError")),
			"returns ValidationException"},
		{"not implemented", respond(501, `no`), "does not know BatchExecuteStatement"},
		{"statement throttled", respond(200, failed("ThrottlingError")), ""},
		{"server error", respond(500, `{}`), ""},
	}
}

// Batches are used only if the probe fails its condition. After any other response, items are
// updated one by one with the same conditions.
func TestProbe(t *testing.T) {
	for _, c := range probeCases() {
		t.Run(c.name, func(t *testing.T) {
			store := newStore(t, simple)
			probes := 0
			table := store.source(store.respondWith(func(w http.ResponseWriter, r *http.Request) {
				if probes++; statements(r) != 1 {
					t.Error("more than the probe was sent as a batch")
				}
				c.respond(w, r)
			}))
			for n := 1; n <= 2; n++ {
				for _, result := range table.Replace(t.Context(),
					store.changesOf(table, 3, fmt.Sprint("value ", n))) {
					if result.Err != nil {
						t.Fatal(result.Err)
					}
				}
				if want := map[bool]int{true: 1, false: n}[c.note != ""]; probes != want {
					t.Errorf("%d probes after %d batches, want %d", probes, n, want)
				}
			}
			if notes := fmt.Sprint(table.Notes()); !strings.Contains(notes, c.note) ||
				(c.note == "") != (notes == "[]") {
				t.Errorf("notes: %s, want %q", notes, c.note)
			}
			if got := len(store.fake.Items(tableName)); got != 3 {
				t.Errorf("%d items, want the 3 that were stored", got)
			}
		})
	}
}

// If a server ignores conditions and creates the item of a probe, the item is deleted.
func TestProbeLeavesNothing(t *testing.T) {
	store := newStore(t, simple)
	table := store.source(store.respondWith(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Statements []struct{ Parameters []map[string]string }
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		parameters := in.Statements[0].Parameters // new value, key, old value
		put := fmt.Sprintf(`{"TableName":%q,"Item":{"id":{"S":%q},"tenant":{"S":%q}}}`, tableName,
			parameters[1]["S"], parameters[0]["S"])
		request, _ := http.NewRequest(http.MethodPost, "/", strings.NewReader(put))
		request.Header.Set("X-Amz-Target", "DynamoDB_20120810.PutItem")
		store.fake.ServeHTTP(httptest.NewRecorder(), request)
		_, _ = w.Write([]byte(`{"Responses":[{}]}`))
	}))
	changes := store.changesOf(table, 2, "old")
	for i := range changes {
		changes[i].New.(*scan.Row).Attributes["tenant"] = textOf("new tenant")
	}
	table.Replace(t.Context(), changes)
	if got := len(store.fake.Items(tableName)); got != 2 {
		t.Errorf("%d items, want the 2 that were stored", got)
	}
}

// The error of a statement has the same code as the error of a single update.
func TestStatementErrors(t *testing.T) {
	for given, want := range map[string]string{
		"ThrottlingError":               "ThrottlingException",
		"ProvisionedThroughputExceeded": "ProvisionedThroughputExceededException",
		"RequestLimitExceeded":          "RequestLimitExceeded",
		"TransactionConflict":           "TransactionConflictException",
		"InternalServerError":           "InternalServerError",
		"ResourceNotFound":              "ResourceNotFoundException",
		"AccessDenied":                  "AccessDeniedException",
		"DuplicateItem":                 "DuplicateItemException",
	} {
		store := newStore(t, simple)
		table := store.source(store.respondWith(func(w http.ResponseWriter, r *http.Request) {
			body := `{"Responses":[{},{"Error":{"Code":"` + given + `","Message":"why"}}]}`
			if statements(r) == 1 {
				body = `{"Responses":[{"Error":{"Code":"ConditionalCheckFailed"}}]}`
			}
			_, _ = w.Write([]byte(body))
		}))
		results := table.Replace(t.Context(), store.changesOf(table, 2, "new"))
		if results[0].Err != nil || awserr.Code(results[1].Err) != want {
			t.Errorf("%s: %v and %v, want success and %s", given, results[0].Err, results[1].Err,
				want)
		}
	}
}

// If a batch returns fewer responses than statements, the outcome of all updates is unknown.
func TestMissingResponses(t *testing.T) {
	store := newStore(t, simple)
	table := store.source(store.respondWith(func(w http.ResponseWriter, r *http.Request) {
		body := `{"Responses":[{}]}`
		if statements(r) == 1 {
			body = `{"Responses":[{"Error":{"Code":"ConditionalCheckFailed"}}]}`
		}
		_, _ = w.Write([]byte(body))
	}))
	for _, result := range table.Replace(t.Context(), store.changesOf(table, 2, "new")) {
		if result.Err == nil || errors.Is(result.Err, scan.ErrChanged) {
			t.Errorf("replace: %v, want an error of unknown outcome", result.Err)
		}
	}
}

// A change that no update can make is refused before a request is sent.
func TestReplaceRefuses(t *testing.T) {
	store := newStore(t, simple)
	table := store.source(nil)
	change := store.changesOf(table, 1, "new")[0]
	old := change.Item.Payload.(*scan.Row)
	key := at(scan.Value{Map: old.Attributes}, []scan.Step{{Name: "id"}},
		func(scan.Value) scan.Value { return scan.Value{Kind: scan.KindS, Text: "other"} })
	for name, payload := range map[string]scan.Payload{
		"no change":   old,
		"an object":   &scan.Object{},
		"another key": &scan.Row{Attributes: key.Map},
		"no values":   &scan.Row{},
	} {
		var refused *scan.RefusedError
		if result := table.Replace(t.Context(),
			[]scan.Change{{Item: change.Item, New: payload}})[0]; !errors.As(result.Err, &refused) {
			t.Errorf("%s: %v, want a RefusedError", name, result.Err)
		}
	}
	if n := store.faults.Counts()["dynamodb:UpdateItem"]; n != 0 {
		t.Errorf("%d updates were sent", n)
	}
}

// Several slots of an item are replaced in one write, with a condition on each.
func TestSeveralSlots(t *testing.T) {
	store := newStore(t, simple)
	table := store.source(nil)
	neighbour := []scan.Step{{Name: top}, {Name: "size"}, {Index: 0, Element: true}}
	for _, n := range []int{1, 3} { // one update, and a batch
		for _, foreign := range [][]scan.Step{nil, neighbour, slotPath} {
			changes := store.changesOf(table, n, "new")
			both := at(scan.Value{Map: changes[0].New.(*scan.Row).Attributes}, neighbour, func(
				v scan.Value,
			) scan.Value {
				v.Bytes = []byte("new too")
				return v
			})
			changes[0].New = &scan.Row{Attributes: both.Map}
			if foreign != nil {
				names := aliases{}
				path := names.path(foreign)
				store.update(changes[0].Item.Ref, "SET "+path+" = :v", names.expression(),
					map[string]scan.Value{":v": {Kind: scan.KindB, Bytes: []byte("foreign")}})
			}
			before := store.rest(changes[0].Item.Ref)
			err := table.Replace(t.Context(), changes)[0].Err
			now, loadErr := table.Load(t.Context(), changes[0].Item.Ref)
			switch {
			case loadErr != nil:
				t.Fatal(loadErr)
			case foreign == nil &&
				(err != nil || !rowsEqual(now.Payload.(*scan.Row), changes[0].New.(*scan.Row))):
				t.Errorf("%d changes: %v, the item is now %v", n, err, now.Payload)
			case foreign != nil &&
				(!errors.Is(err, scan.ErrChanged) || store.rest(changes[0].Item.Ref) != before ||
					string(slot(now.Payload)) == "new"):
				t.Errorf("%d changes, %s foreign: %v, want ErrChanged and nothing written", n,
					printPath(foreign), err)
			}
		}
	}
}

// DynamoDB may report a missing path as a validation error instead of a failed condition.
func TestPathInvalid(t *testing.T) {
	const message = "The document path provided in the update expression is invalid for update"
	for _, n := range []int{1, 2} {
		store := newStore(t, simple)
		client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch operation := store.fake.Operation(r); {
			case operation == "dynamodb:UpdateItem":
				w.WriteHeader(http.StatusBadRequest)
				_, _ = fmt.Fprintf(w,
					`{"__type":"com.amazon.coral.validate#ValidationException","message":%q}`,
					message)
			case operation == "dynamodb:BatchExecuteStatement" && statements(r) == 2:
				_, _ = fmt.Fprintf(w,
					`{"Responses":[{"Error":{"Code":"ValidationError","Message":%q}},{}]}`, message)
			case operation == "dynamodb:BatchExecuteStatement":
				_, _ = w.Write(
					[]byte(`{"Responses":[{"Error":{"Code":"ConditionalCheckFailed"}}]}`))
			default:
				store.fake.ServeHTTP(w, r)
			}
		}))
		table := store.source(func(c *Config) { c.Client = client })
		changes := store.changesOf(table, n, "new")
		result := table.Replace(t.Context(), changes)[0]
		if !errors.Is(result.Err, scan.ErrChanged) || result.Current != nil {
			t.Errorf("%d changes: %v with %v, want ErrChanged without an item", n, result.Err,
				result.Current)
		}
	}
}

// If a condition fails without returning the item, Replace does not read it, because the
// caller limits the read rate.
func TestRefusedWithoutItem(t *testing.T) {
	for _, n := range []int{1, 3} { // one update, and a batch
		store := newStore(t, simple)
		table := store.source(nil)
		changes := store.changesOf(table, n, "new")
		store.remove(changes[0].Item.Ref)
		reads := store.faults.Counts()["dynamodb:GetItem"]
		result := table.Replace(t.Context(), changes)[0]
		if !errors.Is(result.Err, scan.ErrChanged) || result.Current != nil {
			t.Errorf("%d changes: %v with %v, want ErrChanged without an item", n, result.Err,
				result.Current)
		}
		if more := store.faults.Counts()["dynamodb:GetItem"] - reads; more != 0 {
			t.Errorf("%d changes: Replace read %d items", n, more)
		}
		if _, err := table.Load(t.Context(), changes[0].Item.Ref); !errors.Is(err, scan.ErrGone) {
			t.Errorf("%d changes: load: %v, want ErrGone", n, err)
		}
	}
}

// If one expression cannot hold all slots, whole attributes are compared and replaced.
func TestManySlots(t *testing.T) {
	store := newStore(t, simple)
	table := store.source(nil)
	const slots = 400
	list := scan.Value{Kind: scan.KindL}
	for i := range slots {
		list.List = append(list.List, scan.Value{
			Kind:  scan.KindB,
			Bytes: fmt.Appendf(nil, "old %d", i),
		})
	}
	ref := store.put(0)
	store.update(ref, "SET other = :l", nil, map[string]scan.Value{":l": list})
	item, err := table.Load(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	moved := at(scan.Value{Map: item.Payload.(*scan.Row).Attributes},
		[]scan.Step{{Name: "other"}}, func(v scan.Value) scan.Value {
			v.List = slices.Clone(v.List)
			for i := range v.List {
				v.List[i].Bytes = fmt.Appendf(nil, "new %d", i)
			}
			return v
		})
	change := scan.Change{Item: item, New: &scan.Row{Attributes: moved.Map}}
	store.faults.Set("dynamodb:UpdateItem", fault.Fault{Before: func(_ *http.Request, body []byte) {
		var in struct{ UpdateExpression, ConditionExpression string }
		if err := json.Unmarshal(body, &in); err != nil ||
			in.UpdateExpression != "SET #n0 = :n0" || in.ConditionExpression != "#n0 = :o0" {
			t.Errorf("the update is %+v, %v", in, err)
		}
	}})
	store.update(ref, "SET other[399] = :v", nil, map[string]scan.Value{
		":v": {Kind: scan.KindS, Text: "foreign"},
	})
	if err := table.Replace(t.Context(), []scan.Change{change})[0].Err; !errors.Is(err,
		scan.ErrChanged) {
		t.Errorf("replace of a list with a foreign element: %v, want ErrChanged", err)
	}
	store.update(ref, "SET other = :l", nil, map[string]scan.Value{":l": list})
	if err := table.Replace(t.Context(), []scan.Change{change})[0].Err; err != nil {
		t.Fatal(err)
	}
	if now, err := table.Load(t.Context(), ref); err != nil ||
		!rowsEqual(now.Payload.(*scan.Row), &scan.Row{Attributes: moved.Map}) {
		t.Errorf("after: %v, %v", now, err)
	}
}

// With AllAttributes an item has every attribute, whether it was listed, loaded or returned
// with ErrChanged. A slot and its sibling are replaced in one update, in a batch and alone.
// If another writer changed the sibling, neither is written.
func TestWhole(t *testing.T) {
	store := newStore(t, simple)
	table := store.source(whole)
	for _, n := range []int{1, 3} {
		changes := store.changesOf(table, n, "new")
		partitions, err := table.Partitions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range partitions {
			page, err := table.Page(t.Context(), p, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range page.Items {
				if len(item.Payload.(*scan.Row).Attributes) != 5 {
					t.Errorf("a scan returned %d of 5 attributes",
						len(item.Payload.(*scan.Row).Attributes))
				}
			}
		}
		for i, c := range changes {
			if _, ok := c.Item.Payload.(*scan.Row).Attributes["unread"]; !ok {
				t.Error("a loaded item lacks attributes")
			}
			c.New.(*scan.Row).Attributes["tenant"] = scan.Value{
				Kind: scan.KindS,
				Text: fmt.Sprint("new tenant ", i),
			}
		}
		foreign := map[string]scan.Value{":v": {Kind: scan.KindS, Text: "foreign"}}
		store.update(changes[0].Item.Ref, "SET tenant = :v", nil, foreign)
		results := table.Replace(t.Context(), changes)
		if !errors.Is(results[0].Err, scan.ErrChanged) || results[0].Current == nil {
			t.Fatalf("the sibling changed, but the write returned %v", results[0].Err)
		}
		now := results[0].Current.Payload.(*scan.Row).Attributes
		if string(slot(results[0].Current.Payload)) != "old" || now["tenant"].Text != "foreign" ||
			len(now) != 5 {
			t.Errorf("after a refused write: slot %q, tenant %q, %d attributes",
				slot(results[0].Current.Payload), now["tenant"].Text, len(now))
		}
		for i, r := range results[1:] {
			item, err := table.Load(t.Context(), changes[i+1].Item.Ref)
			if err != nil || r.Err != nil {
				t.Fatal(err, r.Err)
			}
			if tenant := item.Payload.(*scan.Row).Attributes["tenant"].Text; string(
				slot(item.Payload)) != "new" || tenant != fmt.Sprint("new tenant ", i+1) {
				t.Errorf("written: slot %q, tenant %q", slot(item.Payload), tenant)
			}
		}
	}
}

// A statement that is too long for a batch is sent alone, and other updates are sent in the
// batch.
func TestLongStatement(t *testing.T) {
	store := newStore(t, simple)
	table := store.source(nil)
	changes := store.changesOf(table, 3, "new")
	name := strings.Repeat("n", 5000)
	store.update(changes[1].Item.Ref, "SET other.#n = :v", map[string]string{"#n": name},
		map[string]scan.Value{":v": {Kind: scan.KindS, Text: "old"}})
	item, err := table.Load(t.Context(), changes[1].Item.Ref)
	if err != nil {
		t.Fatal(err)
	}
	path := []scan.Step{{Name: "other"}, {Name: name}}
	moved := at(scan.Value{Map: item.Payload.(*scan.Row).Attributes}, path, func(
		v scan.Value,
	) scan.Value {
		v.Text = "new"
		return v
	})
	changes[1] = scan.Change{Item: item, New: &scan.Row{Attributes: moved.Map}}
	for i, result := range table.Replace(t.Context(), changes) {
		if result.Err != nil {
			t.Errorf("change %d: %v", i, result.Err)
		}
	}
	counts := store.faults.Counts()
	if counts["dynamodb:UpdateItem"] != 1 || counts["dynamodb:BatchExecuteStatement"] != 3 {
		t.Errorf("requests: %v, want two probes, one batch and one single update", counts)
	}
}

// A missing document path or a shifted list is ErrChanged, in a batch and alone.
func TestPathGone(t *testing.T) {
	store := newStore(t, simple)
	table := store.source(nil)
	for _, n := range []int{1, 3} {
		for _, expression := range []string{"REMOVE #top", "REMOVE #top.#size",
			"REMOVE #top.#size[0]"} {
			changes := store.changesOf(table, n, "new")
			names := map[string]string{"#top": top, "#size": "size"}
			if expression == "REMOVE #top" {
				delete(names, "#size")
			}
			in := changes[0].Item.Ref
			store.update(in, expression, names, nil)
			before := store.fake.Items(tableName)
			results := table.Replace(t.Context(), changes)
			if !errors.Is(results[0].Err, scan.ErrChanged) || results[0].Current == nil ||
				results[0].Current.Ref != in {
				t.Errorf("%d changes, %s: %v with %v, want ErrChanged with the item", n,
					expression, results[0].Err, results[0].Current)
			}
			for name, value := range store.fake.Items(tableName) {
				if strings.Contains(name, `&0`) && !bytes.Equal(before[name], value) {
					t.Errorf("%d changes, %s: the item is now %s", n, expression, value)
				}
			}
		}
	}
}

// The next request waits until the units of a page are paid off. After the first second, the
// consumption never exceeds the limit.
func TestCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := newCapacity("read", 10)
		began := time.Now()
		for range 4 {
			if err := limit.wait(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			limit.charge(1, types.ConsumedCapacity{CapacityUnits: aws.Float64(24.5)})
		}
		if err := limit.wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		// 4 requests of 25 units and one of 1 unit; 10 units were available at the start.
		if got, want := time.Since(began),
			9100*time.Millisecond; got.Round(time.Millisecond) != want {
			t.Errorf("101 units at 10 a second took %s, want %s", got, want)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := limit.wait(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait beyond the deadline: %v, want DeadlineExceeded", err)
		}
	})
}
