package ciphertext

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// node is a value of a document, whatever it is written in, and where it stands.
// Formats that know their own places read documents as nodes, so that each says
// once where its ciphertexts are.
type node struct {
	kind nodeKind
	path string // for people
	// members of a map and elements of a list, in the order of the document.
	members  []member
	elements []*node
	// text is what a text means, start and end where it stands in the body, with
	// its quotes. write puts another text in the same dress; it is nil where the
	// text cannot be replaced byte by byte, as in a folded block of YAML.
	text       string
	start, end int
	write      func(text string) []byte
}

// member is one entry of a map.
type member struct {
	name  string
	value *node
}

type nodeKind int

const (
	nodeOther nodeKind = iota // a number, an alias: what no format here reads
	nodeNull
	nodeText
	nodeMap
	nodeList
)

// get returns a member of a map; nil when there is none, or it is null, or n
// itself is no map. One that is there twice is refused: readers differ in which
// they take.
func (n *node) get(name string) (*node, *Refused) {
	var found *node
	if n == nil {
		return nil, nil
	}
	for _, m := range n.members {
		switch {
		case m.name != name:
		case found != nil:
			return nil, &Refused{Reason: "ambiguous", Detail: "the document has " + m.value.path + " twice"}
		default:
			found = m.value
		}
	}
	if found != nil && found.kind == nodeNull {
		return nil, nil
	}
	return found, nil
}

// replaceable returns a member that is a text, and can be replaced.
func (n *node) replaceable(name string) (*node, *Refused) {
	found, refused := n.get(name)
	switch {
	case refused != nil:
		return nil, refused
	case found == nil:
		return nil, &Refused{Reason: "missing-sibling", Detail: fmt.Sprintf("%s has no %s, which stands beside a ciphertext of this format", n.path, name)}
	case found.kind != nodeText:
		return nil, &Refused{Reason: "wrong-type", Detail: found.path + " is not a string"}
	case found.write == nil:
		return nil, &Refused{Reason: "unwritable", Detail: found.path + " is written in a way in which it cannot be replaced without touching other bytes; write it as one string on one line"}
	}
	return found, nil
}

// strings reads a map of strings, such as an encryption context: a missing or an
// empty one is none.
func (n *node) strings() (map[string]string, *Refused) {
	if n == nil {
		return nil, nil
	}
	if n.kind != nodeMap {
		return nil, &Refused{Reason: "wrong-type", Detail: n.path + " is not a map of strings"}
	}
	var context map[string]string
	for _, m := range n.members {
		_, twice := context[m.name]
		switch {
		case twice:
			return nil, &Refused{Reason: "ambiguous", Detail: "the document has " + m.value.path + " twice"}
		case m.value.kind != nodeText:
			return nil, &Refused{Reason: "wrong-type", Detail: m.value.path + " is not a string"}
		case !utf8.ValidString(m.name) || !utf8.ValidString(m.value.text):
			return nil, &Refused{Reason: "not-utf8", Detail: m.value.path + " is not UTF-8, and so cannot be sent to KMS as it is"}
		}
		if context == nil {
			context = map[string]string{}
		}
		context[m.name] = m.value.text
	}
	return context, nil
}

// replaced is the edit that puts a text in the place of this one.
func (n *node) replaced(text string) edit {
	return edit{start: n.start, end: n.end, text: constantly(n.write(text))}
}

// blobPlace is the place of a blob that stands in a text as base64, with the edits
// of what has to change along with it.
func (n *node) blobSite(context map[string]string, siblings ...edit) editSite {
	blob, encode, refused := decodePadded([]byte(n.text))
	if refused != nil {
		return editSite{Slot: Slot{Path: n.path, Refused: refused}}
	}
	own := edit{start: n.start, end: n.end, text: func(blob []byte) []byte { return n.write(string(encode(blob))) }}
	return editSite{Slot: Slot{Path: n.path, Blob: blob, Context: context, DestinationContext: context}, edits: append([]edit{own}, siblings...)}
}

// placeOf is the place of a refused slot.
func refusedSite(path string, refused *Refused) editSite {
	return editSite{Slot: Slot{Path: path, Refused: refused}}
}

// within is where text[from:to] of a text stands in the body. It is false where
// what leads there has escapes, so that it cannot be found by counting.
func (n *node) within(body []byte, from, to int) (start, end int, ok bool) {
	start = n.start
	if start < len(body) && strings.IndexByte("\"'`", body[start]) >= 0 {
		start++
	}
	found := n.write != nil && strings.HasPrefix(string(body[start:n.end]), n.text[:to])
	return start + from, start + to, found
}

// stepPath writes the path of a member or element of the value at path.
func stepPath(path string, s Step) string {
	text := strings.ToValidUTF8(Path{s}.String(), "\ufffd")
	if path == "" || strings.HasSuffix(path, " ") || strings.HasPrefix(text, "[") {
		return path + text
	}
	return path + "." + text
}
