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

// Temporary files have two kinds of names. A "new" file is being written and has never
// replaced anything. A "swap" file is complete, and its exchange with an original is about to
// happen or has happened. Its name contains digests of the name of the original, of the
// expected displaced content and of the new content, so that a later run can determine the
// state of the replacement.
const temporaryPrefix = ".rotator-"

var temporaryName = regexp.MustCompile(
	`^\.rotator-(?:new|swap-([0-9a-f]{16})-([0-9a-f]{32})-([0-9a-f]{32}))-[A-Z2-7]{26}$`)

// isTemporary reports whether a name is that of a temporary file of rotator.
func isTemporary(name string) bool { return temporaryName.MatchString(name) }

func newName() string { return temporaryPrefix + "new-" + rand.Text() }

func swapName(name string, before, after []byte) string {
	return fmt.Sprintf("%sswap-%s-%s-%s-%s", temporaryPrefix, shortDigest([]byte(name), 16),
		shortDigest(before, 32), shortDigest(after, 32), rand.Text())
}

// shortDigest returns the first n hex digits of the SHA-256.
func shortDigest(content []byte, n int) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])[:n]
}

// temporary is a temporary file. Its creator holds a lock on it until it is closed or the
// process ends.
type temporary struct {
	folder *os.File
	name   string // "" if no file has the temporary name
	file   *os.File
}

// newTemporary creates an empty file that only its owner can read.
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
		// A sweep may have removed it as a leftover before it was locked.
		locked, err := lockAt(folder, name, t.file)
		if err == nil && locked {
			return t, nil
		}
		_ = t.file.Close()
		if err != nil || n == attempts {
			return nil, errors.Join(err, t.remove())
		}
	}
}

// lockAt locks a file and reports whether it still has its name.
func lockAt(folder *os.File, name string, file *os.File) (bool, error) {
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
	return err == nil && named.sameFile(held), err
}

func (t *temporary) rename(name string) error {
	err := unix.Renameat(int(t.folder.Fd()), t.name, int(t.folder.Fd()), name)
	if err == nil {
		t.name = name
	}
	return err
}

// remove removes the file with the temporary name, if there is one.
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

// abandon leaves the file to the next sweep, because it may be the only copy of another
// program's data.
func (t *temporary) abandon() { t.name = "" }

// renamed records that the file no longer has the temporary name.
func (t *temporary) renamed() { t.name = "" }

// leftover handles a temporary file that a listing found. It belongs to a running replacement
// or to a killed process.
func (f *Files) leftover(folder *os.File, dir, name string) error {
	where := filepath.Join(f.config.Root, dir)
	file, err := openAt(folder, name)
	if absent(err) {
		return nil
	}
	if err != nil {
		f.note("directory %s: %s was left by a killed run and cannot be read: %v", where, name,
			errnoOf(err))
		return nil
	}
	defer func() { _ = file.Close() }()
	if locked, err := lockAt(folder, name, file); err != nil || !locked {
		return nil // the replacement is running
	}
	if !f.sweeps() {
		f.note("directory %s: %s was left by a killed run; the next run removes it", where, name)
		return nil
	}
	l := &leftover{
		files:     f,
		temporary: &temporary{folder: folder, name: name, file: file},
		where:     where,
	}
	err = l.sweep()
	if errors.Is(err, errForeign) {
		f.note("directory %s: %s contains what another program wrote to a file while a run was "+
			"killed; the file was changed again afterwards; compare them, then "+
			"delete it", where, name)
		return nil
	}
	if err != nil {
		f.note("directory %s: %s was left by a killed run and cannot be removed: %v", where,
			name, errnoOf(err))
	}
	return nil
}

// errForeign reports that a leftover is the only copy of another program's data.
var errForeign = errors.New("the file is the only copy of another program's data")

// leftover is a temporary file of a killed process.
type leftover struct {
	files     *Files
	temporary *temporary
	where     string
}

// sweep removes a leftover that is no longer needed. It restores a file that another program
// wrote and that the exchange displaced instead of the original.
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

// putBack reverses the exchange of a killed process, if the file still has the content that
// the process wrote.
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
		if shortDigest([]byte(candidate), 16) != name {
			continue
		}
		file, err := openAt(folder, candidate)
		if err != nil {
			return errForeign
		}
		defer func() { _ = file.Close() }()
		locked, err := lockAt(folder, candidate, file)
		if err != nil || !locked {
			return errForeign
		}
		candidateState, err := stateOf(file)
		if digest, wrong := digestOf(file); err != nil || wrong != nil || digest != after {
			return errForeign
		}
		return l.swapBack(candidate, candidateState)
	}
	return errForeign
}

func (l *leftover) swapBack(name string, candidateState state) error {
	r := &replacement{files: l.files, folder: l.temporary.folder, name: name,
		temporary: l.temporary}
	if err := r.swapBack(candidateState); err != nil && l.temporary.name == "" {
		return err
	}
	if err := l.temporary.remove(); err != nil {
		return err
	}
	l.files.note("directory %s: %q was restored to what another program wrote to it while a "+
		"run was killed", l.where, name)
	return l.temporary.folder.Sync()
}

// digestOf returns the digest of the content of a file as in swapName.
func digestOf(file *os.File) (string, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	var content bytes.Buffer
	if _, err := content.ReadFrom(io.LimitReader(file, maxBody+1)); err != nil {
		return "", err
	}
	return shortDigest(content.Bytes(), 32), nil
}
