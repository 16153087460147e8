package main

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
)

// outputError is the error of a result that could not be written to stdout.
type outputError struct{ err error }

func (e *outputError) Error() string { return fmt.Sprintf("write to stdout: %v", e.err) }
func (e *outputError) Unwrap() error { return e.err }

// resultWriter writes to stdout. Its errors are *outputError. After the first error
// nothing more is written, so a result has no gap. It is safe for concurrent use.
type resultWriter struct {
	mu  sync.Mutex
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (r *resultWriter) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.w.Write(p)
	if err != nil {
		r.err = &outputError{err}
	}
	return n, r.err
}

func (r *resultWriter) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// pipeError is the error of a command that only prints, if the reader of stdout has ended. It is
// not printed, because the reader, such as head, has all that it needs.
type pipeError struct{}

func (pipeError) Error() string { return "the program that reads stdout has ended" }

// onlyPrints reports whether a command has no effect other than its output. "" is a command
// without a job file, such as schema.
func onlyPrints(command string) bool {
	switch command {
	case "run", "retry", "audit", "verify", "evidence", "create-table", "prune":
		return false
	}
	return true
}

// withOutput adds the error of stdout to the error of a command, unless the command has
// already returned it.
func (s streams) withOutput(err error) error {
	failed := s.result.failure()
	if failed == nil {
		return err
	}
	returned := errors.Is(err, failed)
	if errors.Is(failed, syscall.EPIPE) && onlyPrints(s.stop.name()) {
		if err == nil || returned {
			return pipeError{}
		}
		return err
	}
	if returned {
		return err
	}
	if in, ok := err.(*commandError); ok {
		return inCommand(in.command, errors.Join(in.err, failed))
	}
	if err == nil {
		return failed
	}
	return errors.Join(err, failed)
}
