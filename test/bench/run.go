package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// measured holds the figures of one run of one client.
type measured struct {
	CPU    float64 // seconds of user and system time of the client process
	Wall   float64 // seconds
	RSS    int64   // peak memory in bytes
	Counts counts
	Allocs float64 // allocations per item; 0 if the client does not report them
	Items  int
	Output []byte // stdout of the client
}

func (m measured) perItem() float64 { return m.CPU / float64(m.Items) }

func microseconds(m measured) float64 { return m.perItem() * 1e6 }

// others returns the number of requests per item other than ReEncrypt.
func (m measured) others() float64 {
	return float64(m.Counts.total()-m.Counts.reEncrypts()) / float64(m.Items)
}

func (m measured) requests() float64 { return float64(m.Counts.total()) / float64(m.Items) }

func (m measured) late() float64 { return float64(m.Counts.Late) }

func (m measured) mebibytes() float64 { return float64(m.RSS) / (1 << 20) }

// wrong returns an error unless the run wrote this number of items, each once and correctly.
func (m measured) wrong(written int) error {
	if m.Counts.Written != int64(written) || m.Counts.Faults > 0 {
		return fmt.Errorf("%d of %d items were written, with %d faults: %v",
			m.Counts.Written, written, m.Counts.Faults, m.Counts.Wrong)
	}
	return nil
}

// server is a running stub.
type server struct {
	startup
	process  *exec.Cmd
	commands io.WriteCloser
	replies  *json.Decoder
}

// serve starts the stub of a scenario.
func (h *harness) serve(t scenario) (*server, error) {
	args := []string{kindStub, "-store", t.store, "-items", strconv.Itoa(t.items), "-dir", h.dir}
	s := &server{process: exec.Command(h.self, append(args, t.stub...)...)}
	s.process.Stderr = os.Stderr
	commands, err := s.process.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	s.commands, s.replies = commands, json.NewDecoder(bufio.NewReader(out))
	if err := s.replies.Decode(&s.startup); err != nil {
		s.close()
		return nil, fmt.Errorf("start the stub: %w", err)
	}
	return s, nil
}

// counts returns what the stub counted since the previous call.
func (s *server) counts() (c counts, err error) {
	if _, err = io.WriteString(s.commands, "counts\n"); err == nil {
		err = s.replies.Decode(&c)
	}
	if err != nil {
		err = fmt.Errorf("read what the stub counted: %w", err)
	}
	return c, err
}

// close ends the stub, which exits when its stdin is closed.
func (s *server) close() {
	_ = s.commands.Close()
	_ = s.process.Wait() // counts has reported all errors
}

// run starts a stub, runs the candidate against it, and checks that every item was moved once
// and correctly.
func (h *harness) run(c candidate, t scenario) (measured, error) {
	s, err := h.serve(t)
	if err != nil {
		return measured{}, err
	}
	defer s.close()
	m, err := h.against(s, c, t)
	if err == nil && !slices.Contains(t.stub, "-moved") {
		err = m.wrong(t.items)
	} else if err == nil {
		err = m.wrong(0)
	}
	if err != nil {
		return measured{}, fmt.Errorf("%s over %s: %w", strings.Trim(c.what, "*"), t.store, err)
	}
	return m, nil
}

// against runs the candidate against a stub. It does not check the result.
func (h *harness) against(s *server, c candidate, t scenario) (measured, error) {
	if err := h.writeJob(t); err != nil {
		return measured{}, err
	}
	env := []string{
		"AWS_ENDPOINT_URL=" + s.Endpoint,
		"AWS_CA_BUNDLE=" + s.Certificate,
		"AWS_REGION=" + region,
		"AWS_DEFAULT_REGION=" + region,
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=AKIDBENCHBENCHBENCH0",
		"AWS_SECRET_ACCESS_KEY=not-a-secret",
	}
	if c.letter == letterRotator {
		env = append(append(env, h.extra...), t.env...)
	}
	if h.profiles != "" {
		env = append(env, profileInto+"="+h.profiles)
	}
	m, err := execute(c.command(t), env, c.letter == letterRotator)
	if err != nil {
		return m, err
	}
	m.Items = t.items
	m.Allocs /= float64(t.items)
	m.Counts, err = s.counts()
	return m, err
}

// withExceptions is the exit code of rotator if a pass is complete and slots are in the ledger
// (docs/exit-codes.md).
const withExceptions = 3

// execute runs one client process to its end. Exit code 3 of rotator is no error: the caller
// checks which slots were moved.
func execute(command, env []string, rotator bool) (measured, error) {
	process := exec.Command(command[0], command[1:]...)
	process.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "AWS_") || strings.HasPrefix(v, "GO")
	}), env...)
	var out, log bytes.Buffer
	process.Stdout, process.Stderr = &out, &log
	began := time.Now()
	err := process.Run()
	wall := time.Since(began)
	exit := (*exec.ExitError)(nil)
	if rotator && errors.As(err, &exit) && exit.ExitCode() == withExceptions {
		err = nil
	}
	if err != nil {
		return measured{}, fmt.Errorf("%w\n%s", err, log.Bytes()[max(0, log.Len()-2000):])
	}
	state := process.ProcessState
	m := measured{
		CPU:    (state.UserTime() + state.SystemTime()).Seconds(),
		Wall:   wall.Seconds(),
		Output: out.Bytes(),
	}
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		m.RSS = usage.Maxrss << 10
	}
	m.Allocs = mallocs(out.Bytes(), log.Bytes())
	return m, nil
}

// mallocs returns the number of allocations of a client. The loops print it to stdout, and
// builds of rotator with profiles to stderr; otherwise it is 0.
func mallocs(out, log []byte) (n float64) {
	var printed allocations
	if json.Unmarshal(out, &printed) == nil && printed.Mallocs > 0 {
		return float64(printed.Mallocs)
	}
	if _, line, ok := bytes.Cut(log, []byte("allocations: ")); ok {
		_, _ = fmt.Sscanf(string(line), "%f", &n) // n stays 0 if this is not a number
	}
	return n
}
