package filescan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"rotator/internal/scan"
)

// childVar is the environment variable with the task of a child process.
const childVar = "FILESCAN_TEST_CHILD"

// child replaces the file of a directory and kills itself at a step, or prints the error of
// Replace. It returns false in a process that is not a child.
func child() bool {
	task := strings.Split(os.Getenv(childVar), "\x1f")
	if len(task) != 3 {
		return false
	}
	root, at, other := task[0], step(task[1]), task[2]
	f := New(Config{Root: root})
	if at == "list" {
		_, err := f.Page(context.Background(), scan.Partition{Spec: []byte(`{"order":"path"}`)},
			nil)
		fmt.Println(err)
		return true
	}
	item, err := f.Load(context.Background(), "file")
	if err != nil {
		fmt.Println(err)
		return true
	}
	f.hook = func(now step) error {
		// another program replaces the file immediately before the swap
		if now == stepSwap && other != "" {
			path := filepath.Join(root, "file")
			if err := errors.Join(os.WriteFile(path+".tmp", []byte(other), 0o600),
				os.Rename(path+".tmp", path)); err != nil {
				return err
			}
		}
		if now == at {
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil
	}
	fmt.Println(replaceOne(f, scan.Change{Item: item, New: splice(item.Payload, []byte(newBody))}))
	return true
}

func (s *store) inChild(at step, other string) (output string, err error) {
	return s.runChild(exec.Command(os.Args[0]), at, other)
}

func (s *store) runChild(cmd *exec.Cmd, at step, other string) (output string, err error) {
	cmd.Env = append(os.Environ(),
		childVar+"="+strings.Join([]string{s.root, string(at), other}, "\x1f"))
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// TestCrashSweep kills the process at each step, with and without another program that
// replaces the file immediately before the swap. No file is partially written, no update of
// the other program is lost, and the next run removes the leftovers.
func TestCrashSweep(t *testing.T) {
	for _, other := range []string{"", "other"} {
		for _, at := range append([]step{stepSwapBack}, steps...) {
			t.Run(string(at)+"/"+other, func(t *testing.T) {
				s := newStore(t)
				ref := s.write("file", oldBody)
				output, err := s.inChild(at, other)
				if died := err != nil; died == (output != "") {
					t.Fatalf("output %q, error %v", output, err)
				}
				if got := s.content()["file"]; got != oldBody && got != newBody && got != other {
					t.Errorf("content %q after the kill", got)
				}
				look := New(Config{Root: s.root})
				before := fmt.Sprint(s.content())
				if got := fmt.Sprint(all(t, look)); got != "[file]" ||
					fmt.Sprint(s.content()) != before {
					t.Errorf("a listing without Sweep returns %s and changes %v to %v", got,
						s.content(), before)
				}
				run := New(Config{Root: s.root})
				run.Sweep()
				all(t, run)
				s.clean("file")
				got := s.content()["file"]
				if other != "" && at != stepLock && got != other && !early(at) {
					t.Errorf("content %q, want that of the other program", got)
				}
				if err := replaceOne(run, change(t, run, ref, "next")); err != nil {
					t.Errorf("the next replacement: %v", err)
				}
				s.clean("file")
			})
		}
	}
}

// early reports whether a step precedes the swap.
func early(at step) bool {
	for _, s := range steps {
		if s == stepSwap {
			return false
		}
		if s == at {
			return true
		}
	}
	return false
}

// A file that was displaced by the swap of a killed process is not restored if the file was
// changed again. It is kept and noted.
func TestUpdateAfterCrash(t *testing.T) {
	s := newStore(t)
	ref := s.write("file", oldBody)
	if _, err := s.inChild(stepCompare, "other"); err == nil {
		t.Fatal("the child was not killed")
	}
	s.replace(ref, "newest")
	f := New(Config{Root: s.root})
	f.Sweep()
	all(t, f)
	content := s.content()
	if len(content) != 2 || content["file"] != "newest" ||
		!strings.Contains(strings.Join(f.Notes(), "\n"), "changed again afterwards") {
		t.Errorf("directory %v, notes %q", content, f.Notes())
	}
}

// A sweep does not remove the temporary file of a running process.
func TestSweepKeepsRunningReplacement(t *testing.T) {
	for _, at := range steps {
		s := newStore(t)
		ref := s.write("file", oldBody)
		f := New(Config{Root: s.root})
		f.hook = func(now step) error {
			if now == at {
				other := New(Config{Root: s.root})
				other.Sweep()
				all(t, other)
			}
			return nil
		}
		if err := replaceOne(f, change(t, f, ref, newBody)); err != nil {
			t.Errorf("sweep at %s: %v", at, err)
		}
		s.clean("file")
	}
}

// Files whose names resemble temporary files are ordinary items.
func TestSimilarNames(t *testing.T) {
	s := newStore(t)
	s.write(".rotator-new-short", oldBody)
	s.write(".rotator-swap-x-y-z-ABCDEFGHIJKLMNOPQRSTUVWXYZ", oldBody)
	f := New(Config{Root: s.root})
	f.Sweep()
	if got := all(t, f); len(got) != 2 {
		t.Errorf("listed %q", got)
	}
	if content := s.content(); len(content) != 2 {
		t.Errorf("directory %v", content)
	}
}

// public returns a directory that every user can access.
func public(t *testing.T) string {
	dir, err := os.MkdirTemp("/tmp", "filescan")
	if err := errors.Join(err, os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestAsAnotherUser tests operations that only root may do.
func TestAsAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can become another user")
	}
	const nobody = 65534
	// only root can access the directory of the test
	program := filepath.Join(public(t), "filescan.test")
	text, err := os.ReadFile(os.Args[0])
	if err := errors.Join(err, os.WriteFile(program, text, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, output     string
		fileUID, dirUID  int
		fileMode, dirMod os.FileMode
	}{
		{"own file", "<nil>", nobody, nobody, 0o600, 0o700},
		{"read-only file", "read-only: ", nobody, nobody, 0o400, 0o700},
		{"unreadable file", "permission: ", nobody, nobody, 0o200, 0o700},
		{"read-only directory", "read-only: ", nobody, 0, 0o600, 0o755},
		{"file of another user", "owner: ", 0, nobody, 0o666, 0o700},
		{"unreadable directory", "this user may not ", nobody, 0, 0o600, 0o711},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := public(t)
			s := &store{t: t, root: dir}
			s.write("file", oldBody)
			path := filepath.Join(dir, "file")
			s.check(errors.Join(os.Chmod(path, c.fileMode), os.Chown(path, c.fileUID, 0),
				os.Chmod(dir, c.dirMod), os.Chown(dir, c.dirUID, 0)))
			cmd := exec.Command(program)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody}}
			at := step("")
			if c.name == "unreadable directory" {
				at = "list"
			}
			output, err := s.runChild(cmd, at, "")
			if err != nil || !strings.HasPrefix(output, c.output) {
				t.Errorf("output %q (%v), want %q", output, err, c.output)
			}
			if want := map[bool]string{true: newBody,
				false: oldBody}[c.output == "<nil>"]; s.content()["file"] != want {
				t.Errorf("content %q", s.content()["file"])
			}
			s.clean("file")
		})
	}
}
