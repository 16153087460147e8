package main

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// TestStubNotices: the stub records each thing that a client must not do.
func TestStubNotices(t *testing.T) {
	for name, wrong := range map[string]func(v *stubItems){
		"the blob of another item": func(v *stubItems) {
			v.replace(1, blobOf(sourceKey, 1), blobOf(destinationKey, 2))
		},
		"a blob before the request to KMS": func(v *stubItems) {
			v.replace(2, blobOf(sourceKey, 2), blobOf(destinationKey, 2))
		},
		"the same blob twice": func(v *stubItems) {
			v.replace(1, blobOf(sourceKey, 1), blobOf(destinationKey, 1))
			v.replace(1, blobOf(destinationKey, 1), blobOf(destinationKey, 1))
		},
	} {
		v := newStubItems(3, false)
		v.state[1].Or(reEncrypted)
		if wrong(v); v.count != 1 {
			t.Errorf("%s: %d faults", name, v.count)
		}
	}
	v := newStubItems(3, false)
	if v.replace(1, blobOf(destinationKey, 1), blobOf(destinationKey, 1)) || v.written.Load() != 0 {
		t.Error("a write whose condition does not hold was accepted")
	}
}

// TestStubOfRowsThatAreAlike: equal rows accept only the response for their ciphertext, and only
// after KMS has returned it.
func TestStubOfRowsThatAreAlike(t *testing.T) {
	old, answer := blobOf(sourceKey, 10), blobOf(destinationKey, 10)
	for name, c := range map[string]struct {
		item        int
		reEncrypted bool
		old, new    []byte
		taken       bool
		faults      int
	}{
		"the response of KMS":            {13, true, old, answer, true, 0},
		"the first of the equal rows":    {10, true, old, answer, true, 0},
		"before the request to KMS":      {13, false, old, answer, true, 1},
		"another ciphertext of the item": {13, true, old, blobOf(destinationKey, 13), true, 1},
		"the ciphertext of the next ten": {13, true, old, blobOf(destinationKey, 20), true, 1},
		"replaces another ciphertext":    {13, true, blobOf(sourceKey, 13), answer, false, 0},
		"an item of the next ten":        {20, true, old, answer, false, 0},
	} {
		v := newStubItems(30, false)
		v.same = 10
		if c.reEncrypted {
			v.state[10].Or(reEncrypted)
		}
		if taken := v.replace(c.item, c.old, c.new); taken != c.taken || v.count != c.faults {
			t.Errorf("%s: accepted %t with %d faults", name, taken, v.count)
		}
	}
	if _, _, err := newStub([]string{"-same", "10", "-store", bodies}); err == nil {
		t.Error("equal bodies are accepted")
	}
}

// stubChecksObjectsCase is a case of TestStubChecksObjects.
type stubChecksObjectsCase struct {
	store  string
	change func(http.Header, []byte)
	status int
	fault  bool
}

func stubChecksObjectsCases() map[string]stubChecksObjectsCase {
	return map[string]stubChecksObjectsCase{
		"a good PUT": {bodies, func(http.Header, []byte) {}, 200, false},
		"a changed byte": {bodies, func(_ http.Header, body []byte) {
			body[40]++
		}, 200, true},
		"another content type": {bodies, func(h http.Header, _ []byte) {
			h.Del("Content-Type")
		}, 200, true},
		"additional metadata": {bodies, func(h http.Header, _ []byte) {
			h.Set(metadataPrefix+"x", "y")
		}, 200, true},
		"no condition": {bodies, func(h http.Header, _ []byte) { h.Del("If-Match") }, 412, false},
		"a good copy":  {headers, func(http.Header, []byte) {}, 200, false},
		"missing metadata": {headers, func(h http.Header, _ []byte) {
			h.Del(metadataPrefix + "x-amz-iv")
		}, 200, true},
		"the old blob": {headers, func(h http.Header, _ []byte) {
			h.Set(metadataPrefix+wrappedKey, metadataOf(sourceKey, 1)[wrappedKey])
		}, 200, true},
		"a copy of another object": {headers, func(h http.Header, _ []byte) {
			h.Set("X-Amz-Copy-Source", resourceName+"/"+idOf(2))
		}, 200, true},
		"a copy with the old metadata": {headers, func(h http.Header, _ []byte) {
			h.Del("X-Amz-Metadata-Directive")
		}, 200, true},
		"a copy without a condition on the source": {headers, func(h http.Header, _ []byte) {
			h.Del(sourceMatch)
		}, 200, true},
		"another condition on the source": {headers, func(h http.Header, _ []byte) {
			h.Set(sourceMatch, probeTag)
		}, 412, false},
		"another condition on the target": {headers, func(h http.Header, _ []byte) {
			h.Set("If-Match", probeTag)
		}, 412, false},
	}
}

