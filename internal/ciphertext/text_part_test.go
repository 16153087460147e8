package ciphertext

import (
	"bytes"
	"encoding/base64"
	"html"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"rotator/internal/scan"
)

// textPartCase is a body in which the pattern matches all or a part of an encoded text.
type textPartCase struct{ name, pattern, body, format string }

// The base64 of ten bytes without its padding (==), the same bytes in hexadecimal, and a group that
// matches base64.
const (
	bareText    = "MDEyMzQ1Njc4OQ"
	hexText     = "30313233343536373839"
	base64Group = `([A-Za-z0-9+/]+)`
)

func partsOfTexts() []textPartCase {
	return []textPartCase{
		{"padding", `A\d=` + base64Group, "A1=" + bareText + "==", ""},
		{"padding in a URL", `s=` + base64Group, "s=" + bareText + "%3D%3D&x=1", ""},
		{"padding in a URL, lower case", `s=` + base64Group, "s=" + bareText + "%3d%3d", ""},
		{"padding in a URL in a URL", `s=` + base64Group, "s=" + bareText + "%253D%253D", ""},
		{"padding in a properties file", `s=` + base64Group, "s=" + bareText + `\=\=`, ""},
		{"padding in JSON", `"s":"` + base64Group, `"s":"` + bareText + `\u003d\u003d"`, ""},
		{"padding in JSON in JSON", `:\\"` + base64Group,
			`{\"s\":\"` + bareText + `\\u003D\\u003D`, ""},
		{"padding in XML", `>` + base64Group, "<s>" + bareText + "&#61;&#61;</s>", ""},
		{"padding in XML, hexadecimal", `>` + base64Group, "<s>" + bareText + "&#x3D;&#x3d;</s>",
			""},
		{"padding in HTML", `>` + base64Group, "<s>" + bareText + "&equals;&equals;</s>", ""},
		{"padding in a string", `"` + base64Group, `"` + bareText + `\x3d\x3d"`, ""},
		{"padding on its own line", `s: ` + base64Group, "s: " + bareText + "\n==\n", ""},
		{"padding in octal", `s=` + base64Group, "s=" + bareText + `\075\075`, ""},
		{"padding in LDAP", `s=` + base64Group, "s=" + bareText + `\3D\3d`, ""},
		{"padding in CSS", `s=` + base64Group, "s=" + bareText + `\00003d \00003d `, ""},
		{"padding in RTF", `s=` + base64Group, "s=" + bareText + `\'3d\'3d`, ""},
		{"padding in an old URL", `s=` + base64Group, "s=" + bareText + "%u003D%u003D", ""},
		{"padding after carets", `s=` + base64Group, "s=" + bareText + "^=^=", ""},
		{"padding after a space", `s=` + base64Group, "s=" + bareText + "\t==", ""},
		{"padding in UTF-16", `s=` + base64Group, "s=" + bareText + "\x00=\x00=\x00", ""},
		{"padding in a separate string", `s=` + base64Group, "s=" + bareText + `" + "=="`, ""},
		{"padding in a comment's next line", `# ` + base64Group, "# " + bareText + "\n# ==\n", ""},
		{"padding in a quotation", `> ` + base64Group, "> " + bareText + `\n> ==`, ""},
		{"padding, base64url", `s=([A-Za-z0-9_-]+)`, "s=" + bareText + "==", formatBase64URL},
		{"literal after the group", base64Group + `z;`, "s=" + bareText[:12] + "z;", ""},
		{"escaped character of the text in a URL", `s=([A-Za-z0-9+/]{12})`,
			"s=" + bareText[:12] + "%2Bab", ""},
		{"escaped slash", `s=([A-Za-z0-9+/]{12})`, `s=` + bareText[:12] + `\/ab`, ""},
		{"text before the group", `s=A([A-Za-z0-9+/]{12})`, "s=A" + bareText[:12], ""},
		{"text before the group, in a URL", `s=%2B([A-Za-z0-9+/]{12})`, "s=%2B" + bareText[:12],
			""},
		{"hex, text before the group", `s=aa([0-9a-f]+)`, "s=aa" + hexText, formatHex},
		{"hex, text after the group", `s=([0-9a-f]{10})`, "s=" + hexText, formatHex},
	}
}

func wholeTexts() []textPartCase {
	return []textPartCase{
		{"assignment", `s=(\S+)`, "s=" + bareText + "==", ""},
		{"no padding by the writer", `s=` + base64Group, "s=" + bareText + ";t=1", ""},
		{"white space in the group", `(?s)s=(.*)t`, "s=" + bareText + "==\nt=1", ""},
		{"a URL", `s%3D` + base64Group, "s%3D" + bareText + "%26", ""},
		{"a string with line breaks", `\\n` + base64Group, `"x\n` + bareText + `\n"`, ""},
		{"an entity in front", `&quot;` + base64Group, "&quot;" + bareText + "&quot;", ""},
		{"PostgreSQL", `\\x([0-9a-f]+)`, `\x` + hexText, formatHex},
		{"SQL", `0x([0-9a-f]+)`, "0x" + hexText + ",", formatHex},
		{"less than the padding", `s=` + base64Group, "s=" + bareText + `" = 1`, ""},
		{"more than the padding", `s=` + base64Group, "s=" + bareText + "\n=======\n", ""},
		{"a name in between", `s=` + base64Group, "s=" + bareText + `" t=="`, ""},
		{"next line", `s: ` + base64Group, "s: " + bareText + "\nt: u==\n", ""},
	}
}

// TestTextPart: a match that is not the whole encoded text is refused, however the rest of the text
// is escaped.
func TestTextPart(t *testing.T) {
	for whole, cases := range map[bool][]textPartCase{false: partsOfTexts(), true: wholeTexts()} {
		for _, test := range cases {
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
				if whole != (refused == nil) ||
					refused != nil && refused.Reason != "part-of-text" {
					t.Errorf("%q: %v", test.body, refused)
				}
			})
		}
	}
}

// FuzzTextPart: with any text around a match, a reader finds the new blob. The reader decodes
// escapes and takes the longest text of the alphabet, including padding.
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
			t.Fatalf("%q became %q, in which a reader finds %q", before+text+after, now, whole)
		}
	})
}
