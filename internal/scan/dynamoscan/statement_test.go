package dynamoscan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"pgregory.net/rapid"

	"rotator/internal/awserr"
	"rotator/internal/scan"
)

// putRow stores an item whose attributes, all of type S, hold their own names.
func (s *store) putRow(n int, names ...string) scan.Ref {
	item := s.key(n)
	for _, name := range names {
		item[name] = toSDK(textOf(name))
	}
	in := &dynamodb.PutItemInput{TableName: aws.String(tableName), Item: item}
	if _, err := s.direct.PutItem(s.t.Context(), in); err != nil {
		s.t.Fatal(err)
	}
	ref, err := printKey(s.key(n))
	if err != nil {
		s.t.Fatal(err)
	}
	return scan.Ref(ref)
}

// rowChange stores an item and returns a change that appends a character to the named
// attributes.
func (s *store) rowChange(table *Table, n int, names ...string) scan.Change {
	s.t.Helper()
	item, err := table.Load(s.t.Context(), s.putRow(n, append(names, "beside")...))
	if err != nil {
		s.t.Fatal(err)
	}
	row := &scan.Row{Attributes: map[string]scan.Value{}}
	for name, value := range item.Payload.(*scan.Row).Attributes {
		if slices.Contains(names, name) {
			value.Text += "!"
		}
		row.Attributes[name] = value
	}
	return scan.Change{Item: item, New: row}
}

// written reports whether the item has the values of the change.
func (s *store) written(table *Table, change scan.Change) bool {
	item, err := table.Load(s.t.Context(), change.Item.Ref)
	return err == nil && rowsEqual(item.Payload.(*scan.Row), change.New.(*scan.Row))
}

// dialect is a DynamoDB whose responses to statements come from respond, in the order of requests.
// If respond returns "", the fake responds.
type dialect struct {
	respond func(statement string) string

	mu      sync.Mutex
	sent    []string // texts of statements, in order
	batches []int    // statements of each request
	bodies  string
}

func (d *dialect) client(t *testing.T, s *store) func(*Config) {
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.fake.Operation(r) != "dynamodb:BatchExecuteStatement" {
			s.faults.Handler(s.fake).ServeHTTP(w, r)
			return
		}
		body := bodyOf(t, r)
		var in struct{ Statements []struct{ Statement string } }
		if err := json.Unmarshal([]byte(body), &in); err != nil {
			t.Error(err)
		}
		d.mu.Lock()
		d.batches, d.bodies = append(d.batches, len(in.Statements)), d.bodies+body
		var responses []string
		for _, one := range in.Statements {
			d.sent = append(d.sent, one.Statement)
			if text := d.respond(one.Statement); text != "" {
				responses = append(responses, text)
			}
		}
		d.mu.Unlock()
		if len(responses) == 0 {
			s.fake.ServeHTTP(w, r)
			return
		}
		_, _ = fmt.Fprintf(w, `{"Responses":[%s]}`, strings.Join(responses, ","))
	}))
	return func(c *Config) { c.Client, c.AllAttributes, c.Attributes = client, true, nil }
}

