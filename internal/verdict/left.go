package verdict

import (
	"fmt"
	"slices"
	"time"

	"rotator/internal/plural"
)

// Gone states that data which a target of an earlier job file named needs no source key any more.
type Gone struct {
	Target  string    // the name of the target in the earlier job file
	Before  time.Time // it covers passes that began before this time
	Because string
}

// leftData is data that an earlier pass read and base did not: of a target that was removed or is
// narrower now.
type leftData struct {
	target string
	change string // what is different now
	pass   *Pass  // that read the data last
	counts counts
	gone   *Gone // the statement of the job file, or nil
	copies bool  // it is only old versions of objects that base read: these count as copies
}

// known returns the number of ciphertexts that the pass left under the key.
func (d leftData) known() int64 { return d.counts.under + d.counts.versions }

// mayBe returns the number of failed slots that may be under the key.
func (d leftData) mayBe() int64 {
	return d.counts.failed.ofKey + d.counts.failed.unknown + d.counts.failed.unread
}

// blocks reports whether the data can depend on the key.
func (d leftData) blocks() bool {
	return d.gone == nil && !d.copies && d.known()+d.mayBe() > 0
}

// findLeft finds the data that base did not read and that an earlier or later pass did. The
// newest pass that read it to the end counts, and newer ones that stopped. passes are sorted, the
// newest first.
func (f *facts) findLeft(passes []*Pass) {
	var newer []*Pass // that read all their targets to the end for the key
	for _, p := range passes {
		if p == f.base {
			continue
		}
		for i := range p.Targets {
			f.addLeft(p, &p.Targets[i], newer)
		}
		if isRead(p) && f.asked(p) {
			newer = append(newer, p)
		}
	}
}

// addLeft adds what a pass left in a target, if neither base nor a newer pass read it.
func (f *facts) addLeft(p *Pass, t *Target, newer []*Pass) {
	d := leftData{target: t.Name, pass: p}
	d.counts.add(f.Key, t)
	waived := slices.DeleteFunc(waivedOf(p, f.Key, f.Waivers, f.Now), func(w Waived) bool {
		return w.Target != t.Name
	})
	for _, w := range waived {
		d.counts.failed.add(w.class, -1)
	}
	under := d.known()+d.counts.failed.ofKey > 0
	if f.base.reads(t, under) {
		d.counts, d.copies = versionsOnly(d.counts), true
		if f.base.readsVersions(t) || d.known() == 0 {
			return
		}
		waived = nil // only slots are waived
	}
	reads := func(q *Pass) bool {
		after := q.Started.After(p.Started) && !q.Started.Before(p.Ended)
		return after && q.reads(t, under) && q.readsVersions(t)
	}
	if slices.ContainsFunc(newer, reads) || d.known()+d.mayBe() == 0 && !isRead(p) {
		return
	}
	d.change = "not read by " + f.base.Name()
	if f.proof != nil {
		d.change = f.proof.change(t, under)
	}
	covers := func(g Gone) bool { return g.Target == t.Name && p.Started.Before(g.Before) }
	if i := slices.IndexFunc(f.Gone, covers); i >= 0 {
		d.gone = &f.Gone[i]
	}
	f.waived = append(f.waived, waived...)
	f.left = append(f.left, d)
}

// versionsOnly returns the counts of old versions.
func versionsOnly(c counts) counts {
	return counts{versions: c.versions, versionsByTarget: c.versionsByTarget}
}

// reads reports whether the pass has a target that includes all data of the target t of another
// pass. under is as in Place.narrowed.
func (p *Pass) reads(t *Target, under bool) bool {
	return slices.ContainsFunc(p.Targets, func(own Target) bool { return t.isIn(&own, under) })
}

// names reports whether the pass has a target with a name.
func (p *Pass) names(target string) bool {
	return slices.ContainsFunc(p.Targets, func(t Target) bool { return t.Name == target })
}

// isIn reports whether the target own of another pass includes all data of t.
func (t *Target) isIn(own *Target, under bool) bool {
	if own.Place == nil || t.Place == nil {
		return own.Name == t.Name
	}
	return t.Place.sameStore(own.Place) && t.Place.narrowed(own.Place, under) == ""
}

