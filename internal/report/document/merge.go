package document

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/plural"
	"rotator/internal/report"
	"rotator/internal/verdict"
)

// Saved is a document and the file from which it was read.
type Saved struct {
	File     string
	Document *Document
}

// OverlapError is the error of reports that count the same place twice.
type OverlapError struct {
	First, Second string // files
	Place         string
}

func (e *OverlapError) Error() string {
	return fmt.Sprintf("%s and %s both count %s; merge only one of them", e.First, e.Second,
		e.Place)
}

// Merge returns one document of several jobs. Its figures are sums; it is as old as the oldest of
// the reports. The verdict on a key takes all reports into account. The error is an *OverlapError.
func Merge(list []Saved) (*Document, error) {
	if err := overlap(list); err != nil {
		return nil, err
	}
	list = distinct(list)
	d := emptyMerge(list)
	for _, s := range list {
		d.merge(s)
	}
	d.sortMerged()
	d.setBound()
	d.Verdicts = mergedVerdicts(list)
	d.Converged = !slices.ContainsFunc(list, func(s Saved) bool { return !s.Document.Converged })
	d.Convergence = fmt.Sprintf("all %d reports: %s", len(list), yesOrNo(d.Converged))
	return d, nil
}

// distinct returns the reports with numbers after equal names of jobs, such as "payments (1)" and
// "payments (2)". One job file can be used in several accounts.
func distinct(list []Saved) []Saved {
	total, n := map[string]int{}, map[string]int{}
	for _, s := range list {
		total[s.Document.Job]++
	}
	list = slices.Clone(list)
	for i, s := range list {
		job := s.Document.Job
		if total[job] < 2 {
			continue
		}
		n[job]++
		numbered := *s.Document
		numbered.Job = fmt.Sprintf("%s (%d)", job, n[job])
		list[i].Document = &numbered
	}
	return list
}

func yesOrNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// emptyMerge returns a document with the facts that are not sums.
func emptyMerge(list []Saved) *Document {
	first := list[0].Document
	d := &Document{
		Schema:     Schema,
		Kind:       Kind,
		Generated:  first.Generated,
		Inventory:  []Holding{},
		Passes:     []Pass{},
		Timeline:   []Point{},
		Logs:       []Log{},
		Exceptions: Exceptions{Listed: []checkpoint.LedgerEntry{}},
		Scope:      Scope{LookedAt: []string{}, NotLookedAt: []string{}, CannotSee: []string{}},
	}
	d.Summary = report.Summary{
		Command:    "report",
		Mode:       first.Mode,
		Status:     report.Complete,
		AsOf:       first.AsOf,
		Started:    first.Started,
		Ended:      first.Ended,
		Version:    first.Version,
		Keys:       []report.Key{},
		Reasons:    []report.Reason{},
		Targets:    []report.Target{},
		SourceKeys: []report.SourceKey{},
		NotProven:  []report.Unproven{},
	}
	var jobs, accounts []string
	for _, s := range list {
		one := s.Document
		jobs = append(jobs, one.Job)
		if one.Account != "" && !slices.Contains(accounts, one.Account) {
			accounts = append(accounts, one.Account)
		}
		d.Generated = latest(d.Generated, one.Generated)
		d.Ended = latest(d.Ended, one.Ended)
		if one.AsOf.Before(d.AsOf) {
			d.AsOf, d.Started = one.AsOf, one.Started
		}
		if one.Status != report.Complete {
			d.Status = report.Stopped
		}
	}
	d.Job, d.Account = strings.Join(jobs, ", "), strings.Join(accounts, ", ")
	d.DestinationKey = sameDestination(list)
	return d
}

