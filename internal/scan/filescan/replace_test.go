package filescan

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rotator/internal/scan"
)

// steps are all steps of a replacement without concurrent changes, in order.
var steps = []step{stepLock, stepCreate, stepWrite, stepProperties, stepSync, stepRename, stepSwap,
	stepCompare, stepSyncDir, stepRemove}

const (
	oldBody = "old body, of some length\n"
	newBody = "new body\n"
)

// change loads a file and returns a change of its body.
func change(t testing.TB, f *Files, ref scan.Ref, body string) scan.Change {
	t.Helper()
	item, err := f.Load(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return scan.Change{Item: item, New: splice(item.Payload, []byte(body))}
}

func replaceOne(f *Files, c scan.Change) error {
	return f.Replace(context.Background(), []scan.Change{c})[0].Err
}

// clean fails the test if the directory contains other files.
func (s *store) clean(want ...string) {
	s.t.Helper()
	if got := s.names(s.root); fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("the directory contains %q, want %q", got, want)
	}
}

// The order of the steps is fixed, because durability depends on it.
func TestSteps(t *testing.T) {
	s := newStore(t)
	ref := s.write("file", oldBody)
	f := New(Config{Root: s.root})
	var seen []step
	f.hook = func(at step) error { seen = append(seen, at); return nil }
	if err := replaceOne(f, change(t, f, ref, newBody)); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(seen) != fmt.Sprint(steps) {
		t.Errorf("steps %v, want %v", seen, steps)
	}
	if got := s.content()["file"]; got != newBody {
		t.Errorf("content %q", got)
	}
}

// The modification time is preserved with its sub-second part if KeepMtime is set. Otherwise
// it is the time of the write.
func TestMtime(t *testing.T) {
	for _, keep := range []bool{true, false} {
		s := newStore(t)
		ref := s.write("file", oldBody)
		then := time.Date(2019, 3, 4, 5, 6, 7, 123456789, time.UTC)
		s.check(os.Chtimes(s.path(ref), time.Time{}, then))
		f := New(Config{Root: s.root, KeepMtime: keep})
		s.check(replaceOne(f, change(t, f, ref, newBody)))
		info, err := os.Stat(s.path(ref))
		s.check(err)
		if info.ModTime().Equal(then) != keep {
			t.Errorf("keep %v: modification time %v, want %v", keep, info.ModTime(), then)
		}
	}
}

// disturbances are changes by another program, and the contents that the file may have afterwards.
// "" means that the file does not exist.
var disturbances = []struct {
	name string
	do   func(*store, scan.Ref)
	want []string
}{
	{
		"overwritten",
		func(s *store, ref scan.Ref) { s.overwrite(ref, "other") },
		[]string{"other"},
	},
	{
		"overwritten with the same length",
		func(s *store, ref scan.Ref) { s.overwrite(ref, strings.ToUpper(oldBody)) },
		[]string{strings.ToUpper(oldBody)},
	},
	{"overwritten through a memory map", func(s *store, ref scan.Ref) {
		info, err := os.Stat(s.path(ref))
		s.check(err)
		body := []byte(s.content()["file"])
		body[0] = 'O'
		file, err := os.OpenFile(s.path(ref), os.O_WRONLY, 0)
		s.check(err)
		_, err = file.Write(body)
		s.check(errors.Join(err, file.Close(),
			os.Chtimes(s.path(ref), time.Time{}, info.ModTime())))
	}, []string{"O" + oldBody[1:], "O" + newBody[1:]}},
	{"replaced", func(s *store, ref scan.Ref) { s.replace(ref, "other") }, []string{"other"}},
	{
		"replaced by a copy",
		func(s *store, ref scan.Ref) { s.replace(ref, oldBody) },
		[]string{oldBody},
	},
	{"appended to", func(s *store, ref scan.Ref) {
		file, err := os.OpenFile(s.path(ref), os.O_WRONLY|os.O_APPEND, 0)
		s.check(err)
		_, err = file.WriteString("more")
		s.check(err)
		s.check(file.Close())
	}, []string{oldBody + "more", newBody + "more"}},
	{"deleted", func(s *store, ref scan.Ref) { s.check(os.Remove(s.path(ref))) }, []string{""}},
	{
		"truncated",
		func(s *store, ref scan.Ref) { s.check(os.Truncate(s.path(ref), 3)) },
		[]string{oldBody[:3], newBody[:3]},
	},
}

