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

// step is one of the steps of a replacement, in their order.
type step string

const (
	stepTake    step = "take"    // open and lock the original, compare it with what was read
	stepCreate  step = "create"  // make the temporary file
	stepFill    step = "fill"    // write the new content
	stepDress   step = "dress"   // give it the owner, mode, attributes and times of the original
	stepSync    step = "sync"    // make it durable
	stepName    step = "name"    // rename it to the name that says what is expected
	stepSwap    step = "swap"    // swap names with the original
	stepCompare step = "compare" // look at what came out
	stepSettle  step = "settle"  // make the new names durable
	stepRemove  step = "remove"  // look again, and remove what came out
	stepBack    step = "back"    // swap back, when another program was there
)

func (f *Files) step(s step) error {
	if f.hook == nil {
		return nil
	}
	return f.hook(s)
}

// Batch is the most changes that one Replace takes.
func (f *Files) Batch() int { return 1 }

// Replace puts a new file in the place of each that is still as it was read. An
// error other than a refusal means that nothing was written, or that it is not known
// to be durable: then it is *scan.StorageError, and what stands there now has to be
// read again.
func (f *Files) Replace(ctx context.Context, changes []scan.Change) []scan.Result {
	results := make([]scan.Result, len(changes))
	for i, change := range changes {
		results[i].Err = f.replace(ctx, change)
	}
	return results
}

func (f *Files) replace(ctx context.Context, change scan.Change) error {
	read, ok := change.Item.Token.(*asRead)
	before, isObject := change.Item.Payload.(*scan.Object)
	after, fits := change.New.(*scan.Object)
	switch {
	case !ok || !isObject || !fits || before.Key != after.Key ||
		len(before.Metadata)+len(after.Metadata) > 0:
		return &scan.RefusedError{
			Reason: "cannot-write",
			Detail: "the change is not one of a file that was read",
		}
	case bytes.Equal(before.Body, after.Body):
		return &scan.RefusedError{Reason: "cannot-write", Detail: "the change changes nothing"}
	}
	folder, name, err := f.place(before.Key)
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
	for _, part := range []func(context.Context) error{r.take, r.prepare, r.exchange, r.finish} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// replacement is one file on its way to new content.
type replacement struct {
	files         *Files
	folder        *os.File
	name          string
	read          state
	before, after []byte
	original      *os.File   // locked, once it is taken
	leased        bool       // nobody can have opened the original for writing unseen
	temporary     *temporary // what is under our name in the folder; nil before it is made
	ours          state      // of the new file, once it is about to be swapped
}

// close gives everything back, and removes what is ours.
func (r *replacement) close() {
	if r.temporary != nil {
		_ = r.temporary.remove()
		_ = r.temporary.file.Close()
	}
	if r.original != nil {
		_ = r.original.Close() // and its lock and lease
	}
	_ = r.folder.Close()
}

// take locks the original, and says whether it is still what was read and may be
// replaced.
func (r *replacement) take(ctx context.Context) (err error) {
	if err := r.files.step(stepTake); err != nil {
		return writeError(err)
	}
	if r.original, err = openAt(r.folder, r.name); err != nil {
		return readError(err)
	}
	if err := patiently(ctx, func() error { return flock(r.original) }); err != nil {
		return err
	}
	if !r.files.lacks.leases {
		if err := patiently(ctx, func() (err error) {
			r.leased, err = lease(r.original)
			return err
		}); err != nil {
			return err
		}
	}
	if err := r.asRead(); err != nil {
		return err
	}
	if equal, err := holds(r.original, r.before); err != nil {
		return readError(err)
	} else if !equal {
		return scan.ErrChanged
	}
	return r.refuse()
}

// asRead says scan.ErrChanged when the original, or what its name stands for, is no
// longer what was read.
func (r *replacement) asRead() error {
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
	case held != r.read || !named.same(held) || r.leased && !leaseHolds(r.original):
		return scan.ErrChanged
	}
	return nil
}

// refuse names what must not, or cannot, be replaced.
func (r *replacement) refuse() error {
	writable := unix.Faccessat(int(r.folder.Fd()), r.name, unix.W_OK, unix.AT_EACCESS)
	switch {
	case ofStorage(writable):
		return storageError(writable)
	case r.read.links > 1:
		return &scan.RefusedError{
			Reason: "hard-link",
			Detail: "it has more than one name (hard links), and the others would keep the old " +
				"content; make copies of them, or remove them",
		}
	case r.read.mode&0o222 == 0 || writable != nil:
		return &scan.RefusedError{
			Reason: "read-only",
			Detail: "it may not be written by this user, or by anybody; allow it (chmod u+w), " +
				"then run retry",
		}
	}
	return nil
}

