package kmsblob

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf16"
)

// random returns n bytes that are the same in every run.
func random(seed uint64, n int) []byte {
	source := rand.NewChaCha8([32]byte(binary.LittleEndian.AppendUint64(make([]byte, 24), seed)))
	b := make([]byte, n)
	_, _ = source.Read(b)
	return b
}

// blobs returns one blob of each known layout and operation, with random content.
func blobs(seed uint64) map[string][]byte {
	all := map[string][]byte{}
	for layout, blob := range layouts([TokenLen]byte(random(seed, TokenLen))) {
		for _, op := range []byte{2, 3} {
			b := bytes.Clone(blob)
			copy(b[len(b)-70:], random(seed+1, 70))
			at := bytes.Index(b, []byte{2, 0, 0x78})
			b[at] = op
			all[fmt.Sprintf("layout %d, operation %d", layout, op)] = b
		}
	}
	return all
}

// wrapped breaks a text into lines.
func wrapped(text string, columns int, end string) string {
	var lines []string
	for ; len(text) > columns; text = text[columns:] {
		lines = append(lines, text[:columns])
	}
	return strings.Join(append(lines, text), end)
}

func inUTF16(order binary.AppendByteOrder, text string) (b []byte) {
	for _, unit := range utf16.Encode([]rune(text)) {
		b = order.AppendUint16(b, unit)
	}
	return b
}

// spellings returns the encodings in which a blob can be stored. before precedes the blob in the
// encoded data.
func spellings(before, blob []byte) map[string][]byte {
	all := append(bytes.Clone(before), blob...)
	std, url := base64.StdEncoding.EncodeToString(all), base64.RawURLEncoding.EncodeToString(all)
	digits := hex.EncodeToString(all)
	unicode := strings.NewReplacer("+", `\u002b`, "/", `\u002F`, "=", `\u003d`)
	texts := map[string]string{
		"base64": std, "base64url": url, "unpadded": strings.TrimRight(std, "="),
		"hex": digits, "upper hex": strings.ToUpper(digits),
		"lines of 60": wrapped(std, 60, "\n"), "lines of 64": wrapped(std, 64, "\r\n"),
		"lines of 76, indented": wrapped(std, 76, "\n      "),
		"lines of 3":            wrapped(std, 3, "\n"), "lines of 1": wrapped(std, 1, "\n"),
		"JSON lines": wrapped(std, 60, `\n`), "JSON lines of 5": wrapped(std, 5, `\r\n`),
		"JSON in JSON": wrapped(std, 64, `\\n`), "hex lines": wrapped(digits, 62, "\n"),
		"PHP": strings.ReplaceAll(std, "/", `\/`), "Java": unicode.Replace(std),
		"PHP in JSON": strings.ReplaceAll(std, "/", `\\\/`),
		"URL":         strings.NewReplacer("+", "%2B", "/", "%2f", "=", "%3D").Replace(std),
	}
	found := map[string][]byte{"raw": all}
	for name, gap := range map[string]string{
		"xxd": " ", "openssl": ":", "Python": `\x`, "Python in JSON": `\\x`, "C": ", 0x",
	} {
		var bytes []string
		for _, b := range all {
			bytes = append(bytes, hex.EncodeToString([]byte{b}))
		}
		found[name] = []byte(strings.Join(bytes, gap))
		if len(gap) == 1 {
			lines := wrapped(strings.Join(bytes, gap), 15*3, "\n    ")
			found[name+", lines"] = []byte(lines)
		}
	}
	for name, text := range texts {
		found[name] = []byte(text)
		if !strings.ContainsAny(text, `\%`) {
			found[name+", UTF-16LE"] = inUTF16(binary.LittleEndian, text)
			found[name+", UTF-16BE"] = inUTF16(binary.BigEndian, text)
		}
	}
	return found
}

// hits returns the hits of a search. It fails the test if a hit is not as documented.
func hits(t *testing.T, data []byte) (found []Hit) {
	t.Helper()
	var f Finder
	f.Search(data, func(h Hit) bool {
		if h.Offset < 0 || h.Offset >= h.End || h.End > len(data) {
			t.Errorf("a hit from %d to %d in %d bytes", h.Offset, h.End, len(data))
		}
		if !bytes.Contains(h.Blob, h.Token.name[:]) {
			t.Errorf("the token %x is not in %x", h.Token.name, h.Blob)
		}
		h.Blob = bytes.Clone(h.Blob)
		found = append(found, h)
		return true
	})
	return found
}

