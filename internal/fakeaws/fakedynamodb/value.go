package fakedynamodb

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
)

// value is an attribute value. It is immutable.
type value struct {
	kind  string // "S", "N", "B", "BOOL", "NULL", "M", "L", "SS", "NS", "BS"
	text  string // S, and N in the form that DynamoDB returns
	bytes []byte
	truth bool // BOOL
	m     map[string]value
	l     []value
	texts []string // SS, NS
	blobs [][]byte // BS
}

type item map[string]value

// UnmarshalJSON decodes the JSON of the API, such as {"S": "text"}.
func (v *value) UnmarshalJSON(text []byte) error {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(text, &parts); err != nil {
		return invalid("Supplied AttributeValue is not an object")
	}
	if len(parts) != 1 {
		return invalid(
			"Supplied AttributeValue has more than one datatypes set, must contain exactly one " +
				"of the supported datatypes",
		)
	}
	for kind, raw := range parts {
		*v = value{kind: kind}
		if err := v.fill(raw); err != nil {
			return err
		}
	}
	return nil
}

func (v *value) fill(raw json.RawMessage) error {
	targets := map[string]any{
		"S":    &v.text,
		"N":    &v.text,
		"B":    &v.bytes,
		"BOOL": &v.truth,
		"NULL": new(bool),
		"M":    &v.m,
		"L":    &v.l,
		"SS":   &v.texts,
		"NS":   &v.texts,
		"BS":   &v.blobs,
	}
	target, ok := targets[v.kind]
	if !ok {
		return invalid(
			"Supplied AttributeValue is empty, must contain exactly one of the supported datatypes",
		)
	}
	if err := json.Unmarshal(raw, target); err != nil {
		return err
	}
	switch v.kind {
	case "N":
		n, err := normal(v.text)
		v.text = n
		return err
	case "B":
		v.bytes = append([]byte{}, v.bytes...)
	case "NS":
		for i := range v.texts {
			n, err := normal(v.texts[i])
			if err != nil {
				return err
			}
			v.texts[i] = n
		}
	}
	return v.checkSet()
}

// checkSet refuses empty sets and sets with duplicate members.
func (v *value) checkSet() error {
	n, distinct := len(v.texts), len(slices.Compact(slices.Sorted(slices.Values(v.texts))))
	switch v.kind {
	case "BS":
		sorted := slices.SortedFunc(slices.Values(v.blobs), bytes.Compare)
		n, distinct = len(sorted), len(slices.CompactFunc(sorted, bytes.Equal))
	case "SS", "NS":
	default:
		return nil
	}
	if n == 0 {
		return invalid("One or more parameter values were invalid: An string set  may not be empty")
	}
	if n != distinct {
		return invalid(
			"One or more parameter values were invalid: Input collection contains duplicates",
		)
	}
	return nil
}

// MarshalJSON encodes the JSON of the API.
func (v value) MarshalJSON() ([]byte, error) {
	var content any
	switch v.kind {
	case "S", "N":
		content = v.text
	case "B":
		content = v.bytes
	case "BOOL":
		content = v.truth
	case "NULL":
		content = true
	case "M":
		content = orEmpty(v.m)
	case "L":
		content = v.l
		if v.l == nil {
			content = []value{}
		}
	case "SS", "NS":
		content = v.texts
	case "BS":
		content = v.blobs
	}
	return json.Marshal(map[string]any{v.kind: content})
}

func orEmpty(m map[string]value) map[string]value {
	if m == nil {
		return map[string]value{}
	}
	return m
}

// maxDigits is the precision of numbers (Data types, "Number").
const maxDigits = 38

// normal returns a number in the form that DynamoDB returns, without exponent and
// insignificant zeros.
func normal(text string) (string, error) {
	r, ok := new(big.Rat).SetString(text)
	if !ok || strings.ContainsAny(text, "/_xXpPbBoO") {
		return "", invalid("The parameter cannot be converted to a numeric value: %s", text)
	}
	return printNumber(r)
}

