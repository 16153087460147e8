package checkpoint

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/awserr"
)

// S3 is a Store in a bucket, with one object for each record, for processes on
// several machines. Writes are conditional (API_PutObject: If-None-Match to create,
// If-Match to replace). Reads in S3 are strongly consistent. The caller needs
// s3:ListBucket: without it, S3 responds with 403 instead of 404 if an object does
// not exist.
type S3 struct {
	patience
	client *s3.Client
	bucket string
	prefix string
}

var _ Store = (*S3)(nil)

// NewS3 returns a Store in an existing bucket. The keys of its objects begin with
// prefix. limit is the maximum time of an operation, including the retries of the
// client.
func NewS3(client *s3.Client, bucket, prefix string, limit time.Duration) *S3 {
	s := &S3{client: client, bucket: bucket, prefix: prefix}
	s.SetPatience(limit)
	return s
}

// Check returns a *LocationError if the bucket does not exist.
func (s *S3) Check(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	_, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.bucket})
	if awserr.Status(err) == http.StatusNotFound {
		return s.missing()
	}
	if err != nil {
		return &ServiceError{Operation: "check the checkpoint bucket " + s.bucket, Err: err}
	}
	return nil
}

// CheckConditions checks that a server other than AWS enforces the conditions of a
// PUT. It writes and removes a probe object. Without the conditions two runs would
// overwrite each other's checkpoint, so the error is a *LocationError then. If the
// client has no custom endpoint, CheckConditions does nothing.
func (s *S3) CheckConditions(ctx context.Context) error {
	if s.client.Options().BaseEndpoint == nil {
		return nil
	}
	id := ".rotator-probe-" + rand.Text()
	first, err := s.Create(ctx, id, nil)
	if err != nil {
		return err
	}
	defer s.remove(ctx, id)
	_, again := s.Create(ctx, id, nil)
	stale := first
	stale.version = `"00000000000000000000000000000000"`
	_, wrong := s.Replace(ctx, stale, nil)
	_, right := s.Replace(ctx, first, nil)
	for _, err := range []error{again, wrong, right} {
		if unanswered(err) {
			return err // it shows nothing about the conditions
		}
	}
	if !errors.Is(again, ErrConflict) || !errors.Is(wrong, ErrConflict) || right != nil {
		return &LocationError{
			Location: "bucket " + s.bucket,
			Detail: "its server does not enforce If-Match and If-None-Match on PUT as S3 does; " +
				"keep the checkpoint elsewhere",
		}
	}
	return nil
}

// unanswered reports whether an error shows nothing about conditions: the service could not
// process the request, or refused the caller.
func unanswered(err error) bool {
	service := (*ServiceError)(nil)
	if !errors.As(err, &service) {
		return false
	}
	if slices.Contains([]string{"ExpiredToken", "InvalidToken",
		"TokenRefreshRequired", "RequestTimeTooSkewed"}, awserr.Code(err)) {
		return true // their status differs between servers
	}
	switch status := awserr.Status(err); status {
	case 0, http.StatusTooManyRequests, http.StatusUnauthorized, http.StatusForbidden:
		return true
	default:
		return status >= http.StatusInternalServerError && status != http.StatusNotImplemented
	}
}

func (s *S3) remove(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, _ = s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: s.key(id)})
}

func (s *S3) key(id string) *string { return aws.String(s.prefix + id) }

// Fetch implements Store.
func (s *S3) Fetch(ctx context.Context, id string) (Entry, error) {
	e, _, err := s.fetch(ctx, id)
	return e, err
}

// fetch also returns the token of the write that created the object. If the body of
// the response is incomplete, fetch repeats the request; the client retries only
// until the body begins.
func (s *S3) fetch(ctx context.Context, id string) (e Entry, token string, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	for n := 0; ; n++ {
		e, token, err = s.get(ctx, id)
		if cut := (*cutError)(nil); !errors.As(err, &cut) {
			return e, token, err
		}
		if pause(ctx, min(20*time.Millisecond<<min(n, 10), 2*time.Second)) != nil {
			return e, token, err
		}
	}
}

// cutError means that the body of a response is incomplete.
type cutError struct{ error }

func (e *cutError) Unwrap() error { return e.error }

