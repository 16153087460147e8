package verdict

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// facts are the facts about one key that the rows of the table test.
type facts struct {
	Input
	name string
	// proof is the newest complete pass, or nil. since are the passes that began at the same time
	// or later, the newest first. Without a proof they begin with the newest one that read all
	// targets of another job file, if there is one.
	proof  *Pass
	since  []*Pass
	counts map[*Pass]counts
	waived []Waived // of the proof, and of data that is no longer read
	// base is the proof, or without one the newest pass that read all targets of another job file,
	// or nil. left is the data that base did not read, the newest pass first.
	base *Pass
	left []leftData
	// refused are the refused calls, and used is the newest use by a caller other than rotator
	// since the proof began; nil if none is known.
	refused int64
	last    *Caller // the newest refused call
	used    *Caller
}

// counts are the figures of one pass about the key.
type counts struct {
	seen, moved, foreign int64
	under                int64 // left under the key
	found                int64 // under the key, including those that were moved
	versions             int64
	byTarget             []placed // left under the key
	versionsByTarget     []placed
	failed               failed
	fromKMS, fromHeader  int64
	rowsInPart, bodies   int64
}

// placed is a number of slots in one target.
type placed struct {
	target string
	n      int64
}

// failed counts the failed slots of a pass by what they mean for the key, without waived ones.
type failed struct {
	ofKey   int64 // their header or KMS names the key
	unknown int64 // they may be under the key
	unread  int64 // no ciphertext could be read
	noKey   int64 // they have no header, and ciphertexts under the key have one
	other   int64 // their header names another key
}

// class states what a failed slot means for a key.
type class int

const (
	classOther class = iota
	classNoKey
	classUnread
	classUnknown
	classOfKey
)

// classOf returns the class of a failed slot. Only ciphertexts under symmetric keys have a
// header.
func (k Key) classOf(origin string) class {
	isToken := strings.HasPrefix(origin, originToken)
	switch {
	case origin == OriginUnread:
		return classUnread
	case origin == OriginNone && k.Symmetric:
		return classNoKey
	case origin == OriginNone, origin == OriginUnknown, origin == "", isToken && k.Symmetric:
		return classUnknown
	case origin == k.ARN:
		return classOfKey
	}
	return classOther
}

func (f *failed) add(c class, n int64) {
	switch c {
	case classOther:
		f.other += n
	case classNoKey:
		f.noKey += n
	case classUnread:
		f.unread += n
	case classUnknown:
		f.unknown += n
	case classOfKey:
		f.ofKey += n
	}
}

// study derives the facts about the key from the input.
func study(in Input) *facts {
	f := &facts{Input: in, name: in.Key.name(), counts: map[*Pass]counts{}}
	var passes []*Pass
	for i := range in.Passes {
		passes = append(passes, &in.Passes[i])
	}
	slices.SortStableFunc(passes, func(a, b *Pass) int {
		return cmp.Or(b.Started.Compare(a.Started), b.Ended.Compare(a.Ended))
	})
	for _, p := range passes {
		if f.proof == nil && f.complete(p) {
			f.proof = p
		}
		if f.proof == nil || p != f.proof && !p.Started.Before(f.proof.Started) {
			f.since = append(f.since, p)
		}
		f.counts[p] = f.count(p)
	}
	mayProve := func(p *Pass) bool { return isRead(p) && !p.Barred }
	if read := slices.IndexFunc(f.since, mayProve); f.proof == nil && read >= 0 {
		f.base = f.since[read]
		f.since = slices.DeleteFunc(f.since, func(p *Pass) bool {
			return p.Started.Before(f.base.Started) // what it found may have been moved since
		})
	}
	if f.proof != nil {
		f.base = f.proof
	}
	if f.base != nil {
		f.findLeft(passes)
	}
	f.callers()
	return f
}

// isRead reports whether a pass read all targets of some job file to the end.
func isRead(p *Pass) bool { return p.Complete && !p.Incremental }

// complete reports whether a pass can prove something about the key and all targets of the job.
func (f *facts) complete(p *Pass) bool {
	return isRead(p) && !p.Barred && !p.OtherJob && f.asked(p) && p.HasVersions(f.VersionsOf)
}

