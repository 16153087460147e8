package document

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"rotator/internal/plural"
	"rotator/internal/printable"
	"rotator/internal/report"
	"rotator/internal/verdict"
	"rotator/internal/watch"
)

// KeyUse is what AWS stated about a source key and its use.
type KeyUse struct {
	Job   string    `json:"job,omitempty"` // of a merged report
	Asked time.Time `json:"asked"`
	Since time.Time `json:"since"` // begin of the period that Status is about
	watch.Key
	// NIST is the state of the key as in NIST SP 800-57, or "" if it is not known. Rule states
	// how it follows from the facts.
	NIST NISTState `json:"nist_state,omitempty"`
	Rule string    `json:"nist_rule,omitempty"`
	// Refused counts the refused calls of other callers in the period. It is nil if CloudTrail did
	// not answer.
	Refused   *int64     `json:"refused_calls" jsonschema:"nullable"`
	Materials []Material `json:"materials"`
}

// Material is one key material of a source key.
type Material struct {
	ID    string `json:"id"`
	State string `json:"state"`
	// From is the time from which the key used this material to encrypt. It is zero if it is not
	// known. AgeDays is the number of whole days from then until AWS was asked.
	From    time.Time `json:"from,omitzero"`
	AgeDays int       `json:"age_days"`
}

// NISTState is a state of a key in NIST SP 800-57 part 1. Rotator never states that a key is
// compromised or destroyed.
type NISTState string

// The states.
const (
	PreActivation NISTState = "pre-activation"
	Active        NISTState = "active"
	Suspended     NISTState = "suspended"
	Deactivated   NISTState = "deactivated"
)

// quietTime is the minimum time without a use by another caller after which an enabled key is
// deactivated.
const quietTime = 24 * time.Hour

// Name returns the alias of the key in the job file, or its ARN.
func (k KeyUse) Name() string {
	if k.Given != "" {
		return k.Given
	}
	return k.ARN
}

// setKeyUse sets the use of the source keys. found is nil if the command did not ask AWS.
func (d *Document) setKeyUse(found *watch.Result) {
	if found == nil {
		return
	}
	d.KeyUse = []KeyUse{}
	for _, k := range found.Keys {
		use := KeyUse{
			Asked:     found.Asked.UTC(),
			Since:     found.Since.UTC(),
			Key:       k,
			Refused:   refusedCalls(k),
			Materials: materialsOf(k, found.Asked),
		}
		use.NIST, use.Rule = d.nistState(use)
		d.KeyUse = append(d.KeyUse, use)
		for _, u := range k.CannotSee {
			d.Scope.CannotSee = append(d.Scope.CannotSee,
				fmt.Sprintf("%s: cannot see %s: %s", use.Name(), u.What, u.Sentence))
		}
	}
}

// refusedCalls returns the number of refused calls, or nil if it is not known.
func refusedCalls(k watch.Key) *int64 {
	if k.Trail.Asked.IsZero() {
		return nil
	}
	n := int64(0)
	for _, c := range k.Trail.Callers {
		if c.Refused {
			n += c.Calls
		}
	}
	return &n
}

// materialsOf returns the materials of a key with their ages. The first material is as old as the
// key.
func materialsOf(k watch.Key, asked time.Time) []Material {
	list := []Material{}
	if k.Rotation == nil {
		return list
	}
	for _, m := range k.Rotation.Materials {
		one := Material{ID: m.ID, State: m.State, From: m.Rotated}
		if one.From.IsZero() && !strings.HasPrefix(m.State, "PENDING") {
			one.From = k.Created
		}
		if age := asked.Sub(one.From); !one.From.IsZero() && age > 0 {
			one.AgeDays = int(age.Hours() / 24)
		}
		list = append(list, one)
	}
	return list
}

