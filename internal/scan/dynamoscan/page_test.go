package dynamoscan

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/schemas"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/aws/smithy-go/transport/http/protocol/awsjson"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"rotator/internal/scan"
)

// pageKeys is the primary key of the tables in these tests.
var pageKeys = keyTypes{
	"customer": types.ScalarAttributeTypeS,
	"document": types.ScalarAttributeTypeN,
}

// pageTable returns a table that reads attributes a and b and the key, or all attributes.
func pageTable(whole bool) *Table {
	return New(Config{Table: tableName, Attributes: []string{"a", "b"}, AllAttributes: whole})
}

// decoded is the parsed form of a response to Scan.
type decoded struct {
	page scan.Page
	rest *dynamodb.ScanOutput // everything except the items
	read bool                 // whether the reader parsed the items
	err  error
}

// decode parses a response with the reader, or with the SDK alone.
func decode(t *Table, own bool, status int, header http.Header, body []byte) (d decoded) {
	defer func() {
		if broken := recover(); broken != nil && !own { // because the response is not JSON
			d.err = fmt.Errorf("the SDK panics: %v", broken)
		} else if broken != nil {
			panic(broken)
		}
	}()
	response := &smithyhttp.Response{
		Response: &http.Response{
			StatusCode: status,
			Header:     header,
			Body:       io.NopCloser(bytes.NewReader(body)),
		},
	}
	r := &reader{ClientProtocol: awsjson.New10(schemas.DynamoDB_20120810), table: t, keys: pageKeys}
	protocol := r.ClientProtocol
	if own {
		protocol = r
	}
	d.rest = &dynamodb.ScanOutput{}
	operation := smithy.NewOperationSchema(schemas.Scan, schemas.ScanInput, schemas.ScanOutput)
	if d.err = protocol.DeserializeResponse(context.Background(), operation, dynamodb.TypeRegistry,
		response, d.rest); d.err == nil {
		d.page, d.err = t.page(pageKeys, d.rest, r)
	}
	d.read, d.rest.Items = r.read, nil
	return d
}

// different compares the result of the reader for a response with the result of the SDK.
func different(t *Table, body []byte) (diff string, read bool) {
	_ = decode(t, true, http.StatusOK, nil, []byte("{}")) // the previous page
	sdk, own := decode(t, false, http.StatusOK, nil, body), decode(t, true, http.StatusOK, nil,
		body)
	if own.err != nil && !json.Valid(body) {
		return "", own.read // the SDK may accept it
	}
	if (sdk.err == nil) != (own.err == nil) {
		return fmt.Sprintf("the SDK: %v, the reader: %v", sdk.err, own.err), own.read
	}
	if sdk.err != nil {
		return "", own.read
	}
	whole := cmp.Options{cmp.Exporter(func(reflect.Type) bool {
		return true
	}), cmpopts.EquateNaNs()}
	diff = cmp.Diff(sdk.rest.ConsumedCapacity, own.rest.ConsumedCapacity, whole)
	sdk.rest.ConsumedCapacity, own.rest.ConsumedCapacity = nil, nil
	if !reflect.DeepEqual(sdk.rest, own.rest) || !reflect.DeepEqual(sdk.page, own.page) {
		texts := make([][]byte, 2) // because cmp takes exponential time for deep lists
		for i, d := range []decoded{sdk, own} {
			texts[i], _ = json.Marshal([]any{d.page, d.rest})
		}
		diff += fmt.Sprintf("- %s\n+ %s", texts[0], texts[1])
	}
	return diff, own.read
}

// FuzzPage: for every response, the reader returns the same as the SDK. The reader may return
// an error for a response that is not JSON.
func FuzzPage(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte, whole bool) {
		if len(body) == 0 {
			return // covered by TestResponses
		}
		if diff, _ := different(pageTable(whole), body); diff != "" {
			t.Errorf("%q as parsed by the SDK (-) and by the reader (+):\n%s", body, diff)
		}
	})
}

// responses generates responses to Scan, some of them in unusual formats.
type responses struct {
	*rapid.T
	odd    int // one in odd elements is unusual; 0 means none
	chance *rand.Rand
}

func newResponses(t *rapid.T, odd int) responses {
	// rapid prefers small numbers
	return responses{t, odd, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))}
}

func (a responses) isOdd() bool { return a.odd > 0 && a.chance.IntN(a.odd) == 0 }

func (a responses) one(of ...string) string { return rapid.SampledFrom(of).Draw(a.T, "one of") }

func (a responses) count(most int) int { return rapid.IntRange(0, most).Draw(a.T, "count") }

// space returns white space that may separate two tokens.
func (a responses) space() string {
	if a.isOdd() {
		return a.one(" ", "\n\t", "\r", ",", "\x00", "\u00a0", "]", "}")
	}
	return ""
}

