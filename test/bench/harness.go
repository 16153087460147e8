package main

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed script.py
var script []byte

// lab is where runs are made.
type lab struct {
	self, rotator, dir string
	extra              []string // environment of rotator, for a look at one thing
	profiles           string   // the directory for profiles of clients; empty for none
	began              time.Time
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
	l := &lab{began: time.Now(), self: self, rotator: filepath.Join(dir, "rotator"), dir: dir, extra: strings.Fields(os.Getenv("ROTATOR_ENV"))}
	err = os.WriteFile(filepath.Join(dir, "script.py"), script, 0o600)
	if given := os.Getenv("ROTATOR"); given != "" && err == nil {
		l.rotator = given
		return l, nil
	}
	if err = errors.Join(err, build(l.rotator)); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// build builds the command of this module, wherever in it we are.
func build(binary string, flags ...string) error {
	args := append([]string{"build", "-o", binary}, flags...)
	if out, err := exec.Command("go", append(args, "rotator/cmd/rotator")...).CombinedOutput(); err != nil {
		return fmt.Errorf("build rotator: %w\n%s", err, out)
	}
	return nil
}

func (l *lab) close() { _ = os.RemoveAll(l.dir) }

// trial is what one run is about.
type trial struct {
	store string
	items int
	stub  []string // further flags of the stub
	args  []string // further flags of the client
	env   []string // further environment of rotator
	rate  int      // rotator's kms.rate; 0 for one that is no limit
	// workers are those of rotator's job: 0 for as many as our loops have, automatic for
	// none in the job file.
	workers int
}

// automatic leaves the number of workers to rotator.
const automatic = -1

// noLimit is a kms.rate that no client reaches here.
const noLimit = 1_000_000

// contestant is one way of doing the job.
type contestant struct {
	letter, what string
	command      func(trial) []string
	most         int // items, where it would take too long over more; 0 without
}

// slowly is how many items the slowest contestant takes: a minute's work and more, beside
// which its start-up is nothing.
func slowly(store string) int {
	if store == rows {
		return fewest
	}
	return fewest / 4
}

// The letter of rotator, and of the loop that it is held against in CI.
const (
	ours = "D"
	loop = "A"
)

func (l *lab) bare() contestant {
	return contestant{letter: loop, what: "bare loop, tuned SDK", command: l.own("bare")}
}

func (l *lab) us() contestant {
	return contestant{letter: ours, what: "**rotator, complete**", command: func(t trial) []string {
		return append([]string{l.rotator, "run", "-o", "json", "-f", l.jobFile()}, t.args...)
	}}
}

func (l *lab) own(kind string) func(trial) []string {
	return func(t trial) []string {
		return append([]string{l.self, kind, "-store", t.store, "-items", strconv.Itoa(t.items)}, t.args...)
	}
}

// contestants are A and D, B, and C where there is boto3.
func (l *lab) contestants(store string, few bool) []contestant {
	if few {
		return []contestant{l.bare(), l.us()}
	}
	all := []contestant{l.bare(), l.us(), {letter: "B", what: "naive loop, default SDK", command: l.own("naive")}}
	if exec.Command("python3", "-c", "import boto3").Run() == nil {
		most := slowly(store)
		what := fmt.Sprintf("boto3, 32 threads, over no more than %d items", most)
		all = append(all, contestant{letter: "C", what: what, most: most, command: func(t trial) []string {
			return []string{"python3", filepath.Join(l.dir, "script.py"), t.store}
		}})
	}
	return all
}

func (l *lab) jobFile() string { return filepath.Join(l.dir, "job.yaml") }

// targetOf is the target of rotator's job, by store.
func targetOf(store string) string {
	switch store {
	case rows:
		return `dynamodb: { table: bench, segments: 8 }
    format: raw
    slots: [{ path: secret, context: { tenant: "${tenant}", purpose: pii } }]`
	case headers:
		return `s3: { bucket: bench }
    format: s3-encryption-client`
	}
	return `s3: { bucket: bench }
    format: json
    slots: [{ path: secret, context: { tenant: "${body.tenant}", purpose: pii } }]`
}

// writeJob writes the job file, and forgets the passes of earlier runs.
func (l *lab) writeJob(t trial) error {
	job := fmt.Sprintf(`job: bench
destination: { key: "%s" }
source: { keys: ["%s"] }
kms: { rate: %d }
targets:
  - %s
`, destinationKey, sourceKey, cmp.Or(t.rate, noLimit), targetOf(t.store))
	if t.workers != automatic {
		job += fmt.Sprintf("workers: %d\n", cmp.Or(t.workers, workers))
	}
	return errors.Join(os.WriteFile(l.jobFile(), []byte(job), 0o600), os.RemoveAll(filepath.Join(l.dir, ".rotator")))
}
