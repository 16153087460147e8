package dynamoscan

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"rotator/internal/scan"
)

// reader replaces the protocol of the SDK for one Scan. It parses the items of the response
// itself and leaves everything else to the SDK: errors, the rest of the response, and
// responses that it cannot parse.
type reader struct {
	smithyhttp.ClientProtocol
	table *Table
	keys  keyTypes

	read  bool // whether items are those of the response
	items []scan.Item
}

// install makes the SDK use the reader. The reader verifies the checksum, because the SDK
// only logs a wrong one (CloseResponseBody of smithy-go 1.28).
func (r *reader) install(o *dynamodb.Options) {
	r.ClientProtocol, o.Protocol = o.Protocol, r
	o.DisableValidateResponseChecksum = true
}

// DeserializeResponse implements smithyhttp.ClientProtocol.
func (r *reader) DeserializeResponse(
	ctx context.Context,
	schema *smithy.OperationSchema,
	types *smithy.TypeRegistry,
	response *smithyhttp.Response,
	out smithy.Deserializable,
) error {
	r.read, r.items = false, nil
	if response.StatusCode < 200 || response.StatusCode >= 300 {
		return r.ClientProtocol.DeserializeResponse(ctx, schema, types, response, out)
	}
	body := r.table.bodies.Get().(*bytes.Buffer)
	defer r.table.bodies.Put(body)
	body.Reset()
	if _, err := body.ReadFrom(response.Body); err != nil {
		return &smithy.DeserializationError{Err: err}
	}
	if err := checkBody(response.Header, body.Bytes()); err != nil {
		return &smithy.DeserializationError{Err: err}
	}
	d := decoder{text: body.Bytes(), fields: r.table.fieldsOf(r.keys)}
	rest, items, ok := d.response()
	if !ok {
		rest, items = body.Bytes(), nil
		if err := checkPage(rest, r.table.config.PageLimit); err != nil {
			return &smithy.DeserializationError{Err: err}
		}
	}
	r.read, r.items = ok, items
	left := *response.Response // a copy, because the SDK closes the body of the original
	left.Body = io.NopCloser(bytes.NewReader(rest))
	return r.ClientProtocol.DeserializeResponse(ctx, schema, types, &smithyhttp.Response{
		Response: &left,
	}, out)
}

// checkPage refuses responses that the SDK cannot handle safely: the SDK panics
// on some text that is not JSON, and allocates a map for each of millions of
// items. The SDK detects other mistakes. A limit of 0 means no limit.
func checkPage(body []byte, limit int32) error {
	if !json.Valid(body) {
		return errors.New("the response is not JSON")
	}
	var found struct{ Items []struct{} }
	_ = json.Unmarshal(body, &found)
	if n := len(found.Items); limit > 0 && n > int(limit) {
		return fmt.Errorf("the response has %d items, but at most %d were requested", n, limit)
	}
	return nil
}

// checkBody verifies the checksum that DynamoDB sends with a response. Other servers may send
// none.
func checkBody(header http.Header, body []byte) error {
	if len(body) == 0 {
		return fmt.Errorf("the response is empty: %w", io.ErrUnexpectedEOF)
	}
	text := header.Get("X-Amz-Crc32")
	if text == "" {
		return nil
	}
	sum, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return fmt.Errorf("parse the checksum of the response: %w", err)
	}
	if uint32(sum) != crc32.ChecksumIEEE(body) {
		return fmt.Errorf("the response was altered: its checksum is %d, want %d",
			crc32.ChecksumIEEE(body), sum)
	}
	return nil
}

// fields are the attributes that a decoder returns.
type fields struct {
	keys  []keyField // in the order in which they are printed
	names []string   // known names, including those of keys
	all   bool       // whether all other attributes are returned too
}

// keyField is an attribute of the primary key.
type keyField struct {
	name  string
	label []byte // the text that is printed before its value
}

func (t *Table) fieldsOf(keys keyTypes) fields {
	f := fields{all: t.config.AllAttributes, names: slices.Sorted(maps.Keys(keys))}
	for i, name := range f.names {
		f.keys = append(f.keys, keyField{name, appendKeyName(nil, i, name)})
	}
	for _, name := range t.config.Attributes {
		if !slices.Contains(f.names, name) {
			f.names = append(f.names, name)
		}
	}
	return f
}

// maxNames limits the number of attribute names that are remembered.
const maxNames = 64

// find reports whether an attribute, the n-th of its item, is returned, and returns its name
// without allocating. Most items of a page have the same order of names, so find reorders the
// names to that of the last item.
func (f *fields) find(name []byte, n int) (string, bool) {
	if n < len(f.names) && f.names[n] == string(name) {
		return f.names[n], true
	}
	for i, known := range f.names {
		if known != string(name) {
			continue
		}
		if n < len(f.names) {
			f.names[i], f.names[n] = f.names[n], known
		}
		return known, true
	}
	if !f.all {
		return "", false
	}
	own := string(name)
	if len(f.names) < maxNames {
		f.names = append(f.names, own)
	}
	return own, true
}

// appendKey appends the primary key of an item like printKey. It returns false if the item
// has no primary key.
func (f *fields) appendKey(text []byte, attributes map[string]scan.Value) (_ []byte, ok bool) {
	for _, key := range f.keys {
		if text, ok = appendKeyValue(append(text, key.label...), attributes[key.name]); !ok {
			return text, false
		}
	}
	return append(text, '}'), true
}
