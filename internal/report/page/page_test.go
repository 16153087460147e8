package page

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/net/html"

	"rotator/internal/report/document"
	"rotator/internal/report/reporttest"
)

var update = flag.Bool("update", false, "write the golden files")

func pageOf(t *testing.T, d *document.Document) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, d); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestPage: the page of a saved document is as in the golden file.
func TestPage(t *testing.T) {
	t.Parallel()
	got := pageOf(t, reporttest.Saved(t))
	path := filepath.Join("testdata", "report.html")
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; if this is intended, run the test with -update", path)
	}
}

// allowedElements are the elements of a page. None of them loads or runs anything.
func allowedElements() []string {
	return strings.Fields("html head meta title style body a header div p b span main " +
		"section svg circle path rect line text tspan desc h1 h2 h3 dl dt dd small ol li pre " +
		"code nav figure figcaption table caption thead tbody tfoot tr th td ul details " +
		"summary footer")
}

func allowedAttributes() []string {
	return strings.Fields("lang charset name content http-equiv class href viewbox aria-hidden " +
		"aria-label aria-labelledby cx cy r d role id x y x1 x2 y1 y2 width height rx tabindex " +
		"scope open")
}

// inspect calls t.Error for each element and attribute that a page must not have. It returns the
// text of the page, and the content security policy.
func inspect(t *testing.T, page []byte) (text, policy string) {
	t.Helper()
	root, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for node := range root.Descendants() {
		switch node.Type {
		case html.TextNode:
			b.WriteString(node.Data)
		case html.ElementNode:
			if !slices.Contains(allowedElements(), node.Data) {
				t.Errorf("the page has the element %s", node.Data)
			}
		case html.CommentNode:
			t.Error("the page has a comment")
		}
		for _, a := range node.Attr {
			if !slices.Contains(allowedAttributes(), strings.ToLower(a.Key)) {
				t.Errorf("%s has the attribute %s", node.Data, a.Key)
			}
			if a.Key == "href" && !strings.HasPrefix(a.Val, "#") {
				t.Errorf("a link goes to %s", a.Val)
			}
			if node.Data == "meta" && strings.HasPrefix(a.Val, "default-src") {
				policy = a.Val
			}
		}
	}
	return b.String(), policy
}

// TestHarmless: hostile names become text. The page has only known elements and attributes, loads
// nothing, has no character that must not be printed, and its policy allows only its own style.
func TestHarmless(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]*document.Document{
		"saved":    reporttest.Saved(t),
		"attacked": reporttest.Attacked(t),
	} {
		page := pageOf(t, d)
		text, policy := inspect(t, page)
		for _, r := range string(page) {
			if r != '\n' && !unicode.IsPrint(r) || unicode.Is(unicode.Bidi_Control, r) {
				t.Errorf("%s: the page has the character %U", name, r)
			}
		}
		_, rest, _ := bytes.Cut(page, []byte("<style>"))
		css, _, _ := bytes.Cut(rest, []byte("</style>"))
		sum := sha256.Sum256(css)
		want := "default-src 'none'; style-src 'sha256-" +
			base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
		if policy != want {
			t.Errorf("%s: the policy is %s, want %s", name, policy, want)
		}
		if bytes.Contains(css, []byte("url(")) || bytes.Contains(css, []byte("@import")) {
			t.Errorf("%s: the style loads something", name)
		}
		if name == "attacked" && !strings.Contains(text, `<script>alert(1)</script>`) {
			t.Error("the hostile name is not in the text")
		}
	}
}

// maxPage is the maximum size of a page in bytes.
const maxPage = 2 << 20

// TestSize: the page of the largest document is below 2 MiB, and states what it leaves out.
func TestSize(t *testing.T) {
	t.Parallel()
	page := pageOf(t, reporttest.Large(t, 5000))
	if len(page) >= maxPage {
		t.Errorf("the page has %d bytes", len(page))
	}
	for _, want := range []string{"130 exceptions are not listed here", "more rows are not shown"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page does not state: %s", want)
		}
	}
}

// TestOtherVerdicts: a page without a verdict, earlier passes, and copies can be written.
func TestOtherVerdicts(t *testing.T) {
	t.Parallel()
	d := reporttest.Saved(t)
	d.Verdicts, d.Passes, d.Timeline, d.Copies, d.Inventory = nil, nil, nil, nil, nil
	inspect(t, pageOf(t, d))
}

// TestTransfers: the transfers explain both columns.
func TestTransfers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ before, after []int64 }{
		{[]int64{21650, 200, 100, 50}, []int64{0, 21850, 100, 50}},
		{[]int64{1, 2, 3}, []int64{3, 2, 1}},
		{[]int64{0, 0, 7}, []int64{3, 4, 0}},
		{nil, nil},
	} {
		from, to := make([]int64, len(test.before)), make([]int64, len(test.after))
		for _, one := range transfers(test.before, test.after) {
			from[one.from] += one.n
			to[one.to] += one.n
		}
		if !slices.Equal(from, test.before) || !slices.Equal(to, test.after) {
			t.Errorf("%v to %v: the transfers sum up to %v and %v", test.before, test.after,
				from, to)
		}
	}
}

// TestAxes: an axis has a few lines, and its last one is not below the largest value.
func TestAxes(t *testing.T) {
	t.Parallel()
	for _, most := range []int64{1, 2, 9, 10, 11, 405, 21650, 1 << 40, 1<<62 - 1} {
		if lines := (most-1)/niceStep(most) + 1; lines > 5 {
			t.Errorf("an axis up to %d has %d lines", most, lines)
		}
	}
	for _, days := range []float64{1, 7, 35, 400, 40000} {
		if n := days / float64(tickDays(days, 7)); n > 8 {
			t.Errorf("an axis of %.0f days has %.0f ticks", days, n)
		}
	}
}
