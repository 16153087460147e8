package ciphertext

import (
	"strings"
	"unicode/utf8"
)

// node is a value of a JSON, YAML, env or INI document, with its position. Formats that
// find their slots themselves read documents as nodes, independent of the syntax.
type node struct {
	kind nodeKind
	path string // for messages
	// members of a map and elements of a list, in the order of the document.
	members  []member
	elements []*node
	// text is the decoded value of a text. It is at body[start:end], including quotes.
	// write encodes another text in the same style. It is nil if the text cannot be
	// replaced without changing other bytes, as in a folded block of YAML.
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
	nodeOther nodeKind = iota // a number or an alias, which no format reads
	nodeNull
	nodeText
	nodeMap
	nodeList
)

// get returns a member of a map. It returns nil if there is none, if it is null, or if n is
// not a map. It refuses a duplicate member, because readers differ in which one they use.
func (n *node) get(name string) (*node, *Refused) {
	var found *node
	if n == nil {
		return nil, nil
	}
	for _, m := range n.members {
		switch {
		case m.name != name:
		case found != nil:
			return nil, duplicate(m.value.path)
		default:
			found = m.value
		}
	}
	if found != nil && found.kind == nodeNull {
		return nil, nil
	}
	return found, nil
}

// duplicate refuses a document with two values at a path.
func duplicate(path string) *Refused {
	return refuse("ambiguous", "the document has %s twice", path)
}

// replaceable returns a member that is a text and can be replaced.
func (n *node) replaceable(name string) (*node, *Refused) {
	found, refused := n.get(name)
	switch {
	case refused != nil:
		return nil, refused
	case found == nil:
		return nil, refuse("missing-sibling",
			"%s has no %s, which this format requires next to a ciphertext", n.path, name)
	case found.kind != nodeText:
		return nil, refuse("wrong-type", "%s is not a string", found.path)
	case found.write == nil:
		return nil, refuse("unwritable", "%s is written in a form that cannot be replaced without "+
			"changing other bytes; write it as one string on one line", found.path)
	}
	return found, nil
}

// strings returns a map of strings, such as an encryption context. It returns nil for a
// missing or empty map.
func (n *node) strings() (map[string]string, *Refused) {
	if n == nil {
		return nil, nil
	}
	if n.kind != nodeMap {
		return nil, refuse("wrong-type", "%s is not a map of strings", n.path)
	}
	var context map[string]string
	for _, m := range n.members {
		_, twice := context[m.name]
		switch {
		case twice:
			return nil, duplicate(m.value.path)
		case m.value.kind != nodeText:
			return nil, refuse("wrong-type", "%s is not a string", m.value.path)
		case !utf8.ValidString(m.name) || !utf8.ValidString(m.value.text):
			return nil, notUTF8(m.value.path)
		}
		if context == nil {
			context = map[string]string{}
		}
		context[m.name] = m.value.text
	}
	return context, nil
}

// notUTF8 refuses a value of an encryption context.
func notUTF8(path string) *Refused {
	return refuse("not-utf8", "%s is not UTF-8 and cannot be sent to KMS", path)
}

// replaced returns the edit that replaces the text.
func (n *node) replaced(text string) edit {
	return edit{start: n.start, end: n.end, text: constantly(n.write(text))}
}

// blobSite returns the site of a text that is a blob in base64. siblings are the edits of
// values that change with the blob.
func (n *node) blobSite(context map[string]string, siblings ...edit) editSite {
	blob, encode, refused := decodePadded([]byte(n.text))
	if refused != nil {
		return refusedSite(n.path, refused)
	}
	own := edit{
		start: n.start,
		end:   n.end,
		text:  func(blob []byte) []byte { return n.write(string(encode(blob))) },
	}
	return editSite{
		Slot: Slot{
			Path:               n.path,
			Blob:               blob,
			Context:            context,
			DestinationContext: context,
		},
		edits: append([]edit{own}, siblings...),
	}
}

// refusedSite returns the site of a refused slot.
func refusedSite(path string, refused *Refused) editSite {
	return editSite{Slot: Slot{Path: path, Refused: refused}}
}

// within returns the position of text[from:to] in the body. ok is false if escapes precede
// it in the text, so that its position cannot be computed.
func (n *node) within(body []byte, from, to int) (start, end int, ok bool) {
	start = n.start
	if start < len(body) && strings.IndexByte("\"'`", body[start]) >= 0 {
		start++
	}
	found := n.write != nil && strings.HasPrefix(string(body[start:n.end]), n.text[:to])
	return start + from, start + to, found
}

// stepPath returns the path of a member or element of the value at path.
func stepPath(path string, s Step) string {
	text := strings.ToValidUTF8(Path{s}.String(), "\ufffd")
	if path == "" || strings.HasSuffix(path, " ") || strings.HasPrefix(text, "[") {
		return path + text
	}
	return path + "." + text
}
