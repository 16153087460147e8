package dynamoscan

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"

	"rotator/internal/scan"
)

// decoder reads the items of one answer to Scan, in the form in which DynamoDB writes
// them, straight into rows. It knows that form alone. Whatever else it meets it leaves:
// each of its methods is false then, and the SDK reads the answer instead. So what is
// odd, and what is wrong, is the SDK's to judge, and all that this has to hold is that
// it takes nothing for an item that the SDK reads otherwise.
//
// The text is overwritten by that of another page later, so all that it makes is
// copied.
type decoder struct {
	text   []byte
	at     int
	fields fields
	texts  strings.Builder // the chunk that is being filled with texts
	key    []byte          // scratch
}

const (
	// maxDepth is more than the 32 levels to which DynamoDB nests documents
	// (quotas of DynamoDB).
	maxDepth = 64
	// textChunk bounds what a text that outlives its page keeps alive beside itself.
	textChunk = 4 << 10
)

// answer reads the items of an answer, and returns it with an empty list in their
// place.
func (d *decoder) answer() (rest []byte, items []scan.Item, ok bool) {
	found := false
	ok = d.members(func(name []byte) bool {
		if string(name) != "Items" {
			return d.skip()
		}
		if found || !d.take('[') {
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

// item reads one item and makes its key.
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

// value reads one attribute value: an object of one member, which is named for the type.
func (d *decoder) value(v *scan.Value, depth int) (ok bool) {
	if depth > maxDepth || !d.take('{') {
		return false
	}
	kind, _, ok := d.quoted()
	if !ok || !d.take(':') {
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
		v.Kind, v.Bool = scan.KindBool, d.word("true")
		ok = v.Bool || d.word("false")
	case "NULL":
		v.Kind, ok = scan.KindNull, d.word("true")
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
			key := d.own(name)
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
	return ok && d.take('}')
}

// members reads the members of an object: of each its name, and then what read reads.
func (d *decoder) members(read func(name []byte) bool) bool {
	return d.list('{', '}', func() bool {
		name, escaped, ok := d.quoted()
		if escaped && ok {
			var text string
			text, ok = unescape(d.text[d.at-len(name)-2 : d.at])
			name = []byte(text)
		}
		return ok && d.take(':') && read(name)
	})
}

// list reads what stands between two brackets, with commas between.
func (d *decoder) list(open, end byte, read func() bool) bool {
	if !d.take(open) {
		return false
	}
	for first := true; !d.take(end); first = false {
		if !first && !d.take(',') || !read() {
			return false
		}
	}
	return true
}

// strings reads a set of texts.
func (d *decoder) strings() ([]string, bool) {
	set := []string{}
	ok := d.list('[', ']', func() bool {
		member, ok := d.string()
		set = append(set, member)
		return ok
	})
	return set, ok
}

// string reads a text. The bytes of one without escapes are taken as they are, as the
// SDK does.
func (d *decoder) string() (string, bool) {
	inner, escaped, ok := d.quoted()
	switch {
	case !ok:
		return "", false
	case escaped:
		return unescape(d.text[d.at-len(inner)-2 : d.at])
	}
	return d.own(inner), true
}

func unescape(quoted []byte) (text string, ok bool) {
	err := json.Unmarshal(quoted, &text)
	return text, err == nil
}

// bytes reads base64.
func (d *decoder) bytes() ([]byte, bool) {
	if !d.take('"') {
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
	// It passes over line breaks, which no JSON string can hold: the count shows them.
	n, err := base64.StdEncoding.Decode(value, text)
	return value, err == nil && n == whole
}

// quoted reads a string, and returns what stands between the quotes. What has escapes
// is not known to be right.
func (d *decoder) quoted() (inner []byte, escaped, ok bool) {
	if !d.take('"') {
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

// own copies a text.
func (d *decoder) own(text []byte) string {
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

// take passes over white space and then over one byte, if it is c.
func (d *decoder) take(c byte) bool {
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

// word passes over white space and then over a literal, if it is that one.
func (d *decoder) word(literal string) bool {
	if !d.take(literal[0]) {
		return false
	}
	d.at--
	if end := d.at + len(literal); end <= len(d.text) && string(d.text[d.at:end]) == literal {
		d.at = end
		return true
	}
	return false
}

// skip passes over any value, which the SDK reads. It has to be JSON, so that nobody
// can be of two minds about where it ends.
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
