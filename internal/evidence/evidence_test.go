package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/report/auditlog"
	"rotator/internal/rotate"
)

// bench is a fake S3 with a bucket and a Store in it.
type bench struct {
	*Store
	server *fakeaws.Server
}

func newBench(t *testing.T) *bench {
	t.Helper()
	server, err := fakeaws.Start(fakeaws.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	client := s3.New(s3.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(server.Endpoint()),
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider("AKIA", "not-a-secret", ""),
	})
	if _, err := client.CreateBucket(t.Context(),
		&s3.CreateBucketInput{Bucket: aws.String("log")}); err != nil {
		t.Fatal(err)
	}
	return &bench{New(client, "log", "p/", "job", time.Minute), server}
}

// stored returns the contents that were stored under the key of an object, the oldest first.
func (b *bench) stored(o Object) (contents []string) {
	for _, v := range b.server.S3().Versions("log")[b.prefix+o.name()] {
		contents = append(contents, string(v.Body))
	}
	return contents
}

// overwrite stores another content under the key of an object, as another program would.
func (b *bench) overwrite(t *testing.T, o Object, content string) {
	t.Helper()
	_, err := b.client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("log"),
		Key: aws.String(b.prefix + o.name()), Body: strings.NewReader(content)})
	if err != nil {
		t.Fatal(err)
	}
}

const someLog = "00112233445566778899aabbccddeeff"

// TestPut: an upload succeeds if and only if the object then has the content, and no object is
// replaced.
func TestPut(t *testing.T) {
	t.Parallel()
	content := []byte("a segment")
	denied := fault.Answer{Status: http.StatusForbidden, Code: "AccessDenied"}
	for _, test := range []struct {
		name   string
		fault  fault.Fault
		before string // the content of the object before
		want   string // in the error; "" means success
		stored string // the content of the object afterwards
	}{
		{name: "new", stored: "a segment"},
		{name: "it exists", before: "a segment", stored: "a segment"},
		{name: "it has another content", before: "another", stored: "another",
			want: "does not match the digest in its name"},
		{name: "the response is lost", fault: fault.Fault{Kind: fault.LostResponse, Times: 1},
			stored: "a segment"},
		{name: "all responses are lost", fault: fault.Fault{Kind: fault.LostResponse},
			stored: "a segment"},
		{name: "reset", fault: fault.Fault{Kind: fault.Reset, Times: 1}, stored: "a segment"},
		{name: "503, then a response", fault: fault.Fault{Kind: fault.Throttle, Times: 1},
			stored: "a segment"},
		{name: "500", fault: fault.Fault{Kind: fault.InternalError},
			want: "upload s3://log/p/job/" + someLog + "/000007-"},
		{name: "denied", fault: fault.Fault{Kind: fault.Refusal, Answer: denied},
			want: "which needs s3:PutObject"},
		{name: "another upload at the same time", stored: "a segment", fault: fault.Fault{
			Kind: fault.Refusal, Times: 1, Answer: fault.Answer{Status: http.StatusConflict,
				Code: "ConditionalRequestConflict"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			o := NewObject(someLog, 7, content)
			if test.before != "" {
				b.overwrite(t, o, test.before)
			}
			b.server.Faults().Set("s3:PutObject", test.fault)
			err := b.Put(t.Context(), o, content)
			if (err == nil) != (test.want == "") ||
				err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("Put: %v, want %q", err, test.want)
			}
			if got := strings.Join(b.stored(o), "|"); got != test.stored {
				t.Errorf("stored %q, want %q", got, test.stored)
			}
		})
	}
}

// TestGet: a content other than the uploaded one is an error, and a response that was cut is
// requested again.
func TestGet(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	content := bytes.Repeat([]byte("segment "), 10_000)
	o := NewObject(someLog, 1, content)
	if err := b.Put(t.Context(), o, content); err != nil {
		t.Fatal(err)
	}
	b.server.Faults().Set("s3:GetObject", fault.Fault{Kind: fault.HalfResponse, Times: 2})
	if got, err := b.Get(t.Context(), o); err != nil || !bytes.Equal(got, content) {
		t.Errorf("Get: %d bytes, %v", len(got), err)
	}
	b.overwrite(t, o, "another")
	different := (*ContentError)(nil)
	if _, err := b.Get(t.Context(), o); !errors.As(err, &different) {
		t.Errorf("Get of another content: %v", err)
	}
}

