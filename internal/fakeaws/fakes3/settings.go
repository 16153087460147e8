package fakes3

import (
	"encoding/xml"
	"net/http"
	"slices"
)

// setting is a configuration of a bucket that is stored and returned. In this fake, no object
// expires and none is replicated. The default retention of Object Lock applies to new versions.
type setting struct {
	name string // of the operations: "BucketReplication"
	// code and message are the error of GET if the bucket has no such configuration.
	code, message string
}

func lifecycleSetting() setting {
	return setting{"BucketLifecycleConfiguration", "NoSuchLifecycleConfiguration",
		"The lifecycle configuration does not exist"}
}

func replicationSetting() setting {
	return setting{"BucketReplication", "ReplicationConfigurationNotFoundError",
		"The replication configuration was not found"}
}

func lockSetting() setting {
	return setting{"ObjectLockConfiguration", "ObjectLockConfigurationNotFoundError",
		"Object Lock configuration does not exist for this bucket"}
}

// get serves GET.
func (c setting) get(w http.ResponseWriter, _ request, b *bucket) error {
	b.mu.RLock()
	body := b.settings[c.name]
	b.mu.RUnlock()
	if body == nil && c == lockSetting() && b.lock {
		return ok(w, struct {
			XMLName           xml.Name `xml:"ObjectLockConfiguration"`
			ObjectLockEnabled string
		}{ObjectLockEnabled: "Enabled"})
	}
	if body == nil {
		return &failure{http.StatusNotFound, c.code, c.message}
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusOK)
	_, err := w.Write(body)
	return err
}

// retention is the default retention of new versions.
type retention struct {
	Mode        string
	Days, Years int
}

// of sets the retention of a version that has none.
func (d retention) of(v *version) {
	if v.mode == "" && d.Mode != "" {
		v.mode, v.until = d.Mode, v.modified.AddDate(d.Years, 0, d.Days)
	}
}

// rulesXML has the elements of a configuration that are checked.
type rulesXML struct {
	Rule []struct {
		Status           string
		DefaultRetention retention
	}
}

// put serves PUT.
func (c setting) put(w http.ResponseWriter, r request, b *bucket) error {
	body, _, err := readBody(r)
	var in rulesXML
	if err != nil || xml.Unmarshal(body, &in) != nil {
		return errorf(http.StatusBadRequest, "MalformedXML",
			"The XML you provided was not well-formed")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case c == lockSetting() && !b.lock:
		return errorf(http.StatusConflict, "InvalidBucketState",
			"Object Lock configuration cannot be enabled on existing buckets")
	case c == replicationSetting() && b.versioning != "Enabled":
		return errorf(http.StatusBadRequest, "InvalidRequest",
			"Versioning must be 'Enabled' on the bucket to apply a replication configuration")
	case c != lockSetting():
		for _, rule := range in.Rule {
			if !slices.Contains([]string{"Enabled", "Disabled"}, rule.Status) {
				return errorf(http.StatusBadRequest, "MalformedXML",
					"The XML you provided was not well-formed or did not validate against our "+
						"published schema")
			}
		}
	}
	if c == lockSetting() {
		b.retention = retention{}
		for _, rule := range in.Rule {
			b.retention = rule.DefaultRetention
		}
	}
	if b.settings == nil {
		b.settings = map[string][]byte{}
	}
	b.settings[c.name] = body
	w.WriteHeader(http.StatusOK)
	return nil
}

// remove serves DELETE.
func (c setting) remove(w http.ResponseWriter, _ request, b *bucket) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.settings, c.name)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
