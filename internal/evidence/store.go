// Package evidence keeps closed segments of audit logs in S3, so that they outlive the machine
// that wrote them.
//
// Each segment is one object, which is written once and never replaced or deleted. Its key has
// the job, the id of the log, the number of the segment, and the SHA-256 of its content:
//
//	PREFIX/JOB/LOG/000001-SHA256.jsonl.zst
package evidence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/awserr"
	"rotator/internal/report/auditlog"
)

// Store is the place of the segments of one job. It is safe for concurrent use.
type Store struct {
	client *s3.Client
	bucket string
	prefix string // of the keys of the job, "" or ending in "/"
	limit  time.Duration
}

// New returns a Store in an existing bucket. prefix is "" or ends in "/". limit is the maximum
// time of an operation, including the retries of the client.
func New(client *s3.Client, bucket, prefix, job string, limit time.Duration) *Store {
	return &Store{client: client, bucket: bucket, prefix: prefix + job + "/", limit: limit}
}

// Object is a segment in a Store.
type Object struct {
	Log      string // id of the log
	Number   int64  // of the segment, from 1
	Digest   string // SHA-256 of the compressed content, in hexadecimal
	Bytes    int64  // length of the compressed content
	Uploaded time.Time
}

// NewObject returns the object of a segment with the given compressed content.
func NewObject(log string, number int64, content []byte) Object {
	sum := sha256.Sum256(content)
	return Object{Log: log, Number: number, Digest: hex.EncodeToString(sum[:]),
		Bytes: int64(len(content))}
}

// objectEnd is the end of the keys of objects.
const objectEnd = ".jsonl.zst"

// name returns the key of the object below the prefix of the job.
func (o Object) name() string {
	return fmt.Sprintf("%s/%06d-%s%s", o.Log, o.Number, o.Digest, objectEnd)
}

var nameForm = regexp.MustCompile(`^([0-9a-f]{32})/([0-9]{6,18})-([0-9a-f]{64})\.jsonl\.zst$`)

// objectOf parses a name. ok is false if it is not that of an object.
func objectOf(name string) (o Object, ok bool) {
	parts := nameForm.FindStringSubmatch(name)
	if parts == nil {
		return o, false
	}
	o.Log, o.Digest = parts[1], parts[3]
	o.Number, _ = strconv.ParseInt(parts[2], 10, 64) // at most 18 digits
	return o, o.Number > 0 && o.name() == name
}

// URL returns the place of an object, for messages.
func (s *Store) URL(o Object) string { return "s3://" + s.bucket + "/" + s.prefix + o.name() }

// Place returns the place of all objects, for messages.
func (s *Store) Place() string { return "s3://" + s.bucket + "/" + s.prefix }

// ContentError reports that an object does not have the content that its key names.
type ContentError struct{ Object string }

func (e *ContentError) Error() string {
	return e.Object + " exists, but its content does not match the digest in its name. It was " +
		"not changed; find out what wrote it, and move it away"
}

// errMissing means that an object does not exist.
var errMissing = errors.New("the object does not exist")

// attempts is the maximum number of attempts if requests for one object conflict, or if a response
// is incomplete.
const attempts = 3

// BucketError reports that the bucket of a Store cannot be used.
type BucketError struct{ Detail string }

func (e *BucketError) Error() string { return e.Detail }

// Check returns a *BucketError if the bucket does not exist or is in another Region. It returns nil
// if this is not known, because access is denied or S3 does not respond.
func (s *Store) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	_, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.bucket})
	switch awserr.Status(err) {
	case http.StatusNotFound:
		return &BucketError{fmt.Sprintf("there is no bucket %s; create it, or correct the name",
			s.bucket)}
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect:
		return &BucketError{fmt.Sprintf("bucket %s is not in %s; append ?region= with its Region",
			s.bucket, s.client.Options().Region)}
	}
	return nil
}

// Put uploads the content of a segment. An object that exists is never replaced. The result is nil
// if it has the same content, and a *ContentError if it has another one. If the outcome of a
// request is unknown, Put reads the object.
func (s *Store) Put(ctx context.Context, o Object, content []byte) error {
	for n := 1; ; n++ {
		err := s.put(ctx, o, content)
		if err == nil {
			return nil
		}
		_, reading := s.Get(ctx, o)
		different := (*ContentError)(nil)
		switch {
		case reading == nil:
			return nil
		case errors.As(reading, &different):
			return reading
		case awserr.Status(err) == http.StatusPreconditionFailed &&
			!errors.Is(reading, errMissing):
			return fmt.Errorf("%s exists, but its content is not known: %w", s.URL(o), reading)
		case n == attempts || ctx.Err() != nil || !conflicts(err):
			return s.error("upload "+s.URL(o), "s3:PutObject", err)
		}
	}
}

// conflicts reports whether a request failed because of another one for the same object.
func conflicts(err error) bool {
	status := awserr.Status(err)
	return status == http.StatusConflict || status == http.StatusPreconditionFailed
}

