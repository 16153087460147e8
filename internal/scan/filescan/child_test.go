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

// The tasks of a child process, in the environment variable of this name.
const childVar = "FILESCAN_TEST_CHILD"

// child replaces the file of a root, and dies at a step, or says what came of it. It
// is false in a process that is none.
func child() bool {
	task := strings.Split(os.Getenv(childVar), "\x1f")
	if len(task) != 3 {
		return false
	}
	root, at, foreign := task[0], step(task[1]), task[2]
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
		if now == stepSwap && foreign != "" { // another program, in the one moment that counts
			path := filepath.Join(root, "file")
			if err := errors.Join(os.WriteFile(path+".tmp", []byte(foreign), 0o600),
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

func (s *store) inChild(at step, foreign string) (says string, err error) {
	return s.runChild(exec.Command(os.Args[0]), at, foreign)
}

func (s *store) runChild(cmd *exec.Cmd, at step, foreign string) (says string, err error) {
	cmd.Env = append(os.Environ(),
		childVar+"="+strings.Join([]string{s.root, string(at), foreign}, "\x1f"))
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// TestCrashSweep kills the process at each step, with and without another program
// that replaces the file in the moment of the swap. Nothing is half written, nothing
// of the other program is lost, and the next run removes what is left.
func TestCrashSweep(t *testing.T) {
	for _, foreign := range []string{"", "foreign"} {
		for _, at := range append([]step{stepBack}, steps...) {
			t.Run(string(at)+"/"+foreign, func(t *testing.T) {
				s := newStore(t)
				ref := s.write("file", oldBody)
				says, err := s.inChild(at, foreign)
				if died := err != nil; died == (says != "") {
					t.Fatalf("it said %q and ended with %v", says, err)
				}
				if got := s.content()["file"]; got != oldBody && got != newBody && got != foreign {
					t.Errorf("after the death the file holds %q", got)
				}
				look := New(Config{Root: s.root})
				before := fmt.Sprint(s.content())
				if got := fmt.Sprint(all(t, look)); got != "[file]" ||
					fmt.Sprint(s.content()) != before {
					t.Errorf("a listing without Sweep shows %s, and leaves %v of %v", got,
						s.content(), before)
				}
				run := New(Config{Root: s.root})
				run.Sweep()
				all(t, run)
				s.clean("file")
				got := s.content()["file"]
				if foreign != "" && at != stepTake && got != foreign && !early(at) {
					t.Errorf("the file holds %q, and what the other program wrote is lost", got)
				}
				if err := replaceOne(run, change(t, run, ref, "next")); err != nil {
					t.Errorf("the next replacement: %v", err)
				}
				s.clean("file")
			})
		}
	}
}

// early says whether a step is before the one at which the other program comes.
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

// TestForeignAfterTheDeath: what came out of the swap is no longer put back when the
// file was changed once more; it is kept, and named.
func TestForeignAfterTheDeath(t *testing.T) {
	s := newStore(t)
	ref := s.write("file", oldBody)
	if _, err := s.inChild(stepCompare, "foreign"); err == nil {
		t.Fatal("the child did not die")
	}
	s.replace(ref, "newest")
	f := New(Config{Root: s.root})
	f.Sweep()
	all(t, f)
	content := s.content()
	if len(content) != 2 || content["file"] != "newest" ||
		!strings.Contains(strings.Join(f.Notes(), "\n"), "changed again since") {
		t.Errorf("the directory holds %v, the notes say %q", content, f.Notes())
	}
}

// TestSweepLeavesTheLiving: what a process is about to put in place is not taken.
func TestSweepLeavesTheLiving(t *testing.T) {
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
			t.Errorf("a sweep at %s: %v", at, err)
		}
		s.clean("file")
	}
}

// TestNotOurs: files that are only named like ours are items like all others.
func TestNotOurs(t *testing.T) {
	s := newStore(t)
	s.write(".rotator-new-short", oldBody)
	s.write(".rotator-swap-x-y-z-ABCDEFGHIJKLMNOPQRSTUVWXYZ", oldBody)
	f := New(Config{Root: s.root})
	f.Sweep()
	if got := all(t, f); len(got) != 2 {
		t.Errorf("listed %q", got)
	}
	if content := s.content(); len(content) != 2 {
		t.Errorf("left %v", content)
	}
}

// public is a directory that every user can get to.
func public(t *testing.T) string {
	dir, err := os.MkdirTemp("/tmp", "filescan")
	if err := errors.Join(err, os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestAsAnotherUser tries what root may do and others may not.
func TestAsAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can become another user")
	}
	const nobody = 65534
	program := filepath.Join(public(t), "filescan.test") // the directory of the test is root's
	text, err := os.ReadFile(os.Args[0])
	if err := errors.Join(err, os.WriteFile(program, text, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, says       string
		fileUID, dirUID  int
		fileMode, dirMod os.FileMode
	}{
		{"own file", "<nil>", nobody, nobody, 0o600, 0o700},
		{"read-only file", "read-only: ", nobody, nobody, 0o400, 0o700},
		{"unreadable file", "permission: ", nobody, nobody, 0o200, 0o700},
		{"read-only directory", "read-only: ", nobody, 0, 0o600, 0o755},
		{"another's file", "owner: ", 0, nobody, 0o666, 0o700},
		{"unreadable directory", "the directory ", nobody, 0, 0o600, 0o711},
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
			says, err := s.runChild(cmd, at, "")
			if err != nil || !strings.HasPrefix(says, c.says) {
				t.Errorf("it said %q (%v), want %q", says, err, c.says)
			}
			if want := map[bool]string{true: newBody,
				false: oldBody}[c.says == "<nil>"]; s.content()["file"] != want {
				t.Errorf("the file holds %q", s.content()["file"])
			}
			s.clean("file")
		})
	}
}