// quoted returns a JSON string.
func (a responses) quoted(text string) string {
	if a.isOdd() {
		return a.one(`null`, `7`, `"\u00e"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00x\n"`,
			"\"\xff\"", "\"\\n\xff\"", `"\'"`, "\"a\nb\"", `"`, `"\`, `"a`, `"\/\b"`)
	}
	if strings.ContainsRune(text, 'e') && a.count(1) == 1 {
		return strings.ReplaceAll(`"`+text+`"`, "e", `\u0065`)
	}
	return `"` + text + `"`
}

func (a responses) text() string {
	return a.quoted(a.one("", "a", "é\u2028", "tenant", "eu-west-1", "日本", "😀",
		strings.Repeat("long ", 900), "3.14159265358979323846264338327950288419716939937510e-125"))
}

func (a responses) binary() string {
	if a.isOdd() {
		return a.quoted(a.one("A", "AA", "AA=", "AAA=A===", "AB==", `AA\u003d=`, `AAAA\n`,
			`AA\nAA\r\nAA`, "A-_A", "=", "====", "AAA\n="))
	}
	return `"` + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, a.count(5))) + `"`
}

// list returns elements between brackets.
func (a responses) list(open, end string, n int, element func(i int) string) string {
	var b strings.Builder
	b.WriteString(a.space() + open)
	for i := range n {
		if i > 0 {
			b.WriteString(a.space() + ",")
		}
		b.WriteString(a.space() + element(i))
	}
	return b.String() + a.space() + end + a.space()
}

func (a responses) object(names []string, value func(name string) string) string {
	return a.list("{", "}", len(names), func(i int) string {
		return a.quoted(names[i]) + a.space() + ":" + a.space() + value(names[i])
	})
}

// value returns an attribute value of any type.
func (a responses) value(depth int) string {
	kind := a.one("S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS", "M", "L")
	if a.isOdd() {
		kind = a.one("", "s", "Z", "S", "BOOL")
	}
	members := []string{kind}
	if a.isOdd() {
		members = append(members, a.one("S", "Z", "N"))
	}
	if a.isOdd() {
		return a.one("null", "{}", "[]", `"a"`, `{"S":null}`, `{"Z":1}`)
	}
	return a.object(members, func(name string) string { return a.content(name, depth) })
}

func (a responses) content(kind string, depth int) string {
	count := 0
	if depth < 4 {
		count = a.count(3)
	}
	switch kind {
	case "S", "N":
		return a.text()
	case "B":
		return a.binary()
	case "BOOL":
		return a.one("true", "false")
	case "SS", "NS":
		return a.list("[", "]", a.count(3), func(int) string { return a.text() })
	case "BS":
		return a.list("[", "]", a.count(3), func(int) string { return a.binary() })
	case "M":
		return a.object([]string{"a", "deep", "a"}[:count], func(string) string {
			return a.value(depth + 1)
		})
	case "L":
		return a.list("[", "]", count, func(int) string { return a.value(depth + 1) })
	}
	if a.isOdd() {
		return a.one("false", "null", "truer", "tru", "0", `"true"`)
	}
	return "true"
}

func (a responses) key(name string) string {
	if a.isOdd() {
		return a.value(0)
	}
	kind := map[string]string{"customer": a.one("S", "B"), "document": "N"}[name]
	return `{"` + kind + `":` + map[string]string{
		"S": a.quoted(a.one("é<&>", "plain")),
		"B": `"AAE="`,
		"N": `"-1.5"`,
	}[kind] + "}"
}

// item returns an item with its key, unless it is unusual, and some attributes in any order.
func (a responses) item() string {
	names := []string{"customer", "document"}
	for range a.count(3) {
		names = append(names, a.one("a", "b", "unread", "a name"))
	}
	if a.isOdd() {
		names = names[1:]
	}
	names = rapid.Permutation(names).Draw(a.T, "order")
	return a.object(names, func(name string) string {
		if pageKeys[name] != "" {
			return a.key(name)
		}
		return a.value(0)
	})
}

func (a responses) response() string {
	names := []string{"Items", "Count", "ScannedCount", "ConsumedCapacity", "LastEvaluatedKey"}
	if a.isOdd() {
		names = append(names, a.one("Items", "items", `\u0049tems`, "other"))
	}
	names = rapid.Permutation(names).Draw(a.T, "order")
	return a.object(names, func(name string) string {
		switch name {
		case "ConsumedCapacity":
			return a.one(`{"CapacityUnits":128.5,"TableName":"t"}`,
				`{"Table":{"CapacityUnits":1e2},"Items":["\"}]"]}`, `null`)
		case "LastEvaluatedKey":
			return a.object([]string{"customer", "document"}, a.key)
		case "Count", "ScannedCount":
			return "3"
		}
		if a.isOdd() {
			return a.one("null", "7", `[null]`, `{}`, `[[]]`)
		}
		return a.list("[", "]", a.count(4), func(int) string { return a.item() })
	})
}

