package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// measured is one run of one client.
type measured struct {
	CPU    float64 // seconds of user and system time of the client's process
	Wall   float64 // seconds
	RSS    int64   // its peak, in bytes
	Counts counts
	Allocs float64 // per item, where the client tells
	Items  int
}

func (m measured) perItem() float64 { return m.CPU / float64(m.Items) }

// contestant is one way of doing the job.
type contestant struct {
	Letter, What string
	command      func(store string, items int) []string
}

// lab is where runs are made.
type lab struct {
	self, rotator, dir string
	extra              []string // environment of rotator, for a look at one lever
}

// newLab builds rotator, unless ROTATOR names a binary.
func newLab() (*lab, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rotator-bench-")
	if err != nil {
		return nil, err
	}
	l := &lab{self: self, rotator: filepath.Join(dir, "rotator"), dir: dir, extra: strings.Fields(os.Getenv("ROTATOR_ENV"))}
	if given := os.Getenv("ROTATOR"); given != "" {
		l.rotator = given
		return l, nil
	}
	build := exec.Command("go", "build", "-o", l.rotator, "./cmd/rotator")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build rotator: %w\n%s", err, out)
	}
	return l, nil
}

func (l *lab) close() { _ = os.RemoveAll(l.dir) }

// contestants are A to D; C only where there is boto3.
func (l *lab) contestants(few bool) []contestant {
	own := func(kind string) func(string, int) []string {
		return func(store string, items int) []string {
			return []string{l.self, kind, "-store", store, "-items", strconv.Itoa(items)}
		}
	}
	bare := contestant{"A", "bare loop, tuned SDK", own("bare")}
	rotator := contestant{"D", "rotator, complete", func(store string, _ int) []string {
		return []string{l.rotator, "run", "-o", "json", "-f", filepath.Join(l.dir, store+".yaml")}
	}}
	if few {
		return []contestant{bare, rotator}
	}
	all := []contestant{bare, {"B", "naive loop, default SDK", own("naive")}, rotator}
	if exec.Command("python3", "-c", "import boto3").Run() == nil {
		all = append(all, contestant{"C", "boto3, 32 threads", func(store string, _ int) []string {
			return []string{"python3", "bench/script.py", store}
		}})
	}
	return all
}

// jobs are the job files of rotator, by store.
var jobs = map[string]string{
	"dynamodb": `dynamodb: { table: bench, segments: 8 }
    format: raw`,
	"s3": `s3: { bucket: bench }
    format: json`,
}

func (l *lab) writeJob(store string) error {
	job := fmt.Sprintf(`job: bench
destination: { key: "%s" }
source: { keys: ["%s"] }
kms: { rate: 1000000 }
targets:
  - %s
    slots: [{ path: secret, context: { tenant: "${%stenant}", purpose: pii } }]
workers: %d
`, destinationKey, sourceKey, jobs[store], map[string]string{"s3": "body."}[store], workers)
	return errors.Join(os.WriteFile(filepath.Join(l.dir, store+".yaml"), []byte(job), 0o600),
		os.RemoveAll(filepath.Join(l.dir, ".rotator"))) // no pass of an earlier run
}

// run starts a stub of its own, runs the contestant against it to the end, and
// checks that every item was moved, once, and as it had to be.
func (l *lab) run(c contestant, store string, items int) (measured, error) {
	if err := l.writeJob(store); err != nil {
		return measured{}, err
	}
	stub := exec.Command(l.self, "stub", "-items", strconv.Itoa(items), "-dir", l.dir)
	stub.Stderr = os.Stderr
	end, err := stub.StdinPipe()
	if err != nil {
		return measured{}, err
	}
	out, err := stub.StdoutPipe()
	if err != nil {
		return measured{}, err
	}
	if err := stub.Start(); err != nil {
		return measured{}, err
	}
	defer func() { _ = stub.Wait() }() // its end says nothing that counts does not
	defer func() { _ = end.Close() }()
	answers := json.NewDecoder(bufio.NewReader(out))
	var server announced
	if err := answers.Decode(&server); err != nil {
		return measured{}, fmt.Errorf("start the stub: %w", err)
	}
	m, err := l.client(c.command(store, items), server, c.Letter == "D")
	if err != nil {
		return measured{}, fmt.Errorf("%s over %s: %w", c.What, store, err)
	}
	m.Items = items
	m.Allocs /= float64(items)
	_ = end.Close()
	if err := answers.Decode(&m.Counts); err != nil {
		return measured{}, fmt.Errorf("read what the stub counted: %w", err)
	}
	if m.Counts.Written != int64(items) || m.Counts.Faults > 0 {
		return measured{}, fmt.Errorf("%s over %s: %d of %d items were written, with %d faults: %v", c.What, store, m.Counts.Written, items, m.Counts.Faults, m.Counts.Wrong)
	}
	return m, nil
}

// client runs one client process to its end.
func (l *lab) client(command []string, server announced, rotator bool) (measured, error) {
	process := exec.Command(command[0], command[1:]...)
	process.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "AWS_") || strings.HasPrefix(v, "GO") }),
		"AWS_ENDPOINT_URL="+server.Endpoint, "AWS_CA_BUNDLE="+server.Certificate, "AWS_REGION="+region, "AWS_DEFAULT_REGION="+region, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=AKIDBENCHBENCHBENCH0", "AWS_SECRET_ACCESS_KEY=not-a-secret")
	if rotator {
		process.Env = append(process.Env, l.extra...)
	}
	var out, log bytes.Buffer
	process.Stdout, process.Stderr = &out, &log
	began := time.Now()
	err := process.Run()
	wall := time.Since(began)
	if err != nil {
		return measured{}, fmt.Errorf("%w\n%s", err, log.Bytes()[max(0, log.Len()-2000):])
	}
	m := measured{CPU: (process.ProcessState.UserTime() + process.ProcessState.SystemTime()).Seconds(), Wall: wall.Seconds()}
	if usage, ok := process.ProcessState.SysUsage().(*syscall.Rusage); ok {
		m.RSS = usage.Maxrss << 10
	}
	var told allocations
	if json.Unmarshal(out.Bytes(), &told) == nil {
		m.Allocs = float64(told.Mallocs)
	}
	if _, err := fmt.Sscanf(log.String()[max(0, strings.LastIndex(log.String(), "allocations: ")):], "allocations: %f", &m.Allocs); err != nil && rotator {
		m.Allocs = 0 // not a build that tells
	}
	return m, nil
}
