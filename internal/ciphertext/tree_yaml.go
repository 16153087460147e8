package ciphertext

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// section is an entry of the top-level mapping of a YAML document. It extends from the line
// that starts with its name to the line before the next entry.
type section struct {
	document   int // index in the stream, from 0
	name       string
	start, end int
}

// yamlSections splits a YAML stream at the entries of its top-level mappings. The value of
// such an entry is indented or is a list whose lines start with "- " (YAML 1.2.2, chapter
// 8.2), so every other line starts the next entry. Thus a format can read its own part of a
// file without parsing the rest.
func yamlSections(body []byte) []section {
	var list []section
	document := 0
	for at := 0; at < len(body); {
		end := len(body)
		if n := bytes.IndexByte(body[at:], '\n'); n >= 0 {
			end = at + n + 1
		}
		line := body[at:end]
		mark := bytes.TrimRight(line, " \t\r\n")
		separator := bytes.Equal(mark, []byte("---")) || bytes.HasPrefix(mark, []byte("--- "))
		switch name, ok := sectionName(line); {
		case ok && !separator:
			list = append(list, section{document: document, name: name, start: at, end: end})
		case separator:
			if len(list) > 0 {
				document++
			}
		case len(list) > 0 && list[len(list)-1].end == at && continues(line):
			list[len(list)-1].end = end
		}
		at = end
	}
	return list
}

// continues reports whether a line belongs to the entry above it.
func continues(line []byte) bool {
	return strings.IndexByte(" \t\r\n#", line[0]) >= 0 ||
		line[0] == '-' && len(line) > 1 && strings.IndexByte(" \t\r\n", line[1]) >= 0
}

