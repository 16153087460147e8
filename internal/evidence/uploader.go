package evidence

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"rotator/internal/awserr"
	"rotator/internal/report/auditlog"
)

// Uploader uploads the closed segments of the audit log of a run in the background. A segment
// that cannot be uploaded is tried again when the next one is closed. Between Stop and the end of
// the run, Upload uploads the rest in the foreground.
type Uploader struct {
	store *Store
	warn  func(error)
	wake  chan struct{}
	stop  context.CancelFunc
	ended chan struct{}

	// The fields below belong to the goroutine until it has ended, and then to Upload.
	done   map[string]bool // paths of the segments that are uploaded
	names  map[string]bool // of the objects that are known to exist
	listed map[string]bool // the logs whose objects were listed
	warned string          // the last warning
	probed bool            // the server is known to enforce conditions, or not to
}

// Start returns an Uploader of the log at path. id returns the id of the log, or "" while it has
// no lines. warn is called with each new reason why a segment was not uploaded; it may be called
// concurrently with the caller. Stop must be called.
func Start(
	ctx context.Context, store *Store, path string, id func() string, warn func(error),
) *Uploader {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	u := &Uploader{
		store:  store,
		warn:   warn,
		wake:   make(chan struct{}, 1),
		stop:   stop,
		ended:  make(chan struct{}),
		done:   map[string]bool{},
		names:  map[string]bool{},
		listed: map[string]bool{},
		probed: store.client.Options().BaseEndpoint == nil,
	}
	u.Wake() // for segments that an earlier run has not uploaded
	go func() {
		defer close(u.ended)
		for {
			select {
			case <-u.wake:
				u.Upload(ctx, path, id())
			case <-ctx.Done():
				return
			}
		}
	}()
	return u
}

// Wake begins to upload closed segments. It does not block.
func (u *Uploader) Wake() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// Stop ends the work in the background. An upload in progress is given up. Stop can be called
// several times.
func (u *Uploader) Stop() {
	u.stop()
	<-u.ended
}

// Upload uploads the closed segments of the log at path that were not uploaded yet. It returns the
// names of those that could not be uploaded, and the first reason. It must be called after Stop.
func (u *Uploader) Upload(ctx context.Context, path, id string) (left []string, err error) {
	segments, err := auditlog.Segments(path)
	if len(segments) > 0 && id == "" {
		err = fmt.Errorf("the first segment of %s cannot be read", path)
	}
	for _, segment := range segments {
		var failed error
		if err == nil || isOfOne(err) {
			failed = u.uploadOne(ctx, id, segment)
		} else {
			failed = err // it would fail again
		}
		if failed != nil {
			left = append(left, segment.Name)
			if err == nil || isOfOne(err) {
				err = failed
			}
		}
	}
	if err != nil && ctx.Err() == nil && err.Error() != u.warned {
		u.warned = err.Error()
		u.warn(err)
	}
	return left, err
}

// isOfOne reports whether an error concerns only one object.
func isOfOne(err error) bool {
	different := (*ContentError)(nil)
	return errors.As(err, &different)
}

// uploadOne uploads a segment unless its object is known to exist.
func (u *Uploader) uploadOne(
	ctx context.Context, id string, segment auditlog.ClosedSegment,
) error {
	if u.done[segment.Path] {
		return nil
	}
	content, err := os.ReadFile(segment.Path)
	if err != nil {
		return err
	}
	if err := u.list(ctx, id); err != nil {
		return err
	}
	o := NewObject(id, segment.Number, content)
	if !u.names[o.name()] {
		if err := u.store.Put(ctx, o, content); err != nil {
			return err
		}
		u.probe(ctx, o, content)
	}
	u.done[segment.Path] = true
	return nil
}

// list lists the objects of a log, once.
func (u *Uploader) list(ctx context.Context, id string) error {
	if u.listed[id] {
		return nil
	}
	objects, err := u.store.list(ctx, id+"/")
	if err != nil {
		return err
	}
	for _, o := range objects {
		u.names[o.name()] = true
	}
	u.listed[id] = true
	return nil
}

// probe checks once that a server other than AWS refuses to replace an object. It sends the
// content that the object has, so it changes nothing if the server does not refuse.
func (u *Uploader) probe(ctx context.Context, o Object, content []byte) {
	if u.probed {
		return
	}
	switch err := u.store.put(ctx, o, content); {
	case err == nil:
		u.probed = true
		u.warn(fmt.Errorf("the server of %s does not enforce If-None-Match on PUT as S3 does: "+
			"objects are not protected from being replaced", u.store.Place()))
	case awserr.Status(err) == http.StatusPreconditionFailed:
		u.probed = true
	}
}
