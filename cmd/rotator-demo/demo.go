package main

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
	"rotator/internal/verdict"
	"rotator/internal/watch"
)

// Exit codes of rotator that the demo expects.
const (
	rotatorDone       = 0
	rotatorExceptions = 3 // complete, with slots in the ledger
)

// demoConfig holds the flags of the demo.
type demoConfig struct {
	binary string // rotator, run as a child process
	out    io.Writer
	dir    string // of the job file, checkpoint and audit log; "" for a temporary directory
}

// full is the amount of data of the demo.
func full() amounts {
	return amounts{items: 20000, objects: 2000, poison: 50, moved: 200, foreign: 100}
}

// runDemo runs the demo. It returns nil only if every check succeeds.
func runDemo(ctx context.Context, config demoConfig) error {
	dir, remove, err := workDir(config.dir)
	if err != nil {
		return err
	}
	defer remove()
	server, err := fakeaws.Start(fakeaws.Config{})
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }()
	d := &demo{
		out:    config.out,
		server: server,
		began:  time.Now(),
		rotator: rotator{
			binary: config.binary,
			dir:    dir,
			env:    server.AWSEnv(),
			out:    config.out,
		},
	}
	return d.run(ctx)
}

// demo is one demonstration.
type demo struct {
	out     io.Writer
	server  *fakeaws.Server
	rotator rotator
	began   time.Time
	data    *dataset
	verdict string // the sentence of report --verdict on the old key
	watched string // what watch reported about it
}

// announce prints a heading with the time since the start.
func (d *demo) announce(format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, "\n%s\n", report.Wrap(fmt.Sprintf("== %.1fs %s",
		time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))))
}

func (d *demo) run(ctx context.Context) error {
	n := full()
	data, err := seed(ctx, d.server, n)
	if err != nil {
		return fmt.Errorf("create the data: %w", err)
	}
	d.data = data
	path := filepath.Join(d.rotator.dir, jobName)
	if err := os.WriteFile(path, []byte(jobFile), 0o600); err != nil {
		return err
	}
	d.announce("stored %d items and %d objects under the old key; "+
		"of these, %d are no ciphertexts, %d are under the new key, %d under a third key",
		n.items, n.objects, n.poison, n.moved, n.foreign)

	d.announce("rotator audit: which ciphertexts depend on the old key? (writes nothing)")
	before := d.writes()
	audit, err := d.rotator.summary(ctx, rotatorDone, "audit")
	if err != nil {
		return err
	}
	if sent := d.writes() - before; sent != 0 {
		return fmt.Errorf("the audit sent %d write requests", sent)
	}
	want := int64(n.items + n.objects - n.poison - n.moved - n.foreign)
	if got := audit.Slots.Remaining; got != want {
		return fmt.Errorf("the audit found %d slots under the old key, want %d", got, want)
	}
	return d.migrate(ctx)
}

// migrate moves the ciphertexts while a writer changes them.
func (d *demo) migrate(ctx context.Context) error {
	writing, stopWriting := context.WithCancel(ctx)
	defer stopWriting()
	w := newWriter(d.data)
	written := make(chan error, 1)
	go func() { written <- w.run(writing) }()

	d.announce("rotator run, while a writer changes items; killed with SIGKILL half way")
	if err := d.rotator.kill(ctx, d.halfWay()); err != nil {
		return err
	}
	d.announce("rotator run again: it resumes the pass")
	if _, err := d.rotator.summary(ctx, rotatorExceptions, "run"); err != nil {
		return err
	}
	d.announce("the writer switches to the new key; rotator run starts the next pass, " +
		"for the ciphertexts that were written under the old key in the meantime")
	w.switchKey()
	if _, err := d.rotator.summary(ctx, rotatorExceptions, "run"); err != nil {
		return err
	}
	d.announce("rotator retry tries the slots in the ledger again; all of them stay there")
	if _, err := d.rotator.summary(ctx, rotatorExceptions, "retry"); err != nil {
		return err
	}
	if err := d.verify(ctx); err != nil {
		return err
	}
	if err := d.disable(ctx); err != nil {
		return err
	}
	stopWriting()
	if err := <-written; err != nil {
		return fmt.Errorf("the concurrent writer: %w", err)
	}
	return d.prove(ctx, w)
}

// verify runs rotator verify and checks that no slot is under the old key.
func (d *demo) verify(ctx context.Context) error {
	n := d.data.amounts
	d.announce("rotator verify: does any ciphertext still depend on the old key? "+
		"(exit code %d because of the %d exceptions)", rotatorExceptions, n.poison+n.foreign)
	verify, err := d.rotator.summary(ctx, rotatorExceptions, "verify")
	if err != nil {
		return err
	}
	if verify.Slots.Remaining != 0 {
		return fmt.Errorf("verify found %d slots under the old key", verify.Slots.Remaining)
	}
	return nil
}

