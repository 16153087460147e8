package redact

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

const (
	// minToken is the minimum length of a token that can be a secret: the length
	// of a secret access key. 32 bytes have 43 characters in base64.
	minToken = 40
	// maxHex and maxPiece are the maximum lengths of a piece of a token that can
	// be an identifier in hex, and a word.
	maxHex, maxPiece = 40, 64
	// maxCapitals is the longest word in capitals.
	maxCapitals = 20
)

// markTokens marks what looks like bytes in base64, base64url, base32 or hex.
func (t *text) markTokens() {
	before := -1 // where the last token that was marked ends
	for i := 0; i < len(t.bytes); {
		n := tokenLen(t.bytes[i:])
		if n == 0 {
			i++
			continue
		}
		token := t.bytes[i : i+n]
		padding := 0
		for i+n+padding < len(t.bytes) && t.bytes[i+n+padding] == '=' {
			padding++
		}
		padded := padding > 0 && padding < 3 && (n+padding)%4 == 0
		continued := before >= 0 && wrapped(t.bytes[before:i])
		if !named(t.bytes[:i], token) && (continued || n >= minToken && encoded(token, padded)) {
			n += padding
			t.mark(i, i+n)
			before = i + n
		}
		i += n
	}
}

// wrapped reports whether the text between two tokens is the line break of a
// wrapped text.
func wrapped(between []byte) bool {
	return bytes.ContainsAny(between, "\n") && len(bytes.Trim(between, "\r\n\t ")) == 0
}

func tokenLen(s []byte) int {
	for i, c := range s {
		if class(c) == other && c != '+' && c != '/' && c != '-' && c != '_' {
			return i
		}
	}
	return len(s)
}

// named reports whether a token is an identifier of a request, as the SDK prints it, or a
// digest.
func named(before, token []byte) bool {
	before = bytes.ToLower(before[max(0, len(before)-24):])
	for _, name := range []string{
		"requestid: ", "request id: ", "x-amz-request-id: ", "x-amzn-requestid: ",
	} {
		if bytes.HasSuffix(before, []byte(name)) {
			return len(token) <= 64
		}
	}
	for _, name := range []string{"hostid: ", "host id: ", "x-amz-id-2: "} {
		if bytes.HasSuffix(before, []byte(name)) {
			return len(token) <= 80
		}
	}
	for _, name := range []string{"sha256:", "sha-256 ", "hash "} {
		if bytes.HasSuffix(before, []byte(name)) {
			return len(token) == 64 && hexDigits(token)
		}
	}
	return false
}

// The classes of characters in a token.
type charClass int

const (
	other charClass = iota
	lower
	upper
	digit
)

func class(c byte) charClass {
	switch {
	case c >= 'a' && c <= 'z':
		return lower
	case c >= 'A' && c <= 'Z':
		return upper
	case c >= '0' && c <= '9':
		return digit
	}
	return other
}

// weights are log likelihood ratios: how much more probable two adjacent
// classes are in encoded bytes than in words, paths and numbers.
type weights [4][4]float64

// base64Weights are for base64 and base32 with capitals, where all pairs of letters are
// about as frequent; lowerWeights are for base32 and other forms without capitals.
func base64Weights() weights {
	return weights{
		other: {other: -0.7, lower: -1.2, upper: -0.5, digit: -0.7},
		lower: {other: -1.4, lower: -1.3, upper: 1.4, digit: 1.1},
		upper: {other: 0.2, lower: 1.0, upper: 1.7, digit: 2.5},
		digit: {other: -0.7, lower: 1.1, upper: 2.5, digit: -1.4},
	}
}

func lowerWeights() weights {
	return weights{
		other: {other: -4, lower: -4, upper: -4, digit: -4},
		lower: {other: -4, lower: 0.05, upper: -4, digit: 2},
		upper: {other: -4, lower: -4, upper: -4, digit: -4},
		digit: {other: -4, lower: 2, upper: -4, digit: -1},
	}
}

