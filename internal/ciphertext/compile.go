package ciphertext

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"rotator/internal/plural"
)

// slot is a compiled SlotSpec.
type slot struct {
	number               int // index in the job file, from 0
	format               string
	path                 Path
	prefixes             []string // of the path
	pattern              *regexp.Regexp
	padding              Padding      // of texts that do not show it
	keys                 *sourceNames // set by Bind
	context, destination rule
	hasDestination       bool // there is a separate destination context
	mayOverlap           bool // the path can match the value of another slot
}

// compiler compiles a Spec and collects its problems.
type compiler struct {
	spec  Spec
	def   formatDef
	where scope
	slots []slot
	errs  []error

	reads, writes []string
	// attributes are the references of the target's own contexts to attributes.
	attributes []fieldReference
	metadata   []string // metadata entries that a slot in the body depends on
	whole      bool
	needsBody  func(key string, metadata map[string]string) bool
	ruleNames  []string // rules of a format with several rules of its own
}

func (c *compiler) fail(field, format string, args ...any) {
	c.errs = append(c.errs, &SpecError{Field: field, Detail: fmt.Sprintf(format, args...)})
}

// run compiles the Spec. It returns nil only if there are problems.
func (c *compiler) run() binder {
	if c.spec.Format == "" && len(c.spec.Slots) > 0 && !c.formatOfSlots() {
		return nil
	}
	def, known := formatOf(c.spec.Format, c.spec.Kind)
	if def.name == "" && c.spec.Format == formatText && c.spec.Kind == Rows {
		c.fail("format", "format text applies only to objects and files. A ciphertext with a "+
			"prefix or other text around it in an attribute (v1:..., ENC:...) cannot be moved "+
			"yet: have the application write such items again with the new key, or use a format "+
			"whose slot is the whole attribute")
		return nil
	}
	if def.name == "" {
		c.failFormat("format", c.spec.Format, known)
		return nil
	}
	c.def, c.where = def, scope{kind: c.spec.Kind, body: def.body}
	c.keyPattern()
	c.checkSlots()
	c.contexts()
	if def.slots != noSlots {
		for i, s := range c.spec.Slots {
			c.slot(slotField(i, ""), s)
		}
		c.overlaps()
	}
	if len(c.errs) > 0 {
		return nil
	}
	bind := def.build(c)
	c.writtenReferences()
	return bind
}

func (c *compiler) failFormat(field, name string, known []string) {
	c.fail(field, "unknown format %q; formats for these items are %s", name,
		strings.Join(known, ", "))
}

// checkSlots checks the number of entries of slots.
func (c *compiler) checkSlots() {
	name, slots := c.def.name, len(c.spec.Slots)
	switch {
	case c.def.slots == noSlots && slots > 0:
		c.fail("slots", "format %s finds its slots itself; remove slots", name)
	case c.def.slots == noSlots:
	case slots == 0:
		c.fail("slots", "is empty; add at least one slot")
	case slots > maxSlots:
		c.fail("slots", "has %d entries, and a target has at most %d; split the target", slots,
			maxSlots)
	case c.def.slots == wholeSlot && slots > 1:
		c.fail("slots", "with format %s the whole body is one slot; keep one entry", name)
	}
}

// formatOfSlots gives a target without a format the format of its first slot. If
// the format of a slot does not define how the item is stored, formatOfSlots
// reports the problem and returns false.
func (c *compiler) formatOfSlots() bool {
	for i, s := range c.spec.Slots {
		def, known := formatOf(s.Format, c.spec.Kind)
		field := slotField(i, "format")
		switch {
		case def.name == "":
			c.failFormat(field, s.Format, known)
		case def.slots == noSlots:
			c.fail(field,
				"format %s finds its slots itself; set it at the target, and remove slots",
				def.name)
		case c.spec.Kind == Rows:
		case def.slots != wholeSlot:
			c.fail(field, "format %s defines how a whole body is stored; set it at the target",
				def.name)
		case s.Path != "" || s.Pattern != "":
			c.fail(field, "format %s defines how the ciphertext is stored, but the target has no "+
				"format that defines how the body around it is stored; set one at the target, "+
				"such as json", def.name)
		}
	}
	c.spec.Format = c.spec.Slots[0].Format
	return len(c.errs) == 0
}

