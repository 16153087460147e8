package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"rotator/internal/plural"
	"rotator/internal/printable"
	"rotator/internal/retry"
)

const (
	// sameStop is how long further signals count as part of the first one: a shell and a
	// wrapper may both forward one Ctrl-C.
	sameStop = 2 * time.Second
	// sayPatience is the maximum time to wait for a stderr that blocks.
	sayPatience = 500 * time.Millisecond
)

// phase is the progress of a command.
type phase int

const (
	beforeWork phase = iota // no item has been read
	working
	saved // the results are saved
)

// stopper ends a command on signals and states on stderr what happens: the first signal
// cancels the context of the command, a later one ends the process.
type stopper struct {
	say    func(line string) // prints a line on stderr
	cancel context.CancelFunc
	exit   func(code int)

	mu       sync.Mutex
	began    time.Time // of the first signal; zero before
	command  string    // "run"; "" before a job file is named
	file     string    // job file
	phase    phase
	progress string // the progress of the pass, in the phase saved
}

// stopSignals returns a channel of the signals that stop a command. A SIGHUP that is ignored
// from the start, as under nohup, stays ignored.
func stopSignals() <-chan os.Signal {
	signals := make(chan os.Signal, 16)
	stop := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		stop = append(stop, syscall.SIGHUP)
	}
	signal.Notify(signals, stop...)
	return signals
}

// survivePipes makes a write to a pipe without a reader return an error. Otherwise, on stdout
// and stderr, it would end this process at once, with work in progress.
func survivePipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// watch acts on signals until the channel is closed.
func (s *stopper) watch(signals <-chan os.Signal) {
	for range signals {
		now := time.Now()
		s.mu.Lock()
		first, line := s.began.IsZero(), ""
		switch {
		case first:
			s.began, line = now, s.stopping()
		case now.Sub(s.began) >= sameStop:
			line = fmt.Sprintf("ended by a second signal, %s after the first", since(s.began)) +
				s.afterEnd()
		}
		s.mu.Unlock()
		switch {
		case first:
			s.print(line)
			s.cancel()
		case line != "":
			s.print(line)
			s.exit(exitInterrupted)
		}
	}
}

// print prints a line. It waits at most sayPatience for a stderr that blocks.
func (s *stopper) print(line string) {
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		s.say("rotator: " + line)
	}()
	timeout := time.NewTimer(sayPatience)
	defer timeout.Stop()
	select {
	case <-printed:
	case <-timeout.C:
	}
}

// stopping returns the line for the first signal. It must be called with mu held.
func (s *stopper) stopping() string {
	atOnce := fmt.Sprintf(". Ctrl-C, or another signal, after %s ends it at once", sameStop)
	switch {
	case s.command == "run" || s.command == "retry":
		return fmt.Sprintf("stopping: requests in progress are completed and saved, in at most %s",
			shutdownGrace) + atOnce
	case readOnly(s.command):
		return fmt.Sprintf("stopping: requests in progress are completed, and the result so far "+
			"is printed, in at most %s", shutdownGrace) + atOnce
	}
	return "stopping" + atOnce
}

// names records the command and the job file that it reads.
func (s *stopper) names(command, file string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.command, s.file = command, file
}

// name returns the command, or "" if it reads no job file.
func (s *stopper) name() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.command
}

// reached records the phase of the command and, in the phase saved, the progress of the pass.
func (s *stopper) reached(at phase, progress string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase, s.progress = at, progress
}

// stopped returns the final message of a command that a signal has stopped. ok is false
// without a signal.
func (s *stopper) stopped() (text string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.began.IsZero() {
		return "", false
	}
	text = "stopped after " + since(s.began)
	switch {
	case s.command == "" || !s.passes():
	case s.phase == beforeWork:
		text += ", before any item was read"
	case s.phase == saved:
		text += "; " + s.progress
	case readOnly(s.command):
		text += "; not all items were read"
	default:
		text += "; not everything could be saved, and the next run finds it again"
	}
	if s.command == "" {
		return text, true
	}
	return text + ". " + resumeAdvice(s.command, s.file), true
}

// passes reports whether the command works on the items of the targets. It must be called
// with mu held.
func (s *stopper) passes() bool {
	return readOnly(s.command) || s.command == "run" || s.command == "retry"
}

// afterEnd returns how to continue after a process that ended at once. It must be called with
// mu held.
func (s *stopper) afterEnd() string {
	switch s.command {
	case "":
		return ""
	case "run", "retry":
		return ". The next run finds again what was not saved. " + resumeAdvice(s.command, s.file)
	}
	return ". " + resumeAdvice(s.command, s.file)
}

// resumeAdvice returns a sentence with the command line that continues a stopped command.
func resumeAdvice(command, file string) string {
	line := fmt.Sprintf("rotator %s -f %s", command, shellWord(file))
	switch {
	case readOnly(command):
		return "rotator " + startsOver(command, "")
	case command == "run" || command == "retry":
		return "Continue with: " + line
	}
	return "Run again: " + line
}

// shellWord quotes a text for a POSIX shell if it needs quotes.
func shellWord(text string) string {
	plain := func(c rune) bool {
		return c < utf8.RuneSelf && (unicode.IsLetter(c) || unicode.IsDigit(c)) ||
			strings.ContainsRune("_./@%+=:,-", c)
	}
	if text != "" && strings.IndexFunc(text, func(c rune) bool { return !plain(c) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// since returns the time since t, for messages.
func since(t time.Time) string {
	return fmt.Sprintf("%.1fs", time.Since(t).Seconds())
}

// sayTo returns a function that prints lines to w, with secrets removed.
func (s streams) sayTo(w io.Writer) func(string) {
	return func(line string) {
		_, _ = fmt.Fprintln(w, printable.Text(s.secrets.Text(line)))
	}
}

// interrupted reports whether err means that a command received a stop signal.
func interrupted(err error) bool {
	stop := (*retry.StopError)(nil)
	return errors.As(err, &stop) && stop.Kind == retry.StopInterrupted ||
		retry.Classify(err) == retry.KindStopped
}

// halted records the progress of the pass if a run received a stop signal and its results are
// saved. worked is the error that ended the run.
func (s *session) halted(worked error) {
	if worked == nil || !interrupted(worked) {
		return
	}
	progress := "the entries that were tried are saved"
	if s.summary.Command == "run" {
		progress = fmt.Sprintf("pass %d is at %s%s, saved",
			s.summary.Pass, plural.Count(s.summary.Slots.Seen, "slot"), s.share())
	}
	s.stop.reached(saved, progress)
}

// share returns the percentage of items that are done, or "" if their number is unknown.
func (s *session) share() string {
	all := s.items()
	if all <= 0 {
		return ""
	}
	return fmt.Sprintf(" (about %d%%)", min(99, 100*s.summary.Items.Seen/all))
}
