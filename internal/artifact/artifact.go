// Package artifact recognises files that rotator itself wrote, by their content. A target may
// contain such files. They contain no ciphertext of an application.
//
// Recognition is strict, because recognised files are not searched. Digests
// and hash chains must be correct, a report must have the fields of a report, and a file that
// contains anything like a KMS ciphertext is not recognised.
package artifact

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"unicode/utf8"

	"rotator/internal/checkpoint"
	"rotator/internal/evidence/pack"
	"rotator/internal/kmsblob"
	"rotator/internal/reencrypt"
	"rotator/internal/report"
	"rotator/internal/report/auditlog"
	"rotator/internal/scan"
)

// The kinds of files.
const (
	AuditLog         = "audit log"
	CheckpointRecord = "checkpoint record"
	CheckpointFile   = "checkpoint file"
	CheckpointLock   = "checkpoint lock"
	Report           = "report"
	ExceptionList    = "list of exceptions"
	EvidencePack     = "evidence pack" // its statement, bill of materials and instructions
)

// Kind returns the kind of rotator file that an object or a row is, or "". The
// body of the object, or the attributes of the row, must have been read.
func Kind(p scan.Payload) string {
	switch p := p.(type) {
	case *scan.Object:
		if int64(len(p.Body)) != p.Size { // not read, or not completely
			return ""
		}
		for _, value := range p.Metadata {
			if !hasNoCiphertext([]byte(value)) {
				return ""
			}
		}
		return kindOf(p.Body)
	case *scan.Row:
		if isRowRecord(p.Attributes) {
			return CheckpointRecord
		}
	}
	return ""
}

// isRowRecord reports whether a row is a checkpoint record of a table. A row
// with other attributes belongs to an application.
func isRowRecord(attributes map[string]scan.Value) bool {
	value := attributes[checkpoint.DataAttribute]
	data, ok := checkpoint.RecordOf(value.Bytes)
	if !ok || value.Kind != scan.KindB || !hasNoCiphertext(data) {
		return false // the usual case
	}
	for name, value := range attributes {
		if name != checkpoint.DataAttribute &&
			(!checkpoint.IsAttribute(name) || value.Kind != scan.KindS ||
				!hasNoCiphertext([]byte(value.Text))) {
			return false
		}
	}
	return true
}

func kindOf(body []byte) string {
	kind := ""
	switch {
	case len(body) == 0:
		return ""
	case auditlog.Is(body, hasNoCiphertext):
		kind = AuditLog
	case body[0] == '{':
		kind = kindOfJSON(body)
	case isObjectRecord(body):
		kind = CheckpointRecord
	case checkpoint.IsFile(body):
		kind = CheckpointFile
	case checkpoint.IsLock(body):
		kind = CheckpointLock
	case isTextReport(body), isPage(body), isMarkdown(body), isTable(body):
		kind = Report
	case pack.Is(body):
		kind = EvidencePack
	}
	if kind == "" || !hasNoCiphertext(body) {
		return ""
	}
	return kind
}

func kindOfJSON(body []byte) string {
	switch {
	case isRecord(body):
		return CheckpointRecord
	case isReport(body):
		return Report
	case isExceptionList(body):
		return ExceptionList
	case isMaterials(body), pack.Is(body):
		return EvidencePack
	}
	return ""
}

// hasNoCiphertext reports whether a text contains nothing like a KMS ciphertext.
func hasNoCiphertext(text []byte) bool {
	found := false
	var f kmsblob.Finder
	f.Search(text, func(kmsblob.Hit) bool {
		found = true
		return false
	})
	return !found
}

func isRecord(body []byte) bool {
	_, ok := checkpoint.RecordOf(body)
	return ok
}

// isObjectRecord reports whether a body is a checkpoint record of a bucket.
func isObjectRecord(body []byte) bool {
	data, ok := checkpoint.ObjectData(body)
	return ok && isRecord(data)
}

// reportFields returns the members that JSON reports of all versions have.
func reportFields() []string {
	return []string{
		"job", "destination_key", "command", "pass", "status", "converged", "slots", "items", "kms",
		"keys", "reasons", "targets", "started", "ended", "version",
	}
}

func isReport(body []byte) bool {
	var r struct{ Command, Status string }
	return hasFields(body, reportFields()) && json.Unmarshal(body, &r) == nil &&
		slices.Contains([]string{"audit", "run", "verify", "retry", "status", "report"},
			r.Command) &&
		slices.Contains([]string{report.Complete, report.Stopped}, r.Status)
}

// isExceptionList reports whether each line of a body is an object with the
// members of a ledger entry.
func isExceptionList(body []byte) bool {
	fields := []string{"target", "attempts", "ref", "path", "outcome", "reason", "detail", "at"}
	outcomes := []reencrypt.Outcome{reencrypt.Failed, reencrypt.Foreign, reencrypt.Conflict}
	for line := range bytes.Lines(body) {
		var e checkpoint.LedgerEntry
		if !hasFields(line, fields) || json.Unmarshal(line, &e) != nil ||
			!slices.Contains(outcomes, reencrypt.Outcome(e.Outcome)) || e.Attempts < 1 ||
			e.At.IsZero() {
			return false
		}
	}
	return true
}

// hasFields reports whether a text is one JSON object with at least the given
// members.
func hasFields(text []byte, fields []string) bool {
	for _, name := range fields[:min(len(fields), 2)] { // cheap, and rejects almost all texts
		if !bytes.Contains(text, []byte(`"`+name+`"`)) {
			return false
		}
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil {
		return false
	}
	return !slices.ContainsFunc(fields, func(name string) bool { return members[name] == nil })
}

// The lines by which a text report is recognised.
var (
	reportStart = regexp.MustCompile(`(?m)^[a-z]+ of job [^\n]+: (complete|stopped)$`)
	reportLines = regexp.MustCompile(
		`(?s)\ndestination\s+arn:[^\n]+\n.*\nTARGET +SLOTS [^\n]+\n.*\nconverged +[^\n]+\n`)
)

// ownKey matches the keys of checkpoint objects of rotator, usual names of audit logs, the keys of
// uploaded segments, and the files of evidence packs.
var ownKey = regexp.MustCompile(
	`(^|/)jobs/[^/]+/(head|reads|roster|(pass|read)/[0-9]+(/[a-z0-9./]+)?)(\.kept-[0-9T.]+)?$` +
		`|(^|/)(report\.(json|html|md|txt)|(inventory|exceptions|copies|passes|keys|callers)\.csv` +
		`|cbom\.json|evidence\.(sigstore|statement)\.json|VERIFY\.(sh|md)|chain\.py` +
		`|trusted_root\.json)$` +
		`|\.audit(\.[0-9]+)?\.jsonl(\.[0-9]{6,}\.zst)?$` +
		`|(^|/)[0-9a-f]{32}/[0-9]{6,}-[0-9a-f]{64}\.jsonl\.zst$`)

// Named reports whether the name of an object suggests a file of rotator
// itself. Such an object is read even if the format reads no bodies.
func Named(key string) bool { return ownKey.MatchString(key) }

// maxReportHead is how far the verdicts of a text report can reach, in bytes.
const maxReportHead = 16 << 10

func isTextReport(body []byte) bool {
	head := body[:min(len(body), maxReportHead)]
	return bytes.Contains(head, []byte(" of job ")) && reportStart.Match(head) &&
		utf8.Valid(body) && reportLines.Match(body)
}