// TestSeveralFields: updates of several fields are sent in batches to servers that accept
// either of the documented forms. If a server accepts neither, they are sent one by one, and
// updates of one field are still sent in batches.
func TestSeveralFields(t *testing.T) {
	const invalid = `{"Error":{"Code":"ValidationError","Message":"UPDATE requires a WHERE ` +
		`clause"}}`
	listed := func(s string) bool { return strings.Contains(s, "?, ") }
	repeated := func(s string) bool { return strings.Count(s, "SET") > 1 }
	either := func(s string) bool { return listed(s) || repeated(s) }
	for _, c := range []struct {
		name   string
		refuse func(string) bool
		probes int
		alone  int
		note   string
	}{
		{"DynamoDB", func(string) bool { return false }, 3, 0, ""},
		{"one SET clause", repeated, 3, 0, ""},
		{"one field in each SET clause", listed, 4, 0, ""},
		{"one field", either, 4, 3, "(this server returns ValidationException)"},
	} {
		store := newStore(t, simple)
		refuse := func(s string) string { return map[bool]string{true: invalid}[c.refuse(s)] }
		d := &dialect{respond: refuse}
		table := store.source(d.client(t, store))
		for range 2 {
			var changes []scan.Change
			for n := range 3 {
				changes = append(changes, store.rowChange(table, n, "secret", "token"))
			}
			for n := range 3 {
				changes = append(changes, store.rowChange(table, 3+n, "secret"))
			}
			before := store.faults.Counts()["dynamodb:UpdateItem"]
			for i, result := range table.Replace(t.Context(), changes) {
				if result.Err != nil || !store.written(table, changes[i]) {
					t.Errorf("%s, change %d: %v, want it written", c.name, i, result.Err)
				}
			}
			if alone := store.faults.Counts()["dynamodb:UpdateItem"] - before; alone != c.alone {
				t.Errorf("%s: %d updates were sent alone, want %d", c.name, alone, c.alone)
			}
		}
		probes := 0
		for _, n := range d.batches {
			if n == 1 {
				probes++
			}
		}
		probed := d.bodies[:strings.LastIndex(d.bodies, probeName)]
		if probes != c.probes || strings.Contains(probed, "secret!") {
			t.Errorf("%s: %d probes, want %d, without new values of the application", c.name,
				probes, c.probes)
		}
		if last := d.sent[probes-1]; !slices.Contains(d.sent[probes:], last) {
			t.Errorf("%s: the statement of the probe was not sent later: %s", c.name, last)
		}
		notes := fmt.Sprint(table.Notes())
		if !strings.Contains(notes, c.note) || c.note == "" && notes != "[]" {
			t.Errorf("%s: notes %s, want %q", c.name, notes, c.note)
		}
	}
}

// TestProbeOfPaths: a server may refuse the path of a probe, because no item has it, before
// it checks the condition. In this case a second probe shows whether it checks conditions.
func TestProbeOfPaths(t *testing.T) {
	const noPath = `{"Error":{"Code":"ValidationError","Message":"The document path provided ` +
		`in the update expression is invalid for update"}}`
	for _, enforced := range []bool{true, false} {
		store := newStore(t, simple)
		sent := 0
		d := &dialect{respond: func(string) string {
			switch sent++; {
			case sent == 1:
				return noPath
			case sent == 2 && !enforced:
				return "{}"
			}
			return ""
		}}
		table := store.source(d.client(t, store))
		for i, result := range table.Replace(t.Context(), store.changesOf(table, 3, "new")) {
			if result.Err != nil {
				t.Errorf("enforced %t, change %d: %v", enforced, i, result.Err)
			}
		}
		want := map[bool][]int{true: {1, 1, 1, 3}, false: {1, 1}}[enforced]
		if !slices.Equal(d.batches, want) || len(table.Notes()) > 0 == enforced {
			t.Errorf("enforced %t: batches of %d, want %d; notes %q", enforced, d.batches, want,
				table.Notes())
		}
	}
}

