package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
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

// ReadTargets is the set of the targets that complete passes have read. A target is the same only
// if it is in the same place and the same of its items and slots are read, as far as the records
// state it. The zero value is empty.
type ReadTargets struct{ read map[string]bool }

// Add adds a target. where is its location, or nil if it is unknown. versions is true if its old
// versions were read.
func (r *ReadTargets) Add(name string, where *Location, versions bool) {
	if r.read == nil {
		r.read = map[string]bool{}
	}
	r.add(name, where, false)
	if versions {
		r.add(name, where, true)
	}
}

// add adds a target also as records of earlier versions describe it.
func (r *ReadTargets) add(name string, where *Location, versions bool) {
	r.read[targetIdentity(name, nil, versions)] = true
	if where != nil {
		r.read[targetIdentity(name, where, versions)] = true
		before := *where
		before.Reach = nil
		r.read[targetIdentity(name, &before, versions)] = true
	}
}

// Has reports whether the set contains a target.
func (r *ReadTargets) Has(name string, where *Location, versions bool) bool {
	return r.read[targetIdentity(name, where, versions)]
}

// targetIdentity returns a text that identifies what of a target is read. The host does not matter,
// because each container has another one.
func targetIdentity(name string, where *Location, versions bool) string {
	if where != nil {
		anyHost := *where
		anyHost.Host = ""
		where = &anyHost
	}
	text, _ := json.Marshal(struct { // its types have no JSON errors
		Name     string
		Where    *Location
		Versions bool
	}{name, where, versions})
	return string(text)
}
