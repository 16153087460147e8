package scan

// Step is one step of a document path: a member of a map, or an element of a list.
type Step struct {
	Name    string // of a member
	Index   int    // of an element
	Element bool   // Index counts, not Name
}

// State is what a Guard requires of its place.
type State uint8

// The states.
const (
	Equal   State = iota // the place holds Value
	Present              // the place holds any value
	Absent               // there is no such place
)

// Guard is a place of an item on which a change depends in addition to the
// values that it replaces: an encryption context was made from it, or a format
// recognised the item by it. A source writes the change only if the place is
// still in the state that was read.
type Guard struct {
	// Path is the document path in a row. In an object it is one step, the name of an
	// entry of the user metadata.
	Path  []Step
	State State
	Value Value // with Equal
}
