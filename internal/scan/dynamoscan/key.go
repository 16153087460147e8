package dynamoscan

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"rotator/internal/scan"
)

// keyValue is a key attribute in the JSON of the DynamoDB API.
type keyValue struct {
	S *string `json:"S,omitempty"`
	N *string `json:"N,omitempty"`
	B []byte  `json:"B,omitempty"`
}

// itemKey is the primary key of an item: one or two attributes, in the order of
// their names. It is not a map, to avoid an allocation for each update.
type itemKey struct {
	parts [2]keyPart
	n     int
}

type keyPart struct {
	name  string
	value types.AttributeValue
}

// add inserts an attribute. It returns false if the key already has two attributes.
func (k *itemKey) add(name string, value types.AttributeValue) bool {
	if k.n == len(k.parts) {
		return false
	}
	if k.parts[k.n] = (keyPart{name, value}); k.n == 1 && name < k.parts[0].name {
		k.parts[0], k.parts[1] = k.parts[1], k.parts[0]
	}
	k.n++
	return true
}

// attributes returns the attributes in order.
func (k *itemKey) attributes() []keyPart { return k.parts[:k.n] }

// has reports whether an attribute is part of the key.
func (k *itemKey) has(name string) bool {
	for _, part := range k.attributes() {
		if part.name == name {
			return true
		}
	}
	return false
}

// item returns the key in the form of requests.
func (k *itemKey) item() map[string]types.AttributeValue {
	item := make(map[string]types.AttributeValue, k.n)
	for _, part := range k.attributes() {
		item[part.name] = part.value
	}
	return item
}

// printKey returns a primary key as JSON: sorted names with values as in the DynamoDB API,
// {"id":{"S":"a"}}. Each key has exactly one text.
func printKey(key map[string]types.AttributeValue) (string, error) {
	var text []byte
	for i, name := range slices.Sorted(maps.Keys(key)) {
		value, err := fromSDK(key[name])
		if err != nil {
			return "", fmt.Errorf("key attribute %s: %w", name, err)
		}
		var ok bool
		if text, ok = appendKeyValue(appendKeyName(text, i, name), value); !ok {
			return "", fmt.Errorf("key attribute %s is empty or not of type S, N or B",
				name)
		}
	}
	return string(append(text, '}')), nil
}

// appendKeyName appends the text before the value of the i-th attribute of a key.
func appendKeyName(text []byte, i int, name string) []byte {
	return append(appendText(append(text, "{,"[min(i, 1)]), name), ':')
}

// appendKeyValue returns false for a value that cannot be part of a key.
func appendKeyValue(text []byte, v scan.Value) (_ []byte, ok bool) {
	switch {
	case v.Kind == scan.KindS:
		text = appendText(append(text, `{"S":`...), v.Text)
	case v.Kind == scan.KindN:
		text = appendText(append(text, `{"N":`...), v.Text)
	case v.Kind == scan.KindB && len(v.Bytes) > 0: // DynamoDB does not allow empty key values
		text = append(base64.StdEncoding.AppendEncode(append(text, `{"B":"`...), v.Bytes), '"')
	default:
		return text, false
	}
	return append(text, '}'), true
}

// appendText appends a string as JSON.
func appendText(text []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			var quoted bytes.Buffer
			encoder := json.NewEncoder(&quoted)
			encoder.SetEscapeHTML(false) // for readability
			_ = encoder.Encode(s)        // encoding a string cannot fail
			return append(text, bytes.TrimSuffix(quoted.Bytes(), []byte("\n"))...)
		}
	}
	return append(append(append(text, '"'), s...), '"')
}

// parseKey reads what printKey wrote.
func parseKey(text string) (map[string]types.AttributeValue, error) {
	var printed map[string]keyValue
	if err := json.Unmarshal([]byte(text), &printed); err != nil {
		return nil, fmt.Errorf("%q is not a primary key: %w", text, err)
	}
	key := map[string]types.AttributeValue{}
	for name, v := range printed {
		switch {
		case v.S != nil:
			key[name] = &types.AttributeValueMemberS{Value: *v.S}
		case v.N != nil:
			key[name] = &types.AttributeValueMemberN{Value: *v.N}
		case len(v.B) > 0: // DynamoDB has no empty keys, nor does printKey print them
			key[name] = &types.AttributeValueMemberB{Value: v.B}
		default:
			return nil, fmt.Errorf("%q is not a primary key: %s has no value", text, name)
		}
	}
	if len(key) == 0 {
		return nil, fmt.Errorf("%q is not a primary key: it has no attribute", text)
	}
	return key, nil
}
