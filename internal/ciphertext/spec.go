package ciphertext

import (
	"errors"
	"fmt"
	"slices"

	"rotator/internal/scan"
)

// Kind says what the items of a target are.
type Kind int

// The kinds of items.
const (
	Rows    Kind = iota // DynamoDB items
	Objects             // S3 objects
	// Files are files of a directory. Their payload is a *scan.Object too, without
	// bucket and metadata; its key is the path below the root of the target.
	Files
)

// Spec is how the job file describes the ciphertexts of one target.
type Spec struct {
	Format string
	Kind   Kind
	Slots  []SlotSpec
	// KeyPattern is a regular expression (RE2) over the key of an object, or the
	// path of a file; its named groups can be used in contexts as ${key.GROUP}.
	KeyPattern string
	// DestinationKey is the ARN of the key under which new blobs stand, for
	// formats that write it beside them; empty while only the job file is checked.
	DestinationKey string
	// SourceKeys are the names of the source keys: ARNs, key ids and aliases.
	SourceKeys []string
	// Container is the name of the table or bucket, or the root of the files.
	Container string
	// Context and DestinationContext are those of the target, for formats that
	// know their places but not, or not wholly, their contexts. They read as those
	// of a SlotSpec do.
	Context, DestinationContext map[string]string
	// InstructionSuffix is a suffix of the keys of instruction files of the S3
	// Encryption Client, in addition to .instruction. It may be empty.
	InstructionSuffix string
	// Named holds encryption contexts by name, from a file of the user's; nil
	// without one.
	ContextFile *ContextFile
}

// SlotSpec is one entry of slots in the job file.
type SlotSpec struct {
	Path    string // empty where the whole body is the slot
	Pattern string // format text: a regular expression (RE2) with one group, which is the slot
	Format  string // empty: that of the target
	// Padding is "always" or "never": whether the writer pads base64. It applies
	// to texts that do not show it. If empty, the padding is inferred from other
	// texts of the rule.
	Padding string
	// Context and DestinationContext are constants with ${references}. A nil
	// DestinationContext is the same as Context, an empty one is none.
	Context, DestinationContext map[string]string
}

// Named are encryption contexts by name, for ciphertexts whose context nobody
// stored beside them.
type ContextFile struct {
	File     string // for messages
	Name     string // a text with ${references} that gives each item its name
	Contexts map[string]map[string]string
}

// SpecError is one thing wrong with a Spec.
type SpecError struct {
	Field  string // inside the target: "slots[1].path"
	Detail string // what is wrong, and how to mend it
}

func (e *SpecError) Error() string { return e.Field + ": " + e.Detail }

// Compiled is the Format of one target.
type Compiled struct {
	Format
	attributes, writes []string
	whole              bool
	symmetric          string
	rules              []Rule
	needsBody          func(key string, metadata map[string]string) bool
	metadata           []string // entries of an object that Find reads beside a slot
	spec               Spec
	// binary: Find reads bytes, not text, in all bodies.
	binary bool
}

// Attributes are the top-level attributes of a row that Find reads; they say
// nothing where Whole is true.
func (c *Compiled) Attributes() []string { return c.attributes }

// Writes are the top-level attributes of a row that Splice may replace.
func (c *Compiled) Writes() []string { return c.writes }

// Whole says that Find reads every attribute of a row.
func (c *Compiled) Whole() bool { return c.whole }

// AlwaysNeedsBody says that NeedsBody is true of every object, so that there is no
// use in looking at metadata first.
func (c *Compiled) AlwaysNeedsBody() bool { return c.needsBody == nil }

// NeedsBody says whether Find reads the body of this object. Where it does not,
// Find takes an Object with a nil Body, and Splice changes metadata alone.
func (c *Compiled) NeedsBody(key string, metadata map[string]string) bool {
	return c.needsBody == nil || c.needsBody(key, metadata)
}

// Symmetric names the format of the target, or of one of its slots, whose readers
// are known to call Decrypt as for a symmetric key: a blob under an asymmetric key would be
// lost to them. It is empty where readers are the user's own.
func (c *Compiled) Symmetric() string { return c.symmetric }

// New compiles a Spec. An error joins a *SpecError for everything that is wrong.
func New(spec Spec) (*Compiled, error) {
	c := &compiler{spec: spec}
	format := c.run()
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	return &Compiled{
		Format:     format,
		attributes: sorted(c.reads),
		writes:     sorted(c.writes),
		whole:      c.whole,
		symmetric:  c.symmetric(),
		needsBody:  c.needsBody,
		metadata:   sorted(c.metadata),
		rules:      c.rulesOf(format),
		spec:       spec,
		binary:     isBinary(c.def.name),
	}, nil
}

func sorted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// errWrongPayload says that an item is not of the kind that the format was made for.
func errWrongPayload(item scan.Item) error {
	return fmt.Errorf("item %s is not of the kind that this format reads", item.Ref)
}
