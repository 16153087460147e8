package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"rotator/internal/fakeaws/fault"
	"rotator/internal/harness"
	"rotator/internal/report"
)

// TestSignals: signals within two seconds of the first one count as the same request to stop.
// A later signal ends the process, and a line states this.
func TestSignals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after  []time.Duration // of the signals, since the first one
		exits  bool
		blocks bool // writes to stderr block
	}{
		"one":              {after: []time.Duration{0}},
		"forwarded twice":  {after: []time.Duration{0, time.Millisecond, sameStop - 1}},
		"second":           {after: []time.Duration{0, sameStop}, exits: true},
		"after two others": {after: []time.Duration{0, time.Second, 3 * time.Second}, exits: true},
		"blocked stderr":   {after: []time.Duration{0, 3 * time.Second}, exits: true, blocks: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var lines []string
				var canceled, exited []int
				release := make(chan struct{})
				s := &stopper{
					say: func(line string) {
						if c.blocks {
							<-release
						}
						mu.Lock()
						defer mu.Unlock()
						lines = append(lines, line)
					},
					cancel: func() { canceled = append(canceled, 0) },
					exit:   func(code int) { exited = append(exited, code) },
				}
				s.names("run", "job.yaml")
				signals := make(chan os.Signal)
				go s.watch(signals)
				began := time.Now()
				for _, after := range c.after {
					time.Sleep(time.Until(began.Add(after)))
					signals <- syscall.SIGINT
				}
				time.Sleep(time.Second)
				close(signals)
				close(release)
				synctest.Wait()
				wantLines, wantExits := 1, []int(nil)
				if c.exits {
					wantLines, wantExits = 2, []int{exitInterrupted}
				}
				if len(lines) != wantLines || len(canceled) != 1 ||
					!slices.Equal(exited, wantExits) {
					t.Errorf("%d lines, %d cancels, exits %v, want %d, 1, %v: %q",
						len(lines), len(canceled), exited, wantLines, wantExits, lines)
				}
			})
		})
	}
}

// stopLines returns the lines of rotator itself on stderr, which begin with its name.
func stopLines(r harness.Result) (lines []string) {
	for line := range strings.Lines(r.Log) {
		if text, ok := strings.CutPrefix(line, "rotator: "); ok {
			lines = append(lines, strings.TrimSpace(text))
		}
	}
	return lines
}

// wantLines checks the lines of a command that received a stop signal: one for each text, in this
// order.
func wantLines(t *testing.T, r harness.Result, texts ...string) {
	t.Helper()
	lines := stopLines(r)
	ok := len(lines) == len(texts)
	for i := 0; ok && i < len(texts); i++ {
		ok = strings.Contains(lines[i], texts[i])
	}
	if !ok || r.Code != exitInterrupted || strings.Contains(r.Log, "context canceled") {
		t.Errorf("want exit code %d and lines with %q: %s", exitInterrupted, texts, r)
	}
}

// TestStopsOnSignals: each stop signal makes a command complete its requests and stop. One line
// states this at once, and another states the progress of the pass at the end. The command in
// that line resumes the pass.
func TestStopsOnSignals(t *testing.T) {
	t.Parallel()
	hangupStops(t)
	const goesOn = "Continue with: rotator run -f job.yaml"
	for name, send := range map[string]func(t *testing.T, p *harness.Process){
		"SIGINT":  func(t *testing.T, p *harness.Process) { p.Signal(t, syscall.SIGINT) },
		"SIGTERM": func(t *testing.T, p *harness.Process) { p.Signal(t, syscall.SIGTERM) },
		"SIGHUP":  func(t *testing.T, p *harness.Process) { p.Signal(t, syscall.SIGHUP) },
		"two within a second": func(t *testing.T, p *harness.Process) {
			p.Signal(t, syscall.SIGINT)
			time.Sleep(100 * time.Millisecond)
			p.Signal(t, syscall.SIGINT)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fewer()
			c.Rate = 20
			w := newTrial(t, c)
			// Requests that the command must complete before it stops.
			w.Fault("kms:ReEncrypt", fault.Fault{Delay: 300 * time.Millisecond})
			p := runs(w).Begin(t)
			until(t, "some requests", requestsSent(w, 20))
			send(t, p)
			r := p.End(t)
			wantLines(t, r, "stopping: requests in progress are completed and saved, in at most 9s",
				"; pass 1 is at ")
			if !strings.Contains(r.Log, "saved. "+goesOn) {
				t.Errorf("want %q: %s", goesOn, r)
			}
			stopped(t, w, r, exitInterrupted)
			w.Server.Faults().Clear("")
			replaceInJob(t, w, "rate: 20", "rate: 5000")
			toTheEnd(t, w)
		})
	}
}

