package ciphertext

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"html"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"rotator/internal/scan"
)

// TestTextPart: a match that is not the whole encoded text is refused, in every
// spelling of the rest of the text.
func TestTextPart(t *testing.T) {
	bare := base64.RawStdEncoding.EncodeToString([]byte("0123456789")) // needs ==
	digits := hex.EncodeToString([]byte("0123456789"))
	const group = `([A-Za-z0-9+/]+)`
	for _, test := range []struct {
		name, pattern, body, format string
		whole                       bool
	}{
		{"padding", `A\d=` + group, "A1=" + bare + "==", "", false},
		{"padding in a URL", `s=` + group, "s=" + bare + "%3D%3D&x=1", "", false},
		{"padding in a URL, lower case", `s=` + group, "s=" + bare + "%3d%3d", "", false},
		{"padding in a URL in a URL", `s=` + group, "s=" + bare + "%253D%253D", "", false},
		{"padding in a properties file", `s=` + group, "s=" + bare + `\=\=`, "", false},
		{"padding in JSON", `"s":"` + group, `"s":"` + bare + `\u003d\u003d"`, "", false},
		{"padding in JSON in JSON", `:\\"` + group,
			`{\"s\":\"` + bare + `\\u003D\\u003D`, "", false},
		{"padding in XML", `>` + group, "<s>" + bare + "&#61;&#61;</s>", "", false},
		{"padding in XML, hexadecimal", `>` + group, "<s>" + bare + "&#x3D;&#x3d;</s>", "", false},
		{"padding in HTML", `>` + group, "<s>" + bare + "&equals;&equals;</s>", "", false},
		{"padding in a string", `"` + group, `"` + bare + `\x3d\x3d"`, "", false},
		{"padding on its own line", `s: ` + group, "s: " + bare + "\n==\n", "", false},
		{"padding in octal", `s=` + group, "s=" + bare + `\075\075`, "", false},
		{"padding in LDAP", `s=` + group, "s=" + bare + `\3D\3d`, "", false},
		{"padding in CSS", `s=` + group, "s=" + bare + `\00003d \00003d `, "", false},
		{"padding in RTF", `s=` + group, "s=" + bare + `\'3d\'3d`, "", false},
		{"padding in an old URL", `s=` + group, "s=" + bare + "%u003D%u003D", "", false},
		{"padding behind carets", `s=` + group, "s=" + bare + "^=^=", "", false},
		{"padding behind a space", `s=` + group, "s=" + bare + "\t==", "", false},
		{"padding in UTF-16", `s=` + group, "s=" + bare + "\x00=\x00=\x00", "", false},
		{"padding in a string of its own", `s=` + group, "s=" + bare + `" + "=="`, "", false},
		{"padding in a comment's next line", `# ` + group, "# " + bare + "\n# ==\n", "", false},
		{"padding in a quotation", `> ` + group, "> " + bare + `\n> ==`, "", false},
		{"padding, base64url", `s=([A-Za-z0-9_-]+)`, "s=" + bare + "==", formatBase64URL, false},
		{"a literal behind the group", group + `z;`, "s=" + bare[:12] + "z;", "", false},
		{"a digit of the text in a URL", `s=([A-Za-z0-9+/]{12})`,
			"s=" + bare[:12] + "%2Bab", "", false},
		{"an escaped slash", `s=([A-Za-z0-9+/]{12})`, `s=` + bare[:12] + `\/ab`, "", false},
		{"cut in front", `s=A([A-Za-z0-9+/]{12})`, "s=A" + bare[:12], "", false},
		{"cut in front, in a URL", `s=%2B([A-Za-z0-9+/]{12})`, "s=%2B" + bare[:12], "", false},
		{"hex, cut in front", `s=aa([0-9a-f]+)`, "s=aa" + digits, formatHex, false},
		{"hex, cut behind", `s=([0-9a-f]{10})`, "s=" + digits, formatHex, false},

		{"assignment", `s=(\S+)`, "s=" + bare + "==", "", true},
		{"no padding by the writer", `s=` + group, "s=" + bare + ";t=1", "", true},
		{"white space in the group", `(?s)s=(.*)t`, "s=" + bare + "==\nt=1", "", true},
		{"a URL", `s%3D` + group, "s%3D" + bare + "%26", "", true},
		{"a string with line breaks", `\\n` + group, `"x\n` + bare + `\n"`, "", true},
		{"an entity in front", `&quot;` + group, "&quot;" + bare + "&quot;", "", true},
		{"PostgreSQL", `\\x([0-9a-f]+)`, `\x` + digits, formatHex, true},
		{"SQL", `0x([0-9a-f]+)`, "0x" + digits + ",", formatHex, true},
		{"less than the padding", `s=` + group, "s=" + bare + `" = 1`, "", true},
		{"more than the padding", `s=` + group, "s=" + bare + "\n=======\n", "", true},
		{"a name in between", `s=` + group, "s=" + bare + `" t=="`, "", true},
		{"next line", `s: ` + group, "s: " + bare + "\nt: u==\n", "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := compile(t, Spec{
				Format: formatText,
				Kind:   Files,
				Slots:  []SlotSpec{{Pattern: test.pattern, Format: test.format}},
			})
			found := f.Find(object("f", test.body, nil))
			if len(found) != 1 {
				t.Fatalf("%q: %v", test.body, summary(found))
			}
			refused := found[0].Refused
			if test.whole != (refused == nil) ||
				refused != nil && refused.Reason != "part-of-text" {
				t.Errorf("%q: %v", test.body, refused)
			}
		})
	}
}

