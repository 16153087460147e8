package fakes3

import (
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// bucket is one bucket. objects has the versions of each key, the newest last.
type bucket struct {
	name string
	made time.Time
	lock bool // Object Lock is on

	mu         sync.RWMutex
	versioning string // "", "Enabled" or "Suspended"
	ownership  string
	objects    map[string][]*version
	uploads    map[string]*upload
	retention  retention
	settings   map[string][]byte // XML of configurations by setting.name
	count      int               // number of versions and uploads created, for their ids
}

func (s *Service) createBucket(w http.ResponseWriter, r request) error {
	b := &bucket{
		name:      r.bucket,
		made:      time.Now(),
		objects:   map[string][]*version{},
		uploads:   map[string]*upload{},
		ownership: "BucketOwnerEnforced",
		lock:      strings.EqualFold(r.Header.Get("X-Amz-Bucket-Object-Lock-Enabled"), "true"),
	}
	if o := r.Header.Get("X-Amz-Object-Ownership"); o != "" {
		b.ownership = o
	}
	if b.lock {
		b.versioning = "Enabled" // required by Object Lock
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buckets[r.bucket] != nil {
		return errorf(http.StatusConflict, "BucketAlreadyOwnedByYou",
			"Your previous request to create the named bucket succeeded and you already own it.")
	}
	s.buckets[r.bucket] = b
	w.Header().Set("Location", "/"+r.bucket)
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Service) headBucket(w http.ResponseWriter, _ request, _ *bucket) error {
	w.Header().Set("X-Amz-Bucket-Region", s.config.Region)
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Service) deleteBucket(w http.ResponseWriter, r request, b *bucket) error {
	b.mu.RLock()
	full := len(b.objects) > 0
	b.mu.RUnlock()
	if full {
		return errorf(http.StatusConflict, "BucketNotEmpty",
			"The bucket you tried to delete is not empty")
	}
	s.mu.Lock()
	delete(s.buckets, r.bucket)
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Service) location(w http.ResponseWriter, _ request, _ *bucket) error {
	region := s.config.Region
	if region == "us-east-1" {
		region = "" // API_GetBucketLocation
	}
	return ok(w, struct {
		XMLName xml.Name `xml:"LocationConstraint"`
		Region  string   `xml:",chardata"`
	}{Region: region})
}

func (s *Service) listBuckets(w http.ResponseWriter) error {
	type entry struct {
		Name         string
		CreationDate string
	}
	var list []entry
	s.mu.RLock()
	for _, name := range slices.Sorted(maps.Keys(s.buckets)) {
		list = append(list, entry{name, stamp(s.buckets[name].made)})
	}
	s.mu.RUnlock()
	return ok(w, struct {
		XMLName xml.Name `xml:"ListAllMyBucketsResult"`
		Buckets []entry  `xml:"Buckets>Bucket"`
	}{Buckets: list})
}

// versioningXML is the element VersioningConfiguration.
type versioningXML struct {
	XMLName xml.Name `xml:"VersioningConfiguration"`
	Status  string   `xml:",omitempty"`
}

func getVersioning(w http.ResponseWriter, _ request, b *bucket) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return ok(w, versioningXML{Status: b.versioning})
}

func putVersioning(w http.ResponseWriter, r request, b *bucket) error {
	var in versioningXML
	if err := readXML(r, &in); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lock && in.Status != "Enabled" {
		return errorf(http.StatusConflict, "InvalidBucketState",
			"An Object Lock configuration is present on this bucket, so the versioning state "+
				"cannot be changed.")
	}
	b.versioning = in.Status
	w.WriteHeader(http.StatusOK)
	return nil
}

// ownershipXML is the element OwnershipControls.
type ownershipXML struct {
	XMLName xml.Name `xml:"OwnershipControls"`
	Rule    struct{ ObjectOwnership string }
}

func getOwnership(w http.ResponseWriter, _ request, b *bucket) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	out := ownershipXML{}
	out.Rule.ObjectOwnership = b.ownership
	return ok(w, out)
}

func putOwnership(w http.ResponseWriter, r request, b *bucket) error {
	var in ownershipXML
	if err := readXML(r, &in); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ownership = in.Rule.ObjectOwnership
	w.WriteHeader(http.StatusOK)
	return nil
}

// Version is a version of an object, for tests that compare the contents of buckets.
type Version struct {
	ID     string
	Marker bool   // a delete marker
	Body   []byte // nil for zeros that take no memory
	Size   int64
	// Headers are the request headers that GET returns, including user metadata.
	Headers      http.Header
	Tags, Grants string
	// Lock has the lock mode, the end of the retention and the legal hold.
	Lock string
}

// Versions returns the versions of all objects in a bucket by key, the oldest first. The
// caller must not change the result.
func (s *Service) Versions(bucketName string) map[string][]Version {
	out := map[string][]Version{}
	b, err := s.bucket(bucketName)
	if err != nil {
		return out
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	for key, versions := range b.objects {
		for _, v := range versions {
			until := ""
			if !v.until.IsZero() {
				until = v.until.UTC().Format(time.RFC3339)
			}
			out[key] = append(out[key], Version{
				ID:      v.id,
				Marker:  v.marker,
				Body:    v.body.bytes(),
				Size:    v.body.size(),
				Headers: v.headers,
				Tags:    v.tags.Encode(),
				Grants:  fmt.Sprint(v.grants),
				Lock:    fmt.Sprint(v.mode, until, v.hold),
			})
		}
	}
	return out
}

// stamp formats a time for XML answers.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
