package dynamoscan

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"

	"rotator/internal/scan"
)

// decoder parses the items in a response to Scan directly into rows. It supports only the
// format that DynamoDB writes. For anything else its methods return false, and the SDK parses
// the response instead. So the SDK decides about unusual and invalid responses. The decoder
// must never return an item that the SDK would parse differently.
//
// The buffer of the response is reused for the next page, so the decoder copies everything
// that it returns.
type decoder struct {
	text   []byte
	at     int
	fields fields
	texts  strings.Builder // the chunk that new strings are appended to
	key    []byte          // scratch buffer for keys
}

const (
	// maxDepth exceeds the 32 levels to which DynamoDB nests documents (quotas of DynamoDB).
	maxDepth = 64
	// textChunk limits the memory that a string keeps alive after its page is released.
	textChunk = 4 << 10
)

// response parses the items of a response. rest is the response with an empty list of items.
func (d *decoder) response() (rest []byte, items []scan.Item, ok bool) {
	found := false
	ok = d.members(func(name []byte) bool {
		if string(name) != "Items" {
			return d.skip()
		}
		if found || !d.accept('[') {
			return false
		}
		found, d.at = true, d.at-1
		start := d.at
		ok := d.list('[', ']', func() bool {
			item, ok := d.item()
			items = append(items, item)
			return ok
		})
		rest = append(append(append(rest, d.text[:start]...), "[]"...),
			d.text[min(d.at, len(d.text)):]...)
		return ok
	})
	return rest, items, ok && found
}

// item parses one item and prints its key.
func (d *decoder) item() (scan.Item, bool) {
	row := &scan.Row{Attributes: make(map[string]scan.Value, len(d.fields.names))}
	n := 0
	ok := d.members(func(name []byte) bool {
		attribute, wanted := d.fields.find(name, n)
		n++
		var v scan.Value
		if !d.value(&v, 1) {
			return false
		}
		if wanted {
			row.Attributes[attribute] = v
		}
		return true
	})
	if !ok {
		return scan.Item{}, false
	}
	d.key, ok = d.fields.appendKey(d.key[:0], row.Attributes)
	return scan.Item{Ref: scan.Ref(d.key), Payload: row}, ok
}

// value parses one attribute value: an object with one member, whose name is the type.
func (d *decoder) value(v *scan.Value, depth int) (ok bool) {
	if depth > maxDepth || !d.accept('{') {
		return false
	}
	kind, _, ok := d.quoted()
	if !ok || !d.accept(':') {
		return false
	}
	switch string(kind) {
	case "S":
		v.Kind = scan.KindS
		v.Text, ok = d.string()
	case "N":
		v.Kind = scan.KindN
		v.Text, ok = d.string()
	case "B":
		v.Kind = scan.KindB
		v.Bytes, ok = d.bytes()
	case "BOOL":
		v.Kind, v.Bool = scan.KindBool, d.literal("true")
		ok = v.Bool || d.literal("false")
	case "NULL":
		v.Kind, ok = scan.KindNull, d.literal("true")
	case "SS":
		v.Kind = scan.KindSS
		v.Texts, ok = d.strings()
	case "NS":
		v.Kind = scan.KindNS
		v.Texts, ok = d.strings()
	case "BS":
		v.Kind, v.ByteSet = scan.KindBS, [][]byte{}
		ok = d.list('[', ']', func() bool {
			member, ok := d.bytes()
			v.ByteSet = append(v.ByteSet, member)
			return ok
		})
	case "M":
		v.Kind, v.Map = scan.KindM, map[string]scan.Value{}
		ok = d.members(func(name []byte) bool {
			var member scan.Value
			key := d.copyText(name)
			ok := d.value(&member, depth+1)
			v.Map[key] = member
			return ok
		})
	case "L":
		v.Kind, v.List = scan.KindL, []scan.Value{}
		ok = d.list('[', ']', func() bool {
			var element scan.Value
			ok := d.value(&element, depth+1)
			v.List = append(v.List, element)
			return ok
		})
	default:
		return false
	}
	return ok && d.accept('}')
}

