package ciphertext

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"rotator/internal/scan"
)

// maxDepth is how deep a document may nest; deeper ones are refused.
const maxDepth = 256

// jsonBody finds slots by path in an object whose body is one JSON document, and
// edits nothing but the bytes of their strings. A path that the document does not
// have is no slot, nor is null.
type jsonBody struct {
	slots   []slot
	pattern *regexp.Regexp
}

var _ Format = (*jsonBody)(nil)

// Name implements Format.
func (f *jsonBody) Name() string { return formatJSON }

// place is one string in a document that holds a blob.
type place struct {
	Slot
	start, end int // of the string in the body, quotes included
	form       func([]byte) []byte
}

// Find implements Format.
func (f *jsonBody) Find(item scan.Item) []Slot {
	object, ok := item.Payload.(*scan.Object)
	if !ok {
		return nil
	}
	var found []Slot
	for _, p := range f.places(object) {
		found = append(found, p.Slot)
	}
	return found
}

// Splice implements Format.
func (f *jsonBody) Splice(item scan.Item, blobs [][]byte) (scan.Payload, error) {
	object, ok := item.Payload.(*scan.Object)
	if !ok {
		return nil, errNotOurs(item)
	}
	places := f.places(object)
	if len(places) != len(blobs) {
		return nil, fmt.Errorf("%d blobs for %d slots", len(blobs), len(places))
	}
	var order []int
	for i, p := range places {
		if blobs[i] != nil && p.form != nil && !bytes.Equal(blobs[i], p.Blob) {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return places[a].start - places[b].start })
	var body []byte
	at := 0
	for _, i := range order {
		p := places[i]
		if p.start < at {
			return nil, errors.New("two slots are one place of the document")
		}
		body = append(body, object.Body[at:p.start]...)
		body = append(body, '"')
		body = append(body, p.form(blobs[i])...) // base64 needs no escapes
		body = append(body, '"')
		at = p.end
	}
	changed := *object
	changed.Body = append(body, object.Body[at:]...)
	return &changed, nil
}

func (f *jsonBody) places(object *scan.Object) []place {
	if !gjson.ValidBytes(object.Body) || tooDeep(object.Body) {
		refused := &Refused{Reason: "not-json", Detail: "the body is not one JSON document, or nests deeper than 256 levels"}
		return []place{{Slot: Slot{Path: f.slots[0].path.String(), Refused: refused}}}
	}
	d := &document{root: gjson.ParseBytes(object.Body), known: map[string]answer{}}
	find := objectLookup(object, f.pattern, d.member)
	var places []place
	for _, s := range f.slots {
		d.descend(d.root, nil, s.path, func(v gjson.Result, at Path, refused *Refused) {
			places = append(places, newPlace(s, object.Body, v, at, refused, find)...)
		})
	}
	return places
}

// newPlace looks at what stands at the end of a path.
func newPlace(s slot, body []byte, v gjson.Result, at Path, refused *Refused, find lookup) []place {
	path := at.String()
	switch {
	case !utf8.ValidString(path):
		path = strings.ToValidUTF8(path, "\ufffd")
		return []place{{Slot: Slot{Path: path, Refused: &Refused{Reason: "not-utf8",
			Detail: path + " stands for a name that is not UTF-8, by which it could not be found again"}}}}
	case refused != nil:
		return []place{{Slot: Slot{Path: path, Refused: refused}}}
	case v.Type == gjson.Null:
		return nil
	case v.Type != gjson.String:
		return []place{{Slot: Slot{Path: path, Refused: &Refused{Reason: "wrong-type",
			Detail: fmt.Sprintf("%s is not a string, and format %s reads strings", path, s.format)}}}}
	}
	if v.Index <= 0 || v.Index+len(v.Raw) > len(body) || string(body[v.Index:v.Index+len(v.Raw)]) != v.Raw {
		return []place{{Slot: Slot{Path: path, Refused: &Refused{Reason: "not-json", Detail: path + " could not be found again in the body"}}}}
	}
	blob, form, refused := decode(s.format, []byte(v.Str))
	return []place{{Slot: s.slotOf(path, blob, refused, find), start: v.Index, end: v.Index + len(v.Raw), form: quoted(form)}}
}

// quoted makes the inside of a JSON string of what form writes: line breaks in
// the text need escapes.
func quoted(form func([]byte) []byte) func([]byte) []byte {
	if form == nil {
		return nil
	}
	return func(blob []byte) []byte {
		text, _ := json.Marshal(string(form(blob))) // a string always marshals
		return text[1 : len(text)-1]
	}
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
