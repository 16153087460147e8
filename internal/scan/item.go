// Package scan says what an item is and where it lives. A target is cut into
// partitions, a partition is read page by page, a page holds items, and an item
// holds the bytes in which ciphertexts hide. The sources that read and write
// real stores are the sub-packages dynamoscan and s3scan; this package knows no
// store, does no I/O and imports nothing of ours.
package scan

import "encoding/json"

// Partition is the unit of scanning and checkpointing of a target: a parallel
// scan segment of a table, a key range of a bucket. Partitions are frozen in
// the checkpoint when a pass begins, so Spec must hold all that a later process
// needs in order to go on from a cursor.
type Partition struct {
	Name string          `json:"name"` // unique in its target, for people: "segment 3 of 8"
	Spec json.RawMessage `json:"spec"` // known to the source alone
}

// Cursor is a position between two pages of one partition, opaque to all but
// the source that made it. Empty means the start of the partition.
type Cursor []byte

// Page is what one list or scan call returned.
type Page struct {
	Items []Item
	// Next is where the page after this one begins.
	Next Cursor
	// Last is true when the partition has no page after this one.
	Last bool
	// Excluded counts the items that were listed and left out by a filter.
	Excluded int64
	// Included counts, for each of the patterns that choose items, those that it matches.
	Included []Matches
}

// Matches is how many items one pattern matches.
type Matches struct {
	Pattern string
	Items   int64
}

// Ref is the address of an item in its target. It is stable, printable and
// unique: the canonical JSON of a DynamoDB primary key, the key of an S3 object.
type Ref string

// Item is one thing with an address in a target, as it was read.
type Item struct {
	Ref Ref
	// Payload is nil when the page only listed the item; Load fetches it.
	Payload Payload
	// Release releases the MemoryBudget of the body. Call it when the outcome of the item is
	// known; nil where it takes none.
	Release func()
	// Token is what the source needs in order to replace exactly what was read
	// (an ETag, headers to send again). Only the source looks inside.
	Token any
}

// Payload is what a format reads and rewrites: *Row or *Object. A payload is
// never changed in place; formats return new ones.
type Payload interface{ payload() }

// Row is one DynamoDB item, or the projection of it that the job needs.
type Row struct {
	Attributes map[string]Value
}

// Object is one S3 object: its body and its user metadata. A file is one too, with
// neither bucket nor metadata, and its path for a key.
type Object struct {
	Bucket string
	Key    string
	// Body is nil where the format asked for metadata alone.
	Body []byte
	// Size is the length of the whole body, be it read or not.
	Size int64
	// ServerSideKMS is true where S3 itself encrypts the object under a KMS key
	// (SSE-KMS, DSSE-KMS).
	ServerSideKMS bool
	// ContentEncoding is the header of that name; empty for files.
	ContentEncoding string
	// Metadata is the user metadata, keys in lower case, without "x-amz-meta-".
	Metadata map[string]string
}

func (*Row) payload()    {}
func (*Object) payload() {}

// Change asks a source to put New in the place of Item, if and only if the
// store still holds what Item says of the values that New replaces and of Guards.
type Change struct {
	Item Item
	New  Payload
	// Guards are places of the item on which New depends and which it does not
	// replace. They are part of the condition of the write.
	Guards []Guard
	// Alone asks that the change is sent apart from the others: an answer to it
	// alone says more.
	Unbatched bool
}

// Result is what became of one Change: Err nil means written, ErrChanged and
// ErrGone mean that nothing was written, any other error is for the caller to
// classify, and may mean that nobody knows whether the write was applied.
type Result struct {
	Err error
	// Current is the item as the store returned it along with ErrChanged; nil
	// when the store did not, and it has to be loaded: it may be gone.
	Current *Item
}