// warnings collects warnings.
type warnings struct {
	mu   sync.Mutex
	list []string
}

func (w *warnings) add(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, err.Error())
}

func (w *warnings) all() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.list, "|")
}

// openLog opens a log with small segments.
func openLog(t *testing.T, path string) *auditlog.Log {
	t.Helper()
	log, err := auditlog.Open(path, "job")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	log.SegmentSize = 1000
	return log
}

// write appends lines that fill a few segments.
func write(t *testing.T, log *auditlog.Log) {
	t.Helper()
	for i := range 12 {
		r := []rotate.Record{{Ref: "item", After: fmt.Sprint(i), At: time.Unix(int64(i), 0)}}
		if err := errors.Join(log.Intend(r), log.Record(r)); err != nil {
			t.Fatal(err)
		}
	}
}

// uploadedLines returns the number of lines of the only uploaded log.
func (b *bench) uploadedLines(t *testing.T) int64 {
	t.Helper()
	logs, err := b.Logs(t.Context())
	if err != nil || len(logs) != 1 {
		t.Fatalf("%d logs, %v", len(logs), err)
	}
	e, err := auditlog.MeasureSegments(b.Segments(t.Context(), logs[0]))
	if err != nil || len(e.Gaps) > 0 || e.ID != logs[0].ID {
		t.Fatalf("%+v, %v", e, err)
	}
	return e.Lines
}

// TestUploader: segments are uploaded while the log is written, and the rest at the end. What a
// run could not upload, because it was refused or killed, the next run uploads.
func TestUploader(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed %v", killed), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			path := filepath.Join(t.TempDir(), "job.audit.jsonl")
			log := openLog(t, path)
			if killed { // between closing a segment and its upload
				write(t, log)
				_ = log.Close()
				log = openLog(t, path)
			}
			var warned warnings
			u := Start(t.Context(), b.Store, path, log.ID, warned.add)
			defer u.Stop()
			log.Closed = u.Wake
			write(t, log)
			for begin := time.Now(); len(b.server.S3().Versions("log")) == 0; {
				if time.Sleep(time.Millisecond); time.Since(begin) > time.Minute {
					t.Fatal("nothing is uploaded while the log is written")
				}
			}
			u.Stop()
			if err := log.CloseSegment(); err != nil {
				t.Fatal(err)
			}
			left, err := u.Upload(t.Context(), path, log.ID())
			if len(left) > 0 || err != nil || warned.all() != "" {
				t.Errorf("left %q, %v, warnings %q", left, err, warned.all())
			}
			if lines, _ := log.Head(); b.uploadedLines(t) != lines {
				t.Errorf("%d lines are uploaded of %d", b.uploadedLines(t), lines)
			}
		})
	}
}

// TestUploaderRefused: a refused upload is reported once, and tried again later.
func TestUploaderRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	path := filepath.Join(t.TempDir(), "job.audit.jsonl")
	log := openLog(t, path)
	write(t, log)
	var warned warnings
	u := Start(t.Context(), b.Store, path, func() string { return "" }, warned.add)
	u.Stop()
	warned.list = nil
	b.server.Faults().Set("s3:PutObject", fault.Fault{Kind: fault.Refusal,
		Answer: fault.Answer{Status: http.StatusForbidden, Code: "AccessDenied"}})
	segments, _ := auditlog.Segments(path)
	for range 2 {
		left, err := u.Upload(t.Context(), path, log.ID())
		if len(left) != len(segments) || len(left) < 2 || err == nil {
			t.Fatalf("left %q of %d segments, %v", left, len(segments), err)
		}
	}
	if n := strings.Count(warned.all(), "s3:PutObject"); n != 1 {
		t.Errorf("warnings %q", warned.all())
	}
	b.server.Faults().Clear("s3:PutObject")
	if left, err := u.Upload(t.Context(), path, log.ID()); len(left) > 0 || err != nil {
		t.Fatalf("left %q, %v", left, err)
	}
	if n := b.server.Faults().Counts()["s3:ListObjectsV2"]; n > 3 {
		t.Errorf("%d lists", n)
	}
}