// nistState returns the state of a key as in NIST SP 800-57, and the rule that gives it.
func (d *Document) nistState(k KeyUse) (NISTState, string) {
	switch k.State {
	case "":
		return "", "KMS did not state whether the key is enabled."
	case "Creating", "PendingImport":
		return PreActivation, "The key has no key material yet."
	case "Enabled":
	case "PendingDeletion", "PendingReplicaDeletion":
		return Suspended, "The key is scheduled for deletion, which can be cancelled."
	default:
		return Suspended, fmt.Sprintf("The state of the key in KMS is %s.", k.State)
	}
	under := int64(0)
	for _, h := range d.Inventory {
		if h.Key == k.ARN {
			under += h.After
		}
	}
	quiet := k.quietFor()
	switch {
	case under > 0:
		return Active, fmt.Sprintf("The key is enabled, and %s %s under it.",
			plural.Count(under, "ciphertext"), plural.Form(under, "is", "are"))
	case d.Status != report.Complete:
		return Active, "The key is enabled, and the pass did not read all targets."
	case quiet < quietTime:
		return Active, "The key is enabled, and it is not proven that no other caller used " +
			"it for a day."
	}
	return Deactivated, fmt.Sprintf("No ciphertext was found under the key, and no other caller "+
		"is known to have used it for %s.", plural.Count(int64(quiet.Hours()/24), "day"))
}

// quietFor returns for how long no other caller is known to have used the key. It is 0 if that is
// not known.
func (k KeyUse) quietFor() time.Duration {
	if k.Status != watch.Quiet || k.Trail.Asked.IsZero() {
		return 0
	}
	from := k.Since
	if k.Trail.From.After(from) {
		from = k.Trail.From
	}
	return k.Trail.Asked.Sub(from)
}

// Result returns the result of the calls in words.
func Result(c watch.Caller) string {
	if c.Result == "" {
		return "success"
	}
	return c.Result
}

// Sentence states the material with its age.
func (m Material) Sentence() string {
	text := fmt.Sprintf("Key material %s, %s", m.ID,
		strings.ToLower(strings.ReplaceAll(m.State, "_", " ")))
	if m.From.IsZero() {
		return text + "."
	}
	return text + fmt.Sprintf(", in use from %s on, %s old.", m.From.UTC().Format(time.DateOnly),
		plural.Count(int64(m.AgeDays), "day"))
}

// keyUseText writes what AWS stated about the source keys, if it was asked.
func (d *Document) keyUseText(w io.Writer) error {
	for i, k := range d.KeyUse {
		if i == 0 {
			if _, err := fmt.Fprintf(w, "\n%s\n", report.Wrap(fmt.Sprintf(
				"Use of the source keys, asked at %s:",
				k.Asked.UTC().Format(time.RFC3339)))); err != nil {
				return err
			}
		}
		for _, line := range k.lines() {
			if _, err := fmt.Fprintln(w, report.Wrap(printable.Text(line))); err != nil {
				return err
			}
		}
	}
	return nil
}

// AllFacts returns all facts about the key, each with a sentence.
func (k KeyUse) AllFacts() []watch.Fact {
	list := slices.Clone(k.Facts)
	if k.Refused != nil {
		list = append(list, watch.Fact{About: "refused calls", Sentence: fmt.Sprintf(
			"%s of other callers since %s.", plural.Count(*k.Refused, "refused call"),
			k.Since.UTC().Format(time.RFC3339))})
	}
	if k.Rule != "" {
		state := string(k.NIST)
		if state == "" {
			state = "not known"
		}
		list = append(list, watch.Fact{About: "state in NIST SP 800-57",
			Sentence: state + ". " + k.Rule})
	}
	for _, u := range k.CannotSee {
		list = append(list, watch.Fact{About: "cannot see",
			Sentence: u.What + ": " + u.Sentence})
	}
	return list
}

// lines returns what is known about the key, one sentence each.
func (k KeyUse) lines() []string {
	list := []string{k.Sentence}
	for _, f := range k.AllFacts() {
		list = append(list, f.About+": "+f.Sentence)
	}
	for _, m := range k.Materials {
		list = append(list, m.Sentence())
	}
	for _, c := range k.Trail.Callers {
		list = append(list, fmt.Sprintf("%s: %s, %s, %s, the last one at %s", c.Name(), c.Operation,
			Result(c), plural.Count(c.Calls, "call"), c.Last.UTC().Format(time.RFC3339)))
	}
	return list
}

// BoundSentence states how many headers can be wrong, or is "".
func (d *Document) BoundSentence() string {
	if d.Bound == nil {
		return ""
	}
	named, header := int64(0), int64(0)
	for _, h := range d.Inventory {
		named, header = named+h.ByKMS(), header+h.ByHeader
	}
	return d.Bound.Sentence(named, header)
}

// setBound sets the joint bound of all samples.
func (d *Document) setBound() {
	var parts []verdict.Part
	for _, one := range partsOf(d.Sample) {
		parts = append(parts, verdict.Part(one))
	}
	d.Bound = verdict.Joint(parts)
}