// TestMisreadStatements: if a server misreads a statement, the condition fails although the
// item has not changed since it was read. The update is sent again as UpdateItem, and later
// updates of the same form are sent only as UpdateItem.
func TestMisreadStatements(t *testing.T) {
	item := `,"Item":{"id":{"S":"x"},"a.b":{"S":"a.b"},"beside":{"S":"beside"}}`
	for _, returned := range []string{"", item} {
		store := newStore(t, simple)
		d := &dialect{respond: func(s string) string {
			if !strings.Contains(s, `"a.b"`) {
				return ""
			}
			return `{"Error":{"Code":"ConditionalCheckFailed"` + returned + `}}`
		}}
		table := store.source(d.client(t, store))
		var sent int
		for n := range 2 {
			changes := []scan.Change{
				store.rowChange(table, 2*n, "a.b"), store.rowChange(table, 2*n+1, "a.b"),
			}
			for i, result := range table.Replace(t.Context(), changes) {
				if result.Err != nil || !store.written(table, changes[i]) {
					t.Errorf("batch %d, change %d: %v, want it written", n, i, result.Err)
				}
			}
			if n == 0 {
				sent = len(d.sent)
			}
		}
		if len(d.sent) != sent {
			t.Errorf("statements that the server misreads were sent again: %q", d.sent[sent:])
		}
		if notes := fmt.Sprint(table.Notes()); !strings.Contains(notes,
			"names with special characters") {
			t.Errorf("notes %s", notes)
		}
		plain := []scan.Change{
			store.rowChange(table, 8, "secret"), store.rowChange(table, 9, "secret"),
		}
		foreign := map[string]scan.Value{":v": textOf("foreign")}
		store.update(plain[0].Item.Ref, "SET secret = :v", nil, foreign)
		results := table.Replace(t.Context(), plain)
		if !errors.Is(results[0].Err, scan.ErrChanged) || results[0].Current == nil ||
			results[1].Err != nil {
			t.Errorf("plain names: %v and %v, want ErrChanged with the item, and success",
				results[0].Err, results[1].Err)
		}
		if n := store.faults.Counts()["dynamodb:UpdateItem"]; n != 4 {
			t.Errorf("%d updates were sent alone, want the 4 with the odd name", n)
		}
	}
}

// TestRefusedStatement: a statement that the server refuses as invalid is sent as
// UpdateItem. If another statement of its form has succeeded, the form stays in use.
func TestRefusedStatement(t *testing.T) {
	for _, c := range []struct {
		name  string
		whole bool // the request is refused, not one of its statements
	}{{"one statement", false}, {"the whole batch", true}} {
		store := newStore(t, simple)
		requests := 0
		table := store.source(store.respondWith(func(w http.ResponseWriter, r *http.Request) {
			if requests++; requests == 4 && c.whole {
				w.WriteHeader(http.StatusBadRequest)
				_, _ = w.Write([]byte(`{"__type":"com.amazon.coral.validate#ValidationException"}`))
				return
			}
			if requests == 4 {
				invalid := `{"Error":{"Code":"ValidationError"}}`
				_, _ = fmt.Fprintf(w, `{"Responses":[%s,%[1]s]}`, invalid)
				return
			}
			store.faults.Handler(store.fake).ServeHTTP(w, r)
		}))
		for n := range 3 {
			changes := store.changesOf(table, 2, fmt.Sprint("value ", n))
			for i, result := range table.Replace(t.Context(), changes) {
				if result.Err != nil {
					t.Errorf("%s, batch %d, change %d: %v", c.name, n, i, result.Err)
				}
			}
		}
		alone := store.faults.Counts()["dynamodb:UpdateItem"]
		if requests != 5 || alone != 2 || len(table.Notes()) > 0 {
			t.Errorf("%s: %d batches and %d updates alone, want 5 and 2; notes %q", c.name,
				requests, alone, table.Notes())
		}
	}
}

