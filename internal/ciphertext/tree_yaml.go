package ciphertext

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// section is an entry of a mapping at the top of a YAML document: from its name at
// the beginning of a line to the line before the next one.
type section struct {
	document   int // which document of the stream, from 0
	name       string
	start, end int
}

// yamlSections cuts a YAML stream at the entries of its top-level mappings. Values
// of such an entry are indented, or are lists that begin at "- " (YAML 1.2.2,
// chapter 8.2), so every line that begins with anything else opens another one.
// That lets a format read its own part of a file, however large and odd the rest.
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

// continues says whether a line belongs to the entry above it.
func continues(line []byte) bool {
	return strings.IndexByte(" \t\r\n#", line[0]) >= 0 || line[0] == '-' && len(line) > 1 && strings.IndexByte(" \t\r\n", line[1]) >= 0
}

// sectionName reads the name of an entry that begins a line. Such a name has at
// most 1,024 characters (YAML 1.2.2, chapter 7.4.2).
func sectionName(line []byte) (string, bool) {
	text := string(line[:min(len(line), 4*1024+2)])
	switch text[0] {
	case '"', '\'':
		end := strings.IndexByte(text[1:], text[0])
		if end < 0 || !strings.HasPrefix(strings.TrimLeft(text[end+2:], " \t"), ":") || strings.Contains(text[1:end+1], `\`) {
			return "", false
		}
		return text[1 : end+1], true
	case ' ', '\t', '\r', '\n', '#', '-', '[', '{', '&', '*', '!', '|', '>', '%', '@', '`', '?', ']', '}', ',':
		return "", false
	}
	for i := range len(text) {
		if text[i] == ':' && (i+1 == len(text) || strings.IndexByte(" \t\r\n", text[i+1]) >= 0) {
			return strings.TrimRight(text[:i], " \t"), true
		}
	}
	return "", false
}

// yamlNode reads the value of a section. It is nil for an entry without one.
func yamlNode(body []byte, s section, path string) (found *node, refused *Refused) {
	return readYAML(&yamlReader{body: body, starts: map[*token.Token]int{}}, s, path)
}

// yamlBlockNode is yamlNode for a format whose texts may stand in a block (>, |) of one
// line, where they can be replaced.
func yamlBlockNode(body []byte, s section, path string) (found *node, refused *Refused) {
	y := &yamlReader{body: body, starts: map[*token.Token]int{}, blocks: true}
	return readYAML(y, s, path)
}

func readYAML(y *yamlReader, s section, path string) (found *node, refused *Refused) {
	// The parser indexes what it was given in more than one place without looking
	// first, so a text that nobody thought of may panic in it. Such a text is not
	// read; nothing else depends on what happened inside of the parser.
	defer func() {
		if recover() != nil {
			found, refused = nil, notYAML(path)
		}
	}()
	text := y.body[s.start:s.end]
	if tooMuch(text) {
		return nil, notYAML(path)
	}
	file, err := parser.Parse(y.tokens(s), 0)
	if err != nil || len(file.Docs) != 1 {
		return nil, notYAML(path)
	}
	top := y.node(file.Docs[0].Body, "", 0)
	if top.kind != nodeMap || len(top.members) != 1 || top.members[0].name != s.name {
		return nil, notYAML(path)
	}
	value := y.node(topValue(file.Docs[0].Body), path, 0)
	if value.kind == nodeNull {
		return nil, nil
	}
	return value, nil
}

func notYAML(path string) *Refused {
	return &Refused{Reason: "not-yaml", Detail: fmt.Sprintf("%s is not YAML that can be read here, or nests deeper than %d levels, or is larger than 4 MiB", path, maxDepth)}
}

func topValue(n ast.Node) ast.Node {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values[0].Value
	case *ast.MappingValueNode:
		return n.Value
	}
	return nil
}

// maxSection is the largest entry that the parser is given, in bytes, and
// maxBrackets the most brackets that may open in it.
const (
	maxSection  = 4 << 20
	maxBrackets = 10_000
)

// tooMuch bounds nesting before the parser, which recurses, sees the text: every
// level of a block costs a column, every level of a flow a bracket.
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

// yamlReader makes nodes of what the parser found.
type yamlReader struct {
	body   []byte
	starts map[*token.Token]int // where each token begins in the body
	blocks bool                 // texts in blocks of one line are located
}

