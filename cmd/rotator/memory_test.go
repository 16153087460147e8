package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math"
	"net/http"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"rotator/internal/fastkms"
	"rotator/internal/rotate"
)

const mebibyte = 1 << 20

func files(pairs ...string) fstest.MapFS {
	root := fstest.MapFS{"proc/meminfo": {Data: []byte("MemFree:  1 kB\nMemTotal:       1048576 kB\n")}}
	for i := 0; i < len(pairs); i += 2 {
		root[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return root
}

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		root fstest.MapFS
		want float64 // MiB
	}{
		"v2, in a container": {files("proc/self/cgroup", "0::/\n", "sys/fs/cgroup/memory.max", "209715200\n"), 0.9 * 200},
		"v2, the group above has less": {files("proc/self/cgroup", "0::/pod/box\n",
			"sys/fs/cgroup/pod/box/memory.max", "max\n", "sys/fs/cgroup/pod/memory.max", "104857600\n", "sys/fs/cgroup/memory.max", "max\n"), 0.9 * 100},
		"v2, none":                         {files("proc/self/cgroup", "0::/pod\n", "sys/fs/cgroup/pod/memory.max", "max\n"), 512},
		"v2, a path of the host":           {files("proc/self/cgroup", "0::/../../docker/0a\n", "sys/fs/cgroup/memory.max", "104857600\n"), 0.9 * 100},
		"v1":                               {files("proc/self/cgroup", "9:cpu,cpuacct:/x\n4:memory:/docker/0a\n", "sys/fs/cgroup/memory/docker/0a/memory.limit_in_bytes", "104857600\n"), 0.9 * 100},
		"v1, in a container":               {files("proc/self/cgroup", "4:memory:/docker/0a\n", "sys/fs/cgroup/memory/memory.limit_in_bytes", "104857600\n"), 0.9 * 100},
		"v1, none":                         {files("proc/self/cgroup", "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"), 512},
		"both, and the memory is under v1": {files("proc/self/cgroup", "4:memory:/a\n0::/a\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes", "104857600\n"), 0.9 * 100},
		"no control groups":                {files(), 512},
		"not a number":                     {files("proc/self/cgroup", "0::/\nrubbish\n", "sys/fs/cgroup/memory.max", "much\n"), 512},
		"nothing to read":                  {fstest.MapFS{}, 0},
	} {
		if got, want := memoryLimit(test.root), int64(test.want*mebibyte); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
}

// TestTuneMemory: what the user has set stands.
func TestTuneMemory(t *testing.T) {
	limit, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	defer func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	}()
	root := files("proc/self/cgroup", "0::/\n", "sys/fs/cgroup/memory.max", "209715200\n")
	for _, test := range []struct {
		set     []string
		root    fstest.MapFS
		limit   int64
		percent int
	}{
		{nil, root, 180 * mebibyte, gcPercent},
		{[]string{"GOGC"}, root, 180 * mebibyte, 100},
		{[]string{"GOMEMLIMIT"}, root, math.MaxInt64, 100},
		{nil, fstest.MapFS{}, math.MaxInt64, 100},
	} {
		debug.SetMemoryLimit(math.MaxInt64)
		debug.SetGCPercent(100)
		tuneMemory(func(name string) (string, bool) {
			for _, set := range test.set {
				if set == name {
					return "off", true
				}
			}
			return "", false
		}, test.root)
		if gotLimit, gotPercent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100); gotLimit != test.limit || gotPercent != test.percent {
			t.Errorf("with %v set: limit %d and GOGC %d, want %d and %d", test.set, gotLimit, gotPercent, test.limit, test.percent)
		}
	}
}

// cpuTime is the processor time of this process, which other processes do not
// stretch as they stretch the wall's.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// canned answers every ReEncrypt at once.
type canned []byte

func (c canned) Do(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}},
		Body: io.NopCloser(bytes.NewReader(c)), ContentLength: int64(len(c))}, nil
}

// BenchmarkCollector measures what the collector's settings are worth: ReEncrypt as a run
// sends it, without a network, with a few megabytes that are kept, as pages are.
func BenchmarkCollector(b *testing.B) {
	limit, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	defer func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	}()
	const arn = "arn:aws:kms:us-east-1:111122223333:key/00000000-0000-0000-0000-000000000000"
	blob := bytes.Repeat([]byte("b"), 250)
	answer := canned(fmt.Sprintf(`{"CiphertextBlob":%q,"KeyId":%q,"SourceKeyId":%q}`, base64.StdEncoding.EncodeToString(blob), arn, arn))
	cfg := aws.Config{
		Region:      "us-east-1",
		HTTPClient:  answer,
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	}
	client := rotate.NewKMS(fastkms.New(cfg, nil, 0).ReEncrypt,
		rotate.Key{ARN: arn, Algorithm: rotate.Symmetric}, nil)
	var kept [][]byte
	for range 20000 {
		kept = append(kept, make([]byte, 512))
	}
	for _, setting := range []struct {
		name    string
		limit   int64
		percent int
	}{{"default", math.MaxInt64, 100}, {"tuned, 460 MiB", 460 * mebibyte, gcPercent}, {"tuned, 57 MiB", 57 * mebibyte, gcPercent}} {
		b.Run(setting.name, func(b *testing.B) {
			debug.SetMemoryLimit(setting.limit)
			debug.SetGCPercent(setting.percent)
			b.ReportAllocs()
			b.SetParallelism(32)
			runtime.GC()
			began := cpuTime(b)
			defer func() { b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N), "cpu-ns/op") }()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := client.ReEncrypt(b.Context(), rotate.Question{Blob: blob, Context: map[string]string{"tenant": "t1"}}); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
	if len(kept) == 0 {
		b.Error("nothing was kept")
	}
}