// sameDestination returns the destination key of all reports, or "" if they differ.
func sameDestination(list []Saved) string {
	key := list[0].Document.DestinationKey
	for _, s := range list {
		if s.Document.DestinationKey != key {
			return ""
		}
	}
	return key
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// merge adds one report.
func (d *Document) merge(s Saved) {
	one := s.Document
	d.Parts = append(d.Parts, Part{
		File:      s.File,
		Job:       one.Job,
		Account:   one.Account,
		Command:   one.Command,
		Generated: one.Generated,
		AsOf:      one.AsOf,
		Slots:     one.Slots.Seen,
	})
	d.mergeFigures(one)
	for _, h := range one.Inventory {
		h.Job = cmp.Or(h.Job, one.Job)
		d.Inventory = append(d.Inventory, h)
	}
	for _, p := range one.Passes {
		p.Job = cmp.Or(p.Job, one.Job)
		d.Passes = append(d.Passes, p)
	}
	for _, l := range one.Logs {
		l.Job = cmp.Or(l.Job, one.Job)
		d.Logs = append(d.Logs, l)
	}
	for _, k := range one.SourceKeys {
		known := func(other report.SourceKey) bool { return other.Key == k.Key }
		if !slices.ContainsFunc(d.SourceKeys, known) {
			d.SourceKeys = append(d.SourceKeys, k)
		}
	}
	d.NotProven = append(d.NotProven, one.NotProven...)
	for _, note := range one.Notes {
		d.Notes = append(d.Notes, one.Job+": "+note)
	}
	d.mergeExceptions(one.Exceptions)
	d.mergeScope(one)
	for _, k := range one.KeyUse {
		k.Job = cmp.Or(k.Job, one.Job)
		d.KeyUse = append(d.KeyUse, k)
	}
	if one.Copies != nil {
		d.Copies = append(d.Copies, one.Copies...)
		d.CopiesAsked = latest(d.CopiesAsked, one.CopiesAsked)
		d.LastMove = latest(d.LastMove, one.LastMove)
	}
}

// plus returns the sums of two counts of slots.
func plus(a, b report.Slots) report.Slots {
	return report.Slots{
		Seen:      a.Seen + b.Seen,
		Rotated:   a.Rotated + b.Rotated,
		Current:   a.Current + b.Current,
		Remaining: a.Remaining + b.Remaining,
		Foreign:   a.Foreign + b.Foreign,
		Failed:    a.Failed + b.Failed,
		Conflict:  a.Conflict + b.Conflict,
		Gone:      a.Gone + b.Gone,
	}
}

func (d *Document) mergeFigures(one *Document) {
	d.Slots = plus(d.Slots, one.Slots)
	d.Items.Seen += one.Items.Seen
	d.Items.Written += one.Items.Written
	d.Items.WithoutSlot += one.Items.WithoutSlot
	d.Items.Excluded += one.Items.Excluded
	d.Items.Own += one.Items.Own
	d.KMS.Requests += one.KMS.Requests
	d.KMS.Throttled += one.KMS.Throttled
	d.KMS.Header += one.KMS.Header
	d.KMS.Checked += one.KMS.Checked
	d.KMS.Shared += one.KMS.Shared
	d.Sample.Population += one.Sample.Population
	d.Sample.Checked += one.Sample.Checked
	d.Sample.Disagreed += one.Sample.Disagreed
	d.Sample.Parts = append(d.Sample.Parts, partsOf(one.Sample)...)
	n, m := &d.Search, one.Search
	n.Items, n.Bytes = n.Items+m.Items, n.Bytes+m.Bytes
	n.OtherKeys, n.Undecryptable = n.OtherKeys+m.OtherKeys, n.Undecryptable+m.Undecryptable
	n.NotSearched.Items += m.NotSearched.Items
	n.NotSearched.Bodies += m.NotSearched.Bodies
	n.NotSearched.BodyBytes += m.NotSearched.BodyBytes
	n.NotSearched.RowsInPart += m.NotSearched.RowsInPart
	for _, t := range one.Targets {
		if len(one.Parts) == 0 {
			t.Name = one.Job + ": " + t.Name
		}
		d.Targets = append(d.Targets, t)
	}
	for _, k := range one.Keys {
		d.addKey(k)
	}
	for _, r := range one.Reasons {
		d.addReason(r)
	}
}

// partsOf returns the samples of the runs of a report.
func partsOf(s report.Sample) []checkpoint.Sample {
	if len(s.Parts) > 0 {
		return s.Parts
	}
	if s.Population == 0 {
		return nil
	}
	return []checkpoint.Sample{s.Sample}
}

func (d *Document) addKey(k report.Key) {
	for i := range d.Keys {
		if d.Keys[i].Key != k.Key {
			continue
		}
		d.Keys[i].Slots += k.Slots
		if k.How == report.ByHeader {
			d.Keys[i].How = k.How
		}
		return
	}
	d.Keys = append(d.Keys, k)
}

func (d *Document) addReason(r report.Reason) {
	for i, known := range d.Reasons {
		if known.Outcome == r.Outcome && known.Reason == r.Reason {
			d.Reasons[i].Slots += r.Slots
			return
		}
	}
	d.Reasons = append(d.Reasons, r)
}

func (d *Document) mergeExceptions(e Exceptions) {
	d.Exceptions.Total += e.Total
	room := MaxListed - len(d.Exceptions.Listed)
	d.Exceptions.Listed = append(d.Exceptions.Listed, e.Listed[:min(len(e.Listed), room)]...)
	d.Exceptions.LeftOut = d.Exceptions.Total - int64(len(d.Exceptions.Listed))
}

func (d *Document) mergeScope(one *Document) {
	for _, list := range []struct {
		to   *[]string
		from []string
	}{
		{&d.Scope.LookedAt, one.Scope.LookedAt},
		{&d.Scope.NotLookedAt, one.Scope.NotLookedAt},
		{&d.Scope.CannotSee, one.Scope.CannotSee},
	} {
		for _, text := range list.from {
			if len(one.Parts) == 0 {
				text = one.Job + ": " + text
			}
			*list.to = append(*list.to, text)
		}
	}
}

// sortMerged sorts keys and reasons by number of slots, and passes by time.
func (d *Document) sortMerged() {
	slices.SortStableFunc(d.Keys, func(a, b report.Key) int {
		return cmp.Compare(b.Slots, a.Slots)
	})
	slices.SortStableFunc(d.Reasons, func(a, b report.Reason) int {
		return cmp.Compare(b.Slots, a.Slots)
	})
	slices.SortStableFunc(d.Passes, func(a, b Pass) int { return a.Began.Compare(b.Began) })
}

// overlap returns an error if two reports count the same place.
func overlap(list []Saved) error {
	for i, a := range list {
		for _, b := range list[i+1:] {
			for _, x := range a.Document.Targets {
				for _, y := range b.Document.Targets {
					if place := common(x.Location, y.Location); place != "" {
						return &OverlapError{First: a.File, Second: b.File, Place: place}
					}
				}
			}
		}
	}
	return nil
}

// common returns the place that two targets have in common, or "".
func common(a, b *checkpoint.Location) string {
	if a == nil || b == nil || a.Kind != b.Kind || endpoint(a) != endpoint(b) {
		return ""
	}
	differ := func(x, y string) bool { return x != y && x != "" && y != "" }
	switch a.Kind {
	case checkpoint.LocationDynamoDB:
		if tableName(a) != tableName(b) || differ(a.Region, b.Region) ||
			differ(a.Account, b.Account) {
			return ""
		}
	case checkpoint.LocationS3:
		nested := strings.HasPrefix(a.Prefix, b.Prefix) || strings.HasPrefix(b.Prefix, a.Prefix)
		if a.Bucket != b.Bucket || !nested {
			return ""
		}
	default:
		one, other := directory(a.Root), directory(b.Root)
		inside := strings.HasPrefix(one, other) || strings.HasPrefix(other, one)
		if differ(a.Host, b.Host) || !inside {
			return ""
		}
	}
	return report.PlaceText(*a)
}

// tableName returns the name of a table, which can be given as an ARN.
func tableName(l *checkpoint.Location) string {
	return l.Table[strings.LastIndex(l.Table, "/")+1:]
}

// endpoint returns the endpoint of a place in one spelling.
func endpoint(l *checkpoint.Location) string {
	return strings.TrimRight(strings.ToLower(l.Endpoint), "/")
}

// directory returns the path of a directory in one spelling, with a slash at its end. It does not
// follow symbolic links, because the directory can be on another machine.
func directory(root string) string { return strings.TrimSuffix(path.Clean(root), "/") + "/" }

// mergedVerdicts returns one verdict for each key that is a source key of a report: the worst one
// of these reports. If a report found ciphertexts under the key as a foreign key, the key cannot
// be disabled.
func mergedVerdicts(list []Saved) []verdict.Verdict {
	merged := []verdict.Verdict{}
	for _, s := range list {
		for _, v := range s.Document.Verdicts {
			known := func(other verdict.Verdict) bool { return other.Key == v.Key }
			if slices.ContainsFunc(merged, known) {
				continue
			}
			merged = append(merged, mergedVerdict(v.Key, list))
		}
	}
	return merged
}

func mergedVerdict(key string, list []Saved) (worst verdict.Verdict) {
	first := true
	foreign, versions := found{noun: "ciphertext"}, found{noun: "old version"}
	reports := 0
	for _, s := range list {
		of := slices.IndexFunc(s.Document.Verdicts, func(v verdict.Verdict) bool {
			return v.Key == key
		})
		if of >= 0 {
			reports++
			if v := s.Document.Verdicts[of]; first || v.Exit > worst.Exit {
				worst, first = v, false
			}
			continue
		}
		foreign.add(s.Document.after(key), s.Document.Job)
		versions.add(s.Document.versionsUnder(key), s.Document.Job)
	}
	worst.Why = slices.Clone(worst.Why)
	if reports > 1 {
		worst.Why = append(worst.Why, fmt.Sprintf("This is the worst verdict of %s.",
			plural.Count(reports, "report")))
	}
	for _, one := range []struct {
		found
		reason string
	}{{foreign, report.ReasonRemaining}, {versions, report.ReasonVersions}} {
		if one.n > 0 {
			worst = withFound(worst, one.found, one.reason)
		}
	}
	return worst
}

// found counts what reports of other jobs found under a key.
type found struct {
	noun  string
	n     int64
	where []string
}

func (f *found) add(n int64, job string) {
	if f.n += n; n > 0 {
		f.where = append(f.where, fmt.Sprintf("%d in the report of job %s", n, job))
	}
}

func (f *found) String() string {
	return fmt.Sprintf("Other jobs found %s under it: %s.", plural.Count(f.n, f.noun),
		strings.Join(f.where, ", "))
}

// versionsUnder returns the number of ciphertexts in old versions of objects under a key.
func (d *Document) versionsUnder(key string) (n int64) {
	for _, t := range d.Targets {
		if t.Versions == nil {
			continue
		}
		for _, k := range t.Versions.Keys {
			if k.Key == key {
				n += k.Slots
			}
		}
	}
	return n
}

// withFound returns the verdict on a key under which reports of other jobs found something.
func withFound(v verdict.Verdict, f found, reason string) verdict.Verdict {
	if v.Exit == verdict.Cannot.Exit() {
		v.Why = append(v.Why, f.String())
		return v
	}
	name, _, _ := strings.Cut(v.Sentence, " ")
	v.Why = append([]string{"Its own job: " + v.Sentence}, v.Why...)
	v.Code, v.Reason, v.Exit = verdict.Cannot, reason, verdict.Cannot.Exit()
	v.Sentence = fmt.Sprintf("%s cannot be disabled. %s", name, f.String())
	v.NextSteps = []verdict.Step{{Do: "Move these ciphertexts with a job that names the key as a " +
		"source key."}}
	if reason == report.ReasonVersions {
		v.NextSteps = []verdict.Step{{Do: "Let a lifecycle rule expire these old versions, or " +
			"delete them, and look again."}}
	}
	v.Delete.Sentence = "Do not schedule its deletion: it is in use."
	return v
}