// FuzzTextPart: with any text around a match, a reader reads the new blob at
// its place. The reader decodes the escapes and takes the longest text of the
// alphabet, including padding.
func FuzzTextPart(f *testing.F) {
	f.Add("s=", "==", []byte("0123456789"), []byte("012345678901"), false)
	f.Add("s=", "%3D%3D", []byte("0123456789"), []byte("012345678901"), false)
	f.Add("s=%2B", "", []byte("012345678"), []byte("0123456789"), true)
	f.Add(`"`, `\u003d\u003d"`, []byte("0123456789"), []byte("x"), true)
	f.Add("> ", "\n> ==", []byte("0123456789"), []byte("012345678901"), false)
	f.Add("s=", `\075\075`, []byte("0123456789"), []byte("012345678901"), false)
	f.Add(">", "&#61;&#x3d;&equals;<", []byte("0123456789"), []byte("xy"), false)
	unescape := func(s string) string {
		if u, err := url.PathUnescape(s); err == nil {
			s = u
		}
		s = strings.NewReplacer(`\u003d`, "=", `\u003D`, "=", `\x3d`, "=", `\=`, "=", `\/`, "/").
			Replace(s)
		return html.UnescapeString(s)
	}
	longest := regexp.MustCompile(`[A-Za-z0-9+/]*={0,3}`)
	f.Fuzz(func(t *testing.T, before, after string, blob, fresh []byte, pads bool) {
		encoding := base64.RawStdEncoding
		if pads {
			encoding = base64.StdEncoding
		}
		text := encoding.EncodeToString(blob)
		const mark = "\x00"
		if len(blob) == 0 || len(fresh) == 0 || strings.Contains(before+after, mark) {
			return
		}
		// The pattern matches only this text.
		pattern := regexp.QuoteMeta(before) + "(" + regexp.QuoteMeta(text) + ")" +
			regexp.QuoteMeta(after)
		template, err := Compile(Spec{
			Format: formatText,
			Kind:   Objects,
			Slots:  []SlotSpec{{Pattern: pattern, Padding: "always"}},
		})
		if err != nil {
			return
		}
		format := template.Bind(Keys{})
		item := object("k", before+text+after, nil)
		found := format.Find(item)
		if len(found) != 1 || found[0].Refused != nil || !bytes.Equal(found[0].Blob, blob) {
			return
		}
		payload, err := format.Splice(item, [][]byte{fresh})
		if err != nil {
			return
		}
		now := string(payload.(*scan.Object).Body)
		written := strings.TrimSuffix(strings.TrimPrefix(now, before), after)
		rest := unescape(after)
		if whole := longest.FindString(written + rest); whole != written {
			t.Fatalf("%q became %q: a reader takes %q for the text", before+text+after, now, whole)
		}
	})
}
