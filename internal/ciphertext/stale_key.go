package ciphertext

import (
	"bytes"
	"strings"

	"github.com/tidwall/gjson"

	"rotator/internal/scan"
)

// sourceNames are the names of the source keys of a job. It is nil if there are none.
type sourceNames struct {
	exact map[string]bool
	// least and most are the lengths of the shortest and the longest name, in bytes.
	least, most int
	// ends are the parts of the names after the last slash. Documents are searched for
	// these, because a slash may be escaped in JSON.
	ends [][]byte
}

func newSourceNames(names []string) *sourceNames {
	if len(names) == 0 {
		return nil
	}
	k := &sourceNames{exact: map[string]bool{}, least: len(names[0])}
	seen := map[string]bool{}
	for _, name := range names {
		k.exact[name] = true
		k.least, k.most = min(k.least, len(name)), max(k.most, len(name))
		end := name[strings.LastIndexByte(name, '/')+1:]
		if !seen[end] {
			seen[end] = true
			k.ends = append(k.ends, []byte(end))
		}
	}
	return k
}

// has reports whether text is one of the names.
func (k *sourceNames) has(text string) bool {
	return len(text) >= k.least && len(text) <= k.most && k.exact[text]
}

// in reports whether a document may contain one of the names.
func (k *sourceNames) in(document []byte) bool {
	if k == nil {
		return false
	}
	for _, end := range k.ends {
		if bytes.Contains(document, end) {
			return true
		}
	}
	return false
}

// staleKey returns the path of a member that names a source key, in the object
// that contains at. It returns "" if there is none.
func (d *document) staleKey(k *sourceNames, at Path) (path string) {
	if len(at) == 0 {
		return ""
	}
	around := at[:len(at)-1]
	d.descend(d.root, nil, around, func(v gjson.Result, _ Path, refused *Refused) {
		if refused != nil || !v.IsObject() {
			return
		}
		v.ForEach(func(name, value gjson.Result) bool {
			if value.Type == gjson.String && k.has(value.Str) {
				path = strings.ToValidUTF8(around.with(Step{Name: name.Str}).String(), "\ufffd")
			}
			return path == ""
		})
	})
	return path
}

// staleKey returns the path of an attribute that names a source key, in the map that
// contains at. It returns "" if there is none. It ignores attributes that were not read.
func (k *sourceNames) staleKey(row *scan.Row, at Path) string {
	if k == nil || len(at) == 0 {
		return ""
	}
	around := at[:len(at)-1]
	v, nowhere := (rowReader{row: row}).at(around)
	if nowhere != nil || v.Kind != scan.KindM {
		return ""
	}
	found := ""
	for name, value := range v.Map {
		// The smallest name, because the order of a map is random.
		if value.Kind == scan.KindS && k.has(value.Text) && (found == "" || name < found) {
			found = name
		}
	}
	if found == "" {
		return ""
	}
	return around.with(Step{Name: found}).String()
}
