package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"go.uber.org/zap/zapcore"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/printable"
	"rotator/internal/reencrypt"
	"rotator/internal/report"
	"rotator/internal/retry"
	"rotator/internal/rotate"
)

// The exit codes; docs/exit-codes.md is their table. Go ends a panic with 2.
const (
	exitDone        = 0
	exitInternal    = 1
	exitPanic       = 2
	exitExceptions  = 3   // complete, with slots in the ledger
	exitRemaining   = 4   // slots under a source key remain
	exitUsage       = 64  // the command line
	exitUnavailable = 69  // a service was unavailable; resumable
	exitStorage     = 73  // checkpoint, audit log or report cannot be written
	exitInterrupted = 75  // stopped before the end; resumable
	exitBusy        = 76  // another run holds the state, or took it over
	exitAccess      = 77  // denied, key unusable, credentials refused; resumable
	exitJob         = 78  // the job file
	exitPipe        = 141 // the reader of stdout ended, as after SIGPIPE; never combined
)

// outcomeError ends a command whose result has been printed with an exit code.
type outcomeError struct {
	code int
	text string
}

func (e *outcomeError) Error() string { return e.text }

// commandError adds the name of the command to its error. The advice for an error
// depends on the command: audit and verify save no progress.
type commandError struct {
	command string
	err     error
}

func (e *commandError) Error() string { return e.err.Error() }
func (e *commandError) Unwrap() error { return e.err }

// inCommand returns err as a *commandError, or nil.
func inCommand(command string, err error) error {
	if err == nil {
		return nil
	}
	return &commandError{command, err}
}

// hintedError is an error with its own advice, which replaces that of its exit code.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }

// explain prints an error with what to type next, and returns its exit code.
func (s streams) explain(err error) int {
	if err == nil {
		return exitDone
	}
	if errors.Is(err, pipeError{}) {
		return exitPipe
	}
	command := ""
	if in, ok := err.(*commandError); ok {
		command, err = in.command, in.err
	}
	err = s.nameCheckpoint(err)
	code, hint := exitCode(command, err)
	lines := s.linesOf(err)
	if text, ok := s.stop.stopped(); ok && code == exitInterrupted && interrupted(err) {
		lines, hint = []string{s.secrets.Text(text)}, ""
	}
	for i, line := range lines {
		lines[i] = printable.Text(line)
	}
	_, _ = fmt.Fprintf(s.err, "rotator: %s\n", strings.Join(lines, "\n"))
	if chain := err.Error(); s.level.Enabled(zapcore.DebugLevel) && chain != s.headline(err) {
		_, _ = printable.Fprintf(s.err, "rotator: in full: %s\n", s.secrets.Text(chain))
	}
	if hint != "" {
		_, _ = printable.Fprintf(s.err, "rotator: %s\n", hint)
	}
	return code
}

// linesOf splits an error that is printed on more than one line: the problems
// of a job file, and joined errors. Line breaks in other errors may come from
// outside and do not split them. The texts are redacted one by one: the name of a field, such as
// grant_tokens, does not make the text that follows it a secret.
func (s streams) linesOf(err error) []string {
	if problems, ok := err.(*config.Problems); ok {
		redacted := config.Problems{File: problems.File}
		for _, p := range problems.List {
			p.Field, p.Detail = s.secrets.Text(p.Field), s.secrets.Text(p.Detail)
			redacted.List = append(redacted.List, p)
		}
		return redacted.Lines()
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var texts, lines []string
		for _, one := range joined.Unwrap() {
			texts, lines = append(texts, one.Error()), append(lines, s.linesOf(one)...)
		}
		if strings.Join(texts, "\n") == err.Error() {
			return lines
		}
	}
	return []string{s.secrets.Text(s.headline(err))}
}

// precedence lists the exit codes that a joined error can have. The first one that
// applies is used.
func precedence() []int {
	return []int{exitUsage, exitInternal, exitJob, exitAccess, exitBusy, exitStorage,
		exitUnavailable, exitInterrupted, exitRemaining, exitExceptions}
}

// exitCode maps an error of a command to its exit code and a hint. The hint is "" if the
// error needs none. For a joined error the code that comes first in precedence is used.
func exitCode(command string, err error) (code int, hint string) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return oneExitCode(command, err)
	}
	best := len(precedence())
	for _, part := range joined.Unwrap() {
		c, h := exitCode(command, part)
		if rank := slices.Index(precedence(), c); rank >= 0 && rank < best {
			best, code, hint = rank, c, h
		}
	}
	return code, hint
}

// oneExitCode is exitCode for an error that is not joined.
func oneExitCode(command string, err error) (code int, hint string) {
	code, hint = codeOf(command, err)
	if hinted := (*hintedError)(nil); errors.As(err, &hinted) {
		hint = hinted.hint
	}
	return code, hint
}