// TestStubChecksObjects writes an object correctly, and with one difference.
func TestStubChecksObjects(t *testing.T) {
	write := func(store string, change func(http.Header, []byte)) (int, int) {
		s := &stub{store: store, items: newStubItems(3, false)}
		s.items.state[1].Or(reEncrypted)
		o, held := objectOf(store, destinationKey, 1), objectOf(store, sourceKey, 1)
		r := &http.Request{
			Header: http.Header{"Content-Type": {o.contentType}, "If-Match": {held.etag}},
		}
		for name, value := range o.metadata {
			r.Header.Set(metadataPrefix+name, value)
		}
		if store == headers {
			r.Header.Set(sourceMatch, held.etag)
			r.Header.Set("X-Amz-Copy-Source", resourceName+"/"+idOf(1))
			r.Header.Set("X-Amz-Metadata-Directive", "REPLACE")
		}
		change(r.Header, o.body)
		if store == headers {
			return s.copy(idOf(1), r).status, s.items.count
		}
		return s.put(idOf(1), r, o.body).status, s.items.count
	}
	for name, c := range stubChecksObjectsCases() {
		if status, faults := write(c.store, c.change); status != c.status || faults > 0 != c.fault {
			t.Errorf("%s: %d with %d faults", name, status, faults)
		}
	}
}

const probeTag = `"00000000000000000000000000000000"`

func TestMayCopy(t *testing.T) {
	const (
		before   = "Mon, 02 Mar 2026 09:59:59 GMT"
		modified = "Mon, 02 Mar 2026 10:00:00 GMT"
		after    = "Mon, 02 Mar 2026 10:00:01 GMT"
	)
	for _, c := range []struct {
		target, source, since string
		want                  bool
	}{
		{"", "", "", true}, {"e", "e", "", true}, {"x", "e", "", false}, {"e", "x", "", false},
		{"", "", modified, true},
		{"", "", after, true},
		{"", "", before, false},
		{"x", "", after, false},
		{"", "e", before, true}, {"", "x", after, false}, {"", "", "yesterday", false},
	} {
		header := http.Header{}
		for name, value := range map[string]string{
			"If-Match":       c.target,
			sourceMatch:      c.source,
			sourceUnmodified: c.since,
		} {
			if value != "" {
				header.Set(name, value)
			}
		}
		if mayCopy(header, "e", modified) != c.want {
			t.Errorf("%+v", c)
		}
	}
}

// TestQuota sends twice as many requests as the quota allows. Half of them are served in every
// second, and idle time adds at most a tenth of a second.
func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quota{rate: 100}
		for range 600 {
			q.admit(time.Now())
			time.Sleep(5 * time.Millisecond)
		}
		for at, got := range q.takeSeconds() {
			if got.Served+got.Throttled != 200 || got.Served < 99 || got.Served > 111 || at > 0 &&
				got.Served > 101 {
				t.Errorf("second %d: %+v", at, got)
			}
		}
		time.Sleep(time.Minute)
		served := 0
		for range 100 {
			if q.admit(time.Now()) {
				served++
			}
		}
		if served != 10 {
			t.Errorf("%d at once, after a minute", served)
		}
	})
}

func TestUnchunked(t *testing.T) {
	for in, want := range map[string]string{
		"4\r\nWiki\r\n5\r\npedia\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n": "Wikipedia",
		"5;chunk-signature=ab\r\nab\r\nc\r\n0;chunk-signature=cd\r\n\r\n":       "ab\r\nc",
		"0\r\n\r\n":       "",
		"ff\r\nshort\r\n": "", // incomplete chunks are dropped
		"-1\r\nx\r\n":     "",
	} {
		if got := string(unchunked([]byte(in))); got != want {
			t.Errorf("unchunked(%q) = %q", in, got)
		}
	}
}
