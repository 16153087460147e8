package scan

import "fmt"

// Kind is the type of a DynamoDB attribute value (API_AttributeValue). It is a number,
// since maps hold values of at most 128 bytes in place, and rows are maps of them.
type Kind uint8

// The kinds of attribute values. The zero Kind is that of no value.
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

// String spells a kind as DynamoDB does.
func (k Kind) String() string {
	names := [...]string{"", "S", "N", "B", "BOOL", "NULL", "M", "L", "SS", "NS", "BS"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Value is one DynamoDB attribute value. Only the field that Kind names is set.
type Value struct {
	Kind    Kind
	Bool    bool             // BOOL
	Text    string           // S, and N exactly as DynamoDB prints it
	Bytes   []byte           // B
	Map     map[string]Value // M
	List    []Value          // L
	Texts   []string         // SS, NS; a set, order means nothing
	ByteSet [][]byte         // BS; a set, order means nothing
}
