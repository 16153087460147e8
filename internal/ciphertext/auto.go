package ciphertext

import (
	"fmt"
	"slices"
	"strings"

	"rotator/internal/scan"
)

const formatAuto = "auto"

// auto chooses the format of each item among the formats that find their slots
// themselves, by the marks of these formats. An item with the marks of an unsupported
// format is refused with the name of that format. An item that two formats recognise is
// refused, too. An item without marks has no slot. The contexts of the target apply
// only to bodies that are a blob and nothing more.
type auto struct {
	formats     []recognised
	unsupported *bodyFormat // for items that no format recognises
}

// recognised is a format, compiled for the target, and the test for its items.
type recognised struct {
	Format
	is func(object *scan.Object) bool
}

var _ Format = (*auto)(nil)

func newAuto(c *compiler) binder {
	c.needsBody = func(_ string, metadata map[string]string) bool {
		return c.spec.Kind == Files || !s3ecMarked(metadata)
	}
	c.metadata = append(c.metadata, s3ecMarks()...)
	var formatBinders []func(binding) recognised
	for _, def := range formats() {
		if def.recognise == nil || !slices.Contains(def.kinds, c.spec.Kind) {
			continue
		}
		own := &compiler{
			spec:  c.spec,
			def:   def,
			where: scope{kind: c.spec.Kind, body: def.body, pattern: c.where.pattern},
		}
		own.spec.Context, own.spec.DestinationContext = nil, nil
		bind := def.build(own)
		c.errs = append(c.errs, own.errs...)
		c.ruleNames = append(c.ruleNames, def.name)
		formatBinders = append(formatBinders, func(b binding) recognised {
			format := bind(b)
			is := func(object *scan.Object) bool { return def.recognise(format, object) }
			return recognised{Format: format, is: is}
		})
	}
	bare := newBareBlob(c)
	c.ruleNames = append(c.ruleNames, bare.Name())
	return func(b binding) Format {
		a := &auto{unsupported: &bodyFormat{name: formatAuto, sites: unsupportedSites}}
		for _, bind := range formatBinders {
			a.formats = append(a.formats, bind(b))
		}
		a.formats = append(a.formats, recognised{Format: bare, is: recogniseBareBlob})
		return a
	}
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
		slots[i].Rule = rule // each format has its own contexts
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
		return nil, fmt.Errorf("got %d blobs for 1 slot", len(blobs))
	}
	unchanged := *object
	return &unchanged, nil
}

// formatOf returns the format of an object, or refuses an object that more than one
// format recognises.
func (a *auto) formatOf(object *scan.Object) (Format, *Refused) {
	var found []recognised
	for _, f := range a.formats {
		if f.is(object) {
			found = append(found, f)
		}
	}
	switch len(found) {
	case 0:
		return a.unsupported, nil
	case 1:
		return found[0].Format, nil
	}
	var names []string
	for _, f := range found {
		names = append(names, f.Name())
	}
	return nil, &Refused{
		Reason: "ambiguous",
		Detail: fmt.Sprintf("the item has the marks of several formats: %s. Add a target for such "+
			"items that sets the format", strings.Join(names, ", ")),
	}
}
