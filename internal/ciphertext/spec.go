package ciphertext

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"rotator/internal/scan"
)

// Kind says what the items of a target are.
type Kind int

// The kinds of items.
const (
	Rows    Kind = iota // DynamoDB items
	Objects             // S3 objects
)

// Spec is how the job file describes the ciphertexts of one target.
type Spec struct {
	Format string
	Kind   Kind
	Slots  []SlotSpec
	// KeyPattern is a regular expression (RE2) over the key of an object; its
	// named groups can be used in contexts as ${key.GROUP}.
	KeyPattern string
}

// SlotSpec is one entry of slots in the job file.
type SlotSpec struct {
	Path   string // empty where the whole body is the slot
	Format string // empty: that of the target
	// Context and DestinationContext are constants with ${references}. A nil
	// DestinationContext is the same as Context, an empty one is none.
	Context, DestinationContext map[string]string
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
}

// Attributes are the top-level attributes of a row that Find reads.
func (c *Compiled) Attributes() []string { return c.attributes }

// Writes are the top-level attributes of a row that Splice may replace.
func (c *Compiled) Writes() []string { return c.writes }

// slot is a compiled SlotSpec.
type slot struct {
	number               int // in the job file, from 0
	format               string
	path                 Path
	context, destination rule
}

// New compiles a Spec. An error joins a *SpecError for everything that is wrong.
func New(spec Spec) (*Compiled, error) {
	c := &compiler{spec: spec, where: scope{kind: spec.Kind, json: spec.Format == formatJSON}}
	c.run()
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	compiled := &Compiled{attributes: sorted(c.reads), writes: sorted(c.writes)}
	switch {
	case spec.Kind == Rows:
		compiled.Format = &rows{name: spec.Format, slots: c.slots}
	case spec.Format == formatJSON:
		compiled.Format = &jsonBody{slots: c.slots, pattern: c.where.pattern}
	default:
		compiled.Format = &wholeBody{name: spec.Format, slot: c.slots[0], pattern: c.where.pattern}
	}
	return compiled, nil
}

func sorted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// compiler gathers all problems of a Spec.
type compiler struct {
	spec          Spec
	where         scope
	slots         []slot
	reads, writes []string
	errs          []error
}

func (c *compiler) fail(field, format string, args ...any) {
	c.errs = append(c.errs, &SpecError{Field: field, Detail: fmt.Sprintf(format, args...)})
}

func (c *compiler) run() {
	known := []string{formatRaw, formatBase64, formatBase64URL}
	if c.spec.Kind == Objects {
		known = append(known, formatJSON)
	}
	if !slices.Contains(known, c.spec.Format) {
		c.fail("format", "there is no format %q here; there are %v", c.spec.Format, known)
		return
	}
	if c.spec.KeyPattern != "" {
		pattern, err := regexp.Compile(c.spec.KeyPattern)
		if err != nil {
			c.fail("s3.key_pattern", "%v", err)
		}
		c.where.pattern = pattern
	}
	wholeBody := c.spec.Kind == Objects && c.spec.Format != formatJSON
	switch {
	case len(c.spec.Slots) == 0:
		c.fail("slots", "name at least one slot")
	case wholeBody && len(c.spec.Slots) > 1:
		c.fail("slots", "with format %s the whole body is one slot; leave one entry", c.spec.Format)
	}
	for i, s := range c.spec.Slots {
		c.slot(fmt.Sprintf("slots[%d]", i), s, wholeBody)
	}
}

func (c *compiler) slot(field string, s SlotSpec, wholeBody bool) {
	compiled := slot{number: len(c.slots), format: s.Format}
	if compiled.format == "" {
		compiled.format = c.spec.Format
		if c.spec.Format == formatJSON {
			compiled.format = formatBase64
		}
	}
	var allowed []string
	switch {
	case wholeBody:
		allowed = []string{c.spec.Format}
	case c.spec.Format == formatJSON:
		allowed = []string{formatBase64, formatBase64URL}
	default:
		allowed = []string{formatRaw, formatBase64, formatBase64URL}
	}
	if !slices.Contains(allowed, compiled.format) {
		c.fail(field+".format", "%q is not possible here; there are %v", compiled.format, allowed)
	}
	if wholeBody {
		if s.Path != "" {
			c.fail(field+".path", "with format %s the whole body is the slot; leave path out", c.spec.Format)
		}
	} else {
		compiled.path = c.path(field+".path", s.Path)
	}
	compiled.context = c.rule(field+".context", s.Context)
	compiled.destination = compiled.context
	if s.DestinationContext != nil {
		compiled.destination = c.rule(field+".destination_context", s.DestinationContext)
	}
	c.slots = append(c.slots, compiled)
}

func (c *compiler) path(field, text string) Path {
	path, err := ParsePath(text)
	if err != nil {
		c.fail(field, "%v", err)
		return nil
	}
	if c.spec.Kind == Rows {
		if path[0].Name == "" {
			c.fail(field, "path %q: it begins with the name of an attribute", text)
			return nil
		}
		c.reads, c.writes = append(c.reads, path[0].Name), append(c.writes, path[0].Name)
	}
	return path
}

func (c *compiler) rule(field string, context map[string]string) rule {
	r, err := newRule(context, c.where)
	if err != nil {
		c.fail(field, "%v", err)
		return rule{}
	}
	for _, parts := range r.values {
		for _, p := range parts {
			if p.kind == attribute {
				c.reads = append(c.reads, p.path[0].Name)
			}
		}
	}
	return r
}

// slotOf makes the Slot of a place whose blob has been read.
func (s slot) slotOf(path string, blob []byte, refused *Refused, find lookup) Slot {
	out := Slot{Path: path, Rule: s.number, Refused: refused}
	if out.Refused == nil {
		out.Context, out.Refused = s.context.fill(find)
	}
	if out.Refused == nil {
		out.DestinationContext, out.Refused = s.destination.fill(find)
	}
	if out.Refused == nil {
		out.Blob = blob
	}
	return out
}

// errNotOurs says that an item is not of the kind that the format was made for.
func errNotOurs(item scan.Item) error {
	return fmt.Errorf("item %s is not of the kind that this format reads", item.Ref)
}
