//go:build evidence

// Package evidence looks at the evidence pack of the demo as its readers do: the page in Chromium,
// in light, dark, on a narrow screen and on paper, the tables and the documents in Python, and the
// signature with cosign. A check whose programs are not installed is skipped, and its message
// begins with SKIPPED.
package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// narrow is the width in px of the narrow screen.
const narrow = 390

// TestPack runs the demo once, and looks at its pack.
func TestPack(t *testing.T) {
	dir := t.TempDir()
	rotator := demo(t, dir)
	pack := filepath.Join(dir, "evidence-pack")
	t.Run("page", func(t *testing.T) { lookAtPage(t, pack) })
	t.Run("tables", func(t *testing.T) { readTables(t, rotator, pack) })
	t.Run("cosign", func(t *testing.T) { verifyWithCosign(t, pack) })
}

// demo builds both programs and runs the demo, which writes the pack in dir. It returns the path of
// rotator.
func demo(t *testing.T, dir string) (rotator string) {
	t.Helper()
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "./cmd/rotator", "./cmd/rotator-demo")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	run := exec.CommandContext(t.Context(), filepath.Join(bin, "rotator-demo"), "--dir", dir)
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("the demo: %v\n%s", err, out)
	}
	return filepath.Join(bin, "rotator")
}

// program returns the path of the first program of a list that is installed. It skips the test if
// none is.
func program(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skipf("SKIPPED: %s is not installed", strings.Join(names, " or "))
	return ""
}

// view is what page.mjs found.
type view struct {
	Messages   []string       `json:"messages"`   // in the console
	Requests   []string       `json:"requests"`   // other than for the page
	Violations []string       `json:"violations"` // of the rules of axe-core
	Passes     int            `json:"passes"`     // rules of axe-core that hold
	Widths     map[string]int `json:"widths"`     // in px, by scheme and width of the screen
}

func lookAtPage(t *testing.T, pack string) {
	chromium := program(t, "chromium", "chromium-browser", "google-chrome")
	node, npm, pdftotext := program(t, "node"), program(t, "npm"), program(t, "pdftotext")
	install(t, npm)
	pictures := os.Getenv("PICTURES") // a directory that stays
	if pictures == "" {
		pictures = t.TempDir()
	}
	script := exec.CommandContext(t.Context(), node, filepath.Join("node", "page.mjs"), chromium,
		filepath.Join(pack, "report.html"), pictures)
	out, err := script.Output()
	if err != nil {
		t.Fatalf("page.mjs: %v\n%s", err, stderrOf(err))
	}
	var v view
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Messages)+len(v.Requests)+len(v.Violations) > 0 || v.Passes == 0 {
		t.Errorf("want no message, no request and no violation: %+v", v)
	}
	if width := v.Widths[fmt.Sprintf("light %d", narrow)]; width == 0 || width > narrow {
		t.Errorf("on a screen of %d px, the page has a width of %d px", narrow, width)
	}
	text, err := exec.CommandContext(t.Context(), pdftotext, "-layout",
		filepath.Join(pictures, "report.pdf"), "-").Output()
	if err != nil {
		t.Fatalf("pdftotext: %v\n%s", err, stderrOf(err))
	}
	figures := figuresOf(t, filepath.Join(pack, "report.json"))
	words := strings.Fields(string(text))
	for name, n := range figures {
		if !slices.ContainsFunc(words, func(word string) bool {
			return strings.Trim(word, "().,;:") == grouped(n)
		}) {
			t.Errorf("the printed page does not have %s, %s", name, grouped(n))
		}
	}
	t.Logf("%d rules of axe-core hold; %d figures are on paper", v.Passes, len(figures))
}

// install installs the packages of node/package-lock.json.
func install(t *testing.T, npm string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), npm, "ci", "--no-audit", "--no-fund",
		"--ignore-scripts")
	command.Dir = "node"
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
}

// report has the figures of a report.json that its page shows.
type report struct {
	Slots     map[string]int64 `json:"slots"`
	Inventory []struct {
		Key    string `json:"key"`
		Target string `json:"target"`
		Before int64  `json:"before"`
		After  int64  `json:"after"`
		Header int64  `json:"by_header"`
	} `json:"inventory"`
	Targets []struct {
		Name  string           `json:"name"`
		Slots map[string]int64 `json:"slots"`
		Items map[string]int64 `json:"items"`
	} `json:"targets"`
	Sample  map[string]int64 `json:"sample"`
	Reasons []struct {
		Reason string `json:"reason"`
		Slots  int64  `json:"slots"`
	} `json:"reasons"`
	Exceptions struct {
		Total int64 `json:"total"`
	} `json:"exceptions"`
}

// figuresOf returns the figures of a report that its page must show, by their names.
func figuresOf(t *testing.T, path string) map[string]int64 {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var report report
	if err := json.Unmarshal(text, &report); err != nil {
		t.Fatal(err)
	}
	figures := map[string]int64{
		"exceptions":        report.Exceptions.Total,
		"sample.population": report.Sample["population"],
		"sample.checked":    report.Sample["checked"],
	}
	for name, n := range report.Slots {
		figures["slots."+name] = n
	}
	for _, row := range report.Inventory {
		at := row.Target + " " + row.Key + " "
		figures[at+"before"], figures[at+"after"] = row.Before, row.After
		figures[at+"by_header"] = row.Header
	}
	for _, target := range report.Targets {
		for name, n := range target.Slots {
			figures[target.Name+" slots."+name] = n
		}
		figures[target.Name+" items.seen"] = target.Items["seen"]
	}
	for _, reason := range report.Reasons {
		figures["reason "+reason.Reason] = reason.Slots
	}
	return figures
}

// grouped returns a number with commas between groups of three digits, as the page writes it.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// readTables lets Python read the tables, and validate the document by its schema if the module
// jsonschema is installed.
func readTables(t *testing.T, rotator, pack string) {
	python := program(t, "python3")
	text, err := exec.CommandContext(t.Context(), rotator, "schema", "report").Output()
	if err != nil {
		t.Fatalf("schema report: %v\n%s", err, stderrOf(err))
	}
	schema := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(schema, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), python, "tables.py", pack, schema).Output()
	if err != nil {
		t.Fatalf("tables.py: %v\n%s", err, stderrOf(err))
	}
	t.Log(string(bytes.TrimSpace(out)))
}

func stderrOf(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(exit.Stderr)
	}
	return ""
}