func codeOf(command string, err error) (code int, hint string) {
	var (
		outcome  *outcomeError
		problems *config.Problems
		stop     *retry.StopError
		key      *reencrypt.KeyError
		locked   *checkpoint.LockedError
		storage  *storageError
		output   *outputError
	)
	detail, badEndpoint := noEndpoint(err)
	switch {
	case badEndpoint:
		return exitJob, detail
	case errors.As(err, &outcome):
		return outcome.code, ""
	case errors.As(err, &problems):
		return exitJob, ""
	case isUsage(err):
		return exitUsage, ""
	case errors.As(err, &stop) && stop.NoPass:
		return stopCode(command, stop)
	case errors.As(err, &output):
		return exitStorage, outputHint(command, errors.Is(err, syscall.EPIPE))
	case errors.As(err, &locked):
		return exitBusy, "wait for that run to end, or stop it; rotator status shows how far it is"
	case errors.As(err, &key) && key.Wrong:
		return exitJob, ""
	case errors.As(err, &key):
		return exitAccess, ""
	case errors.Is(err, checkpoint.ErrFenced):
		return exitBusy, "another run took over this pass; rotator status prints its progress"
	case checkpoint.IsNewer(err):
		return exitBusy, ""
	case errors.As(err, &stop) && (!errors.As(err, &storage) || cutShort(storage) ||
		stop.Kind == retry.StopAccess || stop.Kind == retry.StopJob):
		return stopCode(command, stop) // 78 and 77 come before 73
	case errors.As(err, &storage) && cutShort(storage):
		return exitInterrupted, interruptedHint(command)
	case errors.As(err, &storage) && serviceDenies(err):
		return serviceCode(command, err)
	case errors.As(err, &storage) && rotate.CheckpointAway(err):
		return exitUnavailable, unavailableHint(command)
	case errors.As(err, &storage):
		return exitStorage, storageHint(err)
	}
	return serviceCode(command, err)
}

// readOnly reports whether a command reads all targets and saves no progress.
func readOnly(command string) bool { return command == "audit" || command == "verify" }

func unavailableHint(command string) string {
	switch {
	case readOnly(command):
		return startsOver(command, " when the service is available")
	case command == "run" || command == "retry":
		return "progress up to the last save is kept; run again when the service is available"
	}
	return "run again when the service is available"
}

// interruptedHint returns the advice for a command that was stopped before its end.
func interruptedHint(command string) string {
	switch {
	case readOnly(command):
		return startsOver(command, "")
	case command == "run":
		return "run again to resume the pass"
	case command == "retry":
		return "run rotator retry again for the rest of the ledger"
	}
	return "run again"
}

// startsOver returns the advice for a read-only command that did not finish. when states
// when to run it again, or is "".
func startsOver(command, when string) string {
	return fmt.Sprintf("%s saves no progress, so it starts over when it is run again; "+
		"run rotator %s again%s", command, command, when)
}

// outputHint returns the advice for a result that could not be written to stdout. closed is true
// if the program that read it has ended.
func outputHint(command string, closed bool) string {
	again := "free space where stdout is written, or redirect it elsewhere, and run again"
	if closed {
		again = "redirect stdout to a file, and run again"
	}
	switch {
	case command == "run" || command == "retry":
		return "the result is in the checkpoint; rotator report prints it again"
	case readOnly(command):
		return again + "; or print the stored result with rotator report --read-pass"
	}
	return again
}

// cutShort reports whether a request to the checkpoint ended because the command had to stop.
// The checkpoint itself is then not the cause.
func cutShort(err error) bool { return retry.Classify(err) == retry.KindStopped }

// accessHint returns the advice for denied access, an unusable key or refused credentials, if
// the state of the ledger is unknown.
func accessHint(command string) string {
	if readOnly(command) {
		return startsOver(command, " when this is corrected")
	}
	return "correct this and run again to continue"
}

// storageHint returns the advice for a checkpoint or audit log that cannot be written. The
// error of a checkpoint that cannot be read contains its own advice.
func storageHint(err error) string {
	damaged := (*checkpoint.DamagedError)(nil)
	switch {
	case errors.As(err, new(*report.SumError)):
		return "the version of rotator that wrote these records has a bug: please report it, and " +
			"run rotator verify for new figures"
	case errors.As(err, &damaged), checkpoint.IsUnreadable(err):
		return ""
	}
	return "progress up to the last save is kept; correct this, for example make the directory " +
		"writable, and run again"
}

func stopCode(command string, stop *retry.StopError) (code int, hint string) {
	switch stop.Kind {
	case retry.StopInterrupted:
		return exitInterrupted, interruptedHint(command)
	case retry.StopUnavailable:
		if stop.NoPass && !readOnly(command) {
			command = ""
		}
		return exitUnavailable, unavailableHint(command)
	case retry.StopAccess:
		return exitAccess, accessHint(command)
	case retry.StopStorage:
		return exitStorage, storageHint(stop)
	case retry.StopFenced:
		return exitBusy, "another run took over this pass; rotator status prints its progress"
	case retry.StopJob, retry.StopEarly:
		return exitJob, ""
	case retry.StopAnswer:
		return exitInternal, "KMS, or a proxy in front of it, mixes up responses: find the cause " +
			"before you run again (docs/reliability.md)"
	}
	return exitInternal, "this is a bug: please report it with the log"
}

// serviceDenies reports whether a service denied access or refused the credentials.
func serviceDenies(err error) bool {
	class := retry.Classify(err)
	return class == retry.KindDenied || class == retry.KindCredentials
}

// serviceCode returns the exit code and the hint for an error of a service before a pass.
func serviceCode(command string, err error) (code int, hint string) {
	switch retry.Classify(err) {
	case retry.KindCredentials:
		return exitAccess, "" // the cause is enough
	case retry.KindDenied, retry.KindKeyState:
		return exitAccess, "check the IAM policy and the key policy (deploy/iam)"
	case retry.KindThrottled, retry.KindTransient, retry.KindUnknown:
		return exitUnavailable, unavailableHint(command)
	case retry.KindMissing:
		return exitJob, ""
	case retry.KindStopped:
		return exitInterrupted, interruptedHint(command)
	}
	return exitInternal, ""
}

// storageError is a failure to read or write the checkpoint, the audit log or the report.
type storageError struct {
	what string
	err  error
}

func (e *storageError) Error() string { return fmt.Sprintf("%s: %v", e.what, e.err) }
func (e *storageError) Unwrap() error { return e.err }
