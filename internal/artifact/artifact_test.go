package artifact

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/reencrypt"
	"rotator/internal/report"
	"rotator/internal/report/auditlog"
	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// writtenResults returns a result as JSON and as text, and a ledger entry as JSON.
func writtenResults(t *testing.T) (reports [][]byte, entry []byte) {
	t.Helper()
	s := &report.Summary{
		Job:            "job",
		Command:        "verify",
		Status:         report.Complete,
		DestinationKey: "arn:aws:kms:us-east-1:111122223333:key/a",
		Started:        time.Unix(1, 0),
		Ended:          time.Unix(2, 0),
		Keys:           []report.Key{},
		Reasons:        []report.Reason{},
		Targets:        []report.Target{{Name: "customers"}},
	}
	var asJSON, asText bytes.Buffer
	entry, err := json.Marshal(checkpoint.LedgerEntry{
		Target:   "customers",
		Ref:      "a",
		Outcome:  string(reencrypt.Failed),
		Reason:   "invalid-ciphertext",
		Attempts: 1,
		At:       time.Unix(3, 0),
	})
	if err := errors.Join(err, s.JSON(&asJSON), s.Text(&asText)); err != nil {
		t.Fatal(err)
	}
	return [][]byte{asJSON.Bytes(), asText.Bytes()}, entry
}

// writtenFiles returns files that rotator writes, by kind.
func writtenFiles(t *testing.T) map[string][][]byte {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.jsonl")
	log, err := auditlog.Open(path, "job")
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(log.Intend([]rotate.Record{{Ref: "a"}, {Ref: "b"}}),
		log.Record([]rotate.Record{{Ref: "a"}}), log.Close())
	state := filepath.Join(dir, "state.db")
	lock, locking := checkpoint.AcquireLock(state)
	store, creating := checkpoint.CreateFile(state)
	if err := errors.Join(err, locking, creating); err != nil {
		t.Fatal(err)
	}
	passes := checkpoint.NewPasses(store, "job")
	if _, err := passes.Begin(t.Context(), 0,
		checkpoint.Pass{ID: "x", Fingerprint: "f"}); err != nil {
		t.Fatal(err)
	}
	head, err := store.Fetch(t.Context(), "jobs/job/head")
	if err := errors.Join(err, lock.Release()); err != nil {
		t.Fatal(err)
	}
	reports, entry := writtenResults(t)
	read := func(path string) []byte {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	text := read(path)
	var plain bytes.Buffer
	if err := auditlog.Export(path, &plain); err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(plain.Bytes(), []byte("\n"))
	return map[string][][]byte{
		AuditLog: {text, text[:len(text)-20], plain.Bytes(), bytes.Join(lines[1:], nil),
			closedSegment(t, "a")},
		CheckpointRecord: {head.Data, append([]byte("ABCDEFGHIJKLMNOPQRSTUVWXYZ\n"), head.Data...)},
		CheckpointFile:   {read(state)},
		CheckpointLock:   {read(state + ".lock")},
		Report:           reports,
		ExceptionList:    {append(append(entry, '\n'), append(entry, '\n')...)},
	}
}

// closedSegment returns a closed segment of an audit log with an item.
func closedSegment(t *testing.T, ref scan.Ref) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "job.audit.jsonl")
	log, err := auditlog.Open(path, "job")
	if err != nil {
		t.Fatal(err)
	}
	log.SegmentSize = 1
	err = errors.Join(log.Intend([]rotate.Record{{Ref: ref}}),
		log.Record([]rotate.Record{{Ref: ref}}), log.Close())
	text, reading := os.ReadFile(path + ".000001.zst")
	if err := errors.Join(err, reading); err != nil {
		t.Fatal(err)
	}
	return text
}

func object(body []byte) *scan.Object { return &scan.Object{Body: body, Size: int64(len(body))} }

