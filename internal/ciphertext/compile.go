package ciphertext

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// slot is a compiled SlotSpec.
type slot struct {
	number               int // in the job file, from 0
	format               string
	path                 Path
	prefixes             []string // of the path
	pattern              *regexp.Regexp
	padding              Padding // of texts that do not show it
	keys                 *sourceNames
	context, destination rule
	differs              bool // there is a destination context of its own
	meets                bool // its path may lead to a place of another slot
}

// compiler makes the Format of a Spec, and gathers all problems on the way.
type compiler struct {
	spec  Spec
	def   formatDef
	where scope
	slots []slot
	errs  []error

	reads, writes []string
	// attributes are the references of the target's own contexts to attributes.
	attributes []fieldReference
	metadata   []string // entries of user metadata that matter to a slot in the body
	whole      bool
	needsBody  func(key string, metadata map[string]string) bool
}

func (c *compiler) fail(field, format string, args ...any) {
	c.errs = append(c.errs, &SpecError{Field: field, Detail: fmt.Sprintf(format, args...)})
}

// run returns nil only along with problems.
func (c *compiler) run() Format {
	if c.spec.Format == "" && len(c.spec.Slots) > 0 && !c.formatOfSlots() {
		return nil
	}
	def, known := formatOf(c.spec.Format, c.spec.Kind)
	if def.name == "" && c.spec.Format == formatText && c.spec.Kind == Rows {
		c.fail("format", "format text reads only bodies of objects and files: a ciphertext with a "+
			"prefix or other text around it in an attribute (v1:..., ENC:...) cannot be moved "+
			"yet; have the application write such items again with the new key, or use a format "+
			"whose slot is the whole attribute")
		return nil
	}
	if def.name == "" {
		c.fail("format", "there is no format %q here; there are %s", c.spec.Format, strings.Join(known, ", "))
		return nil
	}
	c.def, c.where = def, scope{kind: c.spec.Kind, body: def.body}
	c.keyPattern()
	switch {
	case def.slots == noSlots && len(c.spec.Slots) > 0:
		c.fail("slots", "format %s knows its own places; take slots out", def.name)
	case def.slots == noSlots:
	case len(c.spec.Slots) == 0:
		c.fail("slots", "name at least one slot")
	case len(c.spec.Slots) > maxSlots:
		c.fail("slots", "there are %d entries, and one target has at most %d; make several targets",
			len(c.spec.Slots), maxSlots)
	case def.slots == wholeSlot && len(c.spec.Slots) > 1:
		c.fail("slots", "with format %s the whole body is one slot; leave one entry", def.name)
	}
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
	format := def.build(c)
	c.writtenReferences()
	return format
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
			c.fail(field, "there is no format %q here; there are %s", s.Format,
				strings.Join(known, ", "))
		case def.slots == noSlots:
			c.fail(field, "format %s knows its own places; write it at the target, and "+
				"take slots out", def.name)
		case c.spec.Kind == Rows:
		case def.slots != wholeSlot:
			c.fail(field, "format %s says how a whole body is stored; write it at the target",
				def.name)
		case s.Path != "" || s.Pattern != "":
			c.fail(field, "format %s says how the ciphertext is stored, and the target has no "+
				"format that says how the body around it is stored; write one at the target, "+
				"such as json", def.name)
		}
	}
	c.spec.Format = c.spec.Slots[0].Format
	return len(c.errs) == 0
}

// fieldReference is a reference in a field of the target.
type fieldReference struct{ field, reference, attribute string }

// slotField names a field of the i-th slot, or the slot itself.
func slotField(i int, name string) string {
	field := fmt.Sprintf("slots[%d]", i)
	if name != "" {
		field += "." + name
	}
	return field
}

// symmetric is what Compiled says of it: a format that knows its own places knows
// its readers, and an envelope of Tink is read by Tink wherever it stands.
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