// TestSearchFindsEveryBlob: Search finds an embedded blob exactly once and completely, in every
// layout, in every encoding, at every alignment, and with any data around it.
func TestSearchFindsEveryBlob(t *testing.T) {
	around := map[string][2]string{
		"nothing": {"", ""}, "JSON": {`{"KeyId": "x", "CiphertextBlob": "`, "\"}\n"},
		"prose": {"The key, EBQ 78 0101: ", ", and more of it"},
		"bytes": {string(random(3, 100)), string(random(4, 5000))},
		"zeros": {strings.Repeat("\x00", 64), strings.Repeat("\x00", 64)},
	}
	tried := 0
	for seed := range uint64(4) {
		for layout, blob := range blobs(10 * seed) {
			for before := range 4 {
				for spelling, text := range spellings(random(seed+9, before), blob) {
					for name, sides := range around {
						if before > 0 && name == "zeros" && strings.Contains(spelling, "UTF-16") {
							continue
						}
						data := []byte(sides[0] + string(text) + sides[1])
						tried++
						found := hits(t, data)
						if len(found) != 1 || !bytes.Equal(found[0].Blob, blob) || !found[0].Whole {
							t.Fatalf("%s, %d bytes before it, as %s, in %s: %d hits of\n%q", layout,
								before, spelling, name, len(found), data)
						}
						if at := found[0].Offset; at < len(sides[0]) ||
							at >= len(sides[0])+len(text) {
							t.Errorf("%s as %s: found at %d", layout, spelling, at)
						}
					}
				}
			}
		}
	}
	t.Logf("%d texts", tried)
}

// TestSearchFindsTruncatedBlobs: Search finds a truncated blob if and only if its token is
// complete.
func TestSearchFindsTruncatedBlobs(t *testing.T) {
	for layout, blob := range blobs(1) {
		needed := bytes.LastIndex(blob, blob[tokenAt:Shortest]) + TokenLen
		if strings.HasPrefix(layout, "layout 10") {
			needed = bytes.LastIndex(blob, blob[2:2+TokenLen]) + TokenLen
		}
		for n := range blob {
			for name, text := range map[string][]byte{
				"raw": blob[:n], "hex": []byte(hex.EncodeToString(blob[:n])),
				"base64": []byte(base64.StdEncoding.EncodeToString(blob[:n])),
			} {
				found := hits(t, text)
				if (len(found) == 1) != (n >= needed) || len(found) > 1 {
					t.Fatalf("%s, cut to %d bytes, as %s: %d hits", layout, n, name, len(found))
				}
				if len(found) == 1 && (found[0].Whole || !bytes.Equal(found[0].Blob, blob[:n])) {
					t.Errorf("%s, cut to %d bytes, as %s: %d, whole %v", layout, n, name,
						len(found[0].Blob), found[0].Whole)
				}
			}
		}
	}
}

// TestSearchFindsAll: Search finds all of many blobs in a text, and stops when the callback
// returns false.
func TestSearchFindsAll(t *testing.T) {
	var data []byte
	const count = 500
	for i := range uint64(count) {
		for _, blob := range blobs(100 + i) {
			data = fmt.Appendf(data, "{\"a\":%q}\n", base64.StdEncoding.EncodeToString(blob))
		}
	}
	if n := len(hits(t, data)); n != 6*count {
		t.Errorf("%d hits, want %d", n, 6*count)
	}
	n := 0
	(&Finder{}).Search(data, func(Hit) bool { n++; return n < 7 })
	if n != 7 {
		t.Errorf("%d hits, although the callback returned false for the seventh", n)
	}
}

// TestSearchHasNoFalseHits: the checked bytes of a header make false hits in random data
// negligible. The probability of a hit at an offset is the product, over all bytes, of the
// fraction of values that are accepted.
func TestSearchHasNoFalseHits(t *testing.T) {
	for layout, blob := range blobs(7) {
		bits := 0.0
		for i := range blob {
			accepted := 0
			for value := range 256 {
				changed := bytes.Clone(blob)
				changed[i] = byte(value)
				if len(hits(t, changed)) > 0 {
					accepted++
				}
			}
			bits += math.Log2(256 / float64(accepted))
		}
		if bits < 62 {
			t.Errorf("%s: only %.1f bits distinguish a header from random data", layout, bits)
		}
	}
	for seed := range uint64(4) {
		data := random(seed, 16<<20)
		text := []byte(base64.StdEncoding.EncodeToString(data[:8<<20]))
		for _, b := range [][]byte{data, text, []byte(hex.EncodeToString(data[:4<<20]))} {
			if found := hits(t, b); len(found) > 0 {
				t.Errorf("random data: %+v", found)
			}
		}
	}
}

// TestSearchAllocatesNothing: a search without hits does not allocate.
func TestSearchAllocatesNothing(t *testing.T) {
	data, f := []byte(base64.StdEncoding.EncodeToString(random(1, 1<<16))), &Finder{}
	found := func(Hit) bool { return true }
	if n := testing.AllocsPerRun(10, func() { f.Search(data, found) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzSearch: for any data, every hit is as documented, and Search finds a blob that is inserted.
func FuzzSearch(f *testing.F) {
	for _, blob := range blobs(1) {
		for _, text := range spellings(nil, blob) {
			f.Add(text, uint16(len(text)/2))
			f.Add(text[:len(text)/2], uint16(3))
		}
	}
	blob := blobs(2)["layout 2, operation 2"]
	text := base64.StdEncoding.EncodeToString(blob)
	f.Fuzz(func(t *testing.T, data []byte, at uint16) {
		hits(t, data)
		cut := min(int(at), len(data))
		for _, embedded := range []string{string(blob), text} {
			with := string(data[:cut]) + "\x01\"" + embedded + "\"" + string(data[cut:])
			found := false
			for _, h := range hits(t, []byte(with)) {
				found = found || bytes.Equal(h.Blob, blob)
			}
			if !found && len(hits(t, data)) == 0 {
				t.Errorf("a blob at %d is not found in %q", cut, with)
			}
		}
	})
}