func printNumber(r *big.Rat) (string, error) {
	text := r.FloatString(130)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	digits := strings.Trim(strings.NewReplacer(".", "", "-", "").Replace(text), "0")
	if len(digits) > maxDigits {
		return "", invalid("Attempting to store more than 38 significant digits in a Number")
	}
	if text == "-0" {
		text = "0"
	}
	return text, nil
}

func number(text string) *big.Rat {
	r, _ := new(big.Rat).SetString(text) // the text was normalised when it was decoded
	return r
}

// equal reports whether two values are equal as in DynamoDB: sets without order, numbers by
// value.
func equal(a, b value) bool {
	if a.kind != b.kind {
		return false
	}
	switch a.kind {
	case "B":
		return bytes.Equal(a.bytes, b.bytes)
	case "BOOL":
		return a.truth == b.truth
	case "M":
		return maps.EqualFunc(a.m, b.m, equal)
	case "L":
		return slices.EqualFunc(a.l, b.l, equal)
	case "SS", "NS":
		return slices.Equal(slices.Sorted(slices.Values(a.texts)),
			slices.Sorted(slices.Values(b.texts)))
	case "BS":
		return slices.EqualFunc(slices.SortedFunc(slices.Values(a.blobs), bytes.Compare),
			slices.SortedFunc(slices.Values(b.blobs), bytes.Compare), bytes.Equal)
	}
	return a.text == b.text
}

// compare orders two scalars of the same type. It returns false for other values.
func compare(a, b value) (int, bool) {
	if a.kind != b.kind {
		return 0, false
	}
	switch a.kind {
	case "S":
		return strings.Compare(a.text, b.text), true
	case "N":
		return number(a.text).Cmp(number(b.text)), true
	case "B":
		return bytes.Compare(a.bytes, b.bytes), true
	}
	return 0, false
}

// size returns the size that counts towards the item size limit and the consumed capacity, in
// bytes (DynamoDB item sizes and formats).
func (i item) size() int {
	n := 0
	for name, v := range i {
		n += len(name) + v.size()
	}
	return n
}

func (v value) size() int {
	n := 0
	switch v.kind {
	case "S":
		return len(v.text)
	case "B":
		return len(v.bytes)
	case "N":
		return len(v.text)/2 + 2
	case "BOOL", "NULL":
		return 1
	case "M":
		return 3 + item(v.m).size() + len(v.m)
	case "L":
		n = 3
		for _, e := range v.l {
			n += 1 + e.size()
		}
	case "SS", "NS":
		for _, t := range v.texts {
			n += len(t)
		}
	case "BS":
		for _, b := range v.blobs {
			n += len(b)
		}
	}
	return n
}

// length returns the result of the function size() of expressions.
func (v value) length() (int, bool) {
	switch v.kind {
	case "S":
		return len(v.text), true
	case "B":
		return len(v.bytes), true
	case "M":
		return len(v.m), true
	case "L":
		return len(v.l), true
	case "SS", "NS":
		return len(v.texts), true
	case "BS":
		return len(v.blobs), true
	}
	return 0, false
}

// failure is an error response.
type failure struct {
	code    string
	message string
	item    item // with ConditionalCheckFailedException
	reasons []cancellation
	// throttling is the reason of a throttled request. Answers of a batch do not contain it.
	throttling []throttlingReason
	status     int // HTTP status; 0: depends on the code
}

// cancellation is one entry of CancellationReasons.
type cancellation struct {
	Code    string
	Message string `json:",omitempty"`
	Item    item   `json:",omitempty"`
}

func (f *failure) Error() string { return f.code + ": " + f.message }

func invalid(format string, args ...any) *failure {
	return &failure{code: "ValidationException", message: fmt.Sprintf(format, args...)}
}

func conditionFailed(old item, returnOld bool) *failure {
	f := &failure{
		code:    "ConditionalCheckFailedException",
		message: "The conditional request failed",
	}
	if returnOld {
		f.item = old
	}
	return f
}