// TestObjectOfAnotherContent: an object with another content is reported, does not keep other
// segments from being uploaded, and is not changed.
func TestObjectOfAnotherContent(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	path := filepath.Join(t.TempDir(), "job.audit.jsonl")
	log := openLog(t, path)
	write(t, log)
	segments, err := auditlog.Segments(path)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(segments[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	o := NewObject(log.ID(), 1, content)
	var warned warnings
	u := Start(t.Context(), b.Store, path, func() string { return "" }, warned.add)
	u.Stop()
	overwrite := func(*http.Request, []byte) {
		b.server.Faults().Clear("s3:PutObject")
		b.overwrite(t, o, "another")
	}
	b.server.Faults().Set("s3:PutObject", fault.Fault{Times: 1, Before: overwrite})
	left, err := u.Upload(t.Context(), path, log.ID())
	if len(left) != 1 || !isOfOne(err) {
		t.Errorf("left %q, %v", left, err)
	}
	if got := b.stored(o); len(got) != 1 || got[0] != "another" {
		t.Errorf("stored %q", got)
	}
	logs, err := b.Logs(t.Context())
	if err != nil || len(logs) != 1 || len(logs[0].Objects) != len(segments) {
		t.Errorf("%+v, %v, want %d objects", logs, err, len(segments))
	}
}

// TestServerWithoutConditions: a warning states that a server does not enforce If-None-Match.
func TestServerWithoutConditions(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	path := filepath.Join(t.TempDir(), "job.audit.jsonl")
	log := openLog(t, path)
	write(t, log)
	b.server.Faults().Set("s3:PutObject", fault.Fault{Before: func(r *http.Request, _ []byte) {
		r.Header.Del("If-None-Match")
	}})
	var warned warnings
	u := Start(t.Context(), b.Store, path, func() string { return "" }, warned.add)
	u.Stop()
	warned.list = nil
	if left, err := u.Upload(t.Context(), path, log.ID()); len(left) > 0 || err != nil {
		t.Errorf("left %q, %v", left, err)
	}
	if n := strings.Count(warned.all(), "does not enforce If-None-Match"); n != 1 {
		t.Errorf("warnings %q", warned.all())
	}
}

// TestLogs: a list of many objects has several pages, and other objects are left out.
func TestLogs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for i := range 3 {
		for _, log := range []string{someLog, strings.Repeat("f", 32)} {
			content := fmt.Appendf(nil, "%s %d", log, i)
			if err := b.Put(t.Context(), NewObject(log, int64(i+1), content), content); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, key := range []string{"p/job/readme", "p/job/" + someLog + "/000001-x.jsonl.zst",
		"p/job2/" + someLog + "/000001-" + strings.Repeat("0", 64) + ".jsonl.zst"} {
		if _, err := b.client.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: aws.String("log"), Key: &key, Body: strings.NewReader("")}); err != nil {
			t.Fatal(err)
		}
	}
	logs, err := b.Logs(t.Context())
	if err != nil || len(logs) != 2 {
		t.Fatalf("%+v, %v", logs, err)
	}
	for _, log := range logs {
		if len(log.Objects) != 3 || log.Objects[2].Number != 3 || log.Uploaded().IsZero() {
			t.Errorf("%+v", log)
		}
		for _, s := range b.Segments(t.Context(), log) {
			source, err := s.Open()
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(source)
			if err != nil || string(text) != fmt.Sprintf("%s %d", log.ID, s.Number-1) {
				t.Errorf("%s: %q, %v", s.Name, text, err)
			}
		}
	}
}
