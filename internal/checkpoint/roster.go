package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
)

// rosterForm is the form of the roster that this program writes. Form 0 is that of the
// previous version.
const rosterForm = 3

// roster lists the members of the last pass of a job. It is one record, so one request reads
// all members. Clocks of different members are never compared.
//
// A member that sends requests to KMS is busy. Every change of the set of busy members
// begins a new division of the rate.
type roster struct {
	// Pass is Of + 1 in form 3. Programs of the previous version read it as a
	// later pass and end (ErrFenced).
	Pass int `json:"pass"`
	Form int `json:"form,omitempty"`
	Of   int `json:"of,omitempty"` // the pass
	// Division counts the changes of the set of busy members.
	Division int64             `json:"division,omitempty"`
	Members  map[string]member `json:"members,omitempty"`
	// Ghosts are runs that may still send requests and cannot acknowledge a division:
	// busy members of the previous pass, and programs of the previous version. The values
	// are their last beats.
	Ghosts map[string]int64 `json:"ghosts,omitempty"`

	// Workers are the beats of the members in form 0.
	Workers map[string]int64 `json:"workers,omitempty"`
}

// member is one run on a pass.
type member struct {
	Beat  int64 `json:"beat"`            // changes while the run is alive
	Guest bool  `json:"guest,omitempty"` // it claims no partition
	// Busy is the division with which the run became busy; 0 if it is idle.
	Busy int64 `json:"busy,omitempty"`
	// Seen is the last division that the run has applied. Its rate is at most its share
	// in that division.
	Seen int64 `json:"seen,omitempty"`
	// Waits is true if the run waits for a partition and has found no free one.
	Waits bool `json:"waits,omitempty"`
	// Holds are the partitions that the run works on. It is a hint for claims. The
	// record of the partition decides.
	Holds []int `json:"holds,omitempty"`
}

func (m member) equal(other member) bool {
	return m.Beat == other.Beat && m.Guest == other.Guest && m.Busy == other.Busy &&
		m.Seen == other.Seen && m.Waits == other.Waits && slices.Equal(m.Holds, other.Holds)
}

// hungry reports whether the run has no partition and waits for one.
func (m member) hungry() bool { return m.Waits && len(m.Holds) == 0 }

func newRoster(pass int) roster {
	return roster{Pass: pass + 1, Form: rosterForm, Of: pass, Members: map[string]member{}}
}

// on returns the roster from the view of a run on a pass. A roster of an earlier pass, or of
// the previous version, becomes an empty one, in which the runs that may still send requests
// are ghosts. The error is ErrFenced if the job is at a later pass, and *SchemaError if a
// newer program wrote the roster.
func (r roster) on(id string, pass int) (roster, error) {
	of := r.Of
	if r.Form == 0 {
		of = r.Pass
	}
	switch {
	case r.Form > rosterForm:
		return r, &SchemaError{ID: id, Schema: r.Form, Known: rosterForm}
	case of > pass:
		return r, ErrFenced
	case of == pass && r.Form == rosterForm:
		if r.Members == nil {
			r.Members = map[string]member{}
		}
		return r, nil
	}
	next := newRoster(pass)
	next.Division, next.Ghosts = r.Division, maps.Clone(r.Ghosts)
	for id, m := range r.Members {
		if m.Busy > 0 {
			next.haunt(id, m.Beat)
		}
	}
	for id, beat := range r.Workers {
		next.haunt(id, beat)
	}
	return next, nil
}

// earlierRuns reports whether the roster lists runs of the previous version on a pass.
func (r roster) earlierRuns(pass int) bool {
	return r.Form == 0 && r.Pass == pass && len(r.Workers) > 0
}

func (r *roster) haunt(id string, beat int64) {
	if r.Ghosts == nil {
		r.Ghosts = map[string]int64{}
	}
	r.Ghosts[id] = beat
}

// clone returns a copy whose maps can be changed.
func (r roster) clone() roster {
	r.Members, r.Ghosts = maps.Clone(r.Members), maps.Clone(r.Ghosts)
	return r
}

// set replaces the entry of a member. If it becomes busy or idle, a new division begins.
func (r *roster) set(id string, m member, busy bool) {
	switch {
	case busy && m.Busy == 0:
		r.Division++
		m.Busy = r.Division
	case !busy && m.Busy > 0:
		r.Division++
		m.Busy = 0
	}
	if m.Busy > 0 {
		m.Seen = r.Division
	}
	r.Members[id] = m
}

// drop removes a run from the roster.
func (r *roster) drop(id string) {
	if r.Members[id].Busy > 0 {
		r.Division++
	}
	delete(r.Members, id)
	delete(r.Ghosts, id)
}

// busy returns the number of busy members, among which the rate is divided.
func (r roster) busy() (n int) {
	for _, m := range r.Members {
		if m.Busy > 0 {
			n++
		}
	}
	return n
}

// share returns the number of runs among which a member divides the rate, or 0 if it must not
// send. A run that became busy may send after each other busy run has confirmed that division.
// From then on the view of each run that sends contains all other runs that send. So the sum
// of their shares is at most 1, even if they have read different divisions since.
func (r roster) share(id string) int {
	me := r.Members[id]
	if me.Busy == 0 || len(r.Ghosts) > 0 {
		return 0
	}
	for other, m := range r.Members {
		if other != id && m.Busy > 0 && m.Seen < me.Busy {
			return 0
		}
	}
	return r.busy()
}

// gives reports whether a member that holds partitions must hand one over to a member that
// waits and has none. The members that hold the most hand over one each.
func (r roster) gives(id string, held int) bool {
	hungry := 0
	var others []string
	for other, m := range r.Members {
		switch {
		case m.Guest:
		case other != id && m.hungry():
			hungry++
		case other != id && len(m.Holds) > 0:
			others = append(others, other)
		}
	}
	if hungry == 0 || held < 2 {
		return false
	}
	before := 0 // members that hand over before this one
	for _, other := range others {
		order := cmp.Or(cmp.Compare(held, len(r.Members[other].Holds)), cmp.Compare(other, id))
		if order < 0 {
			before++
		}
	}
	return before < hungry
}

// mendRoster replaces an unreadable roster with an empty one of a pass, and keeps a copy.
// Otherwise no run could join the pass. It must be called after the head is written: a roster
// of a pass that the head does not name would fence off every run.
func (p *Passes) mendRoster(ctx context.Context, pass int) error {
	for range beatAttempts {
		var r roster
		before, broken, err := p.look(ctx, p.rosterID(), "roster", &r)
		if err != nil {
			return err
		}
		if _, err := r.on(p.rosterID(), pass); !broken && !Untrusted(err) {
			return nil // a roster of a later pass fences the run off when it joins
		}
		if err := p.keep(ctx, before); err != nil {
			return err
		}
		err = p.swap(ctx, before, p.rosterID(), "roster", newRoster(pass))
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return ErrConflict
}
