package conformance

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rotator/internal/fakeaws/awsspec"
)

//go:embed deviations.json
var known []byte

// deviation is a case that a server fails.
type deviation struct {
	Server  string  `json:"server"`
	Service service `json:"service"`
	Case    string  `json:"case"`
	// Means is the consequence for rotator, or "" if rotator does not depend on the case.
	Means string `json:"means,omitempty"`
	// evidence is the response of the server in this run.
	evidence string
}

func (d deviation) same(other deviation) bool {
	return d.Server == other.Server && d.Service == other.Service && d.Case == other.Case
}

// result is the result of one server.
type result struct {
	server     server
	lacking    string // reason why the server was not tested, or ""
	cases      map[service]int
	deviations []deviation
	run        string // result of the migration with rotator
}

const (
	deviationsFile = "deviations.json"
	document       = "../../docs/conformance.md"
)

// TestConformance runs every case and a migration with rotator against every server, and compares
// the deviations with deviations.json. With UPDATE=1 it writes deviations.json and
// docs/conformance.md instead.
func TestConformance(t *testing.T) {
	var expected []deviation
	if err := json.Unmarshal(known, &expected); err != nil {
		t.Fatalf("%s: %v", deviationsFile, err)
	}
	binary := t.TempDir() + "/rotator"
	build(t, "../..", binary, "./cmd/rotator")
	var results []result
	for _, s := range servers() {
		r := result{server: s, lacking: s.lacking(), cases: map[service]int{}}
		if r.lacking != "" {
			fmt.Printf("SKIPPED: %s was not tested: %s\n", s.name, r.lacking)
		} else {
			t.Run(s.name, func(t *testing.T) {
				endpoint := start(t, s)
				r.tryCases(t, endpoint)
				r.run = fullRun(t, s, endpoint, binary)
			})
		}
		results = append(results, r)
	}
	if t.Failed() {
		return
	}
	if os.Getenv("UPDATE") == "1" {
		update(t, results, expected)
		return
	}
	compare(t, results, expected)
}

func (r *result) tryCases(t *testing.T, endpoint string) {
	for _, s := range r.server.services {
		var cases []awsspec.Case
		switch s {
		case kmsService:
			cases = awsspec.KMSCases(config(endpoint))
		case dynamodbService:
			cases = awsspec.DynamoDBCases(config(endpoint))
		case s3Service:
			cases = awsspec.S3Cases(config(endpoint), true)
		}
		for _, c := range cases {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			told := c.Try(ctx)
			cancel()
			r.cases[s]++
			if len(told) > 0 {
				r.deviations = append(r.deviations, deviation{
					Server:   r.server.name,
					Service:  s,
					Case:     c.Name,
					evidence: plain(told),
				})
			}
		}
	}
}

// plain returns the alphabetically first message, without the parts that differ in every run. The
// order of the messages is not fixed, because a case may run its steps in any order.
func plain(messages []string) string {
	var lines []string
	for _, message := range messages {
		line, _, _ := strings.Cut(message, "\n")
		lines = append(lines, same(line))
	}
	text := slices.Min(lines)
	if more := len(messages) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text
}

// same returns a line without the parts that differ in every run.
func same(text string) string {
	for _, rule := range []struct{ pattern, with string }{
		{`arn:aws:[a-z0-9]+:[^ ,"]+`, "ARN"},
		{`(mrk-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, "ID"},
		{`, RequestID: [^,]*`, ""}, {`, HostID: [^,]*`, ""},
		{`127\.0\.0\.1:[0-9]+`, "HOST"}, {`0x[0-9a-f]+`, "POINTER"},
		{`rotator-[A-Za-z2-7]{26}`, "NAME"}, {`[A-Z2-7]{26}`, "NAME"}, {`[0-9a-f]{32,}`, "HEX"},
		{`[A-Za-z0-9+/]{60,}={0,2}`, "BLOB"},
		{`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[^ ,]*( \+0000 UTC)?`, "TIME"},
		{`\s+`, " "}, {`\|`, "/"},
	} {
		text = regexp.MustCompile(rule.pattern).ReplaceAllString(text, rule.with)
	}
	if runes := []rune(text); len(runes) > 180 {
		text = string(runes[:180]) + "..."
	}
	return text
}

// compare fails the test for every deviation that is new or gone, and if docs/conformance.md
// differs from what this run would write.
func compare(t *testing.T, results []result, expected []deviation) {
	complete := true
	for _, r := range results {
		if r.lacking != "" {
			complete = false
			continue
		}
		for _, d := range r.deviations {
			if !slices.ContainsFunc(expected, d.same) {
				t.Errorf("%s, %s: %s: unknown deviation: %s", d.Server, d.Service, d.Case,
					d.evidence)
			}
		}
		for _, d := range expected {
			if d.Server == r.server.name && !slices.ContainsFunc(r.deviations, d.same) {
				t.Errorf("%s, %s: %s: the known deviation is gone", d.Server, d.Service, d.Case)
			}
		}
	}
	if !complete || t.Failed() {
		return
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	was, is := strings.Split(string(text), "\n"), strings.Split(render(results, expected), "\n")
	for i := range max(len(was), len(is)) {
		if i >= len(was) || i >= len(is) || was[i] != is[i] {
			t.Fatalf("%s is out of date (make conformance UPDATE=1), from line %d on:\n%s\n%s",
				document, i+1, strings.Join(was[min(i, len(was)):min(i+1, len(was))], ""),
				strings.Join(is[min(i, len(is)):min(i+1, len(is))], ""))
		}
	}
}

func update(t *testing.T, results []result, expected []deviation) {
	var found []deviation
	for _, r := range results {
		if r.lacking != "" {
			t.Fatalf("%s was not tested (%s), so its known deviations would be lost",
				r.server.name, r.lacking)
		}
		for _, d := range r.deviations {
			if i := slices.IndexFunc(expected, d.same); i >= 0 {
				d.Means = expected[i].Means
			}
			found = append(found, d)
		}
	}
	text, err := json.MarshalIndent(found, "", "  ")
	if err == nil {
		err = os.WriteFile(deviationsFile, append(text, '\n'), 0o644)
	}
	if err == nil {
		err = os.WriteFile(document, []byte(render(results, found)), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// preface is the part of the document that is not generated.
//
//go:embed preface.md
var preface string

// render returns the text of docs/conformance.md.
func render(results []result, expected []deviation) string {
	var b strings.Builder
	b.WriteString(preface)
	for _, r := range results {
		for i, s := range r.server.services {
			n, run := 0, r.run
			for _, d := range r.deviations {
				if d.Service == s {
					n++
				}
			}
			if i > 0 {
				run = "the same"
			}
			fmt.Fprintf(&b, "| %s | %s | %d | %d | %s |\n", r.server.name, s, r.cases[s], n, run)
		}
	}
	b.WriteString("\n")
	for _, r := range results {
		fmt.Fprintf(&b, "- **%s**: %s.\n", r.server.name, r.server.origin)
	}
	b.WriteString("\n## What each deviation means\n")
	for _, r := range results {
		fmt.Fprintf(&b, "\n### %s\n\n| service | case | response | consequence for rotator |\n"+
			"|---|---|---|---|\n", r.server.name)
		for _, d := range r.deviations {
			if i := slices.IndexFunc(expected, d.same); i >= 0 {
				d.Means = expected[i].Means
			}
			if d.Means == "" {
				d.Means = "rotator does not depend on it"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n",
				d.Service, strings.ReplaceAll(d.Case, "|", "/"), d.evidence, d.Means)
		}
	}
	return b.String()
}
