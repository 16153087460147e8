// Package demo shows the main job end to end on data of its own: a fake AWS on
// loopback, tens of thousands of ciphertexts, a concurrent writer, a run that is
// killed half way, and at the end a client that decrypts everything and compares
// it with what was last stored. It is the only part of the program that ever
// asks KMS to decrypt, and it can reach nothing but its own fake.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"rotator/internal/fakeaws"
	"rotator/internal/report"
)

// What the demo stores.
const (
	items   = 20000 // DynamoDB items with one slot each
	objects = 2000  // S3 objects with one slot each
	poison  = 50    // of all: no KMS can read them
	moved   = 200   // of all: under the new key already
	foreign = 100   // of all: under a third key
)

// Config says how to run the demo.
type Config struct {
	// Binary is the rotator that is shown, run as a child process.
	Binary string
	Out    io.Writer
	// Dir keeps the job file, checkpoint and audit log; "" is a temporary
	// directory that is removed at the end.
	Dir string
}

// Run runs the demo. It returns nil only if every promise held.
func Run(ctx context.Context, c Config) error {
	if c.Dir == "" {
		dir, err := os.MkdirTemp("", "rotator-demo-")
		if err != nil {
			return fmt.Errorf("make a directory for the demo: %w", err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		c.Dir = dir
	}
	server, err := fakeaws.Start(fakeaws.Config{})
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }()
	show := &show{out: c.Out, server: server, began: time.Now(),
		child: child{binary: c.Binary, dir: c.Dir, env: server.AWSEnv(), out: c.Out}}
	return show.run(ctx)
}

// show is one demo under way.
type show struct {
	out    io.Writer
	server *fakeaws.Server
	child  child
	began  time.Time
	truth  *truth
	answer report.SourceKey // of verify, for the old key
}

func (s *show) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.out, "\n== %5.1fs  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

func (s *show) run(ctx context.Context) error {
	truth, err := seed(ctx, s.server)
	if err != nil {
		return fmt.Errorf("store the demo's data: %w", err)
	}
	s.truth = truth
	if err := os.WriteFile(filepath.Join(s.child.dir, "job.yaml"), []byte(jobFile), 0o600); err != nil {
		return err
	}
	s.say("stored %d items and %d objects under the old key; among them %d poison blobs, %d already moved, %d under a third key",
		items, objects, poison, moved, foreign)

	s.say("rotator audit: what depends on the old key? (writes nothing)")
	writes := s.writes()
	audit, err := s.child.result(ctx, 0, "audit")
	if err != nil {
		return err
	}
	if now := s.writes(); now != writes {
		return fmt.Errorf("the audit sent %d write requests", now-writes)
	}
	if want := int64(items + objects - poison - moved - foreign); audit.Slots.Remaining != want {
		return fmt.Errorf("the audit found %d slots under the old key, and there are %d", audit.Slots.Remaining, want)
	}
	return s.rotate(ctx)
}

// rotate is the migration itself, under a concurrent writer.
func (s *show) rotate(ctx context.Context) error {
	writing, stopWriting := context.WithCancel(ctx)
	defer stopWriting()
	writer := newWriter(s.truth)
	done := make(chan error, 1)
	go func() { done <- writer.run(writing) }()

	s.say("rotator run, while a writer keeps changing items; killed with SIGKILL half way")
	if err := s.child.kill(ctx, s.halfWay()); err != nil {
		return err
	}
	s.say("rotator run again: it resumes")
	if _, err := s.child.result(ctx, 3, "run"); err != nil {
		return err
	}
	s.say("the writer switches to the new key; rotator run begins the next pass, for what it wrote under the old one meanwhile")
	writer.switchKey()
	if _, err := s.child.result(ctx, 3, "run"); err != nil {
		return err
	}
	s.say("rotator retry works off the ledger: poison and foreign slots stay there")
	if _, err := s.child.result(ctx, 3, "retry"); err != nil {
		return err
	}
	s.say("rotator verify: does anything still depend on the old key? "+
		"(exit code 3 is for the %d exceptions)",
		poison+foreign)
	verify, err := s.child.result(ctx, 3, "verify")
	if err != nil {
		return err
	}
	stopWriting()
	if err := <-done; err != nil {
		return fmt.Errorf("the concurrent writer: %w", err)
	}
	if verify.Slots.Remaining != 0 {
		return fmt.Errorf("verify found %d slots under the old key", verify.Slots.Remaining)
	}
	for _, key := range verify.SourceKeys {
		if key.Key == s.truth.old {
			s.answer = key
		}
	}
	if s.answer.Answer != report.Yes {
		return fmt.Errorf("verify does not say that the old key can be disabled: %+v",
			verify.SourceKeys)
	}
	return s.prove(ctx, writer)
}

// prove disables the old key and looks at everything.
func (s *show) prove(ctx context.Context, writer *writer) error {
	s.say("the old key is disabled; the demo's own client decrypts everything")
	if err := s.truth.disableOld(ctx); err != nil {
		return err
	}
	ledger, err := s.child.ledger(ctx)
	if err != nil {
		return err
	}
	found, err := s.truth.check(ctx, ledger)
	if err != nil {
		return err
	}
	s.say("rotator report --check: the last pass that moved ciphertexts, and its audit log; " +
		"the proof is verify")
	if err := s.child.show(ctx, "report", "--check"); err != nil {
		return err
	}
	s.say("the figures")
	figures := []struct {
		what string
		got  int
	}{
		{"ciphertexts read back with the old key disabled", found.readable},
		{"unreadable", found.unreadable},
		{"lost updates", found.lost},
		{"other attributes changed", found.damaged},
		{"poison and foreign blobs untouched, and in the ledger", found.untouched},
		{"poison and foreign blobs touched, or not in the ledger", found.touched},
		{"writes by the concurrent writer meanwhile", writer.writes},
		{"ReEncrypt requests, over all commands", s.server.Faults().Counts()["kms:ReEncrypt"]},
	}
	for _, f := range figures {
		_, _ = fmt.Fprintf(s.out, "%8d  %s\n", f.got, f.what)
	}
	if err := found.verdict(s.out, time.Since(s.began)); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(s.out, "\nCan the old key be disabled? %s\n%s\n", s.answer.Answer,
		report.Wrap(s.answer.Sentence))
	return nil
}

// findings is what the check saw.
type findings struct {
	readable, unreadable, lost, damaged, untouched, touched int
}

func (f findings) verdict(out io.Writer, took time.Duration) error {
	if f.unreadable+f.lost+f.damaged+f.touched > 0 || f.readable != items+objects-poison-foreign || f.untouched != poison+foreign {
		return errors.New("the demo failed: see the figures above")
	}
	_, _ = fmt.Fprintf(out, "\nEverything held, in %.1f s.\n", took.Seconds())
	return nil
}

// halfWay is closed over the number of ReEncrypt requests so far: it is true
// once the run has asked for half of the slots.
func (s *show) halfWay() func() bool {
	began := s.server.Faults().Counts()["kms:ReEncrypt"]
	return func() bool { return s.server.Faults().Counts()["kms:ReEncrypt"]-began > (items+objects)/2 }
}

// writes counts the requests so far that could change a target.
func (s *show) writes() int {
	counts := s.server.Faults().Counts()
	sum := 0
	for _, operation := range []string{"dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:BatchWriteItem",
		"dynamodb:BatchExecuteStatement", "dynamodb:ExecuteStatement", "dynamodb:TransactWriteItems",
		"s3:PutObject", "s3:CopyObject", "s3:DeleteObject", "s3:DeleteObjects", "s3:CreateMultipartUpload", "s3:PutObjectTagging"} {
		sum += counts[operation]
	}
	return sum
}

const jobFile = `job: demo
destination:
  key: alias/demo-new
source:
  keys: [alias/demo-old]
kms:
  rate: 20000
workers: 32
targets:
  - name: customers
    dynamodb: {table: customers, segments: 4}
    format: raw
    slots:
      - path: ssn
        context: {tenant: "${tenant}", purpose: pii}
  - name: vault
    s3: {bucket: vault, prefix: prod/}
    format: base64
    slots:
      - context: {app: demo}
`