// TestIgnoredConditions: a server that checks whether the item exists but ignores one kind of
// condition receives no batches, and no update of the application is overwritten.
func TestIgnoredConditions(t *testing.T) {
	for _, c := range []struct {
		name    string
		ignores string // matches the ignored conditions after the part that is kept
		guard   scan.State
	}{
		{"all", `^(.* WHERE \S+ = \?) AND .*`, scan.Equal},
		{"all but the first", `^(.* WHERE \S+ = \? AND \S+ = \?) AND .*`, scan.Equal},
		{"IS MISSING", `() AND \S+ IS MISSING`, scan.Absent},
		{"IS NOT MISSING", `() AND \S+ IS NOT MISSING`, scan.Present},
	} {
		store := newStore(t, simple)
		table := store.source(store.ignoring(regexp.MustCompile(c.ignores)))
		var changes []scan.Change
		for n := range 3 {
			change := store.rowChange(table, n, "secret")
			guard := scan.Guard{
				Path:  []scan.Step{{Name: "beside"}},
				State: c.guard,
				Value: textOf("beside"),
			}
			if c.guard == scan.Absent {
				guard.Path[0].Name = "none"
			}
			change.Guards = []scan.Guard{guard}
			changes = append(changes, change)
		}
		store.update(changes[0].Item.Ref, map[scan.State]string{
			scan.Equal:   "SET beside = :v",
			scan.Absent:  "SET #n = :v",
			scan.Present: "REMOVE beside",
		}[c.guard], map[scan.State]map[string]string{scan.Absent: {"#n": "none"}}[c.guard],
			map[scan.State]map[string]scan.Value{
				scan.Equal:  {":v": textOf("foreign")},
				scan.Absent: {":v": textOf("foreign")},
			}[c.guard])
		results := table.Replace(t.Context(), changes)
		if !errors.Is(results[0].Err, scan.ErrChanged) || results[1].Err != nil ||
			results[2].Err != nil {
			t.Errorf("%s: %v, %v and %v, want ErrChanged and success", c.name, results[0].Err,
				results[1].Err, results[2].Err)
		}
		if notes := fmt.Sprint(table.Notes()); !strings.Contains(notes,
			"reports success for a condition") {
			t.Errorf("%s: notes %s", c.name, notes)
		}
	}
}

// TestIgnoredComparison: a server that ignores one of several comparisons receives no
// batches. This is also the case if it has accepted statements with fewer comparisons before.
func TestIgnoredComparison(t *testing.T) {
	store := newStore(t, simple)
	table := store.source(store.ignoring(regexp.MustCompile(
		`( WHERE \S+ = \? AND \S+ = \?) AND \S+ = \?( AND .*)`)))
	guarded := func(n int, paths ...string) scan.Change {
		change := store.rowChange(table, n, "secret", "tenant")
		read, changed := change.Item.Payload.(*scan.Row), change.New.(*scan.Row)
		changed.Attributes["tenant"] = read.Attributes["tenant"] // compared but not changed
		for _, path := range paths {
			change.Guards = append(change.Guards, scan.Guard{
				Path:  []scan.Step{{Name: path}},
				State: scan.Equal,
				Value: read.Attributes[path],
			})
		}
		return change
	}
	for n, paths := range [][]string{{"beside"}, {"beside", "tenant"}} {
		changes := []scan.Change{guarded(2*n, paths...), guarded(2*n+1, paths...)}
		for i, result := range table.Replace(t.Context(), changes) {
			if result.Err != nil {
				t.Errorf("%d comparisons, item %d: %v", len(paths)+1, i, result.Err)
			}
		}
		noted := strings.Contains(fmt.Sprint(table.Notes()), "reports success for a condition")
		if noted != (n == 1) {
			t.Errorf("%d comparisons: notes %q", len(paths)+1, table.Notes())
		}
	}
}

// ignoring is a client of a server that removes what a pattern matches, except its first
// group, from each statement.
func (s *store) ignoring(pattern *regexp.Regexp) func(*Config) {
	client := newClient(s.t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.fake.Operation(r) == "dynamodb:BatchExecuteStatement" {
			var in struct {
				Statements []struct {
					Statement  string
					Parameters []json.RawMessage
				}
			}
			if err := json.Unmarshal([]byte(bodyOf(s.t, r)), &in); err != nil {
				s.t.Error(err)
			}
			for i := range in.Statements {
				one := &in.Statements[i]
				one.Statement = pattern.ReplaceAllString(one.Statement, "$1")
				one.Parameters = one.Parameters[:strings.Count(one.Statement, "?")]
			}
			body, err := json.Marshal(in)
			if err != nil {
				s.t.Error(err)
			}
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		}
		s.fake.ServeHTTP(w, r)
	}))
	return func(c *Config) { c.Client, c.AllAttributes, c.Attributes = client, true, nil }
}

