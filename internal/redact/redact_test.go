package redact

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// encodings returns the encodings in which bytes occur in messages.
func encodings() map[string]func([]byte) string {
	std := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	return map[string]func([]byte) string{
		"base64":           std,
		"base64 raw":       base64.RawStdEncoding.EncodeToString,
		"base64url":        base64.URLEncoding.EncodeToString,
		"base64 of base64": func(b []byte) string { return std([]byte(std(b))) },
		"base64, escaped": func(b []byte) string {
			return strings.NewReplacer("/", `\/`, "+", `\u002b`, "=", `\u003d`).Replace(std(b))
		},
		"base64, percent": func(b []byte) string { return url.QueryEscape(std(b)) },
		"base64, percent twice": func(b []byte) string {
			return url.QueryEscape(url.QueryEscape(std(b)))
		},
		"base64, XML": func(b []byte) string {
			return strings.NewReplacer("+", "&#43;", "/", "&#x2F;").Replace(std(b))
		},
		"base64, wrapped": func(b []byte) string { return wrap(std(b), 64) },
		"base32":          base32.StdEncoding.EncodeToString,
		"hex":             hex.EncodeToString,
		"HEX":             func(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) },
		"hex with colons": func(b []byte) string {
			return strings.ReplaceAll(fmt.Sprintf("% x", b), " ", ":")
		},
		"hex with spaces": func(b []byte) string { return fmt.Sprintf("% x", b) },
		"%v":              func(b []byte) string { return fmt.Sprint(b) },
		"%#v":             func(b []byte) string { return fmt.Sprintf("%#v", b) },
		"%q":              func(b []byte) string { return fmt.Sprintf("%q", b) },
		"quoted twice":    func(b []byte) string { return strconv.Quote(strconv.Quote(string(b))) },
		"raw":             func(b []byte) string { return string(b) },
		"JSON latin-1":    latin1,
		"percent":         func(b []byte) string { return url.QueryEscape(string(b)) },
		"JSON array": func(b []byte) string {
			return strings.ReplaceAll(fmt.Sprint(b), " ", ",")
		},
		"HTML of base64": func(b []byte) string { return html.EscapeString(`"` + std(b) + `"`) },
	}
}

func wrap(s string, width int) string {
	var lines []string
	for len(s) > width {
		lines, s = append(lines, s[:width]), s[width:]
	}
	return strings.Join(append(lines, s), "\n")
}

func latin1(b []byte) string {
	runes := make([]rune, len(b))
	for i, c := range b {
		runes[i] = rune(c)
	}
	text, _ := json.Marshal(string(runes))
	return string(text)
}

// TestEncodedBytesAreRemoved: no 16 consecutive characters are left of 32 or more random bytes in
// any encoding, and the text around them is kept. Bytes that are not random, such as text,
// cannot be distinguished from other text.
func TestEncodedBytesAreRemoved(t *testing.T) {
	r, times := New(), 20
	if testing.Short() {
		times = 2
	}
	for name, encode := range encodings() {
		random := rand.NewChaCha8([32]byte{7})
		for _, length := range []int{32, 33, 34, 48, 64, 152, 300} {
			for range times {
				blob := make([]byte, length)
				_, _ = random.Read(blob)
				secret := encode(blob)
				got := r.Text("ValidationException: 1 error: Value '" + secret + "' at 'x' is bad")
				for i := 0; i+16 <= len(secret); i++ {
					if strings.Contains(got, secret[i:i+16]) {
						t.Fatalf("%s: %q is left of %q in %q", name, secret[i:i+16], secret, got)
					}
				}
				if !strings.HasPrefix(got, "ValidationException: 1 error: Value ") ||
					!strings.Contains(got, "at 'x' is bad") {
					t.Fatalf("%s: more than the secret is removed: %q", name, got)
				}
			}
		}
	}
}

