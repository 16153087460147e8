package filescan

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"
)

// The names of temporary files. A "new" one is being written, and has never been
// anything else. A "swap" one is complete, and is or was about to swap names with an
// original: its name holds the digests of that one's name, of what is expected to
// come out, and of what goes in, so that whoever finds it knows how far it came.
const temporaryPrefix = ".rotator-"

var temporaryName = regexp.MustCompile(
	`^\.rotator-(?:new|swap-([0-9a-f]{16})-([0-9a-f]{32})-([0-9a-f]{32}))-[A-Z2-7]{26}$`)

// isTemporary says whether a name is one of ours.
func isTemporary(name string) bool { return temporaryName.MatchString(name) }

func newName() string { return temporaryPrefix + "new-" + rand.Text() }

func swapName(name string, before, after []byte) string {
	return fmt.Sprintf("%sswap-%s-%s-%s-%s", temporaryPrefix, short([]byte(name), 16),
		short(before, 32), short(after, 32), rand.Text())
}

// short is the beginning of a SHA-256, of n hex digits.
func short(content []byte, n int) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])[:n]
}

// temporary is a file under a name of ours. Who made it holds a lock on it, until
// it is closed or its process is dead.
type temporary struct {
	folder *os.File
	name   string // "" when nothing is left under it
	file   *os.File
}

// newTemporary makes an empty file that only its owner can read.
func newTemporary(folder *os.File) (*temporary, error) {
	const attempts = 3
	for n := 1; ; n++ {
		name := newName()
		fd, err := unix.Openat(int(folder.Fd()), name,
			unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, err
		}
		t := &temporary{folder: folder, name: name, file: os.NewFile(uintptr(fd), name)}
		// A sweep may have taken it for a dead one's before it was locked.
		locked, err := lockedAt(folder, name, t.file)
		if err == nil && locked {
			return t, nil
		}
		_ = t.file.Close()
		if err != nil || n == attempts {
			return nil, errors.Join(err, t.remove())
		}
	}
}

// lockedAt locks a file, and says whether it is still the one at its name.
func lockedAt(folder *os.File, name string, file *os.File) (bool, error) {
	if err := flock(file); err != nil {
		return false, err
	}
	held, err := stateOf(file)
	if err != nil {
		return false, err
	}
	named, err := stateAt(folder, name)
	if absent(err) {
		return false, nil
	}
	return err == nil && named.same(held), err
}

func (t *temporary) rename(name string) error {
	err := unix.Renameat(int(t.folder.Fd()), t.name, int(t.folder.Fd()), name)
	if err == nil {
		t.name = name
	}
	return err
}

// remove removes what is under the name, if anything is.
func (t *temporary) remove() error {
	if t.name == "" {
		return nil
	}
	err := unix.Unlinkat(int(t.folder.Fd()), t.name, 0)
	if err == nil || absent(err) {
		t.name = ""
		return nil
	}
	return err
}

// abandon leaves what is under the name to the next sweep, since it may be the
// only copy of what somebody wrote.
func (t *temporary) abandon() { t.name = "" }

// taken says that the file has another name now.
func (t *temporary) taken() { t.name = "" }

// leftover deals with a file under a name of ours that a listing met: it belongs
// to a replacement under way, or to a process that died.
func (f *Files) leftover(folder *os.File, dir, name string) error {
	where := filepath.Join(f.config.Root, dir)
	file, err := openAt(folder, name)
	if absent(err) {
		return nil
	}
	if err != nil {
		f.note("directory %s: %s was left by a run that died, and cannot be read: %v", where, name,
			errnoOf(err))
		return nil
	}
	defer func() { _ = file.Close() }()
	if locked, err := lockedAt(folder, name, file); err != nil || !locked {
		return nil // under way
	}
	if !f.sweeps() {
		f.note("directory %s: %s was left by a run that died; the next run removes it", where, name)
		return nil
	}
	l := &leftover{
		files:     f,
		temporary: &temporary{folder: folder, name: name, file: file},
		where:     where,
	}
	err = l.sweep()
	if errors.Is(err, errForeign) {
		f.note("directory %s: %s holds what another program had written to a file in the moment "+
			"in which a run died, and that file was changed again since; compare them, then "+
			"delete it", where, name)
		return nil
	}
	if err != nil {
		f.note("directory %s: %s was left by a run that died, and cannot be removed: %v", where,
			name, errnoOf(err))
	}
	return nil
}

// errForeign says that a leftover is the only copy of something that is not ours.
var errForeign = errors.New("it is not ours")

// leftover is a file that a dead process left.
type leftover struct {
	files     *Files
	temporary *temporary
	where     string
}

// sweep removes a leftover that nobody can miss, and puts one back that came out
// of a swap in the place of the file that was expected.
func (l *leftover) sweep() error {
	parts := temporaryName.FindStringSubmatch(l.temporary.name)
	name, before, after := parts[1], parts[2], parts[3]
	if before == "" {
		return l.temporary.remove()
	}
	held, err := digestOf(l.temporary.file)
	if err != nil {
		return err
	}
	if held == before || held == after {
		return l.temporary.remove()
	}
	return l.putBack(name, after)
}

// putBack ends the swap that a dead process could not take back, if what it wrote
// still stands in the file's place.
func (l *leftover) putBack(name, after string) error {
	folder := l.temporary.folder
	again, err := unix.Openat(int(folder.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC,
		0)
	if err != nil {
		return err
	}
	listing := os.NewFile(uintptr(again), ".")
	defer func() { _ = listing.Close() }()
	names, err := listing.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, candidate := range names {
		if short([]byte(candidate), 16) != name {
			continue
		}
		file, err := openAt(folder, candidate)
		if err != nil {
			return errForeign
		}
		defer func() { _ = file.Close() }()
		locked, err := lockedAt(folder, candidate, file)
		if err != nil || !locked {
			return errForeign
		}
		ours, err := stateOf(file)
		if digest, wrong := digestOf(file); err != nil || wrong != nil || digest != after {
			return errForeign
		}
		return l.swapBack(candidate, ours)
	}
	return errForeign
}

func (l *leftover) swapBack(name string, ours state) error {
	r := &replacement{files: l.files, folder: l.temporary.folder, name: name,
		temporary: l.temporary}
	if err := r.back(ours); err != nil && l.temporary.name == "" {
		return err
	}
	if err := l.temporary.remove(); err != nil {
		return err
	}
	l.files.note("directory %s: %q was given back what another program had written to it in the "+
		"moment in which a run died", l.where, name)
	return l.temporary.folder.Sync()
}

// digestOf is short of what a file holds, in 32 digits.
func digestOf(file *os.File) (string, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	var content bytes.Buffer
	if _, err := content.ReadFrom(io.LimitReader(file, maxBody+1)); err != nil {
		return "", err
	}
	return short(content.Bytes(), 32), nil
}
