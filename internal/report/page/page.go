// Package page writes a report as one HTML page. The page has no script and loads nothing. Its
// content security policy allows only its own style. Names and messages from outside are escaped,
// and its size is bounded: tables list a limited number of rows and state how many they leave out.
package page

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the style and the template
	"encoding/base64"
	"fmt"
	"html/template"
	"io"

	"rotator/internal/plural"
	"rotator/internal/printable"
	"rotator/internal/report/document"
)

//go:embed style.css
var style string

//go:embed page.html
var source string

// Write writes the page of a document. The page depends on nothing else.
func Write(w io.Writer, d *document.Document) error {
	parsed, err := template.New("page").Funcs(template.FuncMap{
		"digits": plural.Digits,
		"cell":   cell,
		"stamp":  stamp,
		"moment": moment,
		"took":   took,
		"short":  func(digest string) string { return elide(digest, 17) },
		"line":   sentence,
		"some":   some,
		"detail": detail,
	}).Parse(source)
	if err != nil {
		return fmt.Errorf("parse the template of the page: %w", err)
	}
	var b bytes.Buffer
	if err := parsed.Execute(&b, viewOf(d)); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	_, err = printable.NewWriter(w).Write(b.Bytes())
	return err
}

// policy returns the content security policy of the page.
func policy() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" +
		base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
}
