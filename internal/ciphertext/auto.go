package ciphertext

import (
	"fmt"
	"slices"
	"strings"

	"rotator/internal/scan"
)

const formatAuto = "auto"

// auto asks every format that knows its own places whether an item bears its
// marks, and leaves the item to the one that says yes. What bears the marks of a
// format that cannot be moved is refused by its name, and so is what two formats
// take for theirs; what bears none has no slot. The contexts of the target are for
// bare blobs alone.
type auto struct {
	formats []recognised
	rest    *bodyFormat // for what none of them takes
}

// recognised is a format, compiled for the target, and how to know its items.
type recognised struct {
	Format
	is func(object *scan.Object) bool
}

var _ Format = (*auto)(nil)

func newAuto(c *compiler) Format {
	c.needsBody = func(_ string, metadata map[string]string) bool {
		return c.spec.Kind == Files || !s3ecMarked(metadata)
	}
	c.metadata = append(c.metadata, s3ecMarks()...)
	a := &auto{rest: &bodyFormat{name: formatAuto, sites: unsupportedSites}}
	for _, e := range formats() {
		if e.recognise == nil || !slices.Contains(e.kinds, c.spec.Kind) {
			continue
		}
		own := &compiler{spec: c.spec, def: e, where: scope{kind: c.spec.Kind, body: e.body, pattern: c.where.pattern}}
		own.spec.Context, own.spec.DestinationContext = nil, nil
		format := e.build(own)
		is := func(object *scan.Object) bool { return e.recognise(format, object) }
		a.formats = append(a.formats, recognised{Format: format, is: is})
		c.errs = append(c.errs, own.errs...)
	}
	bare := newBareBlob(c)
	a.formats = append(a.formats, recognised{Format: bare, is: recogniseBareBlob})
	return a
}

// Name implements Format.
func (a *auto) Name() string { return formatAuto }

// Find implements Format.
func (a *auto) Find(item scan.Item) []Slot {
	object, ok := item.Payload.(*scan.Object)
	if !ok {
		return nil
	}
	f, refused := a.formatOf(object)
	if refused != nil {
		return []Slot{{Refused: refused}}
	}
	slots := f.Find(item)
	rule := slices.IndexFunc(a.formats, func(r recognised) bool { return r.Name() == f.Name() })
	for i := range slots {
		slots[i].Rule = rule // each format has contexts of its own
	}
	return slots
}

// Splice implements Format.
func (a *auto) Splice(item scan.Item, blobs [][]byte) (scan.Payload, error) {
	object, ok := item.Payload.(*scan.Object)
	if !ok {
		return nil, errWrongPayload(item)
	}
	f, refused := a.formatOf(object)
	if refused == nil {
		return f.Splice(item, blobs)
	}
	if len(blobs) != 1 {
		return nil, fmt.Errorf("%d blobs for 1 slot", len(blobs))
	}
	unchanged := *object
	return &unchanged, nil
}

// formatOf is the format of an object, or why none of them can be told to be it.
func (a *auto) formatOf(object *scan.Object) (Format, *Refused) {
	var found []recognised
	for _, f := range a.formats {
		if f.is(object) {
			found = append(found, f)
		}
	}
	switch len(found) {
	case 0:
		return a.rest, nil
	case 1:
		return found[0].Format, nil
	}
	var names []string
	for _, f := range found {
		names = append(names, f.Name())
	}
	return nil, &Refused{Reason: "ambiguous", Detail: fmt.Sprintf("it bears the marks of several formats, %s; give it a target that names its format", strings.Join(names, ", "))}
}
