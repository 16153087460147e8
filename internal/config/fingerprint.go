package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// work is the part of a job that identifies a pass: keys, locations, formats and slots, but no
// limits and no paths of rotator's own files. The fingerprint is a digest of its JSON encoding,
// so fields are added with omitempty and are never renamed, reordered or removed.
type work struct {
	Destination Destination
	Source      Source
	Targets     []targetWork
}

type targetWork struct {
	Name, Table, Bucket, Prefix, KeyPattern string
	Region, Endpoint                        string
	Format                                  string
	Slots                                   []Slot
	Contexts                                *contextWork `json:",omitempty"`
	Files                                   *filesWork   `json:",omitempty"`
	Objects                                 *objectsWork `json:",omitempty"`
	InstructionSuffix                       string       `json:",omitempty"`
}

// objectsWork is set if a target does not include all objects of its prefix.
type objectsWork struct {
	Include, Exclude []string
}

// filesWork determines the files of a target.
type filesWork struct {
	Root             string
	Include, Exclude []string
}

// contextWork is the encryption contexts of a target that are not set at a slot. The path and
// the content of the context file are not included: if a name is added to the file, the pass
// stays the same, and rotator retry processes the slots that failed without it.
type contextWork struct {
	Context, Destination map[string]string
	Name                 string `json:",omitempty"` // ContextFile.Name
}

// Fingerprint returns a digest of the keys, targets and slots of the job. A pass can be resumed
// only if the fingerprint is the same. The mode is not included, because it follows from the
// keys and the contexts: a pass of a version without modes can be resumed after the user sets
// one.
func (j *Job) Fingerprint() (string, error) { return j.fingerprint(false) }

// FingerprintBefore returns the fingerprint that earlier versions stored for the same job. They
// did not require "destination_context: {}" with an asymmetric destination key, so their job
// files did not contain it.
func (j *Job) FingerprintBefore() (string, error) {
	return j.fingerprint(j.Destination.Algorithm != DefaultAlgorithm)
}

// HasFingerprint reports whether this version or an earlier one stores the fingerprint for a pass
// of the job.
func (j *Job) HasFingerprint(stored string) (bool, error) {
	now, err := j.Fingerprint()
	if err != nil || stored == now {
		return err == nil, err
	}
	before, err := j.FingerprintBefore()
	return stored == before, err
}

// fingerprint returns the fingerprint. If ignoreEmpty is set, it treats an empty
// destination_context of a slot as missing.
func (j *Job) fingerprint(ignoreEmpty bool) (string, error) {
	w := work{Destination: j.Destination, Source: j.Source}
	for _, target := range j.Targets {
		if ignoreEmpty {
			target.Slots = withoutEmptyContexts(target.Slots)
		}
		w.Targets = append(w.Targets, target.work())
	}
	text, err := json.Marshal(w)
	if err != nil {
		return "", fmt.Errorf("fingerprint the job: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// withoutEmptyContexts returns a copy of slots in which empty destination contexts are nil.
func withoutEmptyContexts(slots []Slot) []Slot {
	slots = slices.Clone(slots)
	for i := range slots {
		if len(slots[i].DestinationContext) == 0 {
			slots[i].DestinationContext = nil
		}
	}
	return slots
}

func (t *Target) work() targetWork {
	w := targetWork{
		Name:              t.Name,
		Format:            t.Format,
		Slots:             t.Slots,
		InstructionSuffix: t.InstructionSuffix,
	}
	if t.Context != nil || t.DestinationContext != nil || t.ContextFile != nil {
		w.Contexts = &contextWork{Context: t.Context, Destination: t.DestinationContext}
		if t.ContextFile != nil {
			w.Contexts.Name = t.ContextFile.Name
		}
	}
	if d := t.DynamoDB; d != nil {
		w.Table, w.Region, w.Endpoint = d.Table, d.Region, d.Endpoint
	}
	if s := t.S3; s != nil {
		w.Bucket, w.Prefix, w.KeyPattern = s.Bucket, s.Prefix, s.KeyPattern
		w.Region, w.Endpoint = s.Region, s.Endpoint
		if len(s.Include)+len(s.Exclude) > 0 {
			w.Objects = &objectsWork{Include: s.Include, Exclude: s.Exclude}
		}
	}
	if f := t.Files; f != nil {
		w.KeyPattern = f.KeyPattern
		w.Files = &filesWork{Root: f.Root, Include: f.Include, Exclude: f.Exclude}
	}
	return w
}