// HasVersions reports whether the pass read the old versions of these targets.
func (p *Pass) HasVersions(targets []string) bool {
	for _, name := range targets {
		read := func(t Target) bool { return t.Name == name && t.Versions != nil }
		if !slices.ContainsFunc(p.Targets, read) {
			return false
		}
	}
	return true
}

// asked reports whether the key was a source key of a pass.
func (f *facts) asked(p *Pass) bool {
	return p.Sources == nil || slices.Contains(p.Sources, f.Key.ARN)
}

// count sums up the figures of a pass about the key.
func (f *facts) count(p *Pass) (c counts) {
	for i := range p.Targets {
		c.add(f.Key, &p.Targets[i])
	}
	waived := waivedOf(p, f.Key, f.Waivers, f.Now)
	for _, w := range waived {
		c.failed.add(w.class, -1)
	}
	if p == f.proof {
		f.waived = waived
	}
	return c
}

// add adds the figures of a target about a key.
func (c *counts) add(of Key, t *Target) {
	k := t.Keys[of.ARN]
	left := k.Slots - k.Moved - k.Unreadable
	if !t.movesCounted() {
		left = 0 // the figures include the moved slots
	}
	c.seen += t.Slots.Seen
	c.moved += t.Slots.Rotated
	c.foreign += t.Slots.Foreign
	c.under += left
	c.found += k.Slots - k.Unreadable
	c.versions += t.Versions[of.ARN]
	c.byTarget = append(c.byTarget, placed{t.Name, left})
	c.versionsByTarget = append(c.versionsByTarget, placed{t.Name, t.Versions[of.ARN]})
	c.rowsInPart += t.RowsInPart
	c.bodies += t.Bodies
	for _, key := range t.Keys {
		c.fromHeader += key.ByHeader
		c.fromKMS += key.Slots - key.ByHeader
	}
	uncounted := t.Slots.Failed + t.Slots.Conflict
	for origin, n := range t.Origins {
		c.failed.add(of.classOf(origin), n)
		uncounted -= n
	}
	c.failed.unknown += max(uncounted, 0)
	for origin, n := range t.VersionOrigins {
		c.failed.add(of.classOf(origin), n)
	}
}

// Check returns an error if figures of the target contradict each other.
func (t Target) Check() error {
	s := t.Slots
	sum := s.Rotated + s.Current + s.Remaining + s.Foreign + s.Failed + s.Conflict + s.Gone
	if sum != s.Seen {
		return fmt.Errorf("%d slots were seen, but the outcomes have the sum %d", s.Seen, sum)
	}
	under, failed := int64(0), int64(0)
	for arn, k := range t.Keys {
		under += k.Slots
		if k.Moved < 0 || k.Unreadable < 0 || k.ByHeader < 0 || k.ByHeader > k.Slots ||
			k.Moved+k.Unreadable > k.Slots {
			return fmt.Errorf("under key %s are %d slots, but %d were moved, %d cannot be "+
				"decrypted and %d were decided by their header", arn, k.Slots, k.Moved,
				k.Unreadable, k.ByHeader)
		}
	}
	for origin, n := range t.Origins {
		if failed += n; n < 0 {
			return fmt.Errorf("%d failed slots have the origin %s", n, origin)
		}
	}
	for _, counts := range []map[string]int64{t.Versions, t.VersionOrigins} {
		for name, n := range counts {
			if n < 0 {
				return fmt.Errorf("%d old versions have the key or origin %s", n, name)
			}
		}
	}
	switch {
	case under > s.Seen:
		return fmt.Errorf("%d slots were seen, but %d have a key", s.Seen, under)
	case failed > s.Failed+s.Conflict:
		return fmt.Errorf("%d slots failed, but the origins of %d are known",
			s.Failed+s.Conflict, failed)
	}
	return nil
}

// movesCounted reports whether the keys of all moved slots were counted. Earlier versions did
// not count them.
func (t Target) movesCounted() bool {
	moved := int64(0)
	for _, k := range t.Keys {
		moved += k.Moved
	}
	return moved == t.Slots.Rotated
}

