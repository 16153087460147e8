package filescan

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"rotator/internal/scan"
)

// step is one step of a replacement. The constants are in the order of the steps.
type step string

const (
	// open and lock the original, and compare it with the snapshot
	stepLock       step = "lock"
	stepCreate     step = "create"     // create the temporary file
	stepWrite      step = "write"      // write the new content
	stepProperties step = "properties" // copy owner, mode, attributes and times of the original
	stepSync       step = "sync"       // make the temporary file durable
	stepRename     step = "rename"     // give it the name that contains the expected digests
	stepSwap       step = "swap"       // exchange names with the original
	stepCompare    step = "compare"    // compare the displaced file
	stepSyncDir    step = "sync-dir"   // make the new names durable
	stepRemove     step = "remove"     // compare the displaced file again and remove it
	stepSwapBack   step = "swap-back"  // reverse the exchange after a change of another program
)

func (f *Files) step(s step) error {
	if f.hook == nil {
		return nil
	}
	return f.hook(s)
}

// Batch returns 1: files are replaced one at a time.
func (f *Files) Batch() int { return 1 }

// Replace replaces each file that is unchanged since it was read. An error other than
// scan.ErrChanged, scan.ErrGone and *scan.RefusedError means that nothing was written, or, if
// it is a *scan.StorageError, that it is unknown whether the write is durable. In that case
// the file must be read again.
func (f *Files) Replace(ctx context.Context, changes []scan.Change) []scan.Result {
	results := make([]scan.Result, len(changes))
	for i, change := range changes {
		results[i].Err = f.replace(ctx, change)
	}
	return results
}

