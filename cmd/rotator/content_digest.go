package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/contentdigest"
	"rotator/internal/report"
)

// digestFlags are the flags for the content digest.
type digestFlags struct {
	on   bool
	file string // of --content-digest-file, or ""
}

func (f *digestFlags) addTo(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.on, "content-digest", false,
		"for each target, compute a digest of everything except the slots, and compare it with "+
			"that of the last read-only pass; reads all attributes and bodies, and tables with "+
			"strongly consistent reads")
	cmd.Flags().StringVar(&f.file, "content-digest-file", "",
		"like --content-digest, with a digest of each item: if the file exists, compare with it "+
			"and list the items that differ; otherwise audit writes it, and verify fails")
}

// contents computes the content digests of a read-only pass.
type contents struct {
	*contentdigest.Collector
	names  []string // of the targets
	path   string   // of the file, or ""
	sorter *contentdigest.Sorter
	before *contentdigest.List // the file of an earlier pass; nil if there is none
}

// newContents opens the file of --content-digest-file, if it exists. It returns nil if no content
// digest is requested.
func (f *digestFlags) newContents(
	c *jobFlags, job *config.Job, command string,
) (*contents, error) {
	if !f.on && f.file == "" {
		return nil, nil
	}
	d := &contents{}
	for _, target := range job.Targets {
		d.names = append(d.names, target.Name)
	}
	if f.file != "" {
		if err := d.openFile(c, job, f.file); err != nil {
			d.close()
			return nil, err
		}
		if d.before == nil && command == "verify" {
			d.close()
			return nil, usagef("--content-digest-file %s: the file does not exist, so verify "+
				"cannot compare with it; rotator audit writes it", f.file)
		}
	}
	d.Collector = contentdigest.NewCollector(d.names, d.sorter)
	return d, nil
}

// openFile opens the file of an earlier pass, if it exists, and checks it.
func (d *contents) openFile(c *jobFlags, job *config.Job, path string) (err error) {
	if err := c.notOutput("--content-digest-file", path); err != nil {
		return err
	}
	if d.path, err = filepath.Abs(path); err != nil {
		return &storageError{what: "open the file of content digests", err: err}
	}
	if target := targetOf(job, d.path); target != "" {
		return usagef("--content-digest-file %s: the file would be an item of target %s; name a "+
			"file outside of its directory", path, target)
	}
	folder := filepath.Dir(d.path)
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return &storageError{what: "write the content digests", err: cmpErr(err,
			fmt.Errorf("%s is not a directory", folder))}
	}
	d.sorter = contentdigest.NewSorter(folder)
	d.before, err = contentdigest.OpenList(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = d.checkBefore(job)
	}
	if err != nil {
		return usagef("--content-digest-file %s: %v; name another file", path, err)
	}
	return nil
}

// checkBefore returns an error if the file of the earlier pass was changed, or cannot be compared
// with a pass of the job.
func (d *contents) checkBefore(job *config.Job) error {
	if d.before.Job != job.Job {
		return fmt.Errorf("the file is of job %s", d.before.Job)
	}
	print, err := job.Fingerprint()
	if err != nil {
		return err
	}
	if why := differentMeaning(d.before.Header, print, d.names); why != "" {
		return fmt.Errorf("the file cannot be compared, because %s", why)
	}
	for _, err := range d.before.Lines() {
		if err != nil {
			return err
		}
	}
	return nil
}

// targetOf returns the name of the target of files in whose directory the path is, or "".
func targetOf(job *config.Job, path string) string {
	for _, target := range job.Targets {
		if target.Files == nil {
			continue
		}
		root, err := filepath.Abs(target.Files.Root)
		if err == nil && strings.HasPrefix(path, root+string(filepath.Separator)) {
			return target.Name
		}
	}
	return ""
}

// cmpErr returns the first error that is not nil.
func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// close closes the files.
func (d *contents) close() {
	if d == nil {
		return
	}
	if d.sorter != nil {
		_ = d.sorter.Restart()
	}
	if d.before != nil {
		d.before.Close()
	}
}

// header returns the header of the list of this pass.
func (d *contents) header(s *session, p *pass) contentdigest.Header {
	return contentdigest.Header{
		Kind:        contentdigest.ListKind,
		Scheme:      contentdigest.Scheme,
		Job:         s.job.Job,
		Fingerprint: p.record.Fingerprint,
		Destination: p.record.Destination.ARN,
		Targets:     d.names,
		Began:       s.summary.Started,
	}
}

// concludeContent adds the content digests to the summary and compares them with those of an
// earlier pass. Without a complete pass there are none.
func (s *session) concludeContent(ctx context.Context, p *pass) error {
	d := s.contents
	if d == nil {
		return nil
	}
	if s.summary.Status != report.Complete {
		s.summary.Notes = append(s.summary.Notes,
			"there is no content digest, because the pass is not complete")
		return nil
	}
	digests := map[string]*checkpoint.ContentDigest{}
	for i, total := range d.Totals() {
		digests[d.names[i]] = &checkpoint.ContentDigest{
			Scheme:     contentdigest.Scheme,
			Digest:     total.Text(),
			Items:      total.Items(),
			NotCovered: total.NotCovered,
		}
	}
	var err error
	switch {
	case d.before != nil:
		err = d.compareWithFile(s, p, digests)
	case d.path != "":
		err = d.writeFile(s, p)
	}
	if d.before == nil {
		s.compareWithReadPass(ctx, p, digests)
	}
	s.summary.SetContentDigests(digests)
	return err
}

