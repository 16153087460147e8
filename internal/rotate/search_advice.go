package rotate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"rotator/internal/kmsblob"
)

// shape is the kind of text that holds a candidate.
type shape int

const (
	unknownShape shape = iota
	plainShape
	jsonShape
	jsonLinesShape
)

// advice returns the change to the job file that makes rotator move a
// candidate.
func (c candidate) advice(row bool) string {
	format, prefix := formatWord(c.coding), c.length
	const application = "move it with the application that reads it"
	const ownTarget = "give the object a target of its own with format: "
	switch {
	case c.name:
		return "it is the name of a member or an entry, which no format replaces; " + application
	case c.coding == kmsblob.SeparatedHex:
		return "no format reads hex with separators; " + application
	case !row && c.path != "":
		return "no format but s3-encryption-client moves ciphertexts in user metadata; " +
			application
	case row && c.alone:
		path := c.path
		if strings.HasSuffix(path, "}") { // the members of a set have no path of their own
			path = path[:strings.LastIndexByte(path, '{')]
		}
		return fmt.Sprintf("add a slot with path: %s and format: %s", yamlText(path), format)
	case row && prefix != "":
		return fmt.Sprintf("if it is a ciphertext after its length, add a slot with path: %s "+
			"and format: %s",
			yamlText(c.path), prefix)
	case row:
		return "the attribute holds other bytes around it, so no format can replace it; " +
			application
	case c.alone:
		return ownTarget + format
	case prefix != "":
		return "if it is a ciphertext after its length, " + ownTarget + prefix
	case c.coding == kmsblob.Raw:
		return "other bytes surround it, without its length before it, so no format can " +
			"replace it; " + application
	case c.shape == jsonLinesShape:
		return ownTarget + "jsonl, and a slot with the path of the field and format: " + format
	case c.shape == jsonShape:
		return ownTarget + "json, and a slot with the path of the field and format: " + format
	}
	return ownTarget + "text, and a slot with a pattern that finds it and format: " + format
}

// formatWord returns the name of an encoding in a job file.
func formatWord(e kmsblob.Encoding) string {
	if e == kmsblob.Raw {
		return "raw"
	}
	return string(e)
}

// yamlText quotes a path if YAML would misread it without quotes.
func yamlText(path string) string {
	if strings.ContainsAny(path, `[]{}*"'#:,&!|>%@`+"`") {
		return "'" + strings.ReplaceAll(path, "'", "''") + "'"
	}
	return path
}

// lengthPrefix returns the format of a blob that follows its length at the
// beginning of part, or "".
func lengthPrefix(c candidate, part []byte) string {
	if c.coding != kmsblob.Raw || c.offset > 4 || !c.whole {
		return ""
	}
	size := len(c.blob)
	switch b := part[:c.offset]; {
	case len(b) == 2 && int(binary.BigEndian.Uint16(b)) == size:
		return "length-prefixed-u16be"
	case len(b) == 2 && int(binary.LittleEndian.Uint16(b)) == size:
		return "length-prefixed-u16le"
	case len(b) == 4 && int(binary.BigEndian.Uint32(b)) == size:
		return "length-prefixed-u32be"
	case len(b) == 4 && int(binary.LittleEndian.Uint32(b)) == size:
		return "length-prefixed-u32le"
	}
	return ""
}

func shapeOf(part []byte) shape {
	switch {
	case isJSONLines(part):
		return jsonLinesShape
	case isJSON(part):
		return jsonShape
	}
	return plainShape
}

func isJSON(body []byte) bool {
	trimmed := bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	return len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[')
}

// isJSONLines reports whether a body looks like one JSON object per line.
func isJSONLines(body []byte) bool {
	first, rest, more := bytes.Cut(bytes.TrimSpace(body), []byte("\n"))
	first, rest = bytes.TrimSpace(first), bytes.TrimSpace(rest)
	return more && isJSON(first) && first[len(first)-1] == '}' && isJSON(rest)
}