// TestNoLostUpdate runs another program once at each step. If names cannot be exchanged, it
// only does so at the steps for which Notes promises protection.
func TestNoLostUpdate(t *testing.T) {
	beforeSwap := steps[:slices.Index(steps, stepSwap)]
	for _, d := range disturbances {
		for name, c := range map[string]struct {
			leases, swaps bool
			steps         []step
		}{
			"all":       {true, true, steps},
			"no leases": {false, true, steps},
			"no swaps":  {true, false, beforeSwap},
			"neither":   {false, false, beforeSwap},
		} {
			for _, at := range c.steps {
				t.Run(name+"/"+d.name+"/"+string(at), func(t *testing.T) {
					t.Parallel()
					f := New(Config{})
					f.disabled.leases, f.disabled.swaps = !c.leases, !c.swaps
					disturb(t, f, at, d.do, d.want)
				})
			}
		}
	}
}

// disturb replaces a file, runs another program at a step, and checks the resulting content.
func disturb(t *testing.T, f *Files, at step, do func(*store, scan.Ref), allowed []string) {
	s := newStore(t)
	ref := s.write("file", oldBody)
	f.config.Root = s.root
	var other sync.WaitGroup
	var once sync.Once
	f.hook = func(now step) error {
		if now == at {
			once.Do(func() { alongside(&other, func() { do(s, ref) }) })
		}
		return nil
	}
	err := replaceOne(f, change(t, f, ref, newBody))
	other.Wait()
	got, there := s.content()["file"]
	if want := slices.Index(allowed, got); want < 0 || there != (allowed[want] != "") {
		t.Errorf("content %q, want one of %q; Replace returned %v", got, allowed, err)
	}
	if err != nil && !errors.Is(err, scan.ErrChanged) && !errors.Is(err, scan.ErrGone) {
		t.Errorf("replace: %v, want ErrChanged or ErrGone", err)
	}
	if there {
		s.clean("file")
	} else {
		s.clean()
	}
}

// On a file system without RENAME_EXCHANGE, the file is replaced and a note is added.
func TestWithoutSwaps(t *testing.T) {
	s := newStore(t)
	ref := s.write("file", oldBody)
	f := New(Config{Root: s.root})
	f.disabled.leases, f.disabled.swaps = true, true
	s.check(replaceOne(f, change(t, f, ref, newBody)))
	if got := s.content()["file"]; got != newBody || len(f.Notes()) != 1 {
		t.Errorf("content %q, notes %q", got, f.Notes())
	}
	s.clean("file")
}

// alongside runs do as another program. It returns when do has returned or is blocked by the
// lease.
func alongside(group *sync.WaitGroup, do func()) {
	done := make(chan struct{})
	group.Go(func() { defer close(done); do() })
	select {
	case <-done:
	case <-time.After(50 * time.Millisecond):
	}
}

// A change of the mode before the exchange is not lost.
func TestMetadataOfOthersStays(t *testing.T) {
	for _, at := range steps {
		s := newStore(t)
		ref := s.write("file", oldBody)
		f := New(Config{Root: s.root})
		f.hook = func(now step) error {
			if now == at {
				return os.Chmod(s.path(ref), 0o640)
			}
			return nil
		}
		err := replaceOne(f, change(t, f, ref, newBody))
		info, wrong := os.Stat(s.path(ref))
		s.check(wrong)
		if info.Mode() != 0o640 {
			t.Errorf("at %s: mode %v; Replace returned %v", at, info.Mode(), err)
		}
	}
}

// Other programs append to a file or replace it by longer versions while it is rewritten
// repeatedly. In the end it contains every piece exactly once.
func TestManyWriters(t *testing.T) {
	const pieces = 300
	s := newStore(t)
	ref := s.write("file", "A")
	f := New(Config{Root: s.root})
	var writers sync.WaitGroup
	var stop atomic.Bool
	// the only other program that replaces the file, so that no other loses its pieces
	writers.Go(func() {
		defer stop.Store(true)
		for n := range pieces {
			s.append(ref, n, rand.IntN(2) == 0)
			time.Sleep(time.Duration(rand.IntN(1500)) * time.Microsecond)
		}
	})
	written := 0
	for !stop.Load() {
		item, err := f.Load(t.Context(), ref)
		if err != nil {
			continue
		}
		body := string(slotOf(item.Payload))
		next := map[byte]string{'A': "B", 'B': "A"}[body[0]] + body[1:]
		switch err := replaceOne(f,
			scan.Change{Item: item, New: splice(item.Payload, []byte(next))}); {
		case err == nil:
			written++
		case !errors.Is(err, scan.ErrChanged) && !errors.Is(err, scan.ErrGone):
			t.Errorf("replace: %v", err)
		}
	}
	writers.Wait()
	got := s.content()["file"]
	for n := range pieces {
		if strings.Count(got, piece(n)) != 1 {
			t.Errorf("piece %d occurs %d times", n, strings.Count(got, piece(n)))
		}
	}
	if written == 0 {
		t.Error("the file was never rewritten")
	}
	s.clean("file")
	t.Logf("rewritten %d times", written)
}

