package scan

import "fmt"

// Kind is the type of a DynamoDB attribute value (API_AttributeValue). It is a number because
// a map stores values of at most 128 bytes inline, and rows are maps of values.
type Kind uint8

// The kinds of attribute values. The zero Kind means that there is no value.
const (
	KindS Kind = 1 + iota
	KindN
	KindB
	KindBool
	KindNull
	KindM
	KindL
	KindSS
	KindNS
	KindBS
)

// String returns the DynamoDB name of the kind.
func (k Kind) String() string {
	names := [...]string{"", "S", "N", "B", "BOOL", "NULL", "M", "L", "SS", "NS", "BS"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Value is one DynamoDB attribute value. Only the field for its Kind is set.
type Value struct {
	Kind    Kind
	Bool    bool             // BOOL
	Text    string           // S, and N exactly as DynamoDB returns it
	Bytes   []byte           // B
	Map     map[string]Value // M
	List    []Value          // L
	Texts   []string         // SS and NS; the order has no meaning
	ByteSet [][]byte         // BS; the order has no meaning
}