// TestSecondSignal: a second signal, more than two seconds after the first, ends the process at
// once, and a line states this.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	c := fewer()
	c.MaxOutage = "5m"
	w := newTrial(t, c)
	w.Fault("kms:ReEncrypt", fault.Fault{Skip: 40, Delay: time.Minute})
	p := runs(w).Begin(t)
	until(t, "some requests", requestsSent(w, 45))
	p.Signal(t, syscall.SIGINT)
	time.Sleep(sameStop + 200*time.Millisecond)
	before := p.Age()
	p.Signal(t, syscall.SIGINT)
	r := p.End(t)
	if took := r.Took - before; took > 2*time.Second+slack() && before < 4*time.Second {
		t.Errorf("the second signal took %s", took)
	}
	wantLines(t, r, "stopping: ", "ended by a second signal, ")
	w.Server.Faults().Clear("")
	w.CountsVary()
	toTheEnd(t, w)
}

// TestStopsOfReadOnlyPasses: audit and verify start over, and a line states this.
func TestStopsOfReadOnlyPasses(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"audit", "verify"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			c := fewer()
			c.Rate = 20
			w := newTrial(t, c)
			p := w.Command(command, "-o", "json", "--exact").Begin(t)
			until(t, "some requests", requestsSent(w, 20))
			p.Signal(t, syscall.SIGTERM)
			r := p.End(t)
			wantLines(t, r, "stopping: requests in progress are completed, and the result so far",
				"not all items were read. rotator "+command+" saves no progress, so it starts over")
			if r.Summary == nil || r.Summary.Status != report.Stopped {
				t.Errorf("want the result so far: %s", r)
			}
		})
	}
}

// TestStopsBeforeThePass: a command reports a stop signal while it waits for any service, before
// and during the pass.
func TestStopsBeforeThePass(t *testing.T) {
	t.Parallel()
	one := map[harness.Kind]int{harness.Ordinary: 1}
	few := harness.Config{Items: one, Objects: one, MaxOutage: "5m"}
	seen := newTrial(t, few)
	before := seen.Server.Faults().Counts()
	seen.Must(t, []int{exitDone}, "run", "-o", "json")
	var operations []string
	for operation, n := range seen.Server.Faults().Counts() {
		if n > before[operation] {
			operations = append(operations, operation)
		}
	}
	if len(operations) < 5 || !slices.Contains(operations, "kms:DescribeKey") {
		t.Fatalf("the preflight uses only %q", operations)
	}
	preflight := []string{"kms:DescribeKey", "kms:ReEncrypt", "sts:GetCallerIdentity",
		"dynamodb:DescribeTable", "s3:HeadBucket"}
	for _, command := range []string{"run", "audit"} {
		for _, operation := range operations {
			t.Run(command+" "+operation, func(t *testing.T) {
				t.Parallel()
				w := newTrial(t, few)
				w.Fault(operation, fault.Fault{Delay: time.Minute})
				began := w.Requests(operation)
				p := w.Command(command).Begin(t)
				until(t, operation+", or the end", func() bool {
					return w.Requests(operation) > began || p.Ended()
				})
				if p.Ended() {
					return // this command does not need the operation
				}
				p.Signal(t, syscall.SIGTERM)
				before := p.Age()
				r := p.End(t)
				if took := r.Took - before; took > stopPatience+slack() {
					t.Errorf("the command took %s to stop", took)
				}
				wantLines(t, r, "stopping: ", "stopped after ")
				if early := slices.Contains(preflight, operation); early !=
					strings.Contains(r.Log, "before any item was read") {
					t.Errorf("before any item was read: %v: %s", early, r)
				}
			})
		}
	}
}