func (f *Files) replace(ctx context.Context, change scan.Change) error {
	read, ok := change.Item.Token.(*snapshot)
	before, isObject := change.Item.Payload.(*scan.Object)
	after, fits := change.New.(*scan.Object)
	switch {
	case !ok || !isObject || !fits || before.Key != after.Key ||
		len(before.Metadata)+len(after.Metadata) > 0:
		return &scan.RefusedError{
			Reason: "cannot-write",
			Detail: "the change is not for a file that was read",
		}
	case bytes.Equal(before.Body, after.Body):
		return &scan.RefusedError{Reason: "cannot-write", Detail: "the change changes nothing"}
	}
	folder, name, err := f.openParent(before.Key)
	if err != nil {
		return readError(err)
	}
	r := &replacement{
		files:  f,
		folder: folder,
		name:   name,
		read:   read.state,
		before: before.Body,
		after:  after.Body,
	}
	defer r.close()
	for _, part := range []func(context.Context) error{r.lock, r.prepare, r.exchange, r.finish} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// replacement is the replacement of one file.
type replacement struct {
	files         *Files
	folder        *os.File
	name          string
	read          state
	before, after []byte
	original      *os.File // locked after stepLock
	// no process can open the original for writing without breaking the lease
	leased      bool
	temporary   *temporary // the temporary file in the same directory; nil before stepCreate
	replacement state      // state of the new file before the exchange
}

// close releases all resources and removes the temporary file.
func (r *replacement) close() {
	if r.temporary != nil {
		_ = r.temporary.remove()
		_ = r.temporary.file.Close()
	}
	if r.original != nil {
		_ = r.original.Close() // also releases its lock and lease
	}
	_ = r.folder.Close()
}

// lock locks the original and verifies that it is unchanged and may be replaced.
func (r *replacement) lock(ctx context.Context) (err error) {
	if err := r.files.step(stepLock); err != nil {
		return writeError(err)
	}
	if r.original, err = openAt(r.folder, r.name); err != nil {
		return readError(err)
	}
	if err := retryLocked(ctx, func() error { return flock(r.original) }); err != nil {
		return err
	}
	if !r.files.disabled.leases {
		if err := retryLocked(ctx, func() (err error) {
			r.leased, err = lease(r.original)
			return err
		}); err != nil {
			return err
		}
	}
	if err := r.verifyUnchanged(); err != nil {
		return err
	}
	if equal, err := contentEquals(r.original, r.before); err != nil {
		return readError(err)
	} else if !equal {
		return scan.ErrChanged
	}
	return r.refuse()
}

// verifyUnchanged returns scan.ErrChanged if the original, or the file with its name, is no
// longer what was read.
func (r *replacement) verifyUnchanged() error {
	named, err := stateAt(r.folder, r.name)
	if err != nil {
		return readError(err)
	}
	held, err := stateOf(r.original)
	switch {
	case err != nil:
		return readError(err)
	case !named.regular():
		return scan.ErrGone
	case held != r.read || !named.sameFile(held) || r.leased && !leaseHolds(r.original):
		return scan.ErrChanged
	}
	return nil
}

// refuse returns an error for a file that must not or cannot be replaced.
func (r *replacement) refuse() error {
	writable := unix.Faccessat(int(r.folder.Fd()), r.name, unix.W_OK, unix.AT_EACCESS)
	switch {
	case isStorageError(writable):
		return storageError(writable)
	case r.read.links > 1:
		return &scan.RefusedError{
			Reason: "hard-link",
			Detail: "it has several names (hard links), and the others would keep the old " +
				"content; replace the other names by copies, or remove them",
		}
	case r.read.mode&0o222 == 0 || writable != nil:
		return &scan.RefusedError{
			Reason: "read-only",
			Detail: "this user may not write it, or it is read-only; allow it (chmod u+w), " +
				"then run rotator retry",
		}
	}
	return nil
}

// prepare creates the new file, complete and durable, under a temporary name.
func (r *replacement) prepare(context.Context) error {
	for _, part := range []struct {
		step step
		do   func() error
	}{
		{stepCreate, func() (err error) { r.temporary, err = newTemporary(r.folder); return err }},
		{stepWrite, func() error { _, err := r.temporary.file.Write(r.after); return err }},
		{
			stepProperties,
			func() error {
				return copyProperties(r.temporary.file, r.original, r.read,
					r.files.config.KeepMtime)
			},
		},
		{stepSync, func() error { return r.temporary.file.Sync() }},
		{stepRename, func() error {
			return r.temporary.rename(swapName(r.name, r.before, r.after))
		}},
	} {
		err := r.files.step(part.step)
		if err == nil {
			err = part.do()
		}
		if err != nil {
			return writeError(err)
		}
	}
	return nil
}

// exchange exchanges the names of the two files. It reverses the exchange if the displaced
// file is not what was read.
func (r *replacement) exchange(context.Context) (err error) {
	if err := r.verifyUnchanged(); err != nil {
		return err
	}
	if r.replacement, err = stateOf(r.temporary.file); err != nil {
		return writeError(err)
	}
	if err := r.files.step(stepSwap); err != nil {
		return writeError(err)
	}
	err = errors.ErrUnsupported
	if !r.files.disabled.swaps {
		err = swap(r.folder, r.temporary.name, r.name)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return r.overwrite()
	}
	if err != nil {
		return writeError(err)
	}
	if r.files.step(stepCompare) != nil || !r.displacedUnchanged() {
		return r.swapBack(r.replacement)
	}
	return nil
}

// displacedUnchanged reports whether the displaced file is the original as it was read.
func (r *replacement) displacedUnchanged() bool {
	displaced, err := stateAt(r.folder, r.temporary.name)
	if err != nil || !displaced.sameFile(r.read) || !displaced.unchanged(r.read) {
		return false
	}
	if r.leased {
		return leaseHolds(r.original)
	}
	equal, err := contentEquals(r.original, r.before)
	return err == nil && equal
}

// swapBack exchanges the files until the displaced file is the one that was in place before.
// Another program may replace the file between any two exchanges, and the newest file must
// stay. The file that is displaced last was replaced by that program itself.
func (r *replacement) swapBack(inPlace state) error {
	for range maxSwaps {
		displaced, placed, err := r.swapOnce()
		switch {
		case absent(err):
			return scan.ErrChanged // another program deleted the file
		case err != nil:
			r.temporary.abandon() // it may be the only copy
			return storageError(err)
		case displaced.sameFile(inPlace):
			return scan.ErrChanged
		}
		inPlace = placed
	}
	r.temporary.abandon()
	return &scan.RefusedError{
		Reason: "in-use",
		Detail: "another program replaces it continuously; run rotator retry when that program " +
			"has finished",
	}
}

// swapOnce exchanges the files. It returns the states of the displaced file and of the file
// that was put in place.
func (r *replacement) swapOnce() (displaced, placed state, err error) {
	if err = r.files.step(stepSwapBack); err == nil {
		placed, err = stateAt(r.folder, r.temporary.name)
	}
	if err == nil {
		err = swap(r.folder, r.temporary.name, r.name)
	}
	if err == nil {
		displaced, err = stateAt(r.folder, r.temporary.name)
	}
	return displaced, placed, err
}

// maxSwaps limits the number of exchanges in swapBack.
const maxSwaps = 16

// overwrite renames the new file over the original, for file systems without RENAME_EXCHANGE.
func (r *replacement) overwrite() error {
	r.files.note("directory %s: its file system cannot exchange two files, so a change that "+
		"another program makes during a write can be lost; stop other writers to this directory",
		r.files.config.Root)
	if equal, err := contentEquals(r.original, r.before); err != nil || !equal {
		return errors.Join(readError(err), scan.ErrChanged)
	}
	if err := r.verifyUnchanged(); err != nil {
		return err
	}
	if err := unix.Renameat(int(r.folder.Fd()), r.temporary.name, int(r.folder.Fd()),
		r.name); err != nil {
		return writeError(err)
	}
	r.temporary.renamed()
	return nil
}

// finish makes the new names durable and removes the original. It first compares the
// displaced file again: a program that looked up the name before the exchange may have opened
// the original in the meantime.
func (r *replacement) finish(context.Context) error {
	err := r.files.step(stepSyncDir)
	if err == nil {
		err = r.folder.Sync()
	}
	// EINVAL: the file system does not support syncing directories
	if err != nil && !errors.Is(err, unix.EINVAL) {
		r.temporary.abandon() // it is unknown which file is durable
		return storageError(err)
	}
	if r.temporary.name == "" {
		return nil // the original was overwritten
	}
	if r.files.step(stepRemove) != nil || !r.displacedUnchanged() {
		return r.swapBack(r.replacement)
	}
	if err := r.temporary.remove(); err != nil {
		return storageError(err)
	}
	return nil
}

// The maximum time to wait for a lock or a lease, and the time between attempts.
const (
	lockWait  = 5 * time.Second
	lockPause = 10 * time.Millisecond
)

// retryLocked calls try until it returns an error other than EAGAIN, or until lockWait has
// passed.
func retryLocked(ctx context.Context, try func() error) error {
	for until := time.Now().Add(lockWait); ; {
		err := try()
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EAGAIN):
			return writeError(err)
		case time.Now().After(until):
			return &scan.RefusedError{
				Reason: "in-use",
				Detail: "another program has it locked or open for writing; run rotator retry " +
					"when that program has finished",
			}
		}
		select {
		case <-time.After(lockPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// flock takes an exclusive lock, if the file system supports locks. It returns EAGAIN if
// another process holds a lock.
func flock(file *os.File) error {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EAGAIN) {
		return err
	}
	return nil // for example, NFS locks only files that are open for writing
}

// contentEquals reports whether the file has exactly this content.
func contentEquals(file *os.File, content []byte) (bool, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	piece := make([]byte, 256<<10)
	for {
		n, err := file.Read(piece)
		if n > len(content) || !bytes.Equal(piece[:n], content[:n]) {
			return false, nil
		}
		content = content[n:]
		if errors.Is(err, io.EOF) {
			return len(content) == 0, nil
		}
		if err != nil {
			return false, err
		}
	}
}
