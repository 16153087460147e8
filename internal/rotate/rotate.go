// Package rotate is the engine: it walks the partitions of a job's targets page
// by page, asks KMS about every slot, writes what moves under a condition, and
// gives every slot exactly one outcome. It owns the order of these steps, the
// rate, the retries and the decisions; sources, formats, the checkpoint and the
// audit log belong to their packages.
//
//	partition -> page -> items -> slots -> ReEncrypt -> conditional write -> outcome
//	                                                                            |
//	     cursor moves <- page complete <- tracker (low watermark) <-------------+-> audit log, ledger
package rotate

import (
	"context"
	"math"
	"time"

	"rotator/internal/awserr"
	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/flowcontrol"
	"rotator/internal/retry"
	"rotator/internal/scan"
)

// Lister reads a target. It cannot write, so an audit that holds nothing else
// cannot either. Its methods may be called from many goroutines, and each of their
// requests ends by itself within a time.
type Lister interface {
	// Partitions cuts the target into partitions, at the start of a pass.
	Partitions(ctx context.Context) ([]scan.Partition, error)
	// Page reads the page at cursor.
	Page(ctx context.Context, p scan.Partition, cursor scan.Cursor) (scan.Page, error)
	// Load reads one item as it stands now; scan.ErrGone when there is none.
	Load(ctx context.Context, ref scan.Ref) (scan.Item, error)
}

// Writer replaces items of a target.
type Writer interface {
	// Replace writes each change, Target.Batch of them at most, if the item is
	// still as it was read, once, and answers in the same order. It never
	// retries.
	Replace(ctx context.Context, changes []scan.Change) []scan.Result
}

// Recorder keeps the audit log. An error of it ends the run. What Intend and
// Record have returned from survives the death of the process.
type Recorder interface {
	// Intend notes changes that are about to be written.
	Intend(records []Record) error
	// Record notes changes that were written.
	Record(records []Record) error
	// Find looks up the change that wrote a blob with this digest to the item, as
	// recorded by an earlier process of this pass. It finds only lines that were
	// written before this process opened the log, and nothing before the log has
	// received the checkpoint's marks.
	Find(target string, ref scan.Ref, after string) (Trace, bool)
	// Sync makes what was noted survive a loss of power.
	Sync() error
}

// Record is one slot that was changed.
type Record struct {
	At            time.Time
	Pass          int
	Target        string
	Ref           scan.Ref
	Path          string
	From, To      string // key ARNs
	Before, After string // SHA-256 of the blobs, hex
	// Binding ties the record to its pass and to the encryption context of the new blob.
	Binding string
}

// Target is one place to work on.
type Target struct {
	Name   string
	Lister Lister
	Writer Writer // nil: look, do not touch
	// Batch is how many items a worker takes, and holds in memory, at once, and
	// the most changes of one Replace; 1 where items take memory budget
	// (scan.MemoryBudget), because a caller that waits for budget must hold none.
	Batch  int
	Format ciphertext.Format
	Place  checkpoint.Place // for the record of the pass
	// Own reports whether an item is a file of rotator itself, which is left out.
	// If nil, no item is left out.
	Own func(scan.Item) bool
	// StopAfter holds, for each rule of the format, the number of first slots that stop the
	// run if they are all alike; 0 means never. The last value applies to all further rules.
	// Without values no rule stops the run.
	StopAfter []int
	// Partial reports whether rows are read without some of their attributes.
	// Those are not searched.
	Partial bool
}

// side is the state of the reads from one target, or of the writes to it. They are separate
// because permissions and throttling can differ between reads and writes.
type side struct {
	denials retry.DenialCounter
	limiter *flowcontrol.Limiter // of requests, or of the items that a batch writes
}

// targetState are both of them.
type targetState struct{ reading, writing side }

func newTargetState() *targetState {
	unlimited := func() *flowcontrol.Limiter { return flowcontrol.NewLimiter(math.Inf(1)) }
	return &targetState{reading: side{limiter: unlimited()}, writing: side{limiter: unlimited()}}
}

// read sends one request that reads, through the limiter. The permit is that of the job, or the
// zero Permit.
func (s *side) read(
	ctx context.Context, permit flowcontrol.Permit, request func() error,
) error {
	if err := permit.WaitN(ctx, s.limiter, 1); err != nil {
		return err
	}
	err := request()
	s.limiter.Observe(retry.ResponseTo(err), awserr.RetryAfter(err))
	return err
}