// TestInvalidUpdate: an update that DynamoDB refuses in a batch and as UpdateItem fails with
// the code of its error. Other updates are sent as before.
func TestInvalidUpdate(t *testing.T) {
	store := newStore(t, simple)
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch operation := store.fake.Operation(r); {
		case operation == "dynamodb:UpdateItem":
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"__type":"com.amazon.coral.validate#ValidationException"}`))
		case operation == "dynamodb:BatchExecuteStatement" && statements(r) > 1:
			_, _ = w.Write(
				[]byte(`{"Responses":[{"Error":{"Code":"ValidationError","Message":"no"}},{}]}`))
		case operation == "dynamodb:BatchExecuteStatement":
			_, _ = w.Write([]byte(`{"Responses":[{"Error":{"Code":"ConditionalCheckFailed"}}]}`))
		default:
			store.fake.ServeHTTP(w, r)
		}
	}))
	table := store.source(func(c *Config) { c.Client = client })
	results := table.Replace(t.Context(), store.changesOf(table, 2, "new"))
	notes := table.Notes()
	if awserr.Code(results[0].Err) != "ValidationException" || results[1].Err != nil ||
		len(notes) > 0 {
		t.Errorf("%v and %v, want ValidationException and success; notes %q", results[0].Err,
			results[1].Err, notes)
	}
}

// TestUnbatched: without batches, only single updates are sent.
func TestUnbatched(t *testing.T) {
	store := newStore(t, simple)
	table := store.source(func(c *Config) { c.Unbatched = true })
	for _, result := range table.Replace(t.Context(), store.changesOf(table, 3, "new")) {
		if result.Err != nil {
			t.Error(result.Err)
		}
	}
	counts := store.faults.Counts()
	if counts["dynamodb:BatchExecuteStatement"] != 0 || counts["dynamodb:UpdateItem"] != 3 {
		t.Errorf("requests %v, want 3 single updates", counts)
	}
}

// TestShapes: updates share a shape only if their statements have the same text.
func TestShapes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := New(Config{Table: tableName})
		for range 30 {
			u := update{}
			u.key.add("id", toSDK(textOf("x")))
			if rapid.Bool().Draw(t, "two keys") {
				u.key.add(rapid.SampledFrom([]string{"a.key", "sort"}).Draw(t, "second"),
					toSDK(textOf("y")))
			}
			for range rapid.IntRange(1, 2).Draw(t, "edits") {
				u.edits = append(u.edits, edit{path: anyPath(t)})
			}
			var guards []scan.Guard
			for range rapid.IntRange(0, 2).Draw(t, "guards") {
				state := rapid.SampledFrom([]scan.State{scan.Equal, scan.Present,
					scan.Absent}).Draw(t, "state")
				guards = append(guards, scan.Guard{Path: anyPath(t), State: state})
			}
			u.checks = checksOf(&u.key, u.edits, guards)
			own := newShape(tableName, &u)
			s := table.shapeOf(&u)
			if s.listed != own.listed || s.repeated != own.repeated || s.form != own.form {
				t.Fatalf("the shape\n%s\nis used for\n%s", s.listed, own.listed)
			}
			n := len(s.statement(&u, supportedListed).Parameters)
			if n != strings.Count(own.listed, "?") || n != s.parameters {
				t.Fatalf("%d parameters of %s", n, own.listed)
			}
		}
	})
}

// anyPath draws a path of few different names.
func anyPath(t *rapid.T) []scan.Step {
	path := []scan.Step{{Name: rapid.SampledFrom([]string{"a", "b.c"}).Draw(t, "name")}}
	switch rapid.IntRange(0, 2).Draw(t, "inside") {
	case 1:
		path = append(path, scan.Step{Name: "m"})
	case 2:
		path = append(path, scan.Step{Element: true, Index: rapid.IntRange(0, 1).Draw(t, "index")})
	}
	return path
}