// readsVersions reports whether the pass counted the old versions in t, if t has counted any.
func (p *Pass) readsVersions(t *Target) bool {
	if len(t.Versions) == 0 {
		return true
	}
	return slices.ContainsFunc(p.Targets, func(own Target) bool {
		return own.Versions != nil && t.isIn(&own, true)
	})
}

// change states why the pass does not read all data of the target t of another pass.
func (p *Pass) change(t *Target, under bool) string {
	text := "not in the job file now"
	for i := range p.Targets {
		own := &p.Targets[i]
		switch {
		case t.isIn(own, under):
			return "its old versions are not read now"
		case own.Place == nil || t.Place == nil:
		case t.Place.sameStore(own.Place):
			return "read now " + t.Place.narrowed(own.Place, under)
		case own.Name == t.Name && !t.Place.sameAccount(own.Place):
			text = "read with " + t.Place.credentials() + ", and now with " +
				own.Place.credentials()
		case own.Name == t.Name:
			text = "now in another place"
		}
	}
	return text
}

// leftBehind returns the data with ciphertexts under the key that base did not read.
func (f *facts) leftBehind() []leftData {
	return f.leftOf(func(d leftData) bool { return d.blocks() && d.known() > 0 })
}

// leftFailed returns the data with slots that may be under the key that base did not read.
func (f *facts) leftFailed() []leftData {
	return f.leftOf(func(d leftData) bool { return d.blocks() && d.mayBe() > 0 })
}

func (f *facts) leftOf(is func(leftData) bool) (list []leftData) {
	for _, d := range f.left {
		if is(d) {
			list = append(list, d)
		}
	}
	return list
}

// leftIn lists data with the pass that read it last and a number of slots.
func leftIn(list []leftData, number func(leftData) int64) string {
	var parts []string
	for _, d := range list {
		parts = append(parts, fmt.Sprintf("%s left %s in %s (%s)", d.pass.Name(),
			plural.Digits(number(d)), d.target, d.change))
	}
	return listed(parts)
}

// putBack ends the sentences about data that the job no longer reads.
const putBack = "Put this data back into the job file and run rotator verify, or state there " +
	"that it is gone."

// omits begins the sentences about data that base did not read.
func (f *facts) omits() string {
	if f.proof == nil {
		return upper(f.base.Name()) + " did not read"
	}
	return "This job no longer reads"
}

func (f *facts) leftBehindText() string {
	return fmt.Sprintf("cannot be disabled. %s data that depends on it: %s. %s", f.omits(),
		leftIn(f.leftBehind(), leftData.known), putBack)
}

func (f *facts) leftFailedText() string {
	return fmt.Sprintf("%s data with failed slots that may be under this key: %s. %s", f.omits(),
		leftIn(f.leftFailed(), leftData.mayBe), putBack)
}

// leftText states what the job no longer reads. It must be called only if none of it blocks the
// verdict.
func (f *facts) leftText() (list []string) {
	for _, d := range f.left {
		name, what := upper(d.pass.Name()), fmt.Sprintf("%s (%s)", d.target, d.change)
		n := d.known() + d.mayBe()
		if n == 0 {
			list = append(list, fmt.Sprintf("%s is the last pass that read %s. It left no "+
				"ciphertext under this key there.", name, what))
			continue
		}
		if d.copies {
			list = append(list, fmt.Sprintf("%s found %s under this key in %s. They count as "+
				"copies.", name, count(n, "old version"), what))
			continue
		}
		list = append(list, fmt.Sprintf("%s left %s in %s. The job file states why this does not "+
			"matter: %s", name, count(n, "slot"), what, sentence(d.gone.Because)))
	}
	for _, name := range f.Unread {
		list = append(list, fmt.Sprintf("%s cannot be read. It is not known whether this job "+
			"still reads all of its data.", upper(name)))
	}
	return list
}

// otherPlace states how the places of the job file differ from those that the proof read, or is "".
func (f *facts) otherPlace() string {
	if f.proof == nil {
		return ""
	}
	for i := range f.proof.Targets {
		t := &f.proof.Targets[i]
		now, known := f.Places[t.Name]
		if !known || t.Place == nil {
			continue
		}
		if how := t.Place.Elsewhere(&now); how != "" {
			return t.Name + " " + how
		}
	}
	return ""
}

func (f *facts) otherPlaceText() string {
	return fmt.Sprintf("%s read %s. Run rotator verify to read what the job file names.",
		upper(f.proof.Name()), f.otherPlace())
}
