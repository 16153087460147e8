package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// probes holds the objects with which rotator tests, before it writes, whether the server
// enforces conditions and counts tags.
type probes struct {
	mu      sync.Mutex
	objects map[string]probe
	written int
}

type probe struct {
	etag, modified string
	metadata       map[string]string
	tags           int
}

func (p *probes) put(key string, r *http.Request) response {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, exists := p.objects[key]
	match := r.Header.Get("If-Match")
	if match != "" && match != now.etag || r.Header.Get("If-None-Match") == "*" && exists {
		return preconditionFailed()
	}
	tags, err := url.ParseQuery(r.Header.Get("X-Amz-Tagging"))
	if err != nil {
		return xmlResponse(http.StatusBadRequest, `<Error><Code>InvalidArgument</Code></Error>`)
	}
	etag := p.store(key, probe{metadata: metadataIn(r.Header), tags: len(tags)})
	return response{status: http.StatusOK, headers: map[string]string{"Etag": etag}}
}

func (p *probes) copy(key string, r *http.Request) response {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, exists := p.objects[key]
	if !exists || !copies(r, key) {
		return xmlResponse(http.StatusNotFound, `<Error><Code>NoSuchKey</Code></Error>`)
	}
	if !mayCopy(r.Header, now.etag, now.modified) {
		return preconditionFailed()
	}
	return copied(p.store(key, probe{metadata: metadataIn(r.Header), tags: now.tags}))
}

// store stores an object with a new ETag. It must be called with mu held.
func (p *probes) store(key string, o probe) (etag string) {
	if p.objects == nil {
		p.objects = map[string]probe{}
	}
	p.written++
	o.etag, o.modified = fmt.Sprintf(`"%032x"`, p.written), time.Now().UTC().Format(http.TimeFormat)
	p.objects[key] = o
	return o.etag
}

func (p *probes) get(key string) response {
	p.mu.Lock()
	defer p.mu.Unlock()
	o, ok := p.objects[key]
	if !ok {
		return xmlResponse(http.StatusNotFound, `<Error><Code>NoSuchKey</Code></Error>`)
	}
	a := response{
		status:  http.StatusOK,
		body:    []byte("a probe"),
		headers: map[string]string{"Etag": o.etag, "Last-Modified": o.modified},
	}
	if o.tags > 0 {
		a.set("X-Amz-Tagging-Count", strconv.Itoa(o.tags))
	}
	for name, value := range o.metadata {
		a.set(metadataPrefix+name, value)
	}
	return a
}

func (p *probes) remove(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.objects, key)
}

// left returns the number of probes that were not deleted.
func (p *probes) left() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.objects)
}