// Pages with values of every type are parsed as by the SDK. The reader parses the format of
// DynamoDB. Unusual and truncated responses are parsed by either.
func TestPagesAsTheSDK(t *testing.T) {
	var taken, left int
	rapid.Check(t, func(t *rapid.T) {
		a := newResponses(t, rapid.SampledFrom([]int{0, 30, 100, 1000}).Draw(t, "odd"))
		body := []byte(a.response())
		if a.odd > 0 && a.count(9) == 0 {
			body = body[:a.count(len(body)-1)+1]
		}
		diff, read := different(pageTable(a.count(1) == 0), body)
		if diff != "" {
			t.Fatalf("%q as parsed by the SDK (-) and by the reader (+):\n%s", body, diff)
		}
		if a.odd == 0 && !read {
			t.Fatalf("the reader did not parse %q", body)
		}
		if a.odd > 0 && read {
			taken++
		} else if a.odd > 0 {
			left++
		}
	})
	if taken == 0 || left == 0 {
		t.Errorf("of the unusual responses, the reader parsed %d and left %d to the SDK; want "+
			"some of each", taken, left)
	}
}

// The returned rows do not refer to the buffer, which the next page overwrites.
func TestPagesAreCopied(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := []byte(newResponses(t, 0).response())
		table := pageTable(true)
		want := decode(table, false, http.StatusOK, nil, body)
		d := decoder{text: body, fields: table.fieldsOf(pageKeys)}
		_, items, ok := d.response()
		for i := range body {
			body[i] = '#'
		}
		if diff := cmp.Diff(want.page.Items, items); !ok || diff != "" {
			t.Fatalf("parsed %v, and the rows change with the buffer:\n%s", ok, diff)
		}
	})
}

// Documents of any depth are parsed, by the reader up to the depth that DynamoDB supports.
func TestDeepPages(t *testing.T) {
	for depth, want := range map[int]bool{1: true, 40: true, 70: false, 20_000: false} {
		body := `{"Items":[{"customer":{"S":"c"},"document":{"N":"1"},"a":` +
			strings.Repeat(`{"L":[`, depth) + strings.Repeat(`]}`, depth) + `}]}`
		if diff, read := different(pageTable(false), []byte(body)); diff != "" || read != want {
			t.Errorf("%d levels: read %v, want %v\n%s", depth, read, want, diff)
		}
	}
}

// A response that is not JSON is an error, wherever it is invalid.
func TestBrokenPages(t *testing.T) {
	for _, body := range []string{`{"Count":[},"Items":[]}`, `{"Items":[],"Count":[}}`,
		`{"Items":[]`, `{"Items":[{"a":null}]} trailing`} {
		if got := decode(pageTable(false), true, http.StatusOK, nil,
			[]byte(body)); got.err == nil || got.read {
			t.Errorf("%s: read %v, %v", body, got.read, got.err)
		}
	}
}

// A response that is truncated or altered during transfer is an error that is retried. Errors
// of the server are those of the SDK.
func TestResponses(t *testing.T) {
	page := cannedPage(3)
	altered := bytes.Replace(page, []byte("customer-00000001"), []byte("customer-00000007"), 1)
	for name, test := range map[string]struct {
		status int
		crc    string
		body   []byte
		lost   bool // during transfer
	}{
		"as sent":          {200, sumOf(page), page, false},
		"without checksum": {200, "", page, false},
		"altered":          {200, sumOf(page), altered, true},
		"cut":              {200, sumOf(page), page[:len(page)-30], true},
		"cut, no checksum": {200, "", page[:len(page)-30], true},
		"empty":            {200, "", nil, true},
		"no checksum":      {200, "x", page, true},
		"an error": {
			400,
			"7",
			[]byte(
				`{"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException",` +
					`"message":"m"}`),
			false,
		},
	} {
		header := http.Header{}
		if test.crc != "" {
			header.Set("X-Amz-Crc32", test.crc)
		}
		got := decode(pageTable(false), true, test.status, header, test.body)
		var lost *smithy.DeserializationError
		if errors.As(got.err, &lost) != test.lost ||
			(got.err == nil) != (test.status == 200 && !test.lost) {
			t.Errorf("%s: %v", name, got.err)
		}
		if missing := (*types.ResourceNotFoundException)(nil); test.status == 400 &&
			!errors.As(got.err, &missing) {
			t.Errorf("%s: %v", name, got.err)
		}
	}
}

// referenceKey returns the text of a key as encoding/json writes it. Ledgers, cursors and
// audit logs contain such texts, so the format must not change.
func referenceKey(t *testing.T, key map[string]types.AttributeValue) string {
	printed := map[string]map[string]any{}
	for name, value := range key {
		switch v := value.(type) {
		case *types.AttributeValueMemberS:
			printed[name] = map[string]any{"S": v.Value}
		case *types.AttributeValueMemberN:
			printed[name] = map[string]any{"N": v.Value}
		case *types.AttributeValueMemberB:
			printed[name] = map[string]any{"B": v.Value}
		}
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(printed); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(text.String(), "\n")
}