// disable asks the gate, writes an evidence pack, disables the old key, and checks that no caller
// is refused. The writer still works.
func (d *demo) disable(ctx context.Context) error {
	d.announce("rotator report --verdict: the gate before the key is disabled")
	var gate report.Gate
	if err := d.rotator.result(ctx, rotatorDone, &gate, "report", "--verdict"); err != nil {
		return err
	}
	if err := gate.Text(d.out); err != nil {
		return err
	}
	for _, v := range gate.Verdicts {
		if v.Key == d.data.old && v.Code == verdict.CanBeDisabled {
			d.verdict = v.Sentence
		}
	}
	if d.verdict == "" {
		return fmt.Errorf("the gate does not report that the old key can be disabled: %+v",
			gate.Verdicts)
	}
	if err := d.pack(ctx); err != nil {
		return err
	}
	d.announce("the demo disables the old key, as its owner would. The writer goes on. " +
		"rotator watch: does a caller still need the key?")
	if err := d.data.disableOld(ctx); err != nil {
		return err
	}
	return d.watch(ctx)
}

// watch runs rotator watch and checks that no caller but rotator used the old key or needs it.
func (d *demo) watch(ctx context.Context) error {
	var found watch.Result
	if err := d.rotator.result(ctx, rotatorDone, &found, "watch"); err != nil {
		return err
	}
	if len(found.Keys) != 1 {
		return fmt.Errorf("watch reports on %d keys, want 1", len(found.Keys))
	}
	k := found.Keys[0]
	_, _ = fmt.Fprintf(d.out, "\n%s\n\n", report.Wrap(k.Sentence))
	for _, fact := range k.Facts {
		_, _ = fmt.Fprintln(d.out, report.Wrap(fact.About+": "+fact.Sentence))
	}
	if k.ARN != d.data.old || k.Status != watch.Quiet || len(k.Trail.Callers) > 0 ||
		k.LastUsage.By != watch.ByRotator || k.Disabled.IsZero() {
		return fmt.Errorf("watch does not report that only rotator used the old key: %+v", k)
	}
	d.watched = fmt.Sprintf("%s Its last use was a %s of rotator itself, and CloudTrail shows no "+
		"call by another caller since it was disabled.", k.Sentence, k.LastUsage.Operation)
	return nil
}

// prove reads every item and object, and prints the figures. The old key is disabled.
func (d *demo) prove(ctx context.Context, w *writer) error {
	d.announce("the old key is disabled; the demo's own client decrypts every ciphertext")
	ledger, err := d.rotator.ledger(ctx)
	if err != nil {
		return err
	}
	found, err := d.data.check(ctx, ledger)
	if err != nil {
		return err
	}
	d.announce("rotator report --check: the last pass that moved ciphertexts, " +
		"and its audit log")
	if err := d.rotator.show(ctx, "report", "--check"); err != nil {
		return err
	}
	d.announce("the figures")
	for _, f := range []struct {
		what string
		got  int
	}{
		{"ciphertexts decrypted with the old key disabled", found.readable},
		{"ciphertexts that cannot be decrypted", found.unreadable},
		{"lost updates", found.lost},
		{"other attributes changed", found.damaged},
		{"exceptions unchanged and in the ledger", found.untouched},
		{"exceptions changed or not in the ledger", found.touched},
		{"writes by the concurrent writer", w.writes},
		{"ReEncrypt requests of all commands", d.reEncrypts()},
	} {
		_, _ = fmt.Fprintf(d.out, "%8d  %s\n", f.got, f.what)
	}
	if !found.complete(d.data.amounts) {
		return errors.New("a check failed; see the figures above")
	}
	_, err = fmt.Fprintf(d.out, "\nAll checks passed in %.1f s.\n\n%s\n"+
		"\nThen the demo disabled it:\n%s\n",
		time.Since(d.began).Seconds(), report.Wrap(d.verdict), report.Wrap(d.watched))
	return err
}

// halfWay returns a function that reports whether rotator has sent ReEncrypt requests for
// half of the slots since the call of halfWay.
func (d *demo) halfWay() func() bool {
	before, n := d.reEncrypts(), d.data.amounts
	return func() bool { return d.reEncrypts()-before > (n.items+n.objects)/2 }
}

// reEncrypts returns the number of ReEncrypt requests so far.
func (d *demo) reEncrypts() int { return d.server.Faults().Counts()["kms:ReEncrypt"] }

// writes returns the number of requests so far that can change a target.
func (d *demo) writes() (sum int) {
	counts := d.server.Faults().Counts()
	for _, operation := range []string{
		"dynamodb:PutItem",
		"dynamodb:UpdateItem",
		"dynamodb:DeleteItem",
		"dynamodb:BatchWriteItem",
		"dynamodb:BatchExecuteStatement",
		"dynamodb:ExecuteStatement",
		"dynamodb:TransactWriteItems",
		"s3:PutObject",
		"s3:CopyObject",
		"s3:DeleteObject",
		"s3:DeleteObjects",
		"s3:CreateMultipartUpload",
		"s3:PutObjectTagging",
	} {
		sum += counts[operation]
	}
	return sum
}
