package artifact

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"html"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"rotator/internal/report/sheet"
)

// The beginning and the parts of a page, in their order. A page has a content security policy with
// the digest of its own style, so that another page can hardly look the same.
var (
	pageStart = regexp.MustCompile(
		`^<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n`)
	pagePolicy = regexp.MustCompile(`<meta http-equiv="Content-Security-Policy" content="` +
		`default-src [^"]*style-src [^"]*sha256-([^"]+?)&#39;; base-uri [^"]*">`)
	pageTitle = regexp.MustCompile(`<title>[^<]*Report of job [^<]+</title>\n<style>`)
	pageEnd   = regexp.MustCompile(
		`\n<footer>rotator [^<]* · schema [0-9]+\.[0-9]+ · generated [^<]+</footer>\n` +
			`</main></body></html>\s*$`)
)

// pageSections are the sections of all pages, in their order.
func pageSections() []string {
	return []string{"inventory", "places", "known", "exceptions", "copies", "keys", "passes",
		"scope", "controls", "check"}
}

// isPage reports whether a body is a report as an HTML page.
func isPage(body []byte) bool {
	if !pageStart.Match(body) || !utf8.Valid(body) || bytes.Contains(body, []byte("<script")) {
		return false
	}
	policy := pagePolicy.FindSubmatch(body)
	title := pageTitle.FindIndex(body)
	if policy == nil || title == nil || !pageEnd.Match(body) {
		return false
	}
	style, rest, found := bytes.Cut(body[title[1]:], []byte("</style>"))
	sum := sha256.Sum256(style)
	digest := base64.StdEncoding.EncodeToString(sum[:])
	if !found || html.UnescapeString(string(policy[1])) != digest {
		return false
	}
	for _, name := range pageSections() {
		var section bool
		if _, rest, section = bytes.Cut(rest, []byte(`<section id="`+name+`"><h2>`)); !section {
			return false
		}
	}
	return true
}

// isMarkdown reports whether a body is a report as Markdown.
func isMarkdown(body []byte) bool {
	if !bytes.HasPrefix(body, []byte("# ")) || !utf8.Valid(body) {
		return false
	}
	return inOrder(body, []string{
		"\n| | |\n|---|---|\n| job | ",
		"\n## Inventory\n\n| target | key | role | before | after | by header |\n",
		"\n## Places\n", "\n## Exceptions\n", "\n## Copies of old ciphertexts\n",
		"\n## Passes\n\n| pass | command | began | ended | status | seen | moved |",
	})
}

// inOrder reports whether a text contains all parts in their order. The last byte of a part can be
// the first one of the next.
func inOrder(text []byte, parts []string) bool {
	for _, part := range parts {
		i := bytes.Index(text, []byte(part))
		if i < 0 {
			return false
		}
		text = text[i+len(part)-1:]
	}
	return true
}

// isTable reports whether a body is a table of a report as CSV: it has the head of the table, and
// in each row a value of the right kind in each column with numbers, times or conditions.
func isTable(body []byte) bool {
	for _, table := range sheet.Tables() {
		head := sheet.Head(table)
		if !bytes.HasPrefix(body, []byte(strings.Join(head, ",")+"\r\n")) {
			continue
		}
		records, err := csv.NewReader(bytes.NewReader(body)).ReadAll()
		return err == nil && utf8.Valid(body) && !slices.ContainsFunc(records[1:],
			func(row []string) bool { return !isRow(head, row) })
	}
	return false
}

// isRow reports whether the values of a row fit its columns.
func isRow(head, row []string) bool {
	for i, name := range head {
		value, ok := row[i], true
		switch name {
		case "slots_before", "slots_after", "by_kms", "by_header", "attempts", "count", "bytes",
			"number", "seen", "rotated", "current", "remaining", "foreign", "failed", "conflict",
			"gone", "under_source_before", "under_source_after", "kms_requests", "calls",
			"refused_calls", "materials":
			_, err := strconv.ParseUint(value, 10, 63)
			ok = err == nil || value == ""
		case "at", "until", "began", "ended", "asked", "since", "first", "last", "created":
			_, err := time.Parse(time.RFC3339, value)
			ok = err == nil || value == ""
		case "no_end", "reported", "refused":
			ok = value == "true" || value == "false"
		case "outcome":
			ok = slices.Contains([]string{"failed", "foreign", "conflict"}, value)
		case "role":
			ok = slices.Contains([]string{"source", "destination", "foreign", "none"}, value)
		}
		if !ok {
			return false
		}
	}
	return true
}

// isMaterials reports whether a body is a bill of materials of a report.
func isMaterials(body []byte) bool {
	var bom struct {
		Format   string `json:"bomFormat"`
		Metadata struct {
			Component struct {
				Name string `json:"name"`
				Ref  string `json:"bom-ref"`
			} `json:"component"`
		} `json:"metadata"`
		Components []struct {
			Type       string `json:"type"`
			Properties []struct {
				Name string `json:"name"`
			} `json:"properties"`
		} `json:"components"`
	}
	if !bytes.Contains(body[:min(len(body), 256)], []byte("cyclonedx.org")) ||
		json.Unmarshal(body, &bom) != nil {
		return false
	}
	for _, c := range bom.Components {
		if c.Type != "cryptographic-asset" || len(c.Properties) == 0 ||
			c.Properties[0].Name != "rotator:role" {
			return false
		}
	}
	own := bom.Metadata.Component
	return bom.Format == "CycloneDX" && own.Ref == "job" &&
		strings.HasPrefix(own.Name, "rotator job ")
}