// writeFile writes the list of this pass under a temporary name and renames it.
func (d *contents) writeFile(s *session, p *pass) error {
	fail := func(err error) error {
		return &storageError{what: "write the content digests", err: err}
	}
	file, err := os.CreateTemp(filepath.Dir(d.path), "."+filepath.Base(d.path)+".*") // mode 0600
	if err != nil {
		return fail(err)
	}
	err = contentdigest.WriteList(file, d.header(s, p), d.sorter.Sorted())
	if err == nil {
		err = file.Sync()
	}
	err = cmpErr(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), d.path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return fail(err)
	}
	s.summary.Notes = append(s.summary.Notes, fmt.Sprintf("wrote the content digests of all items "+
		"to %s; a later pass with the same file compares with it", d.path))
	return syncDirectory(filepath.Dir(d.path))
}

// compareWithFile compares the items of this pass with those of the file.
func (d *contents) compareWithFile(
	s *session, p *pass, digests map[string]*checkpoint.ContentDigest,
) error {
	if key := d.before.Destination; key != p.record.Destination.ARN {
		s.summary.Notes = append(s.summary.Notes, fmt.Sprintf("the content was not compared with "+
			"%s, because the destination key was %s then", d.path, key))
		return nil
	}
	covered := make([]checkpoint.ContentComparison, len(d.names))
	before := func(yield func(contentdigest.Line, error) bool) {
		for line, err := range d.before.Lines() {
			if err == nil && line.Target >= 0 && line.Target < len(covered) {
				c := &covered[line.Target]
				if line.NotCovered != "" {
					c.NotCovered++
				} else {
					c.Items++
				}
			}
			if !yield(line, err) {
				return
			}
		}
	}
	found, err := contentdigest.Compare(before, d.sorter.Sorted(), len(d.names))
	if err != nil {
		return &storageError{what: "compare the content digests", err: err}
	}
	for i, name := range d.names {
		c := covered[i]
		c.File, c.Result, c.Differences = d.path, resultOf(found[i]), differencesOf(found[i])
		digests[name].Compared = &c
	}
	return nil
}

// differentMeaning returns why a list cannot be compared with a pass of the job file with this
// fingerprint and these targets, or "".
func differentMeaning(h contentdigest.Header, fingerprint string, targets []string) string {
	switch {
	case h.Scheme != contentdigest.Scheme:
		return "another version of rotator computed its digests in another way"
	case h.Fingerprint != fingerprint || !slices.Equal(h.Targets, targets):
		return "the job file had other keys, targets or slots then"
	}
	return ""
}

func resultOf(d contentdigest.Differences) string {
	switch {
	case d.Changed+d.New+d.Gone > 0:
		return checkpoint.ContentDiffers
	case d.NotCompared > 0:
		return checkpoint.ContentEqualInPart
	}
	return checkpoint.ContentEqual
}

func differencesOf(d contentdigest.Differences) *checkpoint.ContentDifferences {
	differences := &checkpoint.ContentDifferences{
		Changed:     d.Changed,
		New:         d.New,
		Gone:        d.Gone,
		NotCompared: d.NotCompared,
	}
	for _, one := range d.First {
		differences.First = append(differences.First, checkpoint.ContentDifference(one))
	}
	return differences
}

// compareWithReadPass compares the digests with those of the last stored read-only pass that has
// some and whose job file had the same meaning. If the checkpoint cannot be read, it adds a note.
func (s *session) compareWithReadPass(
	ctx context.Context, p *pass, digests map[string]*checkpoint.ContentDigest,
) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	store, err := s.storeToRead(ctx)
	if absent(err) {
		return
	}
	if err == nil {
		err = compareWithStored(ctx, checkpoint.NewPasses(store, s.job.Job), p.record, digests)
	}
	if err != nil {
		s.summary.Notes = append(s.summary.Notes, fmt.Sprintf("the content was not compared with "+
			"the last read-only pass: %s", s.secrets.Text(s.headline(err))))
	}
}

// compareWithStored implements compareWithReadPass. record is that of the current pass.
func compareWithStored(
	ctx context.Context, passes *checkpoint.Passes, record checkpoint.Pass,
	digests map[string]*checkpoint.ContentDigest,
) error {
	for read, err := range passes.ReadPasses(ctx) {
		if errors.As(err, new(*checkpoint.PrunedError)) {
			continue
		}
		if err != nil {
			return err
		}
		if read.Fingerprint != record.Fingerprint ||
			read.Destination.ARN != record.Destination.ARN {
			continue
		}
		if before := read.ContentDigests(); len(before) > 0 {
			compareTargets(digests, before, read.Number)
			return nil
		}
	}
	return nil
}

// compareTargets compares the digests with those of the read-only pass with a number.
func compareTargets(now, before map[string]*checkpoint.ContentDigest, number int) {
	for target, d := range now {
		if before[target] == nil {
			continue
		}
		if d.Compared = checkpoint.CompareContent(*d, *before[target]); d.Compared != nil {
			d.Compared.ReadPass = number
		}
	}
}
