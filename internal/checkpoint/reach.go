package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Reach describes with which credentials a target is read, and which of its items and slots are
// read. Later passes are compared with it.
type Reach struct {
	Role string `json:"role_arn,omitempty"` // of the job file; empty for the caller's credentials
	// Account is the account whose table or bucket the name selects: that of an ARN, otherwise
	// that of the credentials. It is empty if it is unknown.
	Account string `json:"account,omitempty"`
	// Path is the root of files as an absolute path without symbolic links; empty if unknown.
	Path    string   `json:"path,omitempty"`
	Include []string `json:"include,omitempty"`
	Exclude []string `json:"exclude,omitempty"`
	Slots   []string `json:"slots,omitempty"` // the paths and patterns of the slots
}

// maxReachText is the maximum size in bytes of a list in Reach.
const maxReachText = 1 << 10

// ReachList returns a list for Reach. It replaces a list that is too long for a record by its
// digest.
func ReachList(list []string) []string {
	text := strings.Join(list, "\n")
	if len(text) <= maxReachText {
		return list
	}
	sum := sha256.Sum256([]byte(text))
	return []string{"sha256:" + hex.EncodeToString(sum[:])}
}

// Reading is what a pass read of a target.
type Reading struct {
	Target   string
	Where    *Location // nil if it is unknown
	Versions bool      // its old versions were read
	// Sources are the source keys of the pass. There are none for source.any and in records of
	// earlier versions.
	Sources []Key
	Began   time.Time // when the pass began
}

// Readings are what complete passes have read. Two of them are the same only if the target is in
// the same place, and the same of its items and slots were read for the same source keys, as far
// as the records state it. The zero value is empty.
type Readings struct{ newest map[string]time.Time }

// Add adds what a pass read.
func (r *Readings) Add(one Reading) {
	if r.newest == nil {
		r.newest = map[string]time.Time{}
	}
	r.add(one)
	if one.Versions {
		one.Versions = false
		r.add(one)
	}
}

// add adds a reading also as records of earlier versions describe it.
func (r *Readings) add(one Reading) {
	for _, sources := range [][]Key{one.Sources, nil} {
		one.Sources = sources
		r.raise(one, nil)
		if one.Where != nil {
			before := *one.Where
			before.Reach = nil
			r.raise(one, one.Where)
			r.raise(one, &before)
		}
	}
}

func (r *Readings) raise(one Reading, where *Location) {
	one.Where = where
	id := one.identity()
	if known, ok := r.newest[id]; !ok || one.Began.After(known) {
		r.newest[id] = one.Began
	}
}

// Has reports whether a pass that did not begin earlier has read the same.
func (r *Readings) Has(one Reading) bool {
	began, ok := r.newest[one.identity()]
	return ok && !began.Before(one.Began)
}

// identity returns a text that identifies what was read. The host does not matter, because each
// container has another one.
func (r Reading) identity() string {
	where := r.Where
	if where != nil {
		anyHost := *where
		anyHost.Host = ""
		where = &anyHost
	}
	var sources []string
	for _, key := range r.Sources {
		sources = append(sources, key.ARN)
	}
	slices.Sort(sources)
	text, _ := json.Marshal(struct { // its types have no JSON errors
		Name     string
		Where    *Location
		Versions bool
		Sources  []string
	}{r.Target, where, r.Versions, sources})
	return string(text)
}

// Readings returns what the pass reads. Runs do not read old versions.
func (p Pass) Readings() (list []Reading) {
	for _, t := range p.Targets {
		list = append(list, Reading{
			Target:  t.Name,
			Where:   t.Location,
			Sources: p.Sources,
			Began:   p.Started,
		})
	}
	return list
}

// Readings returns what the read-only pass read.
func (r ReadPass) Readings() (list []Reading) {
	for _, t := range r.Targets {
		list = append(list, Reading{
			Target:   t.Name,
			Where:    t.Location,
			Versions: t.Versions != nil,
			Sources:  r.Sources,
			Began:    r.Began,
		})
	}
	return list
}
