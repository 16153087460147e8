package rotate_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"rotator/internal/checkpoint"
	"rotator/internal/reencrypt"
	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// The adapters that implement the interfaces of the engine with a universe.
type (
	simSource struct{ *simProcess }
	simKMS    struct{ *simProcess }
	simStore  struct {
		*simProcess
		store checkpoint.Store
	}
)

var (
	_ rotate.Lister         = simSource{}
	_ rotate.Writer         = simSource{}
	_ reencrypt.Reencrypter = simKMS{}
	_ checkpoint.Store      = simStore{}
)

func (s simSource) Partitions(context.Context) (list []scan.Partition, err error) {
	for i := range simPartitions {
		list = append(list,
			scan.Partition{Name: fmt.Sprint(i), Spec: json.RawMessage(fmt.Sprint(i))})
	}
	return list, nil
}

func (s simSource) Page(
	ctx context.Context, p scan.Partition, cursor scan.Cursor,
) (page scan.Page, err error) {
	err = s.do(ctx, "page", p.Name+"/"+string(cursor), false, func() error {
		var part int
		_, err := fmt.Sscan(p.Name, &part)
		page = s.page(part, cursor)
		return err
	})
	return page, err
}

func (s simSource) Load(ctx context.Context, ref scan.Ref) (item scan.Item, err error) {
	err = s.do(ctx, "load", string(ref), false, func() (err error) {
		item, err = s.load(ref)
		return err
	})
	return item, err
}

// Replace writes the changes one by one, as a batch of statements does.
func (s simSource) Replace(ctx context.Context, changes []scan.Change) []scan.Result {
	results := make([]scan.Result, len(changes))
	for i, change := range changes {
		results[i].Err = s.do(ctx, "replace", string(change.Item.Ref), true, func() error {
			results[i] = s.replace(change)
			return results[i].Err
		})
		if !errors.Is(results[i].Err, scan.ErrChanged) {
			results[i].Current = nil // the response that contained it is lost
		}
	}
	return results
}

func (k simKMS) ReEncrypt(
	ctx context.Context, q reencrypt.Request,
) (answer reencrypt.Response, err error) {
	about := fmt.Sprintf("%x from %q", sha256.Sum256(q.Blob), q.Source.ARN)
	err = k.do(ctx, "reencrypt", about, false, func() (err error) {
		if k.denied && q.Source.ARN != newKey {
			return apiError("AccessDeniedException")
		}
		answer, err = k.reencrypt(q)
		return err
	})
	if err != nil {
		answer = reencrypt.Response{}
	}
	return answer, err
}

func (k simKMS) Authorized(context.Context, reencrypt.Key) (bool, error) { return true, nil }

func (s simStore) Fetch(ctx context.Context, id string) (e checkpoint.Entry, err error) {
	err = s.do(ctx, "fetch", id, false, func() (err error) {
		e, err = s.store.Fetch(ctx, id)
		return err
	})
	return e, err
}

func (s simStore) Create(
	ctx context.Context, id string, data []byte,
) (e checkpoint.Entry, err error) {
	err = s.do(ctx, "store", id, true, func() (err error) {
		e, err = s.store.Create(ctx, id, data)
		return err
	})
	return e, err
}

func (s simStore) Replace(
	ctx context.Context, old checkpoint.Entry, data []byte,
) (e checkpoint.Entry, err error) {
	err = s.do(ctx, "store", old.ID, true, func() (err error) {
		if e, err = s.store.Replace(ctx, old, data); strings.Contains(old.ID, "/ledger/") {
			s.count(fmt.Sprintf("ledger retried, contested %v",
				errors.Is(err, checkpoint.ErrConflict)))
		}
		if err == nil {
			s.countMemberStates(data)
		}
		return err
	})
	return e, err
}

