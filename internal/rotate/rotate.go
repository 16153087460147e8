// Package rotate is the engine. It reads the partitions of the targets page by page, decides
// about every slot with package reencrypt, writes changed items under a condition, and gives
// every slot exactly one outcome. It controls the order of these steps. Sources, formats, the
// checkpoint and the audit log are in separate packages.
//
//	partition -> page -> items -> slots -> ReEncrypt -> conditional write -> outcome
//	                                                                            |
//	           cursor moves <- page complete <- tracker (low watermark) <-------+
//	                                                 audit log, ledger <--------+
package rotate

import (
	"context"
	"math"
	"time"

	"rotator/internal/awserr"
	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/flowcontrol"
	"rotator/internal/reencrypt"
	"rotator/internal/retry"
	"rotator/internal/scan"
)

// Lister reads a target. It has no methods that write, so an audit, which has only a Lister,
// cannot write. Its methods can be called concurrently. Every request must have a timeout.
type Lister interface {
	// Partitions divides the target into partitions. It is called at the start of a pass.
	Partitions(ctx context.Context) ([]scan.Partition, error)
	// Page reads the page at cursor.
	Page(ctx context.Context, p scan.Partition, cursor scan.Cursor) (scan.Page, error)
	// Load reads the current state of one item. The error is scan.ErrGone if it does not
	// exist.
	Load(ctx context.Context, ref scan.Ref) (scan.Item, error)
}

// Writer replaces items of a target.
type Writer interface {
	// Replace writes at most Target.Batch changes. It writes a change only if the item was
	// not changed since it was read. It returns the results in the same order and never
	// retries.
	Replace(ctx context.Context, changes []scan.Change) []scan.Result
}

// Recorder is the audit log. An error stops the run. Records must survive the end of the process
// when Intend or Record returns.
type Recorder interface {
	// Intend records changes that are about to be written.
	Intend(records []Record) error
	// Record records changes that were written.
	Record(records []Record) error
	// Find looks up the change that wrote a blob with this digest to the item, as
	// recorded by an earlier process of this pass. It finds only lines that were
	// written before this process opened the log, and nothing before the log has
	// received the checkpoint's marks.
	Find(target string, ref scan.Ref, after string) (Trace, bool)
	// Sync makes all records survive a loss of power.
	Sync() error
}

// Record is a change of one slot in the audit log.
type Record struct {
	At            time.Time
	Pass          int
	Target        string
	Ref           scan.Ref
	Path          string
	From, To      string // key ARNs
	Before, After string // hexadecimal SHA-256 of the blobs
	// Binding ties the record to its pass and to the encryption context of the new blob.
	Binding string
	// Origin describes the response of KMS that the new blob comes from. It is recorded with
	// the intent.
	Origin reencrypt.Origin
}

// Target is a table, a bucket or a set of files with ciphertexts.
type Target struct {
	Name   string
	Lister Lister
	Writer Writer // nil in a read-only pass
	// Batch is the maximum number of items of a chunk and of changes in one call of Replace.
	// It must be 1 if items take memory budget (scan.MemoryBudget), because a job that waits
	// for budget must not hold any.
	Batch    int
	Format   ciphertext.Format
	Location checkpoint.Location // for the record of the pass
	// Own reports whether an item is a file of rotator itself. Such items are skipped. Nil
	// means that there are none.
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

// targetState is the state of the reads and the writes of one target.
type targetState struct{ reading, writing side }

func newTargetState() *targetState {
	unlimited := func() *flowcontrol.Limiter { return flowcontrol.NewLimiter(math.Inf(1)) }
	return &targetState{reading: side{limiter: unlimited()}, writing: side{limiter: unlimited()}}
}

// read calls request, which sends one read request, through the limiter. permit is that of the
// job, or the zero Permit.
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