// put sends one conditional PUT.
func (s *Store) put(ctx context.Context, o Object, content []byte) error {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket:      &s.bucket,
		Key:         aws.String(s.prefix + o.name()),
		Body:        bytes.NewReader(content),
		ContentType: aws.String("application/zstd"),
		IfNoneMatch: aws.String("*"),
	})
	return err
}

// Get returns the compressed content of a segment. The error is a *ContentError if it is not the
// content that was uploaded.
func (s *Store) Get(ctx context.Context, o Object) ([]byte, error) {
	for n := 1; ; n++ {
		content, cut, err := s.get(ctx, o)
		switch {
		case cut && n < attempts && ctx.Err() == nil:
			continue
		case err != nil:
			return nil, s.error("read "+s.URL(o), "s3:GetObject", err)
		case NewObject(o.Log, o.Number, content).Digest != o.Digest:
			return nil, &ContentError{s.URL(o)}
		}
		return content, nil
	}
}

// mostBytes is the maximum length of the compressed content of a segment.
const mostBytes = 512 << 20

// get sends one request for an object. cut reports whether the response was incomplete.
func (s *Store) get(ctx context.Context, o Object) (content []byte, cut bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket,
		Key: aws.String(s.prefix + o.name())})
	if awserr.Code(err) == "NoSuchKey" {
		return nil, false, errMissing
	}
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = out.Body.Close() }()
	content, err = io.ReadAll(io.LimitReader(out.Body, mostBytes))
	return content, err != nil, err
}

// Log is one log in a Store.
type Log struct {
	ID      string
	Objects []Object // by number
}

// Uploaded returns when the last object was uploaded.
func (l Log) Uploaded() (last time.Time) {
	for _, o := range l.Objects {
		if o.Uploaded.After(last) {
			last = o.Uploaded
		}
	}
	return last
}

// Bytes returns the length of all objects.
func (l Log) Bytes() (sum int64) {
	for _, o := range l.Objects {
		sum += o.Bytes
	}
	return sum
}

// Logs returns all logs of the job, in the order of their ids. Other objects are left out.
func (s *Store) Logs(ctx context.Context) (logs []Log, err error) {
	objects, err := s.list(ctx, "")
	for _, o := range objects { // S3 lists keys in the order of their bytes
		if len(logs) == 0 || logs[len(logs)-1].ID != o.Log {
			logs = append(logs, Log{ID: o.Log})
		}
		last := &logs[len(logs)-1]
		last.Objects = append(last.Objects, o)
	}
	return logs, err
}

// list returns the objects whose names begin with a text, by log and number.
func (s *Store) list(ctx context.Context, begin string) (objects []Object, err error) {
	in := &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: aws.String(s.prefix + begin)}
	for {
		out, err := s.listPage(ctx, in)
		if err != nil {
			return nil, s.error("list "+s.Place(), "s3:ListBucket", err)
		}
		for _, object := range out.Contents {
			o, ok := objectOf(strings.TrimPrefix(aws.ToString(object.Key), s.prefix))
			if ok {
				o.Bytes, o.Uploaded = aws.ToInt64(object.Size), aws.ToTime(object.LastModified)
				objects = append(objects, o)
			}
		}
		if in.ContinuationToken = out.NextContinuationToken; in.ContinuationToken == nil {
			break
		}
	}
	slices.SortStableFunc(objects, func(a, b Object) int {
		if a.Log != b.Log {
			return strings.Compare(a.Log, b.Log)
		}
		return int(a.Number - b.Number)
	})
	return objects, nil
}

func (s *Store) listPage(
	ctx context.Context, in *s3.ListObjectsV2Input,
) (*s3.ListObjectsV2Output, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	return s.client.ListObjectsV2(ctx, in)
}

// Segments returns the segments of a log, which are read when they are opened.
func (s *Store) Segments(ctx context.Context, log Log) (list []auditlog.ClosedSegment) {
	for _, o := range log.Objects {
		list = append(list, auditlog.ClosedSegment{
			Number: o.Number,
			Name:   s.URL(o),
			Open: func() (io.ReadCloser, error) {
				content, err := s.Get(ctx, o)
				if err != nil {
					return nil, err
				}
				return io.NopCloser(bytes.NewReader(content)), nil
			},
		})
	}
	return list
}

// ServiceError reports that S3 could not process an operation, or refused it.
type ServiceError struct {
	Operation string
	Err       error
}

func (e *ServiceError) Error() string { return e.Operation + ": " + e.Err.Error() }

// Unwrap returns the error of the SDK.
func (e *ServiceError) Unwrap() error { return e.Err }

func (s *Store) error(operation, permission string, err error) error {
	switch code := awserr.Code(err); {
	case errors.Is(err, errMissing):
		return fmt.Errorf("%s: %w", operation, err)
	case code == "NoSuchBucket":
		operation += " (there is no such bucket; correct the name, or create it)"
	case code == "AccessDenied":
		operation += " (which needs " + permission + ")"
	}
	return &ServiceError{Operation: operation, Err: err}
}