// A part of a token is taken for encoded bytes if it is long and the logarithm of its odds
// is longOdds, or if it is short and that is shortOdds. Of 32 random bytes in base64 it is
// about 35 on average, and below these in one case of some thousand; of a path it is nearly
// always below 2.
const (
	longPart, longOdds   = 20, 3
	shortPart, shortOdds = 10, 9
	paddedOdds           = 4 // less of either where the token has the padding of base64
)

// encoded reports whether a token is, or holds, bytes that were encoded.
func encoded(token []byte, padded bool) bool {
	classes := make([]charClass, len(token))
	known := make([]bool, len(token)) // parts of pieces that are identifiers or words
	for i := 0; i < len(token); {
		n := pieceLen(token[i:])
		piece := token[i : i+n]
		if n > maxPiece || n > maxHex && hexDigits(piece) {
			return true
		}
		capitals := n <= maxCapitals && bytes.Equal(piece, bytes.ToUpper(piece))
		hex := n > 3 && hexDigits(piece) && (bytes.ContainsAny(piece, "0123456789") || capitals)
		word := capitals && !bytes.ContainsAny(piece, "0123456789")
		for j := i; j < i+n; j++ {
			classes[j], known[j] = class(token[j]), hex || word
		}
		i += n + 1
	}
	less := 0.0
	if padded {
		less = paddedOdds
	}
	return odds(base64Weights(), classes, known, token, less) ||
		odds(lowerWeights(), classes, known, token, less)
}

// odds reports whether a part of a token is most probably encoded bytes.
func odds(w weights, classes []charClass, known []bool, token []byte, less float64) bool {
	sum, begin := 0.0, 0
	for i := 1; i < len(classes); i++ {
		switch {
		case known[i] && known[i-1]:
			sum -= 0.5
		case token[i] == '+':
			sum += 2.5
		default:
			sum += w[classes[i-1]][classes[i]]
		}
		if sum <= 0 {
			sum, begin = 0, i
			continue
		}
		if part := i - begin; part >= longPart && sum >= longOdds-less ||
			part >= shortPart && sum >= shortOdds-less {
			return true
		}
	}
	return false
}

// pieceLen returns the number of letters and digits at the start of s.
func pieceLen(s []byte) int {
	for i, c := range s {
		if class(c) == other {
			return i
		}
	}
	return len(s)
}

func hexDigits(s []byte) bool {
	for _, c := range s {
		if class(c) != digit && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

// The shape of bytes that are not encoded, or are escaped one by one.
const (
	minBinary  = 8  // bytes that no text holds, or characters that stand for bytes
	minControl = 3  // of them, those that no text holds, and signs that are rare in text
	maxGap     = 20 // bytes between two of them
	around     = 16 // bytes beside them that may belong to them
)

// markBinary marks bytes that are not text.
func (t *text) markBinary() {
	begin, end, found, control := 0, -maxGap-1, 0, 0
	flush := func() {
		if found >= minBinary && control >= minControl && 4*found >= end-begin {
			t.mark(t.reach(begin, -1), t.reach(end-1, 1)+1)
		}
		found, control = 0, 0
	}
	for i := 0; i < len(t.bytes); {
		r, size := utf8.DecodeRune(t.bytes[i:])
		bad := r == utf8.RuneError || unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t'
		if bad || r >= 0xa0 && r <= 0xff {
			if i-end > maxGap {
				flush()
				begin = i
			}
			found, end = found+1, i+size
			if bad || r <= 0xbf {
				control++
			}
		}
		i += size
	}
	flush()
}

// reach returns the last byte in a direction that may belong to the bytes at i.
func (t *text) reach(i, step int) int {
	for n := 0; n < around; n++ {
		next := i + step
		if next < 0 || next >= len(t.bytes) {
			break
		}
		plain := t.end[next]-t.begin[next] == 1
		if plain && (t.bytes[next] == ' ' || t.bytes[next] == '\n') {
			break
		}
		i = next
	}
	return i
}
