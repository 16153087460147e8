package ciphertext

import (
	"fmt"

	"rotator/internal/scan"
)

// Kind is the kind of the items of a target.
type Kind int

// The kinds of items.
const (
	Rows    Kind = iota // DynamoDB items
	Objects             // S3 objects
	// Files are the files of a directory. Their payload is also a *scan.Object, without
	// bucket and metadata. Its key is the path relative to the root of the target.
	Files
)

// Spec describes the ciphertexts of one target, as in the job file.
type Spec struct {
	// Format is the name of the format. If it is empty, the format of the first slot
	// applies.
	Format string
	Kind   Kind
	Slots  []SlotSpec
	// KeyPattern is a regular expression (RE2) that is matched against the key of an
	// object or the path of a file. Contexts refer to its named groups as ${key.GROUP}.
	KeyPattern string
	// Container is the name of the table or bucket, or the root directory of the files.
	Container string
	// Context and DestinationContext are the encryption contexts of the target, for
	// formats that find their slots themselves but cannot derive the whole context from
	// the item. They are written like those of a SlotSpec.
	Context, DestinationContext map[string]string
	// InstructionSuffix is a suffix of the keys of instruction files of the S3
	// Encryption Client, in addition to .instruction. It may be empty.
	InstructionSuffix string
	// ContextFile holds encryption contexts by name. It is nil if the job has no
	// context file for the target.
	ContextFile *ContextFile
}

// SlotSpec is one entry of slots in the job file.
type SlotSpec struct {
	Path    string // empty if the slot is the whole body
	Pattern string // for format text: a regular expression (RE2) whose one group is the slot
	Format  string // empty: the format of the target
	// Padding is "always" or "never": whether the writer pads base64. It applies
	// to texts that do not show it. If empty, the padding is inferred from other
	// texts of the rule.
	Padding string
	// Context and DestinationContext are constants with ${references}. If
	// DestinationContext is nil, Context applies. If it is empty, the new ciphertext has
	// no encryption context.
	Context, DestinationContext map[string]string
}

// ContextFile is a file of encryption contexts by name, for ciphertexts whose context
// is not stored in the item.
type ContextFile struct {
	File     string // the path of the file, for messages
	Name     string // text with ${references}: the name under which the file lists an item
	Contexts map[string]map[string]string
}

// SpecError is one problem of a Spec.
type SpecError struct {
	Field  string // relative to the target: "slots[1].path"
	Detail string // the problem, and how to fix it
}

func (e *SpecError) Error() string { return e.Field + ": " + e.Detail }

// errWrongPayload is returned if the payload of an item has another type than the format
// was compiled for.
func errWrongPayload(item scan.Item) error {
	return fmt.Errorf("item %s is not of the kind that this format reads", item.Ref)
}
