package config

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// MaxContexts is the maximum size of a context file in bytes. A context file in YAML also has
// the limits of a job file; use JSON or CSV for many names.
const MaxContexts = 64 << 20

// LoadContexts reads a context file, which holds encryption contexts by name. The extension
// determines the syntax: YAML or JSON with an object of objects of strings, or CSV with the
// columns name, key and value. KMS compares contexts exactly, so LoadContexts converts
// nothing: numbers are not accepted as text, names must be unique, and ${...} is not
// expanded. A name with an empty context has the value {}, or in CSV an empty key and value.
// All errors are *Problems with positions in this file.
func LoadContexts(path string) (map[string]map[string]string, error) {
	read := map[string]func(*contexts, []byte){
		".yaml": (*contexts).yaml,
		".yml":  (*contexts).yaml,
		".json": (*contexts).json,
		".csv":  (*contexts).csv,
	}[strings.ToLower(filepath.Ext(path))]
	c := &contexts{byName: map[string]map[string]string{}}
	data, err := readAtMost(path, MaxContexts+1)
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err // without the path, which Problems prints
	}
	switch {
	case read == nil:
		c.add(position{}, "", "must end in .yaml, .json or .csv")
	case err != nil:
		c.add(position{}, "", fmt.Sprintf("cannot read the context file: %v", err))
	case len(data) > MaxContexts:
		c.add(position{}, "",
			fmt.Sprintf("is larger than %d bytes; is it a context file?", MaxContexts))
	default:
		data = bytes.TrimPrefix(data, []byte("\ufeff"))
		if at, ok := invalid(data); ok {
			c.add(at, "", "is not UTF-8 here; save the file as UTF-8")
			break
		}
		read(c, data)
		if len(c.problems) == 0 && len(c.byName) == 0 {
			c.add(position{}, "",
				"has no contexts; if there are none, remove context_file from the job file")
		}
	}
	if len(c.problems) > 0 {
		problems := &Problems{File: path, List: c.problems}
		problems.sort()
		return nil, problems
	}
	return c.byName, nil
}

// invalid returns the position of the first byte that is not UTF-8.
func invalid(data []byte) (position, bool) {
	for at := 0; at < len(data); {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			return positionOf(data, at), true
		}
		at += size
	}
	return position{}, false
}

// positionOf returns the position of a byte.
func positionOf(data []byte, at int) position {
	before := data[:at]
	start := bytes.LastIndexByte(before, '\n') + 1
	return position{
		line:   bytes.Count(before, []byte("\n")) + 1,
		column: utf8.RuneCount(before[start:]) + 1,
	}
}

// contexts collects encryption contexts by name, and problems.
type contexts struct {
	byName   map[string]map[string]string
	problems []Problem
}

func (c *contexts) add(at position, field, detail string) {
	c.problems = append(c.problems, Problem{
		Field:  field,
		Detail: detail,
		Line:   at.line,
		Column: at.column,
	})
}

// name adds a name with an empty context. It returns false if the name is not valid.
func (c *contexts) name(at position, name string) bool {
	if name == "" {
		c.add(at, "", "a name is empty; remove it")
		return false
	}
	if _, twice := c.byName[name]; twice {
		c.add(at, join("", name), "is duplicate; keep one")
		return false
	}
	c.byName[name] = map[string]string{}
	return true
}

// pair adds one key and value to the context of a name.
func (c *contexts) pair(at position, name, key, value string) {
	context := c.byName[name]
	switch _, twice := context[key]; {
	case key == "":
		c.add(at, join("", name), "every value of an encryption context needs a name")
	case twice:
		c.add(at, join(join("", name), key), "is duplicate; keep one")
	default:
		context[key] = value
	}
}

func (c *contexts) yaml(data []byte) {
	if len(data) > MaxSize {
		c.add(position{}, "", "is too large for YAML; use JSON or CSV")
		return
	}
	if problem := readable(data); problem != nil {
		c.problems = append(c.problems, *problem)
		return
	}
	bodies, problem := documents(data)
	if problem != nil {
		c.problems = append(c.problems, *problem)
		return
	}
	if len(bodies) != 1 {
		c.add(position{}, "", fmt.Sprintf(
			`has %d YAML documents, but must have one, such as "db/password: {env: prod}"`,
			len(bodies)))
		return
	}
	b := &binder{positions: map[string]position{}, left: maxValues}
	c.bind(b, bodies[0])
	c.problems = append(c.problems, b.problems...)
}