// TestOtherTextIsKept: text that contains no secret does not change.
func TestOtherTextIsKept(t *testing.T) {
	r := New()
	r.Add("short", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
	for _, text := range lines(t, "stays.txt") {
		if got := r.Text(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// lines returns the lines of a file in testdata.
func lines(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// TestLabelled: values with the name of a secret are removed, and nothing else.
func TestLabelled(t *testing.T) {
	r := New()
	for _, text := range lines(t, "labelled.txt") {
		for _, secret := range []string{"hunter2-x", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"} {
			got := r.Text(strings.ReplaceAll(text, "§", secret))
			if want := strings.ReplaceAll(text, "§", Mark); got != want {
				t.Errorf("%s became %s", text, got)
			}
		}
	}
}

// TestCredentialsInURLs: credentials are removed from URLs, even from malformed URLs and URLs
// without a password.
func TestCredentialsInURLs(t *testing.T) {
	for url, want := range map[string]string{
		"http://user:hunter2/x@proxy:x/": "http://user:[redacted]@proxy:x/",
		"http://user:p@ss:1@proxy:3128":  "http://user:[redacted]@proxy:3128",
		"socks5://:12345678@proxy":       "socks5://:[redacted]@proxy",
		"https://hunter2@proxy/a":        "https://[redacted]@proxy/a",
	} {
		if got := New().Text(`parse "` + url + `": bad`); got != `parse "`+want+`": bad` {
			t.Errorf("%s became %s", url, got)
		}
	}
}

// TestKnown: secrets that were added are removed from any text, in every encoding.
func TestKnown(t *testing.T) {
	const known = "minio-secret/+1"
	r := New()
	r.Add("short", "  "+known+"\n")
	for _, form := range []string{
		known, `minio-secret\/\u002b1`, `minio-secret\\\/\\u002b1`, "minio-secret%2F%2B1",
		"minio-secret&#47;&#x2b;1",
		hex.EncodeToString([]byte(known)), base64.RawStdEncoding.EncodeToString([]byte(known)),
	} {
		if got := r.Known("it says " + form + "."); got != "it says "+Mark+"." {
			t.Errorf("%q became %q", form, got)
		}
		var out strings.Builder
		if n, err := NewWriter(r, &out).Write([]byte(form)); n != len(form) || err != nil ||
			out.String() != Mark {
			t.Errorf("%q is written as %q: %d, %v", form, out.String(), n, err)
		}
	}
	if text := "a short name%20"; r.Known(text) != text {
		t.Errorf("%q became %q", text, r.Known(text))
	}
}

func TestCode(t *testing.T) {
	for code, want := range map[string]string{
		"ProvisionedThroughputExceededException":       "ProvisionedThroughputExceededException",
		"KMS.DisabledException":                        "KMS.DisabledException",
		"Bad\u202eCode":                                "Bad\u202eCode",
		"Bad wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY": "Bad " + Mark,
		strings.Repeat("Long", 21):                     Mark,
		"":                                             "",
	} {
		if got := Code(code); got != want {
			t.Errorf("Code(%q) = %q, want %q", code, got, want)
		}
	}
}

func TestLongTextIsCut(t *testing.T) {
	got := New().Text(strings.Repeat("añb ", 1<<20))
	if len(got) > maxShown+40 || !strings.HasSuffix(got, "more bytes)") {
		t.Errorf("%d bytes are left, which end with %q", len(got), got[len(got)-30:])
	}
}

// FuzzText: Text does not panic, and removes a known secret from any text.
func FuzzText(f *testing.F) {
	f.Add(`SecretAccessKey":"\u00ff\\x%25&#x;` + strings.Repeat("Aa1", 20))
	r := New()
	r.Add("known-secret")
	f.Fuzz(func(t *testing.T, s string) {
		if got := r.Text(s); strings.Contains(got, "known-secret") {
			t.Errorf("%q became %q", s, got)
		}
	})
}