// countMemberStates counts the states of the members of a pass, and the partitions that are
// handed over before they are done.
func (s simStore) countMemberStates(data []byte) {
	var record struct {
		Kind    string
		Content struct {
			Members map[string]struct{ Busy, Seen int64 }
			Ghosts  map[string]int64
			Cursor  []byte
			Done    bool
			Owner   string
		}
	}
	if err := json.Unmarshal(data, &record); err != nil {
		panic(err)
	}
	c := record.Content
	if record.Kind == "progress" && !c.Done && c.Owner == "" && len(c.Cursor) > 0 {
		s.count("partition handed over")
	}
	if len(c.Ghosts) > 0 {
		s.count("run of the pass before")
	}
	busy, unseen := 0, false
	for _, m := range c.Members {
		for _, other := range c.Members {
			unseen = unseen || m.Busy > 0 && other.Busy > 0 && other.Seen < m.Busy
		}
		if m.Busy > 0 {
			busy++
		}
	}
	if unseen {
		s.count("division not seen")
	}
	if busy > 0 && busy < len(c.Members) {
		s.count("idle beside busy")
	}
}

// simDisk stores the audit log of a machine. Lines that were appended survive the end of their
// process. Only lines that were synced survive a power loss.
type simDisk struct {
	mu    sync.Mutex
	lines []simLine
}

type simLine struct {
	record          rotate.Record
	written, synced bool
	process         string // process
}

// losePower removes the lines that were not synced.
func (d *simDisk) losePower() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = slices.DeleteFunc(d.lines, func(l simLine) bool { return !l.synced })
}

// simLog is the audit log as opened by a process. It knows the lines that the log had then.
type simLog struct {
	*simProcess
	disk  *simDisk
	found map[simPlace]simTrace
}

// simTrace is a change in a log, and the number of its first line.
type simTrace struct {
	rotate.Trace
	line int64
}

// simPlace identifies the write of a blob with this digest to an item.
type simPlace struct {
	ref   scan.Ref
	after string
}

var _ rotate.Recorder = (*simLog)(nil)

func (d *simDisk) open(p *simProcess) *simLog {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := &simLog{simProcess: p, disk: d, found: map[simPlace]simTrace{}}
	for i, line := range d.lines {
		d.lines[i].synced = true // lines that the process relies on must survive
		at := simPlace{line.record.Ref, line.record.After}
		trace, known := l.found[at]
		if !known {
			trace = simTrace{rotate.Trace{Record: line.record}, int64(i + 1)}
		}
		trace.Written = trace.Written || line.written
		l.found[at] = trace
	}
	return l
}

// save is checkpoint.TrackOptions.BeforeSave.
func (l *simLog) save(context.Context) (checkpoint.AuditLog, error) {
	return l.mark(), l.Sync()
}

// mark returns the last line of the log, which has the name of its machine.
func (l *simLog) mark() checkpoint.AuditLog {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	name := fmt.Sprint(l.machine)
	return checkpoint.AuditLog{Host: name, ID: name, Lines: int64(len(l.disk.lines))}
}

// setMarks sets which lines the checkpoint confirms.
func (l *simLog) setMarks(marks []checkpoint.AuditLog) {
	for _, mark := range marks {
		for at, trace := range l.found {
			if mark.Host == fmt.Sprint(l.machine) && trace.line <= mark.Lines {
				trace.Kept = true
				l.found[at] = trace
			}
		}
	}
}

func (l *simLog) append(records []rotate.Record, written bool) error {
	if !l.step(true, false) {
		return errDead
	}
	l.disk.mu.Lock()
	for _, r := range records {
		l.disk.lines = append(l.disk.lines, simLine{record: r, written: written, process: l.id})
	}
	l.disk.mu.Unlock()
	if !l.step(true, true) {
		return errDead
	}
	return nil
}

func (l *simLog) Intend(records []rotate.Record) error { return l.append(records, false) }
func (l *simLog) Record(records []rotate.Record) error { return l.append(records, true) }

func (l *simLog) Find(_ string, ref scan.Ref, after string) (rotate.Trace, bool) {
	trace, ok := l.found[simPlace{ref, after}]
	return trace.Trace, ok
}

func (l *simLog) Sync() error {
	if !l.step(true, false) {
		return errDead
	}
	l.disk.mu.Lock()
	for i := range l.disk.lines {
		l.disk.lines[i].synced = l.disk.lines[i].synced || l.disk.lines[i].process == l.id
	}
	l.disk.mu.Unlock()
	if !l.step(true, true) {
		return errDead
	}
	return nil
}