// callers finds the calls of others than rotator.
func (f *facts) callers() {
	for i := range f.Trail.Callers {
		c := &f.Trail.Callers[i]
		if c.Refused && !c.Last.Before(f.Key.Disabled) {
			f.refused += c.Calls
			if f.last == nil || c.Last.After(f.last.Last) {
				f.last = c
			}
		}
		if !c.Refused {
			f.use(*c)
		}
	}
	if u := f.LastUsage; !u.Asked.IsZero() && !u.At.IsZero() && !u.ByRotator && !u.Unclear {
		f.use(Caller{ARN: u.Caller, Operation: u.Operation, Last: u.At})
	}
}

// use notes a use of the key, if it is the newest one since the proof began.
func (f *facts) use(c Caller) {
	if f.proof == nil || c.Last.Before(f.proof.Started) {
		return
	}
	if f.used == nil || c.Last.After(f.used.Last) {
		f.used = &c
	}
}

// proven returns the figures of the proof.
func (f *facts) proven() counts { return f.counts[f.proof] }

// later returns the newest pass since the proof for which is returns true, or nil.
func (f *facts) later(is func(counts) bool) *Pass {
	for _, p := range f.since {
		if is(f.counts[p]) {
			return p
		}
	}
	return nil
}

// blocked returns the largest number of failed slots of one kind in the proof and in later passes.
func (f *facts) blocked(kind func(failed) int64) (most int64) {
	if f.proof != nil {
		most = kind(f.proven().failed)
	}
	for _, p := range f.since {
		most = max(most, kind(f.counts[p].failed))
	}
	return most
}

// stale is a reason why the proof does not count any more.
type stale int

const (
	fresh stale = iota
	staleRun
	staleRead // a read-only pass was still reading when the proof began, and found something
	staleAge
	staleFuture
	staleWorking
)

// maxSkew is how far a clock may be ahead of the others.
const maxSkew = 5 * time.Minute

// stale returns why the proof does not count any more, and the pass that ended after it began.
func (f *facts) stale() (stale, *Pass) {
	if f.proof == nil {
		return fresh, nil
	}
	for i := range f.Passes {
		p := &f.Passes[i]
		if p != f.proof && !p.ReadOnly && (p.Ended.IsZero() || p.Ended.After(f.proof.Started)) {
			return staleRun, p
		}
	}
	for i := range f.Passes {
		p := &f.Passes[i]
		overlaps := p.Started.Before(f.proof.Started) && p.Ended.After(f.proof.Started)
		if p.ReadOnly && overlaps && f.counts[p].under > 0 {
			return staleRead, p
		}
	}
	began := f.proof.Started
	switch {
	case f.Working:
		return staleWorking, nil
	case began.After(f.Now.Add(maxSkew)):
		return staleFuture, nil
	case f.MaxAge == 0 || f.Now.Sub(began) <= f.MaxAge:
		return fresh, nil
	case f.Key.unusable() && !f.Key.Disabled.IsZero() &&
		f.Key.Disabled.Sub(began) <= f.MaxAge:
		return fresh, nil // no caller has been able to encrypt under the key since then
	}
	return staleAge, nil
}

// watched reports whether CloudTrail showed all calls since the key was disabled.
func (f *facts) watched() bool {
	t := f.Trail
	return !t.Asked.IsZero() && !t.Partial && !f.Key.Disabled.IsZero() &&
		!t.From.After(f.Key.Disabled)
}

// alias returns the alias of the key as in the job file, or "".
func (k Key) alias() string {
	if i := strings.Index(k.Given, "alias/"); i >= 0 {
		return k.Given[i:]
	}
	return ""
}

// name returns the short name of the key: its alias, otherwise the last part of its ARN.
func (k Key) name() string {
	if alias := k.alias(); alias != "" {
		return alias
	}
	return k.ARN[strings.LastIndex(k.ARN, ":")+1:]
}

// region returns the Region in the ARN of the key, or "".
func (k Key) region() string {
	if parts := strings.Split(k.ARN, ":"); len(parts) > 3 {
		return parts[3]
	}
	return ""
}