func piece(n int) string { return fmt.Sprintf("<%d>", n) }

// append adds a piece, in place or by replacing the file with a longer copy.
func (s *store) append(ref scan.Ref, n int, inPlace bool) {
	path := s.path(ref)
	if inPlace {
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		s.check(err)
		_, err = file.WriteString(piece(n))
		s.check(err)
		s.check(file.Close())
		return
	}
	body, err := os.ReadFile(path)
	s.check(err)
	s.check(os.WriteFile(path+".tmp", []byte(string(body)+piece(n)), 0o600))
	s.check(os.Rename(path+".tmp", path))
}

// TestFaults returns file system errors at each step. The file is unchanged or, after the
// exchange, the run ends.
func TestFaults(t *testing.T) {
	for _, fails := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS,
		syscall.EFBIG, syscall.EIO, syscall.EACCES, syscall.EBUSY, syscall.EMFILE} {
		for _, at := range steps {
			s := newStore(t)
			ref := s.write("file", oldBody)
			f := New(Config{Root: s.root})
			f.hook = func(now step) error {
				if now == at {
					return &os.PathError{Op: "write", Path: "file", Err: fails}
				}
				return nil
			}
			err := replaceOne(f, change(t, f, ref, newBody))
			var storage *scan.StorageError
			var refused *scan.RefusedError
			atSwap := at == stepCompare || at == stepRemove // the fault occurs in a comparison
			switch {
			case err == nil:
				t.Errorf("%v at %s: no error", fails, at)
			case atSwap:
				if !errors.Is(err, scan.ErrChanged) {
					t.Errorf("%v at %s: %v, want ErrChanged", fails, at, err)
				}
			case errors.As(err,
				&storage) != (fails != syscall.EACCES && fails != syscall.EBUSY &&
				fails != syscall.EMFILE || at == stepSyncDir):
				t.Errorf("%v at %s: %v, a StorageError %v", fails, at, err,
					errors.As(err, &storage))
			case errors.As(err,
				&refused) != ((fails == syscall.EACCES || fails == syscall.EBUSY) &&
				at != stepSyncDir):
				t.Errorf("%v at %s: %v, a RefusedError %v", fails, at, err,
					errors.As(err, &refused))
			}
			want := oldBody
			if at == stepSyncDir {
				want = newBody
			}
			if got := s.content()["file"]; got != want {
				t.Errorf("%v at %s: content %q", fails, at, got)
			}
			f.hook = nil
			f.Sweep()
			all(t, f)
			s.clean("file")
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		reason string
		do     func(s *store, path string)
	}{
		{"hard-link", func(s *store, path string) { s.check(os.Link(path, path+".2")) }},
		{"read-only", func(s *store, path string) { s.check(os.Chmod(path, 0o444)) }},
		{"xattr", func(s *store, path string) {
			if err := unix.Setxattr(path, "security.ima", []byte{1, 2, 3}, 0); err != nil {
				s.t.Skipf("SKIPPED: only root can sign a file: %v", err)
			}
		}},
		{"in-use", func(s *store, path string) { // another program has it open for writing
			file, err := os.OpenFile(path, os.O_RDWR, 0)
			s.check(err)
			s.t.Cleanup(func() { _ = file.Close() })
		}},
		{"in-use", func(s *store, path string) { // another program has it locked
			file, err := os.Open(path)
			s.check(err)
			s.check(unix.Flock(int(file.Fd()), unix.LOCK_SH))
			s.t.Cleanup(func() { _ = file.Close() })
		}},
	} {
		t.Run(c.reason, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			ref := s.write("file", oldBody)
			c.do(s, s.path(ref))
			f := New(Config{Root: s.root})
			before := s.rest(ref)
			err := replaceOne(f, change(t, f, ref, newBody))
			if refused := (*scan.RefusedError)(nil); !errors.As(err, &refused) ||
				refused.Reason != c.reason {
				t.Errorf("%v, want reason %s", err, c.reason)
			}
			if after := s.rest(ref); after != before || s.content()["file"] != oldBody {
				t.Errorf("the file is %s, want %s", after, before)
			}
		})
	}
}

// A file that exceeds the size limit by one byte is refused; a file of the maximum size is
// read.
func TestTooLarge(t *testing.T) {
	s := newStore(t)
	ref := s.write("file", oldBody)
	f := New(Config{Root: s.root})
	for _, size := range []int64{maxBody, maxBody + 1} {
		s.check(os.Truncate(filepath.Join(s.root, "file"), size))
		_, err := f.Load(t.Context(), ref)
		refused := (*scan.RefusedError)(nil)
		if errors.As(err, &refused) != (size > maxBody) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}
