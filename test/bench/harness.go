package main

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed script.py
var script []byte

// harness starts stubs and clients and measures the clients.
type harness struct {
	self, rotator, dir string
	extra              []string  // environment of rotator, from ROTATOR_ENV
	profiles           string    // directory for profiles of clients; empty for none
	raw                io.Writer // receives what is not part of the page
	began              time.Time
}

// newHarness builds rotator, unless ROTATOR names a binary.
func newHarness() (*harness, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rotator-bench-")
	if err != nil {
		return nil, err
	}
	h := &harness{
		began:   time.Now(),
		self:    self,
		rotator: filepath.Join(dir, "rotator"),
		dir:     dir,
		raw:     io.Discard,
		extra:   strings.Fields(os.Getenv("ROTATOR_ENV")),
	}
	err = os.WriteFile(filepath.Join(dir, "script.py"), script, 0o600)
	if given := os.Getenv("ROTATOR"); given != "" && err == nil {
		h.rotator = given
		return h, nil
	}
	if err = errors.Join(err, build(h.rotator)); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// build builds the rotator command of this module.
func build(binary string, flags ...string) error {
	args := append([]string{"build", "-o", binary}, flags...)
	out, err := exec.Command("go", append(args, "rotator/cmd/rotator")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build rotator: %w\n%s", err, out)
	}
	return nil
}

func (h *harness) close() { _ = os.RemoveAll(h.dir) }

// scenario describes one run of a client.
type scenario struct {
	store string
	items int
	stub  []string // additional flags of the stub
	args  []string // additional flags of the client
	env   []string // additional environment of rotator
	rate  int      // kms.rate of rotator; 0 means noLimit
	// workers is the number of workers in rotator's job file: 0 means as many as the loops
	// have, automatic means that the job file does not set it.
	workers int
}

// automatic lets rotator determine the number of workers.
const automatic = -1

// noLimit is a kms.rate that no client reaches here.
const noLimit = 1_000_000

// candidate is one client of the comparison.
type candidate struct {
	letter, what string
	command      func(scenario) []string
	most         int // maximum number of items, for a slow client; 0 means no maximum
}

// slowItems returns the number of items of the slowest candidate. They take it more than a
// minute, so that its start-up time does not matter.
func slowItems(store string) int {
	if store == rows {
		return fewest
	}
	return fewest / 4
}

// The letters of rotator, and of the loop with which CI compares it.
const (
	letterRotator = "D"
	letterLoop    = "A"
)

func (h *harness) minimalLoop() candidate {
	return candidate{
		letter:  letterLoop,
		what:    "minimal loop, tuned SDK",
		command: h.loopCommand(kindMinimal),
	}
}

func (h *harness) simpleLoop() candidate {
	return candidate{
		letter:  "B",
		what:    "simple loop, default SDK",
		command: h.loopCommand(kindSimple),
	}
}

func (h *harness) rotatorRun() candidate {
	return candidate{
		letter: letterRotator,
		what:   "**rotator, complete**",
		command: func(t scenario) []string {
			run := []string{h.rotator, "run", "-o", "json", "-f", h.jobFile()}
			return append(run, t.args...)
		},
	}
}

func (h *harness) boto3(store string) candidate {
	most := slowItems(store)
	return candidate{
		letter: "C",
		what:   fmt.Sprintf("boto3, 32 threads, at most %d items", most),
		most:   most,
		command: func(t scenario) []string {
			return []string{"python3", filepath.Join(h.dir, "script.py"), t.store}
		},
	}
}

func (h *harness) loopCommand(kind string) func(scenario) []string {
	return func(t scenario) []string {
		run := []string{h.self, kind, "-store", t.store, "-items", strconv.Itoa(t.items)}
		return append(run, t.args...)
	}
}

// candidates returns A and D, and unless few is true also B, and C if boto3 is installed.
func (h *harness) candidates(store string, few bool) []candidate {
	all := []candidate{h.minimalLoop(), h.rotatorRun()}
	if few {
		return all
	}
	all = append(all, h.simpleLoop())
	if exec.Command("python3", "-c", "import boto3").Run() == nil {
		all = append(all, h.boto3(store))
	}
	return all
}

func (h *harness) jobFile() string { return filepath.Join(h.dir, "job.yaml") }

// targetOf returns the target in rotator's job file for a store.
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

// writeJob writes the job file, and deletes the checkpoint of earlier runs.
func (h *harness) writeJob(t scenario) error {
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
	return errors.Join(os.WriteFile(h.jobFile(), []byte(job), 0o600),
		os.RemoveAll(filepath.Join(h.dir, ".rotator")))
}
