// Package scan defines items and how they are addressed. A target is divided into partitions,
// a partition is read page by page, and a page contains items. An item holds the bytes in
// which ciphertexts are stored. The sub-packages dynamoscan, s3scan and filescan are the
// sources: they read and write DynamoDB tables, S3 buckets and directories. This package
// depends on no store, does no I/O and imports no other package of this module.
package scan

import "encoding/json"

// Partition is the unit of scanning and checkpointing of a target: a segment of a parallel
// scan, or a key range of a bucket. The checkpoint stores the partitions when a pass begins,
// so Spec must contain everything that a later process needs to continue from a cursor.
type Partition struct {
	// unique in its target and readable, such as "segment 3 of 8"
	Name string          `json:"name"`
	Spec json.RawMessage `json:"spec"` // opaque to all callers of the source
}

// Cursor is a position between two pages of one partition. Only the source that made it
// interprets it. An empty Cursor is the start of the partition.
type Cursor []byte

// Page is the result of one list or scan request.
type Page struct {
	Items []Item
	// Next is the cursor of the next page.
	Next Cursor
	// Last is true if the partition has no further page.
	Last bool
	// Excluded is the number of listed items that a filter left out.
	Excluded int64
	// Included counts the items that each pattern of the include filter matches.
	Included []Matches
}

// Matches is the number of items that one pattern matches.
type Matches struct {
	Pattern string
	Items   int64
}

// Ref is the address of an item in its target. It is stable, printable and unique: the
// canonical JSON of a DynamoDB primary key, the key of an S3 object, or the path of a file.
type Ref string

// Item is one addressable unit of a target, as it was read.
type Item struct {
	Ref Ref
	// Payload is nil if the page only listed the item. In that case Load reads it.
	Payload Payload
	// Release returns the memory budget of the body. The caller must call it when the outcome
	// of the item is known. It is nil if the item holds no budget.
	Release func()
	// Token is the state that the source needs to replace exactly what was read, such as an
	// ETag. Only the source interprets it.
	Token any
}

// Payload is what a format reads and rewrites: *Row or *Object. A payload is immutable;
// formats return new payloads.
type Payload interface{ payload() }

// Row is one DynamoDB item, or the attributes of it that the job needs.
type Row struct {
	Attributes map[string]Value
}

// Object is one S3 object: its body and its user metadata. It also represents a file, with
// the path as Key and without Bucket and Metadata.
type Object struct {
	Bucket string
	Key    string
	// Body is nil if the format needs only the metadata.
	Body []byte
	// Size is the length of the whole body in bytes, whether or not the body was read.
	Size int64
	// ServerSideKMS is true if S3 encrypts the object under a KMS key (SSE-KMS or DSSE-KMS).
	ServerSideKMS bool
	// ContentEncoding is the Content-Encoding header. It is empty for files.
	ContentEncoding string
	// Metadata is the user metadata. Its keys are in lower case and without "x-amz-meta-".
	Metadata map[string]string
}

func (*Row) payload()    {}
func (*Object) payload() {}

// Change asks a source to replace the payload of Item by New. The source writes it only if
// the store still holds the values that New replaces, as they are in Item, and if all Guards
// hold.
type Change struct {
	Item Item
	New  Payload
	// Guards are paths of the item on which New depends and which it does not replace. They
	// are part of the condition of the write.
	Guards []Guard
	// Unbatched requests that the change is sent in a separate request, because the
	// response to a single request is more specific.
	Unbatched bool
}

// Result is the outcome of one Change. If Err is nil, the change was written. ErrChanged and
// ErrGone mean that nothing was written. The caller classifies all other errors; they can
// mean that it is unknown whether the change was written.
type Result struct {
	Err error
	// Current is the item as the store returned it with ErrChanged. If it is nil, the caller
	// must load the item, which may no longer exist.
	Current *Item
}
