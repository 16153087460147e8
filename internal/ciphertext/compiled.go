package ciphertext

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"rotator/internal/scan"
)

// Keys are the keys of a job that formats depend on.
type Keys struct {
	// Destination is the ARN of the destination key. Some formats store it next to the
	// ciphertext or include it in the encryption context.
	Destination string
	// Sources are the names by which items may refer to the source keys: ARNs, key IDs
	// and aliases. See Slot.StaleKey.
	Sources []string
}

// Template is a compiled Spec. Bind makes a Format of it when the keys of the job are
// known. A Template is immutable and safe for concurrent use.
type Template struct {
	bind               binder
	slots              []slot
	attributes, writes []string
	whole              bool
	symmetric          string
	rules              []Rule
	needsBody          func(key string, metadata map[string]string) bool
	metadata           []string // metadata entries of an object that Find reads besides slots
	binary             bool     // Find reads bytes, not text, in all bodies
}

// binder returns the Format of a compiled Spec for the keys of a job.
type binder func(b binding) Format

// binding contains what a binder depends on.
type binding struct {
	slots       []slot
	destination string // the ARN of the destination key
}

// unbound is the binder of a format that does not depend on keys.
func unbound(format Format) binder { return func(binding) Format { return format } }

// Compile compiles a Spec and reports all of its problems: the error joins one
// *SpecError per problem.
func Compile(spec Spec) (*Template, error) {
	c := &compiler{spec: spec}
	bind := c.run()
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	return &Template{
		bind:       bind,
		slots:      c.slots,
		attributes: sorted(c.reads),
		writes:     sorted(c.writes),
		whole:      c.whole,
		symmetric:  c.symmetric(),
		needsBody:  c.needsBody,
		metadata:   sorted(c.metadata),
		rules:      c.rules(),
		binary:     isBinary(c.def.name),
	}, nil
}

func sorted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// Bind returns the Format of the target for the keys of a job.
func (t *Template) Bind(keys Keys) *Compiled {
	b := binding{slots: slices.Clone(t.slots), destination: keys.Destination}
	names := newSourceNames(keys.Sources)
	for i := range b.slots {
		b.slots[i].keys = names
	}
	return t.compiled(b)
}

func (t *Template) compiled(b binding) *Compiled {
	return &Compiled{Format: t.bind(b), template: t, binding: b}
}

// Compiled is the Format of one target. It is immutable and safe for concurrent use.
type Compiled struct {
	Format
	template *Template
	binding  binding
}

// Attributes returns the top-level attributes of a row that Find reads. It is
// meaningless if Whole returns true.
func (c *Compiled) Attributes() []string { return c.template.attributes }

// Writes returns the top-level attributes of a row that Splice may replace.
func (c *Compiled) Writes() []string { return c.template.writes }

// Whole reports whether Find reads all attributes of a row.
func (c *Compiled) Whole() bool { return c.template.whole }

// AlwaysNeedsBody reports whether NeedsBody is true for every object. If so, the caller
// does not need to fetch metadata first.
func (c *Compiled) AlwaysNeedsBody() bool { return c.template.needsBody == nil }

// NeedsBody reports whether Find reads the body of this object. If it does not, Find
// accepts an Object with a nil Body, and Splice changes only metadata.
func (c *Compiled) NeedsBody(key string, metadata map[string]string) bool {
	return c.AlwaysNeedsBody() || c.template.needsBody(key, metadata)
}

// Symmetric returns the format of the target, or of one of its slots, whose readers are
// known to call Decrypt for symmetric keys only. They could not decrypt a blob under an
// asymmetric key. It returns "" if only the user's own programs read the ciphertexts.
func (c *Compiled) Symmetric() string { return c.template.symmetric }

// Rules returns the rules of the target. Slot.Rule is an index of this slice.
func (c *Compiled) Rules() []Rule { return c.template.rules }

