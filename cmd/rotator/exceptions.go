package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"rotator/internal/checkpoint"
	"rotator/internal/printable"
	"rotator/internal/redact"
	"rotator/internal/report"
	"rotator/internal/report/document"
)

// exceptions collects the exceptions of a read-only pass, which has no ledger.
// All of them are written to a file, if one was given, and a few examples to
// the result.
type exceptions struct {
	examples report.Examples
	listed   []checkpoint.LedgerEntry // the first ones, for the report
	file     *exceptionsFile          // nil without --exceptions
	failed   failedSlots
}

// failedSlots are the first failed slots that may be under a source key, for waivers. The zero
// value is ready to use.
type failedSlots struct {
	list []checkpoint.LedgerEntry
	size int
	full bool
	// asymmetric is true if the source keys are asymmetric. Their ciphertexts have no header.
	asymmetric bool
}

// maxFailed is the maximum size in bytes of the failed slots in a stored read-only pass.
const maxFailed = 30 << 10

// add adds an exception, unless it cannot be waived. A slot without a digest cannot be waived, and
// one without any header is not under a symmetric key.
func (f *failedSlots) add(e checkpoint.LedgerEntry) {
	elsewhere := e.Origin == checkpoint.OriginNone && !f.asymmetric
	if f.full || e.Outcome != "failed" || e.Blob == "" || elsewhere {
		return
	}
	f.size += sizeOf(e)
	if f.full = f.size > maxFailed; !f.full {
		f.list = append(f.list, e)
	}
}

// sizeOf returns an upper bound of the size of an entry in JSON. It holds if no character must be
// escaped.
func sizeOf(e checkpoint.LedgerEntry) int {
	return len(e.Target) + len(e.Ref) + len(e.Path) + len(e.Detail) + len(e.Key) +
		len(e.Origin) + len(e.HeaderKey) + entryOverhead
}

// entryOverhead is the size of the other fields of an entry in JSON.
const entryOverhead = 250

// add adds exceptions. It must not be called concurrently.
func (e *exceptions) add(entries []checkpoint.LedgerEntry) error {
	for _, entry := range entries {
		e.examples.Add(entry)
		e.failed.add(entry)
		if len(e.listed) < document.MaxListed {
			e.listed = append(e.listed, entry)
		}
		if e.file == nil {
			continue
		}
		if err := e.file.add(entry); err != nil {
			return err
		}
	}
	return nil
}

// restart discards all exceptions, because the pass begins again.
func (e *exceptions) restart() error {
	e.examples, e.listed = report.Examples{}, nil
	e.failed = failedSlots{asymmetric: e.failed.asymmetric}
	if e.file == nil {
		return nil
	}
	return e.file.restart()
}

// exceptionsFile is the file of --exceptions: JSON Lines with the fields of the
// ledger. It is written under a temporary name and renamed when it is complete.
type exceptionsFile struct {
	path    string // of the file itself, with symbolic links followed
	tables  map[string]bool
	file    *os.File
	buffer  *bufio.Writer
	encoder *json.Encoder
	kept    bool
}

// exceptionLine is one line: an entry of the ledger, and for items of a table
// the primary key as an object.
type exceptionLine struct {
	checkpoint.LedgerEntry
	ItemKey json.RawMessage `json:"item_key,omitempty"`
}

// openExceptions creates the file. It refuses a path at which another file than
// an earlier list of exceptions exists. tables has the names of the targets
// that are tables.
func openExceptions(
	path string, tables map[string]bool, secrets *redact.Redactor,
) (*exceptionsFile, error) {
	path, err := ownedPath(path)
	if err != nil {
		return nil, &storageError{what: "write the exceptions", err: err}
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, &storageError{what: "write the exceptions", err: err}
	}
	e := &exceptionsFile{
		path:   path,
		tables: tables,
		file:   file,
		buffer: bufio.NewWriterSize(file, 1<<16),
	}
	e.encoder = json.NewEncoder(redact.NewWriter(secrets, printable.NewWriter(e.buffer)))
	return e, nil
}

// notOutput refuses a file of a flag that is also stdout or stderr. The list replaces the file, so
// the output would be lost.
func (s streams) notOutput(flag, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return nil // openExceptions reports it
	}
	for name, output := range map[string]io.Writer{
		"stdout": s.result.w, "stderr": s.screen.direct,
	} {
		file, ok := output.(*os.File)
		if !ok {
			continue
		}
		if open, err := file.Stat(); err == nil && info.Mode().IsRegular() &&
			os.SameFile(info, open) {
			return usagef("%s %s: %s is written to this file too; name another file", flag, path,
				name)
		}
	}
	return nil
}

// ownedPath follows symbolic links, and refuses a file that is not a list of
// exceptions.
func ownedPath(path string) (string, error) {
	if followed, err := filepath.EvalSymlinks(path); err == nil {
		path = followed
	} else if _, broken := os.Lstat(path); broken == nil {
		return "", fmt.Errorf("%s is a dangling symbolic link; name a file", path)
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path, nil
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a regular file; name another file", path)
	case info.Size() == 0:
		return path, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	if !beginsAsExceptions(file) {
		return "", fmt.Errorf("%s exists and is not a list of exceptions written by rotator; "+
			"name another file", path)
	}
	return path, nil
}

// maxExceptionLine is the longest first line that is read to recognise a list.
const maxExceptionLine = 1 << 20

// beginsAsExceptions reports whether the first line is one that exceptionsFile writes.
func beginsAsExceptions(r io.Reader) bool {
	line, err := bufio.NewReader(io.LimitReader(r, maxExceptionLine)).ReadBytes('\n')
	if err != nil {
		return false
	}
	var e exceptionLine
	return json.Unmarshal(line, &e) == nil &&
		e.Target != "" && e.Outcome != "" && e.Reason != "" && !e.At.IsZero()
}

func (e *exceptionsFile) add(entry checkpoint.LedgerEntry) error {
	line := exceptionLine{LedgerEntry: entry}
	if key := []byte(entry.Ref); e.tables[entry.Target] && json.Valid(key) {
		line.ItemKey = key
	}
	if err := e.encoder.Encode(line); err != nil {
		return &storageError{what: "write the exceptions", err: err}
	}
	return nil
}

func (e *exceptionsFile) restart() error {
	e.buffer.Reset(e.file)
	if err := e.file.Truncate(0); err != nil {
		return &storageError{what: "write the exceptions", err: err}
	}
	if _, err := e.file.Seek(0, io.SeekStart); err != nil {
		return &storageError{what: "write the exceptions", err: err}
	}
	return nil
}

// keep renames the complete list to its final name.
func (e *exceptionsFile) keep() error {
	err := e.buffer.Flush()
	if err == nil {
		err = e.file.Sync()
	}
	if err == nil {
		err = os.Rename(e.file.Name(), e.path)
	}
	if err != nil {
		return &storageError{what: "write the exceptions", err: err}
	}
	e.kept = true
	return syncDirectory(filepath.Dir(e.path))
}

// close removes a list that was not kept.
func (e *exceptionsFile) close() {
	_ = e.file.Close()
	if !e.kept {
		_ = os.Remove(e.file.Name())
	}
}

// syncDirectory makes a renamed file survive a loss of power.
func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return &storageError{what: "sync the directory of the exceptions", err: err}
	}
	defer func() { _ = directory.Close() }()
	if err := directory.Sync(); err != nil {
		return &storageError{what: "sync the directory of the exceptions", err: err}
	}
	return nil
}
