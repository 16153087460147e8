package fakes3

import (
	"encoding/xml"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// change replaces a version with a changed copy and makes no new version. As in S3, ETag and
// Last-Modified stay.
func change(r request, b *bucket, edit func(*version) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	versions := b.objects[r.key]
	id := r.query.Get("versionId")
	for i := len(versions) - 1; i >= 0; i-- {
		v := versions[i]
		if v.marker || id != "" && v.id != id {
			if id == "" {
				break
			}
			continue
		}
		changed := *v
		if err := edit(&changed); err != nil {
			return err
		}
		b.objects[r.key] = slices.Clone(versions)
		b.objects[r.key][i] = &changed
		return nil
	}
	return errorf(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
}

type tagXML struct{ Key, Value string }

type taggingXML struct {
	XMLName xml.Name `xml:"Tagging"`
	Tags    []tagXML `xml:"TagSet>Tag"`
}

func getTagging(w http.ResponseWriter, r request, b *bucket) error {
	v, err := find(r, b, r.query.Get("versionId"))
	if err != nil {
		return err
	}
	out := taggingXML{}
	for _, name := range slices.Sorted(maps.Keys(v.tags)) {
		out.Tags = append(out.Tags, tagXML{name, v.tags.Get(name)})
	}
	return ok(w, out)
}

// putTagging serves PUT and DELETE.
func putTagging(w http.ResponseWriter, r request, b *bucket) error {
	var in taggingXML
	status := http.StatusNoContent
	if r.Method == http.MethodPut {
		status = http.StatusOK
		if err := readXML(r, &in); err != nil {
			return err
		}
	}
	if err := change(r, b, func(v *version) error {
		v.tags = url.Values{}
		for _, tag := range in.Tags {
			v.tags.Set(tag.Key, tag.Value)
		}
		return nil
	}); err != nil {
		return err
	}
	w.WriteHeader(status)
	return nil
}

// grant is one entry of an ACL.
type grant struct{ id, uri, permission string }

// readGrants parses the headers x-amz-grant-….
func readGrants(h http.Header) (grants []grant) {
	for header, permission := range map[string]string{
		"X-Amz-Grant-Full-Control": "FULL_CONTROL",
		"X-Amz-Grant-Read":         "READ",
		"X-Amz-Grant-Read-Acp":     "READ_ACP",
		"X-Amz-Grant-Write-Acp":    "WRITE_ACP",
	} {
		for _, grantee := range strings.Split(h.Get(header), ",") {
			kind, value, found := strings.Cut(strings.TrimSpace(grantee), "=")
			g := grant{permission: permission}
			switch {
			case !found:
				continue
			case kind == "uri":
				g.uri = strings.Trim(value, `"`)
			default:
				g.id = strings.Trim(value, `"`)
			}
			grants = append(grants, g)
		}
	}
	slices.SortFunc(grants, func(a, b grant) int {
		return strings.Compare(a.permission+a.id+a.uri, b.permission+b.id+b.uri)
	})
	return grants
}

type granteeXML struct {
	Type string `xml:"http://www.w3.org/2001/XMLSchema-instance type,attr"`
	ID   string `xml:",omitempty"`
	URI  string `xml:",omitempty"`
}

type grantXML struct {
	Grantee    granteeXML
	Permission string
}

func (s *Service) getACL(w http.ResponseWriter, r request, b *bucket) error {
	v, err := find(r, b, r.query.Get("versionId"))
	if err != nil {
		return err
	}
	owner := "owner-" + s.config.Account
	out := struct {
		XMLName xml.Name   `xml:"AccessControlPolicy"`
		OwnerID string     `xml:"Owner>ID"`
		Grants  []grantXML `xml:"AccessControlList>Grant"`
	}{OwnerID: owner}
	grants := v.grants
	if len(grants) == 0 {
		grants = []grant{{id: owner, permission: "FULL_CONTROL"}}
	}
	for _, g := range grants {
		kind := "CanonicalUser"
		if g.uri != "" {
			kind = "Group"
		}
		out.Grants = append(out.Grants, grantXML{granteeXML{kind, g.id, g.uri}, g.permission})
	}
	return ok(w, out)
}

// putACL sets the grants in the headers of the request.
func putACL(w http.ResponseWriter, r request, b *bucket) error {
	if b.ownership == "BucketOwnerEnforced" {
		return errorf(http.StatusBadRequest, "AccessControlListNotSupported",
			"The bucket does not allow ACLs")
	}
	if err := change(r, b, func(v *version) error {
		v.grants = readGrants(r.Header)
		return nil
	}); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

type retentionXML struct {
	XMLName         xml.Name `xml:"Retention"`
	Mode            string
	RetainUntilDate string
}

func getRetention(w http.ResponseWriter, r request, b *bucket) error {
	v, err := find(r, b, r.query.Get("versionId"))
	if err != nil {
		return err
	}
	if v.mode == "" {
		return errorf(http.StatusNotFound, "NoSuchObjectLockConfiguration",
			"The specified object does not have a ObjectLock configuration")
	}
	return ok(w, retentionXML{Mode: v.mode, RetainUntilDate: v.until.UTC().Format(time.RFC3339)})
}

func putRetention(w http.ResponseWriter, r request, b *bucket) error {
	var in retentionXML
	if err := readXML(r, &in); err != nil {
		return err
	}
	until, err := time.Parse(time.RFC3339, in.RetainUntilDate)
	if err != nil || !b.lock {
		return errorf(http.StatusBadRequest, "InvalidRequest",
			"Bucket is missing Object Lock Configuration, or the date is not well-formed")
	}
	err = change(r, b, func(v *version) error {
		if v.mode == "COMPLIANCE" && until.Before(v.until) {
			return errorf(http.StatusForbidden, "AccessDenied",
				"Access Denied because object protected by object lock.")
		}
		v.mode, v.until = in.Mode, until
		return nil
	})
	if err == nil {
		w.WriteHeader(http.StatusOK)
	}
	return err
}

type holdXML struct {
	XMLName xml.Name `xml:"LegalHold"`
	Status  string
}

func getLegalHold(w http.ResponseWriter, r request, b *bucket) error {
	v, err := find(r, b, r.query.Get("versionId"))
	if err != nil {
		return err
	}
	if v.hold == "" {
		return errorf(http.StatusNotFound, "NoSuchObjectLockConfiguration",
			"The specified object does not have a ObjectLock configuration")
	}
	return ok(w, holdXML{Status: v.hold})
}

func putLegalHold(w http.ResponseWriter, r request, b *bucket) error {
	var in holdXML
	if err := readXML(r, &in); err != nil {
		return err
	}
	if !b.lock {
		return errorf(http.StatusBadRequest, "InvalidRequest",
			"Bucket is missing Object Lock Configuration")
	}
	if err := change(r, b, func(v *version) error { v.hold = in.Status; return nil }); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