// TestHangupIsIgnoredUnderNohup: a command that was started with SIGHUP ignored continues when
// its terminal is closed.
func TestHangupIsIgnoredUnderNohup(t *testing.T) {
	t.Parallel()
	c := fewer()
	c.Command = []string{"sh", "-c", `trap "" HUP; exec "$0" "$@"`, os.Args[0]}
	c.Rate = 50
	w := newTrial(t, c)
	p := runs(w).Begin(t)
	until(t, "some requests", requestsSent(w, 10))
	p.Signal(t, syscall.SIGHUP)
	r := p.End(t)
	if !slices.Contains(complete(), r.Code) {
		t.Errorf("the run did not continue: %s", r)
	}
	w.Check(t, r.Summary)
}

// hangupStops makes commands that a test starts receive SIGHUP, also where the tests run under
// nohup. A process that handles a signal passes its default action to its children.
func hangupStops(t *testing.T) {
	t.Helper()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(signals) })
}

// TestReaderOfTheLogEndsToo: if a hangup also ends the program that reads stderr, the run still
// completes its requests and stops.
func TestReaderOfTheLogEndsToo(t *testing.T) {
	hangupStops(t)
	t.Parallel()
	c := fewer()
	c.Rate = 20
	w := newTrial(t, c)
	p := runs(w)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stderr = write
	p.Begin(t)
	_ = write.Close()
	until(t, "some requests", requestsSent(w, 20))
	_ = read.Close()
	p.Signal(t, syscall.SIGHUP)
	r := p.End(t)
	stopped(t, w, r, exitInterrupted)
}

// TestLinesAboveTheBar: on a terminal, lines that are printed while the bar is shown stay
// visible, and Ctrl-C stops the run.
func TestLinesAboveTheBar(t *testing.T) {
	t.Parallel()
	keyboard, terminal := openTerminal(t)
	c := fewer()
	c.Rate = 20
	w := newTrial(t, c)
	p := w.Command("run")
	p.Stdin, p.Stderr = terminal, terminal
	p.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	p.Begin(t)
	_ = terminal.Close()
	var output bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&output, keyboard) // ends with an error when the process has ended
	}()
	until(t, "some requests", requestsSent(w, 20))
	if _, err := keyboard.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	r := p.End(t)
	<-read
	screen := strings.Join(shownOn(output.String()), "\n")
	for _, line := range []string{"rotator: stopping: ", "rotator: stopped after "} {
		if strings.Count(screen, line) != 1 {
			t.Errorf("want one line with %q on the screen:\n%s", line, screen)
		}
	}
	if r.Code != exitInterrupted || !strings.Contains(output.String(), "partitions, ") {
		t.Errorf("exit code %d, or there was no bar: %q", r.Code, output.String())
	}
}

// openTerminal opens both sides of a pseudo terminal.
func openTerminal(t *testing.T) (keyboard, terminal *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo terminal on this machine: %v", err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	fd := int(keyboard.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 200})
	}
	if err == nil {
		terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return keyboard, terminal
}

// shownOn returns the lines that a terminal shows after some output, for the control
// sequences that the progress bar uses.
func shownOn(output string) (lines []string) {
	lines, row := []string{""}, 0
	for output != "" {
		switch {
		case strings.HasPrefix(output, "\x1b["):
			end := 2 + strings.IndexFunc(output[2:], unicode.IsLetter)
			n, _ := strconv.Atoi(output[2:end])
			switch output[end] {
			case 'A':
				row = max(0, row-max(1, n))
			case 'J':
				lines = lines[:row+1]
				lines[row] = ""
			}
			output = output[end+1:]
		case output[0] == '\n':
			if row++; row == len(lines) {
				lines = append(lines, "")
			}
			output = output[1:]
		case output[0] == '\r':
			output = output[1:]
		default:
			lines[row], output = lines[row]+output[:1], output[1:]
		}
	}
	return lines
}
