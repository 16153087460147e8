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
	// A piece of a token is a sequence of letters and digits. maxHex is the maximum length of a
	// piece that can be an identifier in hex, maxPiece of one that can be a word.
	maxHex, maxPiece = 40, 64
	// maxCapitals is the maximum length of a word in capitals.
	maxCapitals = 20
)

// markTokens marks tokens that look like bytes in base64, base64url, base32 or hex.
func (t *text) markTokens() {
	previous := -1 // the end of the last marked token
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
		continued := previous >= 0 && wrapped(t.bytes[previous:i])
		if !isKnownIdentifier(t.bytes[:i], token) &&
			(continued || n >= minToken && encoded(token, padded)) {
			n += padding
			t.mark(i, i+n)
			previous = i + n
		}
		i += n
	}
}

// wrapped reports whether the text between two tokens is a line break, which continues an encoded
// text that is wrapped.
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

// isKnownIdentifier reports whether a token is an identifier of a request as the SDK prints it,
// or a digest.
func isKnownIdentifier(previous, token []byte) bool {
	previous = bytes.ToLower(previous[max(0, len(previous)-24):])
	for _, name := range []string{
		"requestid: ", "request id: ", "x-amz-request-id: ", "x-amzn-requestid: ",
	} {
		if bytes.HasSuffix(previous, []byte(name)) {
			return len(token) <= 64
		}
	}
	for _, name := range []string{"hostid: ", "host id: ", "x-amz-id-2: "} {
		if bytes.HasSuffix(previous, []byte(name)) {
			return len(token) <= 80
		}
	}
	for _, name := range []string{"sha256:", "sha-256 ", "hash "} {
		if bytes.HasSuffix(previous, []byte(name)) {
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

// A part of a token counts as encoded bytes if it has at least longPart characters and the
// logarithm of its odds is at least longOdds, or at least shortPart characters and shortOdds. For
// 32 random bytes in base64 the logarithm is about 35 on average, and below these limits in about
// one of a thousand cases. For a path it is nearly always below 2.
const (
	longPart, longOdds   = 20, 3
	shortPart, shortOdds = 10, 9
	paddingBonus         = 4 // subtracted from both limits if the token has base64 padding
)

// encoded reports whether a token is, or contains, encoded bytes.
func encoded(token []byte, padded bool) bool {
	classes := make([]charClass, len(token))
	// whether the character belongs to an identifier or a word
	recognised := make([]bool, len(token))
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
			classes[j], recognised[j] = class(token[j]), hex || word
		}
		i += n + 1
	}
	reduction := 0.0
	if padded {
		reduction = paddingBonus
	}
	return odds(base64Weights(), classes, recognised, token, reduction) ||
		odds(lowerWeights(), classes, recognised, token, reduction)
}

// odds reports whether a part of a token is most probably encoded bytes.
func odds(w weights, classes []charClass, recognised []bool, token []byte, reduction float64) bool {
	sum, begin := 0.0, 0
	for i := 1; i < len(classes); i++ {
		switch {
		case recognised[i] && recognised[i-1]:
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
		if part := i - begin; part >= longPart && sum >= longOdds-reduction ||
			part >= shortPart && sum >= shortOdds-reduction {
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

// The limits for a run of bytes that are not encoded, or that are escaped individually.
const (
	minBinary  = 8  // bytes that are not text, or characters from U+00A0 to U+00FF
	minControl = 3  // those of them that are not text, or below U+00C0
	maxGap     = 20 // maximum number of bytes between two of them
	context    = 16 // maximum number of adjacent bytes that may belong to the run
)

// markBinary marks bytes that are not text.
func (t *text) markBinary() {
	begin, end, found, control := 0, -maxGap-1, 0, 0
	markRun := func() {
		if found >= minBinary && control >= minControl && 4*found >= end-begin {
			t.mark(t.extend(begin, -1), t.extend(end-1, 1)+1)
		}
		found, control = 0, 0
	}
	for i := 0; i < len(t.bytes); {
		r, size := utf8.DecodeRune(t.bytes[i:])
		invalid := r == utf8.RuneError || unicode.IsControl(r) && r != '\n' && r != '\r' &&
			r != '\t'
		if invalid || r >= 0xa0 && r <= 0xff {
			if i-end > maxGap {
				markRun()
				begin = i
			}
			found, end = found+1, i+size
			if invalid || r <= 0xbf {
				control++
			}
		}
		i += size
	}
	markRun()
}

// extend returns the index of the last byte in a direction that may belong to the run at i.
func (t *text) extend(i, step int) int {
	for n := 0; n < context; n++ {
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