// Find implements Format. If the format reads text and the body is not plain text, Find
// returns one refused slot. It skips a UTF-8 byte order mark.
func (c *Compiled) Find(item scan.Item) []Slot {
	text, mark, refused := c.text(item)
	switch {
	case refused != nil:
		return []Slot{{Refused: refused}}
	case mark > 0:
		return c.Format.Find(text)
	}
	return c.Format.Find(item)
}

// Splice implements Format. A text that does not show its padding gets that of
// the other texts of its rule in the item, if they agree.
func (c *Compiled) Splice(item scan.Item, blobs [][]byte) (scan.Payload, error) {
	text, mark, refused := c.text(item)
	if refused != nil {
		if len(blobs) != 1 {
			return nil, fmt.Errorf("got %d blobs for 1 slot", len(blobs))
		}
		return item.Payload, nil
	}
	if mark == 0 {
		return c.splicePadded(item, blobs)
	}
	payload, err := c.splicePadded(text, blobs)
	changed, ok := payload.(*scan.Object)
	if err != nil || !ok {
		return nil, err
	}
	changed.Body = append([]byte(byteOrderMark), changed.Body...)
	return changed, nil
}

func (c *Compiled) splicePadded(item scan.Item, blobs [][]byte) (scan.Payload, error) {
	payload, err := c.Format.Splice(item, blobs)
	var spliceErr *SpliceError
	if !errors.As(err, &spliceErr) {
		return payload, err
	}
	seen := PaddingSeen{}
	for _, s := range c.Format.Find(item) {
		seen.Add(s)
	}
	padded := c.WithPadding(seen)
	if padded == c {
		return payload, err
	}
	return padded.Format.Splice(item, blobs)
}

// text returns the item without a byte order mark, for a format that reads
// text, and the length of the mark. It refuses an item whose body is not
// readable text.
func (c *Compiled) text(item scan.Item) (text scan.Item, mark int, refused *Refused) {
	object, ok := item.Payload.(*scan.Object)
	if !ok || !c.NeedsBody(object.Key, object.Metadata) {
		return item, 0, nil
	}
	if c.template.binary {
		return item, 0, encodedBody(object)
	}
	if refused := unreadableText(object); refused != nil {
		return item, 0, refused
	}
	if !bytes.HasPrefix(object.Body, []byte(byteOrderMark)) {
		return item, 0, nil
	}
	stripped := *object
	stripped.Body = object.Body[len(byteOrderMark):]
	item.Payload = &stripped
	return item, len(byteOrderMark), nil
}

// PaddingSeen counts, by rule, the base64 texts that show whether their writer
// pads.
type PaddingSeen map[int]PaddingCount

// PaddingCount counts the texts of one rule.
type PaddingCount struct {
	Padded   int64 `json:"padded,omitempty"`
	Unpadded int64 `json:"unpadded,omitempty"`
}

// Add counts a slot.
func (p PaddingSeen) Add(s Slot) {
	n := p[s.Rule]
	switch s.Padding {
	case PaddingAlways:
		n.Padded++
	case PaddingNever:
		n.Unpadded++
	default:
		return
	}
	p[s.Rule] = n
}

// WithPadding returns the format with the padding of seen. Texts that do not
// show their padding are written like the other texts of their rule, if all of
// these agree and the job file does not set the padding. It returns c itself if
// nothing changes.
func (c *Compiled) WithPadding(seen PaddingSeen) *Compiled {
	b := c.binding
	b.slots = slices.Clone(b.slots)
	changed := false
	for rule, n := range seen {
		if rule >= len(b.slots) || b.slots[rule].padding != PaddingUnknown {
			continue
		}
		switch {
		case n.Padded > 0 && n.Unpadded == 0:
			b.slots[rule].padding, changed = PaddingAlways, true
		case n.Unpadded > 0 && n.Padded == 0:
			b.slots[rule].padding, changed = PaddingNever, true
		}
	}
	if !changed {
		return c
	}
	return c.template.compiled(b)
}