// fieldReference is a reference in a field of the target.
type fieldReference struct{ field, reference, attribute string }

// slotField returns the field with a name of the i-th slot, or with an empty name the
// field of the slot itself.
func slotField(i int, name string) string {
	field := fmt.Sprintf("slots[%d]", i)
	if name != "" {
		field += "." + name
	}
	return field
}

// symmetric returns the value of Compiled.Symmetric. The readers of a format that finds
// its slots itself are known. A Tink envelope is always read by Tink.
func (c *compiler) symmetric() string {
	if c.def.slots == noSlots {
		return c.def.name
	}
	if slices.ContainsFunc(c.slots, func(s slot) bool { return s.format == formatTinkEnvelope }) {
		return formatTinkEnvelope
	}
	return ""
}

func (c *compiler) keyPattern() {
	if c.spec.KeyPattern == "" {
		return
	}
	pattern, err := regexp.Compile(c.spec.KeyPattern)
	if err != nil {
		field := "s3.key_pattern"
		if c.spec.Kind == Files {
			field = "files.key_pattern"
		}
		c.fail(field, "%v", err)
	}
	c.where.pattern = pattern
}

// contexts refuses fields for contexts that the format does not support.
func (c *compiler) contexts() {
	def := c.def
	why := fmt.Sprintf("format %s derives the encryption context from the item; remove this field",
		def.name)
	if def.slots != noSlots {
		why = "set the encryption context at the slot"
	}
	if c.spec.InstructionSuffix != "" && def.name != formatS3EC && def.name != formatAuto {
		c.fail("instruction_suffix", "format %s has no instruction files; remove this field",
			def.name)
	}
	if def.contexts < contextInline && c.spec.Context != nil {
		c.fail("context", "%s", why)
	}
	if def.contexts < contextInline && c.spec.DestinationContext != nil {
		c.fail("destination_context", "%s", why)
	}
	if def.contexts < contextFromFile && c.spec.ContextFile != nil {
		c.fail("context_file", "%s", why)
	}
}

// targetContext compiles the contexts of the target, for formats that support them.
func (c *compiler) targetContext() targetContext {
	t := targetContext{
		context:    c.rule("context", c.spec.Context),
		hasContext: c.spec.Context != nil,
	}
	t.destination = t.context
	if c.spec.DestinationContext != nil {
		t.destination = c.rule("destination_context", c.spec.DestinationContext)
		t.hasDestination = true
	}
	if file := c.spec.ContextFile; file != nil {
		parts, err := parseValue(file.Name, c.where)
		if err != nil {
			c.fail("context_file.name", "%v", err)
		}
		c.readsOf(parts)
		c.noteReferences("context_file.name", parts)
		t.file, t.name = file, parts
	}
	return t
}

func (c *compiler) slot(field string, s SlotSpec) {
	compiled := slot{number: len(c.slots), format: s.Format}
	if compiled.format == "" {
		compiled.format = c.def.codecs[0]
	}
	if !slices.Contains(c.def.codecs, compiled.format) {
		allowed := slices.Compact(slices.Sorted(slices.Values(c.def.codecs)))
		c.fail(field+".format", "a slot cannot have format %q if the target has format %s; "+
			"formats of slots are %s", compiled.format, c.def.name, strings.Join(allowed, ", "))
	}
	compiled.padding = c.padding(field+".padding", compiled.format, s.Padding)
	c.checkFields(field, s)
	switch c.def.slots {
	case pathSlots:
		compiled.path = c.path(field+".path", s.Path)
		compiled.prefixes = prefixes(compiled.path)
	case patternSlots:
		compiled.pattern = c.pattern(field+".pattern", s.Pattern)
	}
	compiled.context = c.rule(field+".context", s.Context)
	compiled.destination = compiled.context
	if s.DestinationContext != nil {
		compiled.destination = c.rule(field+".destination_context", s.DestinationContext)
		compiled.hasDestination = true
	}
	c.slots = append(c.slots, compiled)
}

