package scan

// Kind is the type of a DynamoDB attribute value, spelled as DynamoDB spells it
// (API_AttributeValue).
type Kind string

// The kinds of attribute values.
const (
	KindS    Kind = "S"
	KindN    Kind = "N"
	KindB    Kind = "B"
	KindBool Kind = "BOOL"
	KindNull Kind = "NULL"
	KindM    Kind = "M"
	KindL    Kind = "L"
	KindSS   Kind = "SS"
	KindNS   Kind = "NS"
	KindBS   Kind = "BS"
)

// Value is one DynamoDB attribute value. Only the field that Kind names is set.
type Value struct {
	Kind    Kind
	Text    string           // S, and N exactly as DynamoDB prints it
	Bytes   []byte           // B
	Bool    bool             // BOOL
	Map     map[string]Value // M
	List    []Value          // L
	Texts   []string         // SS, NS; a set, order means nothing
	ByteSet [][]byte         // BS; a set, order means nothing
}
