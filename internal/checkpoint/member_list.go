package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
)

// memberListForm is the form of the member list that this program writes. Form 0 is that of the
// previous version.
const memberListForm = 3

// memberList contains the members of the last pass of a job. It is one record, so one request reads
// all members. Clocks of different members are never compared.
//
// A member that sends requests to KMS is busy. Every change of the set of busy members
// begins a new division of the rate.
type memberList struct {
	// Pass is Of + 1 in form 3. Programs of the previous version read it as a
	// later pass and end (ErrFenced).
	Pass int `json:"pass"`
	Form int `json:"form,omitempty"`
	Of   int `json:"of,omitempty"` // the pass
	// Division counts the changes of the set of busy members.
	Division int64             `json:"division,omitempty"`
	Members  map[string]member `json:"members,omitempty"`
	// Former are runs that may still send requests and cannot acknowledge a division:
	// busy members of the previous pass, and programs of the previous version. The values
	// are their last heartbeats.
	Former map[string]int64 `json:"ghosts,omitempty"`

	// Workers are the heartbeats of the members in form 0.
	Workers map[string]int64 `json:"workers,omitempty"`
}

// member is one process that takes part in a pass.
type member struct {
	Heartbeat int64 `json:"beat"`            // changes while the run is alive
	Observer  bool  `json:"guest,omitempty"` // it claims no partition
	// Writes is true for an observer that writes to the targets: a retry.
	Writes bool `json:"writes,omitempty"`
	// Busy is the division with which the run became busy; 0 if it is idle.
	Busy int64 `json:"busy,omitempty"`
	// Seen is the last division that the run has applied. Its rate is at most its share
	// in that division.
	Applied int64 `json:"seen,omitempty"`
	// Waits is true if the run waits for a partition and has found no free one.
	Waits bool `json:"waits,omitempty"`
	// Holds are the partitions that the run works on. It is a hint for claims. The
	// record of the partition decides.
	Holds []int `json:"holds,omitempty"`
}

// equal reports whether two entries are equal but for the division that the run has applied.
func (m member) equal(other member) bool {
	return m.Heartbeat == other.Heartbeat && m.Observer == other.Observer &&
		m.Writes == other.Writes && m.Busy == other.Busy && m.Waits == other.Waits &&
		slices.Equal(m.Holds, other.Holds)
}

// starved reports whether the run has no partition and waits for one.
func (m member) starved() bool { return m.Waits && len(m.Holds) == 0 }

func newMemberList(pass int) memberList {
	return memberList{Pass: pass + 1, Form: memberListForm, Of: pass, Members: map[string]member{}}
}

// forPass returns the member list from the view of a run on a pass. A member list of an earlier
// pass, or of the previous version, becomes an empty one, in which the runs that may still send
// requests are former runs. The error is ErrFenced if the job is at a later pass, and
// *SchemaError if a newer program wrote the member list.
func (r memberList) forPass(id string, pass int) (memberList, error) {
	of := r.Of
	if r.Form == 0 {
		of = r.Pass
	}
	switch {
	case r.Form > memberListForm:
		return r, &SchemaError{ID: id, Schema: r.Form, Known: memberListForm}
	case of > pass:
		return r, ErrFenced
	case of == pass && r.Form == memberListForm:
		if r.Members == nil {
			r.Members = map[string]member{}
		}
		return r, nil
	}
	next := newMemberList(pass)
	next.Division, next.Former = r.Division, maps.Clone(r.Former)
	for id, m := range r.Members {
		if m.Busy > 0 {
			next.addFormer(id, m.Heartbeat)
		}
	}
	for id, heartbeat := range r.Workers {
		next.addFormer(id, heartbeat)
	}
	return next, nil
}

// listsOldRuns reports whether the member list lists runs of the previous version on a pass.
func (r memberList) listsOldRuns(pass int) bool {
	return r.Form == 0 && r.Pass == pass && len(r.Workers) > 0
}

func (r *memberList) addFormer(id string, heartbeat int64) {
	if r.Former == nil {
		r.Former = map[string]int64{}
	}
	r.Former[id] = heartbeat
}

// clone returns a copy whose maps can be changed.
func (r memberList) clone() memberList {
	r.Members, r.Former = maps.Clone(r.Members), maps.Clone(r.Former)
	return r
}

// set replaces the entry of a member. If it becomes busy or idle, a new division begins.
func (r *memberList) set(id string, m member, busy bool) {
	switch {
	case busy && m.Busy == 0:
		r.Division++
		m.Busy = r.Division
	case !busy && m.Busy > 0:
		r.Division++
		m.Busy = 0
	}
	if m.Busy > 0 {
		m.Applied = r.Division
	}
	r.Members[id] = m
}

// remove removes a run from the member list.
func (r *memberList) remove(id string) {
	if r.Members[id].Busy > 0 {
		r.Division++
	}
	delete(r.Members, id)
	delete(r.Former, id)
}

// busy returns the number of busy members, among which the rate is divided.
func (r memberList) busy() (n int) {
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
func (r memberList) share(id string) int {
	me := r.Members[id]
	if me.Busy == 0 || len(r.Former) > 0 {
		return 0
	}
	for other, m := range r.Members {
		if other != id && m.Busy > 0 && m.Applied < me.Busy {
			return 0
		}
	}
	return r.busy()
}

// awaits reports whether another busy member waits until a member confirms a division. Nothing
// waits for the confirmation of a division in which a member became idle or was removed.
func (r memberList) awaits(id string) bool {
	me := r.Members[id]
	for _, m := range r.Members {
		if me.Busy > 0 && m.Busy > me.Applied {
			return true
		}
	}
	return false
}

// mustHandOver reports whether a member that holds partitions must hand one over to a member that
// waits and has none. The members that hold the most hand over one each.
func (r memberList) mustHandOver(id string, held int) bool {
	starved := 0
	var others []string
	for other, m := range r.Members {
		switch {
		case m.Observer:
		case other != id && m.starved():
			starved++
		case other != id && len(m.Holds) > 0:
			others = append(others, other)
		}
	}
	if starved == 0 || held < 2 {
		return false
	}
	before := 0 // members that hand over before this one
	for _, other := range others {
		order := cmp.Or(cmp.Compare(held, len(r.Members[other].Holds)), cmp.Compare(other, id))
		if order < 0 {
			before++
		}
	}
	return before < starved
}

// repairMemberList replaces an unreadable member list with an empty one of a pass, and keeps a
// copy. Otherwise no run could join the pass. It must be called after the head is written: a
// member list of a pass that the head does not name would fence off every run.
func (p *Passes) repairMemberList(ctx context.Context, pass int) error {
	for range heartbeatAttempts {
		var r memberList
		before, broken, err := p.fetchToReplace(ctx, p.memberListID(), "roster", &r)
		if err != nil {
			return err
		}
		if _, err := r.forPass(p.memberListID(), pass); !broken && !IsUnreadable(err) {
			return nil // a member list of a later pass fences the run off when it joins
		}
		if err := p.backUp(ctx, before); err != nil {
			return err
		}
		_, err = p.swap(ctx, before, p.memberListID(), "roster", newMemberList(pass))
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return ErrConflict
}
