package kmsblob

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"syscall"
	"testing"
	"time"
)

// BenchmarkSearch is how much one processor searches in a second of its time.
func BenchmarkSearch(b *testing.B) {
	binaryData := random(1, 1<<20)
	var document bytes.Buffer
	for i := 0; document.Len() < 1<<20; i++ {
		fmt.Fprintf(&document, "{\"id\": %d, \"name\": \"Customer Number %d\", \"active\": true, "+
			"\"balance\": %.2f, \"created\": \"2026-07-1%dT08:17:27Z\", \"Tags\": [\"EU\", "+
			"\"B2B\"], \"note\": \"Quick Brown Fox jumps over the Lazy Dog\"}\n", i, i*7919,
			math.Sqrt(float64(i)), i%10)
	}
	for _, c := range []struct {
		name string
		data []byte
	}{
		{"random", binaryData},
		{"base64", []byte(base64.StdEncoding.EncodeToString(binaryData))},
		{"json", document.Bytes()},
		{"row attribute of 200 bytes", binaryData[:200]},
	} {
		b.Run(c.name, func(b *testing.B) {
			var f Finder
			found := func(h Hit) bool { b.Errorf("%+v", h); return true }
			began := cpuTime(b)
			for b.Loop() {
				f.Search(c.data, found)
			}
			gibibytes := float64(b.N) * float64(len(c.data)) / (1 << 30)
			b.ReportMetric(gibibytes/(cpuTime(b)-began).Seconds(), "GiB/cpu-s")
		})
	}
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
