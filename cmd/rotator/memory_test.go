package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"rotator/internal/fastkms"
	"rotator/internal/reencrypt"
)

const mebibyte = 1 << 20

// groupOf returns a provider with a fixed result.
func groupOf(limit uint64, err error) memlimit.Provider {
	return func() (uint64, error) { return limit, err }
}

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	gibibyte := groupOf(1024*mebibyte, nil)
	unusable := groupOf(0, errors.New("no usable cgroup v2 memory mount found"))
	file := func(name, text string) fstest.MapFS {
		return fstest.MapFS{name: &fstest.MapFile{Data: []byte(text)}}
	}
	const v1 = "sys/fs/cgroup/memory/memory.limit_in_bytes"
	for name, test := range map[string]struct {
		group, machine memlimit.Provider
		root           fstest.MapFS
		want           float64 // MiB
	}{
		"a control group": {groupOf(200*mebibyte, nil), gibibyte, nil, 0.9 * 200},
		"no limit":        {groupOf(0, memlimit.ErrNoLimit), gibibyte, nil, 512},
		"no limit, and a file of another group": {groupOf(0, memlimit.ErrNoLimit), gibibyte,
			file("sys/fs/cgroup/memory.max", "104857600\n"), 512},
		"no control groups": {groupOf(0, memlimit.ErrNoCgroup), gibibyte, nil, 512},
		"v2, a path outside of the mount": {unusable, gibibyte,
			file("sys/fs/cgroup/memory.max", "104857600\n"), 0.9 * 100},
		"v2, a path outside of the mount, no limit": {unusable, gibibyte,
			file("sys/fs/cgroup/memory.max", "max\n"), 512},
		"v1, a path outside of the mount": {unusable, gibibyte,
			file(v1, "104857600\n"), 0.9 * 100},
		"v1, a path outside of the mount, no limit": {unusable, gibibyte,
			file(v1, "9223372036854771712\n"), 512},
		"nothing is known": {unusable, groupOf(0, memlimit.ErrNoLimit), nil, 0},
	} {
		got, err := memoryLimit(test.group, test.root, test.machine)()
		if want := uint64(test.want * mebibyte); got != want || (err != nil) != (want == 0) {
			t.Errorf("%s: limit %d, %v, want %d", name, got, err, want)
		}
	}
}

// TestSystemLimit: the limit is at most 90% of the memory of the machine.
func TestSystemLimit(t *testing.T) {
	machine, err := memlimit.FromSystem()
	if err != nil {
		t.Skip("the memory of this machine is unknown")
	}
	limit, err := systemLimit()
	if most := uint64(groupShare * float64(machine)); err != nil || limit == 0 || limit > most {
		t.Errorf("the limit is %d, %v, want at most %d", limit, err, most)
	}
}

// TestTuneMemory: a setting of the user has precedence.
func TestTuneMemory(t *testing.T) {
	limit, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	defer func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	}()
	known, unknown := groupOf(180*mebibyte, nil), groupOf(0, memlimit.ErrNoLimit)
	for _, test := range []struct {
		set      []string
		provider memlimit.Provider
		limit    int64
		percent  int
	}{
		{nil, known, 180 * mebibyte, gcPercent},
		{nil, groupOf(math.MaxUint64, nil), math.MaxInt64, 100},
		{[]string{"GOGC"}, known, 180 * mebibyte, 100},
		{[]string{"GOMEMLIMIT"}, known, math.MaxInt64, 100},
		{nil, unknown, math.MaxInt64, 100},
	} {
		debug.SetMemoryLimit(math.MaxInt64)
		debug.SetGCPercent(100)
		lookup := func(name string) (string, bool) { return "off", slices.Contains(test.set, name) }
		tuneMemory(lookup, test.provider)
		gotLimit, gotPercent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
		if gotLimit != test.limit || gotPercent != test.percent {
			t.Errorf("with %v set: limit %d and GOGC %d, want %d and %d",
				test.set, gotLimit, gotPercent, test.limit, test.percent)
		}
	}
}

// cpuTime returns the processor time of this process. Unlike elapsed time, it does not depend on
// other processes.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// canned responds to every ReEncrypt immediately.
type canned []byte

func (c canned) Do(*http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode:    http.StatusOK,
		Header:        http.Header{"Content-Type": {"application/x-amz-json-1.1"}},
		Body:          io.NopCloser(bytes.NewReader(c)),
		ContentLength: int64(len(c)),
	}, nil
}

// BenchmarkCollector measures the effect of the settings of the garbage collector on ReEncrypt as a
// run sends it, without a network, while a few megabytes are kept in use, like pages.
func BenchmarkCollector(b *testing.B) {
	limit, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	defer func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	}()
	const arn = "arn:aws:kms:us-east-1:111122223333:key/00000000-0000-0000-0000-000000000000"
	blob := bytes.Repeat([]byte("b"), 250)
	answer := canned(fmt.Sprintf(`{"CiphertextBlob":%q,"KeyId":%q,"SourceKeyId":%q}`,
		base64.StdEncoding.EncodeToString(blob), arn, arn))
	cfg := aws.Config{
		Region:      "us-east-1",
		HTTPClient:  answer,
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	}
	client := reencrypt.NewKMS(fastkms.New(cfg, nil, 0).ReEncrypt,
		reencrypt.Key{ARN: arn, Algorithm: reencrypt.Symmetric}, nil)
	var kept [][]byte
	for range 20000 {
		kept = append(kept, make([]byte, 512))
	}
	for _, setting := range []struct {
		name    string
		limit   int64
		percent int
	}{
		{"default", math.MaxInt64, 100},
		{"tuned, 460 MiB", 460 * mebibyte, gcPercent},
		{"tuned, 57 MiB", 57 * mebibyte, gcPercent},
	} {
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
					if _, err := client.ReEncrypt(b.Context(), reencrypt.Request{
						Blob:    blob,
						Context: map[string]string{"tenant": "t1"},
					}); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
	if len(kept) == 0 {
		b.Error("the kept memory was released")
	}
}
