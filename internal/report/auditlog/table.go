package auditlog

import (
	"bytes"
	"strconv"
)

// In the stored form, a line is a JSON array:
//
//	["l", AT, CHECK]                                         the line "log"
//	["i", AT, CHANGE, REQUEST, MATERIAL, MATERIAL, CHECK]    an intent
//	["r", AT, "RANGES", CHECK]                               "rotated" for these intents
//	["w", AT, CHANGE, CHECK]                                 one "rotated" with all members
//
// CHANGE is pass, target, ref, path, from_key, to_key, before_sha256, after_sha256 and
// binding_sha256. Targets, keys and key materials are names: the first use of a name in a
// segment is its text, and each further use is its number, from 0. RANGES are the numbers of
// intents, such as 7,9-12; each stands for one plain line, in this order. CHECK is the
// beginning of the hash of the last plain line that the stored line stands for.
//
// All strings are stored as they are in the plain line. There is exactly one way to store a
// line, so a changed byte never goes unnoticed.

const (
	// checkLength is the length of CHECK: enough to detect damage. The whole hash is at the
	// end of a closed segment and in the checkpoint.
	checkLength = 16
	// maxNames is the maximum number of names with a number in a segment.
	maxNames = 4096
	// window is the number of lines after which RANGES no longer contain an intent. It bounds
	// the memory of readers.
	window = 1 << 15
	// maxRange is the maximum number of plain lines of one "r".
	maxRange = 4096
)

// table holds what the lines of one segment refer to. A writer and a reader of a segment have
// the same table after each line.
type table struct {
	names   [][]byte       // as JSON strings
	numbers map[string]int // by name
	intents map[int64][]byte
	free    [][]byte // buffers for intents
}

func newTable() table {
	return table{numbers: map[string]int{}, intents: map[int64][]byte{}}
}

// appendName appends a name, which is a JSON string, in the stored form.
func (t *table) appendName(text, name []byte) []byte {
	if number, ok := t.numbers[string(name)]; ok {
		return strconv.AppendInt(text, int64(number), 10)
	}
	t.define(name)
	return append(text, name...)
}

func (t *table) define(name []byte) {
	if len(name) > 2 && len(t.names) < maxNames { // not for an empty string
		t.numbers[string(name)] = len(t.names)
		t.names = append(t.names, bytes.Clone(name))
	}
}

// name returns the JSON string of a name in the stored form.
func (t *table) name(stored []byte) ([]byte, error) {
	if stored[0] == '"' {
		if _, known := t.numbers[string(stored)]; known {
			return nil, errNotRecord
		}
		t.define(stored)
		return stored, nil
	}
	number, err := parseNumber(stored)
	if err != nil || number >= int64(len(t.names)) {
		return nil, errNotRecord
	}
	return t.names[number], nil
}

// intend stores the common members of intent number seq.
func (t *table) intend(seq int64, change []byte) {
	var buffer []byte
	if n := len(t.free); n > 0 {
		buffer, t.free = t.free[n-1], t.free[:n-1]
	}
	t.intents[seq] = append(buffer[:0], change...)
}

// forget removes an intent to which no further line refers.
func (t *table) forget(seq int64) {
	if buffer, ok := t.intents[seq]; ok {
		delete(t.intents, seq)
		if len(t.free) < 64 {
			t.free = append(t.free, buffer)
		}
	}
}

// appendRanges appends numbers in the form of RANGES.
func appendRanges(text []byte, numbers []int64) []byte {
	for i := 0; i < len(numbers); {
		last := i
		for last+1 < len(numbers) && numbers[last+1] == numbers[last]+1 {
			last++
		}
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendInt(text, numbers[i], 10)
		if last > i {
			text = strconv.AppendInt(append(text, '-'), numbers[last], 10)
		}
		i = last + 1
	}
	return text
}

// parseRanges parses RANGES, which must be as appendRanges writes them.
func parseRanges(numbers []int64, text []byte) ([]int64, error) {
	for part := range bytes.SplitSeq(text, []byte(",")) {
		from, to, many := bytes.Cut(part, []byte("-"))
		first, err := parseNumber(from)
		last := first
		if many && err == nil {
			last, err = parseNumber(to)
		}
		if err != nil || last < first || last-first >= maxRange ||
			len(numbers)+int(last-first) >= maxRange {
			return nil, errNotRecord
		}
		for n := first; n <= last; n++ {
			numbers = append(numbers, n)
		}
	}
	var buffer [256]byte
	if !bytes.Equal(appendRanges(buffer[:0], numbers), text) {
		return nil, errNotRecord
	}
	return numbers, nil
}

// parseNumber parses a number that is not negative and has no leading zeros.
func parseNumber(text []byte) (n int64, err error) {
	if len(text) == 0 || len(text) > 18 || text[0] == '0' && len(text) > 1 {
		return 0, errNotRecord
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, errNotRecord
		}
		n = 10*n + int64(c-'0')
	}
	return n, nil
}