// bind reads the contexts from a YAML tree. It adds some problems to b.
func (c *contexts) bind(b *binder, body *yaml.Node) {
	body, ok := b.resolve(body, "")
	if !ok {
		return
	}
	names, _ := b.pairs(body, "")
	for _, n := range names {
		field := join("", n.key)
		value, ok := b.resolve(n.value, field)
		if !ok || b.doubtful(n.keyNode, field) || !c.name(start(n.keyNode), n.key) {
			continue
		}
		pairs, _ := b.pairs(value, field)
		for _, p := range pairs {
			field := join(field, p.key)
			value, ok := b.resolve(p.value, field)
			if !ok {
				continue
			}
			if value.Kind != yaml.ScalarNode ||
				scalarOf(value) != text && scalarOf(value) != doubtful {
				b.refuse(value, field, "must be text, not "+kind(value)+"; put it in quotes")
			} else if !b.doubtful(p.keyNode, field) && !b.doubtful(value, field) {
				c.pair(start(p.keyNode), n.key, p.key, value.Value)
			}
		}
	}
}

func (c *contexts) json(data []byte) {
	d := &contextDecoder{
		contexts: c,
		data:     data,
		decoder:  json.NewDecoder(bytes.NewReader(data)),
		at:       position{1, 1},
	}
	if !d.object("", func(name string) bool {
		if !c.name(d.at, name) {
			return d.skip()
		}
		return d.object(join("", name), func(key string) bool {
			at := d.at
			token, ok := d.next()
			if text, isText := token.(string); ok && isText {
				c.pair(at, name, key, text)
				return true
			} else if ok {
				c.add(d.at, join(join("", name), key), "must be text; put it in quotes")
			}
			return false // one such problem is enough
		})
	}) {
		return
	}
	d.move()
	if _, err := d.decoder.Token(); !errors.Is(err, io.EOF) {
		c.add(d.at, "", "continues after the object of contexts; remove the rest")
	}
}

// contextDecoder reads JSON by token, to detect duplicate names and to know positions. Its
// methods return false if they cannot continue.
type contextDecoder struct {
	*contexts
	data    []byte
	decoder *json.Decoder
	offset  int      // of the last token
	at      position // line and column of offset
}

// move moves at to the next token.
func (d *contextDecoder) move() {
	to := int(d.decoder.InputOffset())
	for to < len(d.data) && strings.IndexByte(" \t\r\n,:", d.data[to]) >= 0 {
		to++
	}
	ahead := positionOf(d.data[d.offset:], to-d.offset)
	if ahead.line == 1 {
		ahead.column += d.at.column - 1
	}
	d.at, d.offset = position{d.at.line + ahead.line - 1, ahead.column}, to
}

func (d *contextDecoder) next() (json.Token, bool) {
	d.move()
	token, err := d.decoder.Token()
	if err != nil {
		d.add(d.at, "", "is not valid JSON here, or ends too early")
		return nil, false
	}
	return token, true
}

// object calls member for each name of an object. member must read the value.
func (d *contextDecoder) object(field string, member func(name string) bool) bool {
	token, ok := d.next()
	if !ok {
		return false
	}
	if token != json.Delim('{') {
		d.add(d.at, field, `must be an object, such as {"env": "prod"}`)
		return false
	}
	for d.decoder.More() {
		token, ok := d.next()
		if !ok {
			return false
		}
		if name, isText := token.(string); !isText || !member(name) {
			return false
		}
	}
	_, ok = d.next()
	return ok
}

// skip skips one value.
func (d *contextDecoder) skip() bool {
	var value json.RawMessage
	if err := d.decoder.Decode(&value); err != nil {
		d.add(d.at, "", "is not valid JSON here, or ends too early")
		return false
	}
	return true
}

func (c *contexts) csv(data []byte) {
	r := csv.NewReader(bytes.NewReader(data))
	r.FieldsPerRecord = 3
	header, err := r.Read()
	if err == nil && strings.Join(header, ",") != "name,key,value" {
		c.add(position{1, 1}, "", "must start with the line name,key,value")
		return
	}
	empty := map[string]bool{} // names with an empty context
	for err == nil {
		var record []string
		if record, err = r.Read(); err == nil {
			c.record(r, record, empty)
		}
	}
	var parse *csv.ParseError
	switch {
	case errors.As(err, &parse):
		c.add(position{parse.Line, parse.Column}, "",
			fmt.Sprintf("is not CSV with three columns: %v", parse.Err))
	case header == nil:
		c.add(position{1, 1}, "", "must start with the line name,key,value")
	}
}

func (c *contexts) record(r *csv.Reader, record []string, empty map[string]bool) {
	line, column := r.FieldPos(0)
	at, name := position{line, column}, record[0]
	none := record[1] == "" && record[2] == ""
	_, known := c.byName[name]
	switch {
	case !known:
		if !c.name(at, name) {
			return
		}
		empty[name] = none
	case none, empty[name]:
		c.add(at, join("", name),
			"has a line with an empty context and another line; keep one of them")
		return
	}
	if !none {
		c.pair(at, name, record[1], record[2])
	}
}
