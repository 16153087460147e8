package ciphertext

import (
	"strings"

	"github.com/tidwall/gjson"
)

// isDocument reports whether a body is one JSON document that is not nested too deeply.
func isDocument(body []byte) bool { return gjson.ValidBytes(body) && !tooDeep(body) }

// jsonNode returns the value at a path of names in a JSON document, or nil if there is none.
// Only this part of the document becomes nodes.
func jsonNode(body []byte, names ...string) (found *node, refused *Refused) {
	var path Path
	for _, name := range names {
		path = append(path, Step{Name: name})
	}
	d := &document{root: gjson.ParseBytes(body)}
	d.descend(d.root, nil, path, func(v gjson.Result, at Path, ambiguous *Refused) {
		if refused = ambiguous; refused == nil && v.Type != gjson.Null {
			found = newJSONNode(body, v, at.String())
		}
	})
	return found, refused
}

func newJSONNode(body []byte, v gjson.Result, path string) *node {
	n := &node{path: path}
	switch {
	case v.IsObject():
		n.kind = nodeMap
		v.ForEach(func(name, value gjson.Result) bool {
			at := stepPath(path, Step{Name: name.Str})
			n.members = append(n.members, member{name.Str, newJSONNode(body, value, at)})
			return true
		})
	case v.IsArray():
		n.kind = nodeList
		v.ForEach(func(_, value gjson.Result) bool {
			step := Step{Index: len(n.elements), List: true}
			n.elements = append(n.elements, newJSONNode(body, value, stepPath(path, step)))
			return true
		})
	case v.Type == gjson.Null:
		n.kind = nodeNull
	case v.Type == gjson.String:
		n.kind, n.text = nodeText, v.Str
		if start, end, ok := stringIn(body, v); ok {
			n.start, n.end, n.write = start, end, jsonString
		}
	}
	return n
}

// opensObject reports whether a body starts like a JSON object.
func opensObject(body []byte) bool {
	start := string(body[:min(len(body), 64)])
	return strings.HasPrefix(strings.TrimLeft(start, " \t\r\n"), "{")
}