// members parses an object. It calls read after each name to parse the value.
func (d *decoder) members(read func(name []byte) bool) bool {
	return d.list('{', '}', func() bool {
		name, escaped, ok := d.quoted()
		if escaped && ok {
			var text string
			text, ok = unescape(d.text[d.at-len(name)-2 : d.at])
			name = []byte(text)
		}
		return ok && d.accept(':') && read(name)
	})
}

// list parses a list or object: elements between two brackets, separated by commas.
func (d *decoder) list(open, end byte, read func() bool) bool {
	if !d.accept(open) {
		return false
	}
	for first := true; !d.accept(end); first = false {
		if !first && !d.accept(',') || !read() {
			return false
		}
	}
	return true
}

// strings parses a set of strings.
func (d *decoder) strings() ([]string, bool) {
	set := []string{}
	ok := d.list('[', ']', func() bool {
		member, ok := d.string()
		set = append(set, member)
		return ok
	})
	return set, ok
}

// string parses a string. Like the SDK, it does not validate the UTF-8 of a string without
// escapes.
func (d *decoder) string() (string, bool) {
	inner, escaped, ok := d.quoted()
	switch {
	case !ok:
		return "", false
	case escaped:
		return unescape(d.text[d.at-len(inner)-2 : d.at])
	}
	return d.copyText(inner), true
}

func unescape(quoted []byte) (text string, ok bool) {
	err := json.Unmarshal(quoted, &text)
	return text, err == nil
}

// bytes parses base64.
func (d *decoder) bytes() ([]byte, bool) {
	if !d.accept('"') {
		return nil, false
	}
	length := bytes.IndexByte(d.text[d.at:], '"')
	if length < 0 || length%4 != 0 {
		return nil, false
	}
	text := d.text[d.at:][:length]
	d.at += length + 1
	whole := length/4*3 - (length - len(bytes.TrimRight(text, "=")))
	value := make([]byte, max(whole, 0))
	if length == 0 {
		return value, true
	}
	// Decode ignores line breaks, which a JSON string cannot contain. The comparison of n
	// detects them.
	n, err := base64.StdEncoding.Decode(value, text)
	return value, err == nil && n == whole
}

// quoted parses a string and returns the text between the quotes. It does not validate
// escapes.
func (d *decoder) quoted() (inner []byte, escaped, ok bool) {
	if !d.accept('"') {
		return nil, false, false
	}
	for i := d.at; i < len(d.text); i++ {
		switch c := d.text[i]; {
		case c == '"':
			inner, d.at = d.text[d.at:i], i+1
			return inner, escaped, true
		case c == '\\':
			escaped = true
			i++
		case c < ' ':
			return nil, false, false
		}
	}
	return nil, false, false
}

// copyText returns a copy of the text.
func (d *decoder) copyText(text []byte) string {
	if len(text) > textChunk/4 {
		return string(text)
	}
	if d.texts.Len()+len(text) > d.texts.Cap() {
		d.texts.Reset()
		d.texts.Grow(min(textChunk, len(d.text)))
	}
	start := d.texts.Len()
	d.texts.Write(text)
	return d.texts.String()[start:]
}

// accept skips white space and then the byte c. It returns false if the next byte is not c.
func (d *decoder) accept(c byte) bool {
	for ; d.at < len(d.text); d.at++ {
		switch d.text[d.at] {
		case c:
			d.at++
			return true
		case ' ', '\t', '\n', '\r':
		default:
			return false
		}
	}
	return false
}

// literal skips white space and then the given word. It returns false if the word does not
// follow.
func (d *decoder) literal(literal string) bool {
	if !d.accept(literal[0]) {
		return false
	}
	d.at--
	if end := d.at + len(literal); end <= len(d.text) && string(d.text[d.at:end]) == literal {
		d.at = end
		return true
	}
	return false
}

// skip skips any value, which the SDK parses. The value must be valid JSON, so that its end
// is unambiguous.
func (d *decoder) skip() bool {
	start, depth := d.at, 0
	for ; d.at < len(d.text); d.at++ {
		switch d.text[d.at] {
		case '"':
			if _, _, ok := d.quoted(); !ok {
				return false
			}
			d.at--
		case '{', '[':
			depth++
		case '}', ']', ',':
			if depth == 0 {
				return json.Valid(d.text[start:d.at])
			}
			if d.text[d.at] != ',' {
				depth--
			}
		}
	}
	return false
}
