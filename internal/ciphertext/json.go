package ciphertext

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"rotator/internal/scan"
)

// maxDepth is the maximum depth of nesting of a document.
const maxDepth = 256

// newJSON builds the format of a body that is one JSON document. Slots are found by path. A
// path that does not exist in the document, or leads to null, is not a slot.
func newJSON(c *compiler) binder {
	name, pattern := c.def.name, c.where.pattern
	return func(b binding) Format {
		slots := b.slots
		return &bodyFormat{
			name: name,
			sites: func(object *scan.Object) []editSite {
				return documentSites(object.Body, 0, slots, func(member lookup) lookup {
					return objectLookup(object, pattern, member)
				})
			},
			miss: func(object *scan.Object, rule int, near bool) Miss {
				return explainDocument(object.Body, slots[rule], near)
			},
		}
	}
}

// documentSites returns the slots of text, a JSON document at an offset of the body. find
// returns the lookup of references; its argument looks up members of the document.
func documentSites(
	text []byte, offset int, slots []slot, find func(member lookup) lookup,
) []editSite {
	if !isDocument(text) {
		return []editSite{refusedSite(slots[0].path.String(), notJSON())}
	}
	d := &document{root: gjson.ParseBytes(text), known: map[string]answer{}}
	references := find(d.member)
	var sites []editSite
	var taken shared
	names := slots[0].keys
	named := names.in(text)
	for _, s := range slots {
		d.descend(d.root, nil, s.path, func(v gjson.Result, at Path, refused *Refused) {
			for _, p := range newSites(s, text, offset, v, at, refused, references) {
				if s.mayOverlap && taken.refuse(sites, s.number, p.Path) {
					continue
				}
				if named && p.Refused == nil {
					p.StaleKey = d.staleKey(names, at)
				}
				sites = append(sites, p)
			}
		})
	}
	return sites
}

// notJSON refuses a body that is not a JSON document.
func notJSON() *Refused {
	return refuse("not-json",
		"the body is not one JSON document, or is nested more than %d levels "+
			"deep", maxDepth)
}

// newSites returns the site of v, the value at the end of a path, or none if v is null.
func newSites(
	s slot, text []byte, offset int, v gjson.Result, at Path, refused *Refused, find lookup,
) []editSite {
	path := at.String()
	switch {
	case !utf8.ValidString(path):
		path = strings.ToValidUTF8(path, "\ufffd")
		return []editSite{refusedSitef(path, "not-utf8", "%s contains a name that is not UTF-8, "+
			"so the slot could not be found again by its path", path)}
	case refused != nil:
		return []editSite{refusedSite(path, refused)}
	case v.Type == gjson.Null:
		return nil
	case v.Type != gjson.String:
		return []editSite{refusedSitef(path, "wrong-type",
			"%s is not a string, but format %s reads strings", path, s.format)}
	}
	start, end, ok := stringIn(text, v)
	if !ok {
		return []editSite{refusedSitef(path, "not-json",
			"the position of %s in the body is unknown",
			path)}
	}
	d := decode(s.format, s.padding, []byte(v.Str))
	return []editSite{{
		Slot:  s.slotOf(path, d, find),
		edits: []edit{{start: offset + start, end: offset + end, text: quoted(d.encode)}},
	}}
}

// stringIn returns the position of the string v in the document text, including quotes.
func stringIn(text []byte, v gjson.Result) (start, end int, ok bool) {
	start, end = v.Index, v.Index+len(v.Raw)
	return start, end, start > 0 && end <= len(text) && string(text[start:end]) == v.Raw
}

// quoted wraps encode. It returns the text as a JSON string, or nil if encode returns nil.
func quoted(encode func([]byte) []byte) func([]byte) []byte {
	return func(blob []byte) []byte {
		text := encode(blob)
		if text == nil {
			return nil
		}
		return jsonString(string(text))
	}
}

// jsonString encodes a string with only the required escapes, like JSON.stringify and most
// encoders. By default, encoding/json also escapes <, > and &.
func jsonString(text string) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // a string always encodes
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// tooDeep reports whether a document is nested more than maxDepth levels deep.
func tooDeep(text []byte) bool {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			if depth++; depth > maxDepth {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

// document is a parsed body.
type document struct {
	root  gjson.Result
	known map[string]answer // by reference
}

// answer is the value of a reference in a document.
type answer struct {
	text    string
	refused *Refused
}

// visitor is called with the value at the end of a path, or with a refusal.
type visitor func(v gjson.Result, at Path, refused *Refused)

// descend follows the path left from v, the value at a path, and visits the values at its
// ends. A duplicate member on the way is refused, because readers differ in which one they
// use.
func (d *document) descend(v gjson.Result, at, left Path, visit visitor) {
	if len(left) == 0 {
		visit(v, at, nil)
		return
	}
	step := left[0]
	switch {
	case !step.List && v.IsObject():
		d.members(v, at, left, visit)
	case step.List && v.IsArray():
		i := 0
		v.ForEach(func(_, element gjson.Result) bool {
			if step.Every || i == step.Index {
				d.descend(element, at.with(Step{Index: i, List: true}), left[1:], visit)
			}
			i++
			return true
		})
	}
}

// members follows the members of an object that match the next step.
func (d *document) members(v gjson.Result, at, left Path, visit visitor) {
	step := left[0]
	times := map[string]int{}
	v.ForEach(func(name, _ gjson.Result) bool {
		times[name.Str]++
		return true
	})
	v.ForEach(func(name, member gjson.Result) bool {
		if !step.Every && name.Str != step.Name || times[name.Str] == 0 {
			return true
		}
		here := at.with(Step{Name: name.Str})
		if times[name.Str] > 1 {
			times[name.Str] = 0 // refuse only once
			visit(member, here, duplicate(here.String()))
			return true
		}
		d.descend(member, here, left[1:], visit)
		return true
	})
}

// member looks up a reference in the document.
func (d *document) member(p part) (string, *Refused) {
	a, ok := d.known[p.reference]
	if !ok {
		a.text, a.refused = d.find(p)
		d.known[p.reference] = a
	}
	return a.text, a.refused
}

func (d *document) find(p part) (text string, refused *Refused) {
	refused = missing(p, fmt.Sprintf("the document has no %s", p.path))
	d.descend(d.root, nil, p.path, func(v gjson.Result, _ Path, ambiguous *Refused) {
		switch {
		case ambiguous != nil:
			text, refused = "", ambiguous
		case v.Type == gjson.String:
			text, refused = v.Str, nil
		case v.Type == gjson.Number, v.Type == gjson.True, v.Type == gjson.False:
			text, refused = v.Raw, nil
		default:
			refused = missing(p, "its value is neither a string nor a number nor a bool")
		}
	})
	return text, refused
}
