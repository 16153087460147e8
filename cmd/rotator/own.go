package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"rotator/internal/artifact"
	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/config"
	"rotator/internal/plural"
	"rotator/internal/scan"
)

// ownItems recognises files that rotator itself wrote among the items of one target, and counts
// them. It is safe for concurrent use.
type ownItems struct {
	mu    sync.Mutex
	count map[string]int      // by kind
	first map[string]scan.Ref // of each kind
}

func newOwnItems() *ownItems {
	return &ownItems{count: map[string]int{}, first: map[string]scan.Ref{}}
}

// recognise implements rotate.Target.Own.
func (o *ownItems) recognise(item scan.Item) bool {
	kind := artifact.Kind(item.Payload)
	if kind == "" {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count[kind] == 0 {
		o.first[kind] = item.Ref
	}
	o.count[kind]++
	return true
}

// notes returns notes about the items that were left out.
func (o *ownItems) notes(target string) (notes []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for kind, n := range o.count {
		notes = append(notes, fmt.Sprintf(
			"target %s: left out as a file of rotator itself (%s): %s; the first is %q",
			target, kind, plural.Count(n, "item"), o.first[kind]))
	}
	slices.Sort(notes)
	return notes
}

// ownFiles returns the files of the run itself, which may be in a scanned
// directory.
func ownFiles(job *config.Job) []string {
	own := []string{job.File()}
	if place := job.CheckpointLocation(); !place.Shared() {
		own = append(own, place.File, place.File+".lock")
	}
	for n := range maxLogs {
		own = append(own, numbered(job.AuditLog, n+1))
	}
	own = append(own, copiedLogs(job.AuditLog)...)
	for _, target := range job.Targets {
		if target.ContextFile != nil {
			own = append(own, target.ContextFile.Path)
		}
	}
	return own
}

// copiedLogs returns the audit logs of other machines. report --check expects
// each in a directory with the name of its machine, next to the local log.
func copiedLogs(log string) (copies []string) {
	end := filepath.Ext(log)
	name := strings.TrimSuffix(filepath.Base(log), end)
	found, _ := filepath.Glob(filepath.Join(
		escapeGlob(filepath.Dir(log)), "*", escapeGlob(name)+"*"+escapeGlob(end))) // no bad pattern
	for _, path := range found {
		for n := range maxLogs {
			if filepath.Base(path) == filepath.Base(numbered(log, n+1)) {
				copies = append(copies, path)
			}
		}
	}
	return copies
}

// escapeGlob returns a pattern that matches text literally.
func escapeGlob(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(text)
}

// attributes returns the attributes that a format reads. For the table of the
// checkpoint it adds the attribute by which checkpoint records are recognised.
func (w *wiring) attributes(table string, format *ciphertext.Compiled) []string {
	attributes := format.Attributes()
	place := w.job.CheckpointLocation()
	if place.Table != "" && tableName(place.Table) == tableName(table) {
		attributes = append(slices.Clone(attributes), checkpoint.DataAttribute)
	}
	return attributes
}

// tableName returns the name of a table, which may be given as an ARN.
func tableName(table string) string {
	if _, name, isARN := strings.Cut(table, ":table/"); isARN {
		return name
	}
	return table
}
