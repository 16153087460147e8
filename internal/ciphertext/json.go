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

// maxDepth is how deep a document may nest; deeper ones are refused.
const maxDepth = 256

// newJSON finds slots by path in a body that is one JSON document, and edits
// nothing but the bytes of their strings. A path that the document does not have is
// no slot, nor is null.
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

// documentSites finds slots in text, a JSON document that stands at an offset of
// the body. What find returns reads references; it is given what reads the
// document.
func documentSites(text []byte, offset int, slots []slot, find func(member lookup) lookup) []editSite {
	if !gjson.ValidBytes(text) || tooDeep(text) {
		return []editSite{refusedSitef(slots[0].path.String(), "not-json", "it is not one JSON document, or nests deeper than %d levels", maxDepth)}
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

// newSites looks at what stands at the end of a path.
func newSites(s slot, text []byte, offset int, v gjson.Result, at Path, refused *Refused, find lookup) []editSite {
	path := at.String()
	switch {
	case !utf8.ValidString(path):
		path = strings.ToValidUTF8(path, "\ufffd")
		return []editSite{refusedSitef(path, "not-utf8", "%s stands for a name that is not UTF-8, by which it could not be found again", path)}
	case refused != nil:
		return []editSite{{Slot: Slot{Path: path, Refused: refused}}}
	case v.Type == gjson.Null:
		return nil
	case v.Type != gjson.String:
		return []editSite{refusedSitef(path, "wrong-type", "%s is not a string, and format %s reads strings", path, s.format)}
	}
	start, end, ok := stringIn(text, v)
	if !ok {
		return []editSite{refusedSitef(path, "not-json", "%s could not be found again in the body", path)}
	}
	d := decode(s.format, s.padding, []byte(v.Str))
	return []editSite{{
		Slot:  s.slotOf(path, d, find),
		edits: []edit{{start: offset + start, end: offset + end, text: quoted(d.encode)}},
	}}
}

// stringIn is where the string v stands in the document text, quotes included.
func stringIn(text []byte, v gjson.Result) (start, end int, ok bool) {
	start, end = v.Index, v.Index+len(v.Raw)
	return start, end, start > 0 && end <= len(text) && string(text[start:end]) == v.Raw
}

// quoted makes a JSON string of what form writes; nil where it writes none.
func quoted(encode func([]byte) []byte) func([]byte) []byte {
	return func(blob []byte) []byte {
		text := encode(blob)
		if text == nil {
			return nil
		}
		return jsonString(string(text))
	}
}

// jsonString writes a string with the escapes that it needs and no others, as
// JSON.stringify and most encoders do; encoding/json escapes <, > and & too.
func jsonString(text string) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // a string always encodes
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// tooDeep counts brackets outside of strings.
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
	known map[string]answer // by reference, so that many slots cost one look
}

// answer is what a reference stands for in a document.
type answer struct {
	text    string
	refused *Refused
}

// descend follows a path from v and visits what stands at its ends. Two members
// of one name on the way make it ambiguous: readers differ in which they take.
func (d *document) descend(v gjson.Result, at, left Path, visit func(v gjson.Result, at Path, refused *Refused)) {
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

// members follows the members of an object that the next step names.
func (d *document) members(v gjson.Result, at, left Path, visit func(v gjson.Result, at Path, refused *Refused)) {
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
			times[name.Str] = 0 // refused once
			visit(member, here, &Refused{Reason: "ambiguous", Detail: fmt.Sprintf("the document has %s twice", here)})
			return true
		}
		d.descend(member, here, left[1:], visit)
		return true
	})
}

// member reads a reference from the document.
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
			refused = missing(p, "it is neither a string nor a number")
		}
	})
	return text, refused
}