// sectionName returns the name of the entry that a line starts. A name has at most 1,024
// characters (YAML 1.2.2, chapter 7.4.2).
func sectionName(line []byte) (string, bool) {
	text := string(line[:min(len(line), 4*1024+2)])
	switch text[0] {
	case '"', '\'':
		end := strings.IndexByte(text[1:], text[0])
		if end < 0 || !strings.HasPrefix(strings.TrimLeft(text[end+2:], " \t"), ":") ||
			strings.Contains(text[1:end+1], `\`) {
			return "", false
		}
		return text[1 : end+1], true
	case ' ', '\t', '\r', '\n', '#', '-', '[', '{', '&', '*', '!', '|', '>', '%', '@', '`', '?',
		']', '}', ',':
		return "", false
	}
	for i := range len(text) {
		if text[i] == ':' &&
			(i+1 == len(text) || strings.IndexByte(" \t\r\n", text[i+1]) >= 0) {
			return strings.TrimRight(text[:i], " \t"), true
		}
	}
	return "", false
}

// yamlNode returns the value of a section, or nil if it has none.
func yamlNode(body []byte, s section, path string) (found *node, refused *Refused) {
	return readYAML(&yamlReader{body: body, section: s}, path)
}

// yamlBlockNode is like yamlNode, but texts in a block (>, |) of one line can be replaced,
// too.
func yamlBlockNode(body []byte, s section, path string) (found *node, refused *Refused) {
	return readYAML(&yamlReader{body: body, section: s, blocks: true}, path)
}

func readYAML(y *yamlReader, path string) (found *node, refused *Refused) {
	// The parser may panic on unusual input, which is then refused. The parser shares no
	// state with the rest of the program.
	defer func() {
		if recover() != nil {
			found, refused = nil, notYAML(path)
		}
	}()
	text := y.body[y.section.start:y.section.end]
	if tooMuch(text) || hasOtherBreaks(text) {
		return nil, notYAML(path)
	}
	document, err := oneDocument(text)
	var wrong *yaml.LoadError
	switch {
	case errors.As(err, &wrong) && strings.HasPrefix(wrong.Message, "unknown anchor "):
		return &node{path: path}, nil // the value refers to another entry of the file
	case err != nil:
		return nil, notYAML(path)
	}
	y.lines = lineStarts(text)
	top := y.node(document, "", 0)
	if top.kind != nodeMap || len(top.members) != 1 || top.members[0].name != y.section.name {
		return nil, notYAML(path)
	}
	value := y.node(document.Content[1], path, 0)
	if value.kind == nodeNull {
		return nil, nil
	}
	return value, nil
}

// oneDocument parses a text with one YAML document and returns its root node.
func oneDocument(text []byte) (*yaml.Node, error) {
	loader, err := yaml.NewLoader(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	var document, more yaml.Node
	if err := loader.Load(&document); err != nil {
		return nil, err
	}
	switch err := loader.Load(&more); {
	case err == nil:
		return nil, errors.New("the section has more than one document")
	case !errors.Is(err, io.EOF):
		return nil, err
	case document.Kind == yaml.DocumentNode && len(document.Content) == 1:
		return document.Content[0], nil
	}
	return &document, nil
}

// hasOtherBreaks reports whether a text has characters that only some YAML readers treat as
// line breaks (YAML 1.2.2, 5.4, and 1.1, 4.2).
func hasOtherBreaks(text []byte) bool {
	if bytes.ContainsAny(text, "\u0085\u2028\u2029") {
		return true
	}
	return bytes.Count(text, []byte("\r")) != bytes.Count(text, []byte("\r\n"))
}

// lineStarts returns the offset of each line of a text.
func lineStarts(text []byte) []int {
	starts := []int{0}
	for i, c := range text {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

func notYAML(path string) *Refused {
	return refuse("not-yaml", "%s is not YAML that rotator can read, or is nested more than %d "+
		"levels deep, or is larger than 4 MiB", path, maxDepth)
}

// maxSection is the maximum size in bytes of an entry for the parser, and maxBrackets the
// maximum number of opening brackets in it.
const (
	maxSection  = 4 << 20
	maxBrackets = 10_000
)

// tooMuch reports whether a text may be nested too deeply for the parser, which is
// recursive. Each level of nesting needs either a column of indentation or a bracket.
func tooMuch(text []byte) bool {
	brackets, indent, fresh := 0, 0, true
	for _, c := range text {
		switch {
		case c == '\n':
			indent, fresh = 0, true
			continue
		case c == '[' || c == '{':
			brackets++
		case fresh && (c == ' ' || c == '-' || c == '?' || c == '\t'):
			if indent++; indent > maxDepth {
				return true
			}
			continue
		}
		fresh = false
	}
	return brackets > maxBrackets || len(text) > maxSection
}

// yamlReader converts the nodes of the parser.
type yamlReader struct {
	body    []byte
	section section
	lines   []int // offsets of the lines, relative to the section
	blocks  bool  // texts in blocks of one line can be replaced
}

// start returns the offset of a node in the body, from its line and its column in
// characters. ok is false if this position is not in the text.
func (y *yamlReader) start(n *yaml.Node) (at int, ok bool) {
	if n.Line < 1 || n.Line > len(y.lines) || n.Column < 1 {
		return 0, false
	}
	at = y.section.start + y.lines[n.Line-1]
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(y.body[at:y.section.end])
		if size == 0 {
			return 0, false
		}
		at += size
	}
	return at, true
}

// node converts a value. An alias or a value with an anchor or a tag becomes nodeOther,
// because it depends on other parts of the file.
func (y *yamlReader) node(n *yaml.Node, path string, depth int) *node {
	out := &node{path: path}
	if depth > maxDepth || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0 {
		return out
	}
	switch n.Kind {
	case yaml.MappingNode:
		out.kind = nodeMap
		for i := 0; i+1 < len(n.Content); i += 2 {
			y.member(out, n.Content[i], n.Content[i+1], depth)
		}
	case yaml.SequenceNode:
		out.kind = nodeList
		for i, v := range n.Content {
			at := stepPath(path, Step{Index: i, List: true})
			out.elements = append(out.elements, y.node(v, at, depth+1))
		}
	case yaml.ScalarNode:
		y.scalar(out, n)
	}
	return out
}

// isYAMLText reports whether a scalar is text: in quotes, in a block, or plain and not a
// number, bool or null. A date is text for the readers of these formats.
func isYAMLText(n *yaml.Node) bool {
	tag := n.ShortTag()
	return n.Kind == yaml.ScalarNode && n.Style&yaml.TaggedStyle == 0 && n.Anchor == "" &&
		(tag == "!!str" || tag == "!!timestamp")
}

func (y *yamlReader) scalar(out *node, n *yaml.Node) {
	switch {
	case isYAMLText(n):
		out.kind, out.text = nodeText, n.Value
		y.locate(out, n)
	case n.ShortTag() == "!!null":
		out.kind = nodeNull
	}
}

// member adds an entry of a mapping. A map with merge keys (<<) becomes nodeOther, because
// their values are elsewhere in the file. A map with a duplicate name becomes nodeOther,
// because readers differ in which entry they use.
func (y *yamlReader) member(out *node, name, value *yaml.Node, depth int) {
	twice := slices.ContainsFunc(out.members, func(m member) bool { return m.name == name.Value })
	if !isYAMLText(name) || twice {
		out.kind, out.members = nodeOther, nil
		return
	}
	if out.kind == nodeMap {
		at := stepPath(out.path, Step{Name: name.Value})
		out.members = append(out.members, member{name.Value, y.node(value, at, depth+1)})
	}
}

// locate finds the position of a text. The bytes there must be the text in its style,
// without escapes; otherwise the text cannot be replaced.
func (y *yamlReader) locate(n *node, scalar *yaml.Node) {
	at, ok := y.start(scalar)
	if !ok {
		return
	}
	rest := string(y.body[at:min(len(y.body), at+2*len(n.text)+3)])
	switch scalar.Style &^ yaml.FlowStyle {
	case 0:
		if n.text != "" && strings.HasPrefix(rest, n.text) && endsPlain(rest[len(n.text):]) {
			n.start, n.end, n.write = at, at+len(n.text), plainYAML
		}
	case yaml.SingleQuotedStyle:
		inner := strings.ReplaceAll(n.text, "'", "''")
		if strings.HasPrefix(rest, "'"+inner+"'") {
			n.start, n.end, n.write = at, at+len(inner)+2, singleQuoted
		}
	case yaml.DoubleQuotedStyle:
		if strings.HasPrefix(rest, `"`+n.text+`"`) && !strings.ContainsAny(n.text, "\\\"\n") {
			n.start, n.end, n.write = at, at+len(n.text)+2, jsonString // valid in YAML, too
		}
	case yaml.LiteralStyle, yaml.FoldedStyle:
		if y.blocks {
			y.locateBlock(n, at)
		}
	}
}

// locateBlock finds the position of the text of a block of one line. header is the offset of
// the header of the block. A block has no escapes. A line break at its end is part of the
// text and is kept.
func (y *yamlReader) locateBlock(n *node, header int) {
	line := strings.TrimRight(n.text, "\n")
	first := bytes.IndexByte(y.body[header:y.section.end], '\n')
	if first < 0 || line == "" || strings.ContainsAny(line, "\r\n") ||
		strings.TrimSpace(line) != line {
		return
	}
	content := y.body[header+first : y.section.end]
	at := header + first + len(content) - len(bytes.TrimLeft(content, " \r\n"))
	end := at + len(line)
	if end > len(y.body) || string(y.body[at:end]) != line {
		return
	}
	if end < len(y.body) && y.body[end] != '\n' && y.body[end] != '\r' {
		return
	}
	n.start, n.end = at, end
	n.write = func(text string) []byte { return []byte(strings.TrimRight(text, "\n")) }
}

// endsPlain reports whether a plain scalar can end before rest.
func endsPlain(rest string) bool {
	return rest == "" || strings.IndexByte(" \t\r\n,]}", rest[0]) >= 0
}

func singleQuoted(text string) []byte {
	return []byte("'" + strings.ReplaceAll(text, "'", "''") + "'")
}

// plainYAML encodes a text as a plain scalar if all readers interpret it as a string,
// because it is long and has letters that no number has. Otherwise it adds quotes.
func plainYAML(text string) []byte {
	letters := strings.ContainsFunc(text, func(r rune) bool {
		return 'g' <= r && r <= 'z' || 'G' <= r && r <= 'Z'
	})
	safe := !strings.ContainsFunc(text, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' ||
			strings.ContainsRune("+/=:-_.", r))
	})
	if len(text) > 16 && letters && safe && !strings.HasSuffix(text, ":") &&
		!strings.ContainsAny(text[:1], "-:=.") {
		return []byte(text)
	}
	return jsonString(text)
}