// get sends one request for an object.
func (s *S3) get(ctx context.Context, id string) (e Entry, token string, err error) {
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: s.key(id)})
	if err != nil {
		return Entry{}, "", s.error("read "+id+" from", err)
	}
	defer func() { _ = out.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(out.Body, MaxRecord+tokenLength+2))
	if err != nil {
		return Entry{}, "", s.error("read "+id+" from", &cutError{err})
	}
	e = Entry{ID: id, Data: body, version: aws.ToString(out.ETag)}
	if len(body) <= tokenLength || body[tokenLength] != '\n' || !e.Exists() {
		e.Data = body[:min(len(body), MaxRecord)]
		return e, "", &CorruptError{ID: id, Detail: "it does not begin with a write token"}
	}
	e.Data = body[tokenLength+1:]
	return e, string(body[:tokenLength]), nil
}

// tokenLength is the length of a write token, which rand.Text returns. Each object
// begins with a token, so no two writes have the same content or the same ETag.
const tokenLength = 26

// Create implements Store.
func (s *S3) Create(ctx context.Context, id string, data []byte) (Entry, error) {
	in := &s3.PutObjectInput{Bucket: &s.bucket, Key: s.key(id), IfNoneMatch: aws.String("*")}
	return s.put(ctx, in, id, data)
}

// Replace implements Store.
func (s *S3) Replace(ctx context.Context, e Entry, data []byte) (Entry, error) {
	in := &s3.PutObjectInput{Bucket: &s.bucket, Key: s.key(e.ID), IfMatch: aws.String(e.version)}
	return s.put(ctx, in, e.ID, data)
}

// put sends a conditional PUT until its outcome is known. If the condition failed or
// there was no response, an earlier attempt of the same request may have been
// applied. The object then begins with the token of this write, so put reads it. If
// S3 reports a concurrent request (409), it is unknown which request succeeds, so
// put sends the request again.
func (s *S3) put(
	ctx context.Context, in *s3.PutObjectInput, id string, data []byte,
) (Entry, error) {
	if err := checkSize(id, data); err != nil {
		return Entry{}, err
	}
	token := rand.Text()
	body := append([]byte(token+"\n"), data...)
	deadline := time.Now().Add(s.limit())
	for {
		in.Body = bytes.NewReader(body)
		etag, err := s.send(ctx, in)
		if err == nil && etag != "" {
			return Entry{ID: id, Data: data, version: etag}, nil
		}
		now, written, reading := s.fetch(ctx, id)
		status := awserr.Status(err)
		deleted := status == http.StatusNotFound && in.IfMatch != nil
		refused := status == http.StatusPreconditionFailed ||
			deleted && errors.Is(reading, ErrNotFound)
		switch {
		case reading == nil && written == token:
			return now, nil
		case (refused || err == nil) && undecided(reading):
			return Entry{}, fmt.Errorf("it is unknown whether %s was written: %w", id, reading)
		case refused && reading == nil:
			return Entry{}, &conflictError{now}
		case refused:
			return Entry{}, ErrConflict
		case err == nil:
			return Entry{}, fmt.Errorf("write %s to the checkpoint bucket %s: S3 accepted the "+
				"object, but it does not exist", id, s.bucket)
		case status != http.StatusConflict || time.Now().After(deadline):
			return Entry{}, s.error("write "+id+" to", err)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return Entry{}, ctx.Err()
		}
	}
}

func (s *S3) send(ctx context.Context, in *s3.PutObjectInput) (etag string, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	out, err := s.client.PutObject(ctx, in)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ETag), nil
}

func (s *S3) missing() error {
	return &LocationError{
		Location: "bucket " + s.bucket,
		Detail:   "there is no such bucket; correct the name, or create it",
	}
}

func (s *S3) error(operation string, err error) error {
	switch code := awserr.Code(err); {
	case code == "NoSuchBucket":
		return s.missing()
	case code == "NoSuchKey":
		return ErrNotFound
	case code == "AccessDenied":
		return &ServiceError{
			Operation: fmt.Sprintf("%s the checkpoint bucket %s "+
				"(which needs s3:GetObject, s3:PutObject and s3:ListBucket, and s3:DeleteObject "+
				"for checkpoint prune)", operation, s.bucket),
			Err: err,
		}
	}
	return &ServiceError{
		Operation: fmt.Sprintf("%s the checkpoint bucket %s", operation, s.bucket),
		Err:       err,
	}
}