// tokens cuts a section into tokens, comments among them. Between one and the next
// there is nothing but white space, so counting the bytes that each was made of says
// where it is; the parser's own lines and columns are not always right. From where
// that does not fit the body on, nobody knows where a token is.
func (y *yamlReader) tokens(s section) token.Tokens {
	const space = " \t\r\n"
	tokens := lexer.Tokenize(string(y.body[s.start:s.end]))
	at := s.start
	for _, t := range tokens {
		core := []byte(strings.Trim(t.Origin, space))
		at += len(y.body[at:s.end]) - len(bytes.TrimLeft(y.body[at:s.end], space))
		if !bytes.HasPrefix(y.body[at:s.end], core) {
			break
		}
		y.starts[t] = at
		at += len(core)
	}
	return tokens
}

func (y *yamlReader) node(n ast.Node, path string, depth int) *node {
	out := &node{path: path}
	if depth > maxDepth {
		return out
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		out.kind = nodeMap
		for _, v := range n.Values {
			y.member(out, v, path, depth)
		}
	case *ast.MappingValueNode:
		out.kind = nodeMap
		y.member(out, n, path, depth)
	case *ast.SequenceNode:
		out.kind = nodeList
		for i, v := range n.Values {
			out.elements = append(out.elements, y.node(v, stepPath(path, Step{Index: i, List: true}), depth+1))
		}
	case *ast.NullNode:
		out.kind = nodeNull
	case *ast.LiteralNode:
		out.kind, out.text = nodeText, n.Value.Value
		if y.blocks {
			y.locateBlock(out, n.Value.GetToken())
		}
	case *ast.StringNode:
		out.kind, out.text = nodeText, n.Value
		y.locate(out, n.GetToken())
	}
	return out
}

// member adds an entry of a mapping. What is merged in (<<) is not written out,
// for what it says stands elsewhere in the file: the map is no map that can be read.
func (y *yamlReader) member(out *node, v *ast.MappingValueNode, path string, depth int) {
	key, ok := v.Key.(*ast.StringNode)
	if !ok {
		out.kind, out.members = nodeOther, nil
		return
	}
	if out.kind == nodeMap {
		out.members = append(out.members, member{key.Value, y.node(v.Value, stepPath(path, Step{Name: key.Value}), depth+1)})
	}
}

// locate finds where a text stands. The bytes there have to say the same in the one
// way in which this text is written without escapes; where they do not, it cannot be
// replaced.
func (y *yamlReader) locate(n *node, t *token.Token) {
	at, ok := y.starts[t]
	if !ok {
		return
	}
	rest := string(y.body[at:min(len(y.body), at+2*len(n.text)+3)])
	switch t.Type {
	case token.StringType:
		if n.text != "" && strings.HasPrefix(rest, n.text) && endsPlain(rest[len(n.text):]) {
			n.start, n.end, n.write = at, at+len(n.text), plainYAML
		}
	case token.SingleQuoteType:
		inner := strings.ReplaceAll(n.text, "'", "''")
		if strings.HasPrefix(rest, "'"+inner+"'") {
			n.start, n.end, n.write = at, at+len(inner)+2, singleQuoted
		}
	case token.DoubleQuoteType:
		if strings.HasPrefix(rest, `"`+n.text+`"`) && !strings.ContainsAny(n.text, "\\\"\n") {
			n.start, n.end, n.write = at, at+len(n.text)+2, jsonString // a JSON string is one of YAML
		}
	}
}

// locateBlock finds where a text stands that is a block of one line. In a block nothing
// is escaped. A line break at its end is a part of the text, and stays.
func (y *yamlReader) locateBlock(n *node, t *token.Token) {
	at, ok := y.starts[t]
	line := strings.TrimRight(n.text, "\n")
	if !ok || line == "" || strings.ContainsAny(line, "\r\n") || strings.TrimSpace(line) != line {
		return
	}
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

// endsPlain says whether a plain scalar can end before rest.
func endsPlain(rest string) bool { return rest == "" || strings.IndexByte(" \t\r\n,]}", rest[0]) >= 0 }

func singleQuoted(text string) []byte {
	return []byte("'" + strings.ReplaceAll(text, "'", "''") + "'")
}

// plainYAML writes a text as a plain scalar where every reader takes it for a
// string: it is long, and has letters that are in no number.
func plainYAML(text string) []byte {
	letters := strings.ContainsFunc(text, func(r rune) bool { return 'g' <= r && r <= 'z' || 'G' <= r && r <= 'Z' })
	safe := !strings.ContainsFunc(text, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("+/=:-_.", r))
	})
	if len(text) > 16 && letters && safe && !strings.HasSuffix(text, ":") && !strings.ContainsAny(text[:1], "-:=.") {
		return []byte(text)
	}
	return jsonString(text)
}