// changedFiles returns the written files with a change, and other files.
func changedFiles(t *testing.T, all map[string][][]byte, blob []byte) map[string][]byte {
	t.Helper()
	return map[string][]byte{
		"a line of a log": bytes.Replace(all[AuditLog][0], []byte(`["i","0`),
			[]byte(`["i","1`), 1),
		"a plain line of a log": bytes.Replace(all[AuditLog][2], []byte("intent"),
			[]byte("intenT"), 1),
		"a closed segment that is cut": all[AuditLog][4][:len(all[AuditLog][4])-1],
		"a closed segment with a ciphertext": closedSegment(t,
			scan.Ref(base64.StdEncoding.EncodeToString(blob))),
		"a log with another line": append(bytes.Clone(all[AuditLog][0]), "a remark\n"...),
		"a record": bytes.Replace(all[CheckpointRecord][0], []byte(`"pass":1`),
			[]byte(`"pass":2`), 1),
		"a record with another line": append(bytes.Clone(all[CheckpointRecord][0]), '\n'),
		"a database": bytes.ReplaceAll(all[CheckpointFile][0], []byte("records"),
			[]byte("recordz")),
		"a lock":   append([]byte("# "), all[CheckpointLock][0]...),
		"a report": bytes.Replace(all[Report][0], []byte(`"destination_key"`), []byte(`"key"`), 1),
		"a text":   bytes.Replace(all[Report][1], []byte("converged"), []byte("verdict"), 1),
		"an exception": bytes.ReplaceAll(all[ExceptionList][0], []byte(`"failed"`),
			[]byte(`"done"`)),
		"a ciphertext": blob,
		"nothing":      nil,
		"JSON":         []byte(`{"kind":"order","schema":1,"sha256":"","content":{}}`),
		"a JSON line":  []byte(`{"seq":1,"event":"login"}` + "\n"),
	}
}

// secretBlob returns a ciphertext of a symmetric key.
func secretBlob(t *testing.T) []byte {
	t.Helper()
	kms := fakekms.New(fakekms.Config{Region: "us-east-1", Account: "111122223333"})
	key, err := kms.CreateKey(fakekms.Symmetric)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := kms.Encrypt(key, []byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

// TestKinds: files that rotator writes are recognised. Changed files, and files that contain a
// ciphertext, are not.
func TestKinds(t *testing.T) {
	blob := secretBlob(t)
	all := writtenFiles(t)
	for _, kind := range slices.Sorted(maps.Keys(all)) {
		for i, body := range all[kind] {
			if got := Kind(object(body)); got != kind {
				t.Errorf("%s %d is recognised as %q:\n%.300q", kind, i, got, body)
			}
			extended := slices.Concat(body, []byte(base64.StdEncoding.EncodeToString(blob)+"\n"))
			if got := Kind(object(extended)); got != "" {
				t.Errorf("%s %d with a ciphertext after it is recognised as %q", kind, i, got)
			}
			if got := Kind(&scan.Object{Body: body, Size: int64(len(body)) + 1}); got != "" {
				t.Errorf("%s %d that was not read completely is recognised as %q", kind, i, got)
			}
			withMetadata := object(body)
			withMetadata.Metadata = map[string]string{
				"x-amz-key": base64.StdEncoding.EncodeToString(blob)}
			if got := Kind(withMetadata); got != "" {
				t.Errorf("%s %d with a ciphertext in its metadata is recognised as %q", kind, i,
					got)
			}
		}
	}
	for name, body := range changedFiles(t, all, blob) {
		if got := Kind(object(body)); got != "" {
			t.Errorf("%s is recognised as %q", name, got)
		}
	}
}

// TestRows: a record of a checkpoint in a table is recognised by its data. A row that has
// other attributes too is not a record.
func TestRows(t *testing.T) {
	record := writtenFiles(t)[CheckpointRecord][0]
	for name, want := range map[string]string{
		"id": CheckpointRecord, "version": CheckpointRecord, "ssn": "",
	} {
		row := &scan.Row{Attributes: map[string]scan.Value{
			checkpoint.DataAttribute: {Kind: scan.KindB, Bytes: record},
			name:                     {Kind: scan.KindS, Text: "AQIDAHh"},
		}}
		if got := Kind(row); got != want {
			t.Errorf("a record with the attribute %s is recognised as %q, want %q", name, got, want)
		}
	}
	for kind, want := range map[scan.Kind]string{scan.KindB: CheckpointRecord, scan.KindS: ""} {
		row := &scan.Row{Attributes: map[string]scan.Value{
			checkpoint.DataAttribute: {Kind: kind, Bytes: record}}}
		if got := Kind(row); got != want {
			t.Errorf("data of kind %v is recognised as %q, want %q", kind, got, want)
		}
	}
	row := &scan.Row{Attributes: map[string]scan.Value{
		checkpoint.DataAttribute: {Kind: scan.KindB, Bytes: record[1:]}}}
	if got := Kind(row); got != "" {
		t.Errorf("an incomplete record is recognised as %q", got)
	}
}
