package scan

// Step is one step of a document path: a member of a map or an element of a list.
type Step struct {
	Name    string // of a map member
	Index   int    // of a list element
	Element bool   // true if Index is used, false if Name is used
}

// State is the condition that a Guard places on its path.
type State uint8

// The states of a path.
const (
	Equal   State = iota // the path holds Value
	Present              // the path holds any value
	Absent               // the path does not exist
)

// Guard is a condition of a write in addition to the values that the write replaces. A change
// depends on the value at Path, for example because an encryption context was built from it
// or because a format recognized the item by it. A source writes the change only if the path
// is still in the state that was read.
type Guard struct {
	// Path is the document path in a row. In an object it has one step, which names an entry
	// of the user metadata.
	Path  []Step
	State State
	Value Value // used with Equal
}
