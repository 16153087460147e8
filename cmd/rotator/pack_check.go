package main

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"rotator/internal/evidence/pack"
	"rotator/internal/plural"
	"rotator/internal/printable"
	"rotator/internal/report/auditlog"
	"rotator/internal/report/document"
	"rotator/internal/report/page"
	"rotator/internal/version"
)

// packCheck is the result of checking a pack that is intact.
type packCheck struct {
	Pack   string `json:"pack"`
	Files  int    `json:"files"`
	Signed bool   `json:"signed"`
	// GivenKey is true if the signature was verified with the key of --key.
	GivenKey bool           `json:"given_key"`
	Stated   pack.Predicate `json:"stated"`
	Notes    []string       `json:"notes,omitempty"`
}

// checkPack checks the pack of --check, and prints what its signer states.
func (f *packFlags) checkPack(c *jobFlags) error {
	key, err := f.readKey()
	if err != nil {
		return err
	}
	files, closer, err := pack.Open(f.check)
	if err != nil {
		return checkError(err)
	}
	defer func() { _ = closer.Close() }()
	statement, signed, err := pack.Check(files, key)
	if err != nil {
		return checkError(err)
	}
	result := packCheck{
		Pack:     f.check,
		Files:    len(statement.Subject),
		Signed:   signed,
		GivenKey: key != nil && signed,
		Stated:   statement.Predicate,
	}
	if result.Notes, err = checkContents(files, statement); err != nil {
		return checkError(err)
	}
	if err := c.printPack(result, result.text); err != nil {
		return err
	}
	switch {
	case signed:
		return nil
	case key != nil:
		return &outcomeError{code: exitExceptions, text: "the pack is intact, but not signed, so " +
			"the key of --key cannot be checked and its author is not proven"}
	}
	return &outcomeError{code: exitExceptions, text: "the pack is intact, but not signed, so its " +
		"author is not proven"}
}

// readKey reads the public key of --key. It returns nil without the flag.
func (f *packFlags) readKey() (crypto.PublicKey, error) {
	if f.key == "" {
		return nil, nil
	}
	text, err := os.ReadFile(f.key)
	if err != nil {
		return nil, &outcomeError{code: exitStorage, text: "read the public key: " + err.Error()}
	}
	key, err := pack.ParseKey(text)
	if err != nil {
		return nil, usagef("--key %s: %v", f.key, err)
	}
	return key, nil
}

// checkError returns the error of a pack that is not intact or cannot be read.
func checkError(err error) error {
	switch {
	case errors.As(err, new(*outcomeError)):
		return err
	case errors.As(err, new(*pack.BrokenError)):
		return &outcomeError{code: exitInternal, text: err.Error()}
	}
	return &outcomeError{code: exitStorage, text: "read the pack: " + err.Error()}
}

// checkContents checks the figures of the report, the page that was made from it, and the audit
// logs. The digests of the files are right.
func checkContents(files fs.FS, s *pack.Statement) (notes []string, err error) {
	d, err := packDocument(files)
	if err != nil {
		return nil, err
	}
	if s.Predicate.Version != version.String() {
		notes = append(notes, fmt.Sprintf("%s was not compared with %s, because rotator %s made "+
			"it and this is %s", htmlReport, packReport, s.Predicate.Version, version.String()))
	} else if err := samePage(files, d); err != nil {
		return nil, err
	}
	for _, log := range s.Predicate.Logs {
		if log.File == "" {
			continue
		}
		if err := sameLog(files, log); err != nil {
			return nil, err
		}
	}
	return notes, nil
}

// packDocument reads the report of a pack.
func packDocument(files fs.FS) (*document.Document, error) {
	file, err := files.Open(packReport)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return document.Read(packReport, file)
}

// samePage returns an error if the page was not made from the document.
func samePage(files fs.FS, d *document.Document) error {
	got, err := fs.ReadFile(files, htmlReport)
	if err != nil {
		return err
	}
	var want bytes.Buffer
	if err := page.Write(printable.NewWriter(&want), d); err != nil {
		return err
	}
	if !bytes.Equal(got, want.Bytes()) {
		return &pack.BrokenError{Detail: htmlReport + " was not made from " + packReport}
	}
	return nil
}

// sameLog returns an error if the chain of hashes of a log is broken, or does not end as stated.
func sameLog(files fs.FS, log pack.Log) error {
	file, err := files.Open(log.File)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	lines, head, err := auditlog.MeasurePlain(file)
	if err != nil {
		return &pack.BrokenError{Detail: fmt.Sprintf("%s: %v", log.File, err)}
	}
	if lines != log.Lines || lines > 0 && head != log.Head {
		return &pack.BrokenError{Detail: fmt.Sprintf("%s has %s and ends with the hash %s, but "+
			"the statement has %d and %s", log.File, plural.Count(lines, "line"), head, log.Lines,
			log.Head)}
	}
	return nil
}

func (r packCheck) text() string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "The pack %s is intact: %s, as listed.\n", r.Pack,
		plural.Count(int64(r.Files), "file"))
	switch s := r.Stated.Signer; {
	case !r.Signed || s == nil:
		b.WriteString("It is not signed.\n")
	case r.GivenKey:
		_, _ = fmt.Fprintf(&b, "Signed with %s, %s. The given key verifies the signature.\n", s.Key,
			s.Algorithm)
	default:
		_, _ = fmt.Fprintf(&b, "Signed with %s, %s, according to the pack. The signature was "+
			"verified with the key in the pack, which the author of a false pack could have made: "+
			"--key names the key of the signer.\n", s.Key, s.Algorithm)
	}
	_, _ = fmt.Fprintf(&b, "Job %s, pack of %s:\n", r.Stated.Job,
		r.Stated.Created.UTC().Format(time.RFC3339))
	for _, v := range r.Stated.Verdicts {
		_, _ = fmt.Fprintf(&b, "- %s\n", v.Sentence)
	}
	for _, note := range r.Notes {
		_, _ = fmt.Fprintf(&b, "Note: %s.\n", note)
	}
	return wrapLines(b.String())
}
