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

// measured is one run of one client.
type measured struct {
	CPU    float64 // seconds of user and system time of the client's process
	Wall   float64 // seconds
	RSS    int64   // its peak, in bytes
	Counts counts
	Allocs float64 // per item, where the client tells
	Items  int
	Output []byte // its stdout
}

func (m measured) perItem() float64 { return m.CPU / float64(m.Items) }

func microseconds(m measured) float64 { return m.perItem() * 1e6 }

// others are the requests per item that are no ReEncrypt.
func (m measured) others() float64 {
	return float64(m.Counts.total()-m.Counts.reEncrypts()) / float64(m.Items)
}

func (m measured) requests() float64 { return float64(m.Counts.total()) / float64(m.Items) }

func (m measured) late() float64 { return float64(m.Counts.Late) }

func (m measured) mebibytes() float64 { return float64(m.RSS) / (1 << 20) }

// wrong says what a run did otherwise than to write so many items, each once and as
// it had to be.
func (m measured) wrong(written int) error {
	if m.Counts.Written != int64(written) || m.Counts.Faults > 0 {
		return fmt.Errorf("%d of %d items were written, with %d faults: %v", m.Counts.Written, written, m.Counts.Faults, m.Counts.Wrong)
	}
	return nil
}

// server is a stub that runs.
type server struct {
	announced
	process *exec.Cmd
	asks    io.WriteCloser
	answers *json.Decoder
}

// serve starts a stub for a trial.
func (l *lab) serve(t trial) (*server, error) {
	args := append([]string{"stub", "-store", t.store, "-items", strconv.Itoa(t.items), "-dir", l.dir}, t.stub...)
	s := &server{process: exec.Command(l.self, args...)}
	s.process.Stderr = os.Stderr
	asks, err := s.process.StdinPipe()
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
	s.asks, s.answers = asks, json.NewDecoder(bufio.NewReader(out))
	if err := s.answers.Decode(&s.announced); err != nil {
		s.close()
		return nil, fmt.Errorf("start the stub: %w", err)
	}
	return s, nil
}

// counts asks the stub what it saw since it was asked last.
func (s *server) counts() (c counts, err error) {
	if _, err = io.WriteString(s.asks, "counts\n"); err == nil {
		err = s.answers.Decode(&c)
	}
	if err != nil {
		err = fmt.Errorf("read what the stub counted: %w", err)
	}
	return c, err
}

// close ends the stub, whose stdin is its life.
func (s *server) close() {
	_ = s.asks.Close()
	_ = s.process.Wait() // its end says nothing that counts does not
}

// run starts a stub of its own, runs the contestant against it to the end, and
// checks that every item was moved, once, and as it had to be.
func (l *lab) run(c contestant, t trial) (measured, error) {
	s, err := l.serve(t)
	if err != nil {
		return measured{}, err
	}
	defer s.close()
	m, err := l.against(s, c, t)
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

// against runs the contestant against a stub, and judges nothing.
func (l *lab) against(s *server, c contestant, t trial) (measured, error) {
	if err := l.writeJob(t); err != nil {
		return measured{}, err
	}
	env := []string{"AWS_ENDPOINT_URL=" + s.Endpoint, "AWS_CA_BUNDLE=" + s.Certificate, "AWS_REGION=" + region, "AWS_DEFAULT_REGION=" + region,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_ACCESS_KEY_ID=AKIDBENCHBENCHBENCH0", "AWS_SECRET_ACCESS_KEY=not-a-secret"}
	if c.letter == ours {
		env = append(append(env, l.extra...), t.env...)
	}
	if l.profiles != "" {
		env = append(env, profileInto+"="+l.profiles)
	}
	m, err := execute(c.command(t), env, c.letter == ours)
	if err != nil {
		return m, err
	}
	m.Items = t.items
	m.Allocs /= float64(t.items)
	m.Counts, err = s.counts()
	return m, err
}

// withExceptions is the exit code of rotator when a pass is complete and some slots
// are in the ledger (docs/operations.md).
const withExceptions = 3

// execute runs one client process to its end. What rotator could not move is for the
// caller to find.
func execute(command, env []string, rotator bool) (measured, error) {
	process := exec.Command(command[0], command[1:]...)
	process.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "AWS_") || strings.HasPrefix(v, "GO") }), env...)
	var out, log bytes.Buffer
	process.Stdout, process.Stderr = &out, &log
	began := time.Now()
	err := process.Run()
	wall := time.Since(began)
	if exit := (*exec.ExitError)(nil); rotator && errors.As(err, &exit) && exit.ExitCode() == withExceptions {
		err = nil
	}
	if err != nil {
		return measured{}, fmt.Errorf("%w\n%s", err, log.Bytes()[max(0, log.Len()-2000):])
	}
	m := measured{CPU: (process.ProcessState.UserTime() + process.ProcessState.SystemTime()).Seconds(), Wall: wall.Seconds(), Output: out.Bytes()}
	if usage, ok := process.ProcessState.SysUsage().(*syscall.Rusage); ok {
		m.RSS = usage.Maxrss << 10
	}
	m.Allocs = mallocs(out.Bytes(), log.Bytes())
	return m, nil
}

// mallocs is how often a client allocated: our loops print it, and builds of rotator
// with its profile write it to stderr; 0 where nobody says.
func mallocs(out, log []byte) (n float64) {
	var told allocations
	if json.Unmarshal(out, &told) == nil && told.Mallocs > 0 {
		return float64(told.Mallocs)
	}
	if _, line, ok := bytes.Cut(log, []byte("allocations: ")); ok {
		_, _ = fmt.Sscanf(string(line), "%f", &n) // 0 if it is no number
	}
	return n
}
