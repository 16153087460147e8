package printable

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"":                         "",
		"prod/Müller/鍵/😀 \\ \"":    "prod/Müller/鍵/😀 \\ \"",
		"a\x1b[2Jb":                `a\u001b[2Jb`,
		"a\nb\tc\rd\x00\x7f":       `a\nb\tc\rd\u0000\u007f`,
		"\u009b31m":                `\u009b31m`,
		"\xc2":                     `\xc2`,
		"a\x9bb\xff":               `a\x9bb\xff`,
		"user\u202egnp.exe":        `user\u202egnp.exe`,
		"a\u2066b\u2069":           `a\u2066b\u2069`,
		"a\u200bb\ufeff\u00ad":     `a\u200bb\ufeff\u00ad`,
		"a\u2028b\u2029":           `a\u2028b\u2029`,
		"x\U000e0041":              `x\udb40\udc41`,
		"❤\ufe0f\U000e0100":        `❤\ufe0f\udb40\udd00`,
		"\u3164\u115f\u2800":       `\u3164\u115f\u2800`,
		"a\u00a0b\u2003c":          `a\u00a0b\u2003c`,
		"\ufffd \ue000 \U0010ffff": "\ufffd " + `\ue000 \udbff\udfff`,
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q) = %s, want %s", in, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { Text(`{"id":{"S":"Müller"}}`) }); n != 0 {
		t.Errorf("Text allocates %v times for a text that needs no escaping", n)
	}
}

// FuzzText: the result of Text has only printable characters. Escaping it again changes nothing.
// A Writer has the same result except for newlines and tabs. AppendJSON keeps the meaning.
func FuzzText(f *testing.F) {
	f.Add("a\x1b]0;\u202e\U000e0041\xffb\n\t")
	f.Fuzz(func(t *testing.T, s string) {
		text := Text(s)
		for _, r := range text {
			if !utf8.ValidString(text) || !unicode.IsPrint(r) ||
				unicode.Is(unicode.Variation_Selector, r) {
				t.Fatalf("Text(%q) = %q contains %U", s, text, r)
			}
		}
		if twice := Text(text); twice != text {
			t.Fatalf("Text(%q) = %q, and twice %q", s, text, twice)
		}
		var out bytes.Buffer
		if n, err := NewWriter(&out).Write([]byte(s)); n != len(s) || err != nil {
			t.Fatalf("Write(%q) = %d, %v", s, n, err)
		}
		lines := strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(out.String())
		if lines != text {
			t.Fatalf("the Writer writes %q as %q, Text returns %q", s, out.String(), text)
		}
		var got, want string
		if err := json.Unmarshal(AppendJSON(nil, s), &got); err != nil {
			t.Fatalf("%q in JSON: %v", s, err)
		}
		if want = strings.ToValidUTF8(s, "\ufffd"); strings.ToValidUTF8(got, "\ufffd") != got ||
			utf8.ValidString(s) && got != want ||
			Text(string(AppendJSON(nil, s))) != string(AppendJSON(nil, s)) {
			t.Fatalf("%q in JSON is %s", s, AppendJSON(nil, s))
		}
	})
}

func TestFprintf(t *testing.T) {
	type name string
	var out bytes.Buffer
	_, err := Fprintf(&out, "%s|%v|%q|%5d|%-4s|%v\n", name("a\tb"), errors.New("c\nd"),
		"e\u202e\ufe0f", 7, "f", []string{"\x1b"})
	if want := `a\tb|c\nd|"e\u202e\ufe0f"|    7|f   |[\u001b]` + "\n"; err != nil ||
		out.String() != want {
		t.Errorf("got %q, %v, want %q", out.String(), err, want)
	}
	if got := Sprintf("%s", fmt.Errorf("no such file %s", "\x9b")); got != `no such file \x9b` {
		t.Errorf("Sprintf = %q", got)
	}
}

// failing is a Writer that always fails.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestWriterPassesErrorsOn(t *testing.T) {
	for _, text := range []string{"plain", "\x1b"} {
		if n, err := NewWriter(failing{}).Write([]byte(text)); n != 0 || err == nil {
			t.Errorf("Write(%q) = %d, %v", text, n, err)
		}
	}
}