// checkFields refuses fields of a slot that the format of the target does not use.
func (c *compiler) checkFields(field string, s SlotSpec) {
	name := c.def.name
	if s.Path != "" && c.def.slots == wholeSlot {
		c.fail(field+".path", "with format %s the whole body is the slot; remove path", name)
	}
	if s.Path != "" && c.def.slots == patternSlots {
		c.fail(field+".path", "format %s finds slots by pattern; remove path", name)
	}
	if s.Pattern != "" && c.def.slots != patternSlots {
		c.fail(field+".pattern", "format %s does not use pattern; remove it", name)
	}
}

// The values of SlotSpec.Padding.
const (
	padAlways = "always"
	padNever  = "never"
)

func (c *compiler) padding(field, format, word string) Padding {
	switch {
	case word != "" && format != formatBase64 && format != formatBase64URL:
		c.fail(field, "format %s has no padding; remove this field", format)
	case word == padAlways:
		return PaddingAlways
	case word == padNever:
		return PaddingNever
	case word != "":
		c.fail(field, "%q is not one of %s, %s", word, padAlways, padNever)
	}
	return PaddingUnknown
}

func (c *compiler) path(field, text string) Path {
	path, err := ParsePath(text)
	if err != nil {
		c.fail(field, "%v", err)
		return nil
	}
	if c.spec.Kind == Rows {
		if path[0].Name == "" {
			c.fail(field, "path %q: a path starts with the name of an attribute", text)
			return nil
		}
		c.reads, c.writes = append(c.reads, path[0].Name), append(c.writes, path[0].Name)
	}
	return path
}

func (c *compiler) pattern(field, text string) *regexp.Regexp {
	pattern, err := regexp.Compile(text)
	switch {
	case text == "":
		c.fail(field, "is missing; set a regular expression with one group, such as "+
			`'DB_PASSWORD=(\S+)'`)
	case err != nil:
		c.fail(field, "%v", err)
	case pattern.NumSubexp() != 1:
		c.fail(field, "has %s, but must have exactly one, which is the slot; use (?:...) for "+
			"other groups", plural.Count(pattern.NumSubexp(), "group"))
	default:
		return pattern
	}
	return nil
}

func (c *compiler) rule(field string, context map[string]string) rule {
	r, err := newRule(context, c.where)
	if err != nil {
		c.fail(field, "%v", err)
		return rule{}
	}
	for _, parts := range r.values {
		c.readsOf(parts)
		if c.def.slots == noSlots {
			c.noteReferences(field, parts)
		}
	}
	return r
}

// readsOf records the attributes and metadata entries that references read.
func (c *compiler) readsOf(parts []part) {
	for _, p := range parts {
		switch p.kind {
		case attribute:
			c.reads = append(c.reads, p.path[0].Name)
		case metadata:
			c.metadata = append(c.metadata, p.name)
		}
	}
}

// slotOf returns the Slot for a decoded value.
func (s slot) slotOf(path string, d decoded, find lookup) Slot {
	out := Slot{Path: path, Rule: s.number, Padding: d.padding, Refused: d.refused}
	if out.Refused == nil {
		out.Context, out.Refused = s.context.fill(find)
	}
	out.DestinationContext = out.Context
	if out.Refused == nil && s.hasDestination {
		out.DestinationContext, out.Refused = s.destination.fill(find)
	}
	if out.Refused != nil {
		out.Held = d.blob
		return out
	}
	out.Blob = d.blob
	return out
}
