package config

import (
	"path/filepath"
	"slices"
	"strings"
)

// setDefaults sets the fields that are not in the file. A field that the file sets to zero
// stays zero and is refused later.
func (j *Job) setDefaults(directory string) {
	if !j.source.written("kms.quota") {
		setDefault(j, "kms.rate", &j.KMS.Rate, DefaultRate)
	}
	setDefault(j, "mode", &j.Mode, DefaultMode)
	setDefault(j, "max_outage", &j.MaxOutage, DefaultMaxOutage)
	setDefault(j, "destination.algorithm", &j.Destination.Algorithm, DefaultAlgorithm)
	setDefault(j, "source.algorithm", &j.Source.Algorithm, DefaultAlgorithm)
	setDefault(j, "checkpoint", &j.Checkpoint, DefaultCheckpoint)
	setDefault(j, "lease", &j.Lease, DefaultLease)
	setDefault(j, "audit_log_segment", &j.AuditLogSegment, DefaultSegment)
	setDefault(j, "stop_after", &j.StopAfter, DefaultStopAfter)
	beside := under(directory, strings.TrimPrefix(DefaultCheckpoint, fileScheme))
	if path, ok := strings.CutPrefix(j.Checkpoint, fileScheme); ok && path != "" {
		beside = under(directory, path)
		j.Checkpoint = fileScheme + beside
	}
	auditLog := filepath.Join(filepath.Dir(beside), j.Job+".audit.jsonl")
	setDefault(j, "audit_log", &j.AuditLog, auditLog)
	if j.source.written("audit_log") && j.AuditLog != "" {
		j.AuditLog = under(directory, j.AuditLog)
	}
	for i := range j.Targets {
		field := element("targets", i)
		t := &j.Targets[i]
		if t.DynamoDB != nil {
			setDefault(j, field+".dynamodb.segments", &t.DynamoDB.Segments, segmentsAuto)
			if t.DynamoDB.Segments == segmentsAuto {
				t.DynamoDB.Segments = j.autoSegments()
			}
			setDefault(j, field+".dynamodb.batch_writes", &t.DynamoDB.BatchWrites, DefaultBatches)
		}
		if t.ContextFile != nil && t.ContextFile.Path != "" {
			t.ContextFile.Path = under(directory, t.ContextFile.Path)
		}
		setDefault(j, field+".name", &t.Name, t.defaultName())
		setDefault(j, field+".search", &t.Search, DefaultSearch)
		if t.Files != nil {
			setDefault(j, field+".files.mtime", &t.Files.Mtime, DefaultMtime)
			if t.Files.Root != "" {
				t.Files.Root = under(directory, t.Files.Root)
			}
		}
	}
}

// StopAfters returns stop_after for each slot of the i-th target, or one value if the target
// has no slots.
func (j *Job) StopAfters(i int) []int {
	field, all := element("targets", i), j.StopAfter
	t := &j.Targets[i]
	if j.source.written(field + ".stop_after") {
		all = t.StopAfter
	}
	if len(t.Slots) == 0 {
		return []int{all}
	}
	list := slices.Repeat([]int{all}, len(t.Slots))
	for k, slot := range t.Slots {
		if j.source.written(element(field+".slots", k) + ".stop_after") {
			list[k] = slot.StopAfter
		}
	}
	return list
}

// setDefault sets a field that is not in the file.
func setDefault[T any](j *Job, field string, value *T, preset T) {
	if !j.source.written(field) {
		*value = preset
	}
}

// autoSegments returns the number of segments for auto. A run reads several segments
// concurrently, so several runs need more segments.
func (j *Job) autoSegments() Segments {
	if strings.HasPrefix(j.Checkpoint, fileScheme) {
		return AutoSegments
	}
	return AutoSharedSegments
}

// under returns a path relative to directory as a path of this process.
func under(directory, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(directory, path)
}

// defaultName returns the default name of a target.
func (t *Target) defaultName() string {
	switch {
	case t.DynamoDB != nil:
		return t.DynamoDB.Table
	case t.S3 != nil && t.S3.Prefix != "":
		return t.S3.Bucket + "/" + t.S3.Prefix
	case t.S3 != nil:
		return t.S3.Bucket
	case t.Files != nil:
		return t.Files.Root
	}
	return ""
}
