package verdict

import (
	"fmt"
	"time"

	"rotator/internal/plural"
)

// Deletion states until when the key must not be deleted. No verdict states that a key can be
// deleted, because a deletion cannot be undone and rotator does not know all copies.
type Deletion struct {
	// NotBefore is when the last known copy of an old ciphertext is gone. It is nil if that is
	// not known.
	NotBefore *time.Time `json:"not_before" jsonschema:"nullable"`
	// BlockedBy lists what must be gone or known before.
	BlockedBy []string `json:"blocked_by"`
	Sentence  string   `json:"sentence"`
}

// CopyState is what is known about the copies of one kind in one place.
type CopyState string

// The states of copies.
const (
	CopiesCounted CopyState = "counted"
	CopiesNone    CopyState = "none"
	CopiesHidden  CopyState = "cannot-see" // a permission is missing
	CopiesUnknown CopyState = "not-looked-at"
)

// Copy is one kind of copy of old ciphertexts in one place, which passes do not read.
type Copy struct {
	Kind  string // such as "noncurrent versions"
	Place string
	State CopyState
	Count int64
	// Until is when the last of these copies is gone. It is zero if that is not known. NoEnd is
	// true if nothing deletes them.
	Until   time.Time
	NoEnd   bool
	Missing string // the permission, in state CopiesHidden; "" if the call failed otherwise
}

// blocks returns why the copy delays a deletion, or "".
func (c Copy) blocks() string {
	what := c.Kind + " of " + c.Place
	switch {
	case c.State == CopiesNone:
		return ""
	case c.State == CopiesHidden && c.Missing == "":
		return what + " could not be read"
	case c.State == CopiesHidden:
		return fmt.Sprintf("%s cannot be seen without %s", what, c.Missing)
	case c.State == CopiesUnknown:
		return what + " were not checked"
	case c.NoEnd:
		return fmt.Sprintf("%s (%s) have no end", what, plural.Digits(c.Count))
	case c.Until.IsZero():
		return fmt.Sprintf("%s (%s) have no known end", what, plural.Digits(c.Count))
	}
	return fmt.Sprintf("%s (%s) exist until %s", what, plural.Digits(c.Count), day(c.Until))
}

// ends reports whether it is known when the copies are gone.
func (c Copy) ends() bool {
	return c.State == CopiesNone || c.State == CopiesCounted && !c.NoEnd && !c.Until.IsZero()
}

// elsewhere is always a reason against a deletion.
const elsewhere = "dumps, caches and other copies outside of the places of the job cannot be seen"

// deletion states until when the key must not be deleted.
func (f *facts) deletion(code Code) Deletion {
	d := Deletion{BlockedBy: []string{}}
	known := f.Copies != nil
	var last time.Time
	for _, c := range f.Copies {
		known = known && c.ends()
		if why := c.blocks(); why != "" {
			d.BlockedBy = append(d.BlockedBy, why)
		}
		if c.State == CopiesCounted && c.Until.After(last) {
			last = c.Until
		}
	}
	if f.Copies == nil {
		d.BlockedBy = append(d.BlockedBy, "old versions, backups, exports and streams were not "+
			"checked")
	}
	switch {
	case code.Exit() != 0:
		d.BlockedBy = append([]string{"the key is " + string(code.asState())}, d.BlockedBy...)
	case code != DisabledQuiet:
		d.BlockedBy = append(d.BlockedBy, "the key was not watched while it was disabled")
	}
	d.BlockedBy = append(d.BlockedBy, elsewhere)
	if known && !last.IsZero() {
		utc := last.UTC()
		d.NotBefore = &utc
	}
	d.Sentence = f.doNotDelete(known, last)
	return d
}

// asState returns how the decision is stated as a reason against a deletion.
func (c Code) asState() string {
	if c == Cannot {
		return "in use"
	}
	return "not proven to be unused"
}

// doNotDelete states until when the key must not be deleted.
func (f *facts) doNotDelete(known bool, last time.Time) string {
	var text string
	switch {
	case f.staysInUse():
		return "Do not schedule its deletion: it stays in use."
	case f.Copies == nil:
		text = "Do not schedule its deletion yet: copies that need it were not checked."
	case !known && !last.IsZero():
		text = fmt.Sprintf("Do not schedule its deletion: copies that need it exist at least "+
			"until %s, and the end of others is not known.", day(last))
	case !known:
		text = "Do not schedule its deletion yet: it is not known until when copies need it."
	case !last.IsZero():
		text = fmt.Sprintf("Copies that need it exist until %s. Do not schedule its deletion "+
			"before then.", day(last))
	default:
		text = "No copy that needs it is known. Do not schedule its deletion while copies exist " +
			"elsewhere."
	}
	if d := f.Key.Deletion; !d.IsZero() && (!known || d.Before(last)) {
		text += fmt.Sprintf(" It is scheduled for %s: cancel that.", day(d))
	}
	return text
}