// prepare makes the file that shall take the place of the original, complete and
// durable, under a name of its own.
func (r *replacement) prepare(context.Context) error {
	for _, part := range []struct {
		step step
		do   func() error
	}{
		{stepCreate, func() (err error) { r.temporary, err = newTemporary(r.folder); return err }},
		{stepFill, func() error { _, err := r.temporary.file.Write(r.after); return err }},
		{
			stepDress,
			func() error {
				return dress(r.temporary.file, r.original, r.read, r.files.config.KeepMtime)
			},
		},
		{stepSync, func() error { return r.temporary.file.Sync() }},
		{stepName, func() error { return r.temporary.rename(swapName(r.name, r.before, r.after)) }},
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

// exchange swaps the names of the two files, and swaps them back when what came
// out is not what was read.
func (r *replacement) exchange(context.Context) (err error) {
	if err := r.asRead(); err != nil {
		return err
	}
	if r.ours, err = stateOf(r.temporary.file); err != nil {
		return writeError(err)
	}
	if err := r.files.step(stepSwap); err != nil {
		return writeError(err)
	}
	err = errors.ErrUnsupported
	if !r.files.lacks.swaps {
		err = swap(r.folder, r.temporary.name, r.name)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return r.overwrite()
	}
	if err != nil {
		return writeError(err)
	}
	if r.files.step(stepCompare) != nil || !r.cameOut() {
		return r.back(r.ours)
	}
	return nil
}

// cameOut says whether what came out of the swap is the original, as it was read.
func (r *replacement) cameOut() bool {
	out, err := stateAt(r.folder, r.temporary.name)
	if err != nil || !out.same(r.read) || !out.unchanged(r.read) {
		return false
	}
	if r.leased {
		return leaseHolds(r.original)
	}
	equal, err := holds(r.original, r.before)
	return err == nil && equal
}

// back swaps the files again, until what came out is what was in place the time
// before: another program may replace the file between any two swaps, and the newest
// file is the one that stays. What came out last was replaced by that program itself.
func (r *replacement) back(inPlace state) error {
	for range maxSwaps {
		out, put, err := r.swapOnce()
		switch {
		case absent(err):
			return scan.ErrChanged // the file was deleted meanwhile, whoever wrote it
		case err != nil:
			r.temporary.abandon() // it may be the only copy
			return storageError(err)
		case out.same(inPlace):
			return scan.ErrChanged
		}
		inPlace = put
	}
	r.temporary.abandon()
	return &scan.RefusedError{
		Reason: "in-use",
		Detail: "another program replaces it all the time; run retry when that program is done",
	}
}

// swapOnce swaps, and says what came out and what was put in its place.
func (r *replacement) swapOnce() (out, put state, err error) {
	if err = r.files.step(stepBack); err == nil {
		put, err = stateAt(r.folder, r.temporary.name)
	}
	if err == nil {
		err = swap(r.folder, r.temporary.name, r.name)
	}
	if err == nil {
		out, err = stateAt(r.folder, r.temporary.name)
	}
	return out, put, err
}

// maxSwaps is how often files are swapped back for others.
const maxSwaps = 16

// overwrite is the end of an exchange where names cannot be swapped.
func (r *replacement) overwrite() error {
	r.files.note("directory %s: its file system cannot swap two files, so a change that another "+
		"program makes in the very moment of a write can be lost; let nothing else write there",
		r.files.config.Root)
	if equal, err := holds(r.original, r.before); err != nil || !equal {
		return errors.Join(readError(err), scan.ErrChanged)
	}
	if err := r.asRead(); err != nil {
		return err
	}
	if err := unix.Renameat(int(r.folder.Fd()), r.temporary.name, int(r.folder.Fd()),
		r.name); err != nil {
		return writeError(err)
	}
	r.temporary.taken()
	return nil
}

// finish makes the new names durable, and removes the original. Making them durable
// takes a while, after which whoever had looked the name up before the swap has
// opened the original too: so what came out is looked at again.
func (r *replacement) finish(context.Context) error {
	err := r.files.step(stepSettle)
	if err == nil {
		err = r.folder.Sync()
	}
	// of a file system that does not sync directories
	if err != nil && !errors.Is(err, unix.EINVAL) {
		r.temporary.abandon() // who knows which of the two is on the disk
		return storageError(err)
	}
	if r.temporary.name == "" {
		return nil // it was overwritten
	}
	if r.files.step(stepRemove) != nil || !r.cameOut() {
		return r.back(r.ours)
	}
	if err := r.temporary.remove(); err != nil {
		return storageError(err)
	}
	return nil
}

// How long a lock, or a file that is open for writing, is waited for.
const (
	lockWait  = 5 * time.Second
	lockPause = 10 * time.Millisecond
)

// patiently tries to get a lock until lockWait is over.
func patiently(ctx context.Context, try func() error) error {
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
				Detail: "another program has it locked or open for writing; run retry when that " +
					"program is done",
			}
		}
		select {
		case <-time.After(lockPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// flock locks a file for us alone, where its file system has locks. EAGAIN says
// that another has it.
func flock(file *os.File) error {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EAGAIN) {
		return err
	}
	return nil // NFS, for one, locks only files that are open for writing
}

// holds says whether a file's content is that and no more.
func holds(file *os.File, content []byte) (bool, error) {
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