// contexts refuses what the target says of contexts and the format cannot use.
func (c *compiler) contexts() {
	def := c.def
	why := fmt.Sprintf("format %s finds the encryption context by itself; take this out", def.name)
	if def.slots != noSlots {
		why = "write the encryption context at the slot"
	}
	if c.spec.InstructionSuffix != "" && def.name != formatS3EC && def.name != formatAuto {
		c.fail("instruction_suffix", "format %s has no instruction files; leave it out", def.name)
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

// given compiles what the target says of contexts. Formats that take some call it.
func (c *compiler) targetContext() targetContext {
	g := targetContext{context: c.rule("context", c.spec.Context), listed: c.spec.Context != nil}
	g.destination = g.context
	if c.spec.DestinationContext != nil {
		g.destination, g.differs = c.rule("destination_context", c.spec.DestinationContext), true
	}
	if n := c.spec.ContextFile; n != nil {
		parts, err := parseValue(n.Name, c.where)
		if err != nil {
			c.fail("context_file.name", "%v", err)
		}
		c.readsOf(parts)
		c.noteReferences("context_file.name", parts)
		g.named, g.name = n, parts
	}
	return g
}

func (c *compiler) slot(field string, s SlotSpec) {
	compiled := slot{
		number: len(c.slots),
		format: s.Format,
		keys:   newSourceNames(c.spec.SourceKeys),
	}
	if compiled.format == "" {
		compiled.format = c.def.codecs[0]
	}
	if !slices.Contains(c.def.codecs, compiled.format) {
		allowed := slices.Compact(slices.Sorted(slices.Values(c.def.codecs)))
		c.fail(field+".format", "there is no format %q of a slot with format %s of the target; "+
			"there are %s", compiled.format, c.def.name, strings.Join(allowed, ", "))
	}
	compiled.padding = c.padding(field+".padding", compiled.format, s.Padding)
	if s.Path != "" && c.def.slots == wholeSlot {
		c.fail(field+".path", "with format %s the whole body is the slot; leave path out", c.def.name)
	}
	if s.Path != "" && c.def.slots == patternSlots {
		c.fail(field+".path", "with format %s a slot is found by its pattern; leave path out", c.def.name)
	}
	if s.Pattern != "" && c.def.slots != patternSlots {
		c.fail(field+".pattern", "format %s has no use for it; leave it out", c.def.name)
	}
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
		compiled.destination, compiled.differs = c.rule(field+".destination_context", s.DestinationContext), true
	}
	c.slots = append(c.slots, compiled)
}

// The values of SlotSpec.Padding.
const (
	padAlways = "always"
	padNever  = "never"
)

func (c *compiler) padding(field, format, word string) Padding {
	switch {
	case word != "" && format != formatBase64 && format != formatBase64URL:
		c.fail(field, "format %s has no padding; leave it out", format)
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
			c.fail(field, "path %q: it begins with the name of an attribute", text)
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
		c.fail(field, `is missing; write a regular expression with one group, such as 'DB_PASSWORD=(\S+)'`)
	case err != nil:
		c.fail(field, "%v", err)
	case pattern.NumSubexp() != 1:
		c.fail(field, "it has %d groups, and the one group is the slot; write (?:...) for the others", pattern.NumSubexp())
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

// readsOf notes the attributes and the entries of metadata that references take their
// values from.
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

// slotOf makes the Slot of a place whose blob has been read.
func (s slot) slotOf(path string, d decoded, find lookup) Slot {
	out := Slot{Path: path, Rule: s.number, Padding: d.padding, Refused: d.refused}
	if out.Refused == nil {
		out.Context, out.Refused = s.context.fill(find)
	}
	out.DestinationContext = out.Context
	if out.Refused == nil && s.differs {
		out.DestinationContext, out.Refused = s.destination.fill(find)
	}
	if out.Refused != nil {
		out.Held = d.blob
		return out
	}
	out.Blob = d.blob
	return out
}
