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
	"github.com/aws/smithy-go"
)

// S3 is a Store in a bucket, one object for each record, for processes on
// several machines. Writes are conditional (API_PutObject: If-None-Match to
// create, If-Match to replace), reads are consistent, as all of S3 is. Reading
// what is not there needs s3:ListBucket: without it S3 answers 403 instead of 404.
type S3 struct {
	client   *s3.Client
	bucket   string
	prefix   string
	patience time.Duration
}

var _ Store = (*S3)(nil)

// NewS3 makes a Store in the objects of a bucket, which must exist, under a
// prefix. The client retries by itself, as long as an operation has time, which
// is patience.
func NewS3(client *s3.Client, bucket, prefix string, patience time.Duration) *S3 {
	return &S3{client: client, bucket: bucket, prefix: prefix, patience: patience}
}

// SetPatience changes the maximum time of an operation. It must not be called concurrently
// with operations.
func (s *S3) SetPatience(patience time.Duration) { s.patience = patience }

// Check says whether the bucket is there: *LocationError when not.
func (s *S3) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	_, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.bucket})
	if httpStatus(err) == http.StatusNotFound {
		return s.missing()
	}
	if err != nil {
		return &ServiceError{Operation: "look at the checkpoint bucket " + s.bucket, Err: err}
	}
	return nil
}

// CheckConditions writes and removes an object of its own to see whether a server
// that is not AWS enforces the conditions of a PUT: without them two runs would
// overwrite each other's checkpoint. *LocationError when it does not. On AWS it does
// nothing.
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
			return err // which says nothing of the conditions
		}
	}
	if !errors.Is(again, ErrConflict) || !errors.Is(wrong, ErrConflict) || right != nil {
		return &LocationError{Location: "bucket " + s.bucket, Detail: "its server does not enforce If-Match and If-None-Match on PUT as S3 does; keep the checkpoint elsewhere"}
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
	api := (smithy.APIError)(nil)
	if errors.As(err, &api) && slices.Contains([]string{"ExpiredToken", "InvalidToken",
		"TokenRefreshRequired", "RequestTimeTooSkewed"}, api.ErrorCode()) {
		return true // their status differs between servers
	}
	switch status := httpStatus(err); status {
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

// fetch also returns the token of the write that made the object. An answer that is
// cut off in its body is asked for again: the client only sees to its beginning.
func (s *S3) fetch(ctx context.Context, id string) (e Entry, token string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	for n := 0; ; n++ {
		e, token, err = s.get(ctx, id)
		if cut := (*cutError)(nil); !errors.As(err, &cut) || pause(ctx, min(20*time.Millisecond<<min(n, 10), 2*time.Second)) != nil {
			return e, token, err
		}
	}
}

// cutError says that the body of an answer did not come whole.
type cutError struct{ error }

func (e *cutError) Unwrap() error { return e.error }

// get reads an object, once.
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
		return e, "", &CorruptError{ID: id, Detail: "it does not begin with the token of a write"}
	}
	e.Data = body[tokenLength+1:]
	return e, string(body[:tokenLength]), nil
}

// tokenLength is that of rand.Text: it begins an object, and makes its bytes and
// so its ETag its own.
const tokenLength = 26

// Create implements Store.
func (s *S3) Create(ctx context.Context, id string, data []byte) (Entry, error) {
	return s.put(ctx, &s3.PutObjectInput{Bucket: &s.bucket, Key: s.key(id), IfNoneMatch: aws.String("*")}, id, data)
}

// Replace implements Store.
func (s *S3) Replace(ctx context.Context, e Entry, data []byte) (Entry, error) {
	return s.put(ctx, &s3.PutObjectInput{Bucket: &s.bucket, Key: s.key(e.ID), IfMatch: aws.String(e.version)}, e.ID, data)
}

// put sends a conditional PUT until its outcome is known. A refusal, or no
// answer at all, may come from a repetition of a request that was applied: then
// the object begins with the token of this very write. A concurrent request
// (409) says nothing of whose turn it is, so it is sent again.
func (s *S3) put(ctx context.Context, in *s3.PutObjectInput, id string, data []byte) (Entry, error) {
	if err := checkSize(id, data); err != nil {
		return Entry{}, err
	}
	token := rand.Text()
	body := append([]byte(token+"\n"), data...)
	deadline := time.Now().Add(s.patience)
	for {
		in.Body = bytes.NewReader(body)
		etag, err := s.send(ctx, in)
		if err == nil && etag != "" {
			return Entry{ID: id, Data: data, version: etag}, nil
		}
		now, written, reading := s.fetch(ctx, id)
		status := httpStatus(err)
		refused := status == http.StatusPreconditionFailed || status == http.StatusNotFound && in.IfMatch != nil && errors.Is(reading, ErrNotFound)
		switch {
		case reading == nil && written == token:
			return now, nil
		case (refused || err == nil) && undecided(reading):
			return Entry{}, fmt.Errorf("nobody knows whether %s was written: %w", id, reading)
		case refused:
			return Entry{}, ErrConflict
		case err == nil:
			return Entry{}, fmt.Errorf("write %s to the checkpoint bucket %s: it is not there although S3 took it", id, s.bucket)
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
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	out, err := s.client.PutObject(ctx, in)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ETag), nil
}

func (s *S3) missing() error {
	return &LocationError{Location: "bucket " + s.bucket, Detail: "there is no such bucket; correct the name, or create it"}
}

func (s *S3) error(operation string, err error) error {
	var api smithy.APIError
	code := ""
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	switch {
	case code == "NoSuchBucket":
		return s.missing()
	case code == "NoSuchKey":
		return ErrNotFound
	case code == "AccessDenied":
		return &ServiceError{Operation: fmt.Sprintf("%s the checkpoint bucket %s (which needs s3:GetObject, s3:PutObject and s3:ListBucket)", operation, s.bucket), Err: err}
	}
	return &ServiceError{Operation: fmt.Sprintf("%s the checkpoint bucket %s", operation, s.bucket), Err: err}
}

// httpStatus returns the status of an answer; 0 when there was none.
func httpStatus(err error) int {
	var answered interface{ HTTPStatusCode() int }
	if err != nil && errors.As(err, &answered) {
		return answered.HTTPStatusCode()
	}
	return 0
}
