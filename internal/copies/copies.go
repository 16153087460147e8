// Package copies asks S3, DynamoDB and AWS Backup for the copies of old ciphertexts that passes do
// not read: old versions of objects, replicas, backups, exports and streams. It only reads. Each
// kind of copy has a row in the result, also if it could not be read or is not readable at all.
//
// The caller owns the clients and knows when rotator last moved a ciphertext. The result is plain
// data.
package copies

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/backup"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// State is what is known about the copies of one row.
type State string

// The states.
const (
	Counted     State = "counted"
	None        State = "none"
	CannotSee   State = "cannot-see" // the call failed
	NotLookedAt State = "not-looked-at"
)

// Kind is a kind of copy.
type Kind string

// The kinds of copies, in the order of the rows of a target.
const (
	Noncurrent   Kind = "s3-noncurrent-versions"
	DeleteMarked Kind = "s3-delete-marked-versions"
	Locked       Kind = "s3-object-lock"
	Replicated   Kind = "s3-replication"
	Uploads      Kind = "s3-incomplete-uploads"
	ArchivedKind Kind = "s3-archived"
	Recovery     Kind = "dynamodb-pitr"
	Backups      Kind = "dynamodb-backups"
	Exports      Kind = "dynamodb-exports"
	Stream       Kind = "dynamodb-stream"
	Kinesis      Kind = "dynamodb-kinesis"
	Replicas     Kind = "dynamodb-replicas"
	AWSBackup    Kind = "aws-backup"
	FileCopies   Kind = "file-copies"
	Elsewhere    Kind = "elsewhere" // one row of the whole result
)

// Name returns the kind in words, in the plural.
func (k Kind) Name() string {
	return map[Kind]string{
		Noncurrent:   "noncurrent versions",
		DeleteMarked: "versions under delete markers",
		Locked:       "locked versions",
		Replicated:   "replicated objects",
		Uploads:      "incomplete uploads",
		ArchivedKind: "archived objects",
		Recovery:     "continuous backups",
		Backups:      "on-demand backups",
		Exports:      "exports to S3",
		Stream:       "stream records",
		Kinesis:      "Kinesis stream records",
		Replicas:     "copies of replicas",
		AWSBackup:    "AWS Backup recovery points",
		FileCopies:   "copies of files",
		Elsewhere:    "copies elsewhere",
	}[k]
}

// Row is what is known about one kind of copy in one place. The names of its JSON fields are part
// of the public interface (docs/copies.md).
type Row struct {
	Kind   Kind   `json:"kind"`
	Target string `json:"target,omitempty"` // its name in the job file
	Place  string `json:"place,omitempty"`
	State  State  `json:"state"`
	Count  int64  `json:"count"`
	Bytes  int64  `json:"bytes,omitempty"`
	// Until is when the last of these copies is gone. It is zero if that is not known. NoEnd is
	// true if nothing deletes them.
	Until time.Time `json:"until,omitzero"`
	NoEnd bool      `json:"no_end,omitempty"`
	API   string    `json:"api,omitempty"` // the calls, separated by commas
	// MissingPermission is the action that was denied. A row in the state Counted has it if only
	// the end of the copies could not be read.
	MissingPermission string `json:"missing_permission,omitempty"`
	Detail            string `json:"detail"`
	// Items are the copies themselves, at most 1,000, if they have names.
	Items []Item `json:"items,omitempty"`
}

// Item is one copy with a name.
type Item struct {
	Name  string    `json:"name"`
	At    time.Time `json:"at,omitzero"` // when it was made
	Bytes int64     `json:"bytes,omitempty"`
	Until time.Time `json:"until,omitzero"` // zero if it does not expire
}

// maxItems is the maximum number of items of a row.
const maxItems = 1000

// Result has the rows of all targets. The names of its JSON fields are part of the public
// interface (docs/copies.md).
type Result struct {
	Job     string    `json:"job"`
	Version string    `json:"version"`
	Asked   time.Time `json:"asked"`
	// LastMove is a time after which rotator moved no ciphertext; zero if no move is known.
	LastMove time.Time `json:"last_move,omitzero"`
	// Until is the latest end of the counted copies.
	Until    time.Time `json:"until,omitzero"`
	Sentence string    `json:"sentence"`
	Rows     []Row     `json:"copies"`
}

// Target is a target of a job. Exactly one of Table, Bucket and Root is set.
type Target struct {
	Name           string
	Table          string // name or ARN
	Bucket, Prefix string
	Root           string
	Region         string
	// Regions are the Regions of replicas that are targets of their own. Replica is true for these
	// targets.
	Regions  []string
	Replica  bool
	DynamoDB *dynamodb.Client // with Table
	S3       *s3.Client       // with Bucket
	Backup   *backup.Client
	Kinesis  *kinesis.Client
	// Archived counts the archived objects that a pass found. It is nil if no pass read the bucket.
	Archived *Archived
}

// Archived is the number of objects that a pass could not read because they are archived.
type Archived struct {
	Objects int64
	Pass    string // how sentences name the pass
}

// place returns the place of a target as rows name it.
func (t Target) place() string {
	switch {
	case t.Bucket != "" && t.Prefix != "":
		return t.Bucket + "/" + t.Prefix
	case t.Bucket != "":
		return t.Bucket
	case t.Replica:
		return t.Table + " in " + t.Region
	case t.Table != "":
		return t.Table
	}
	return t.Root
}

// Config is the configuration of Find. The clients must not retry.
type Config struct {
	Job, Version string
	Targets      []Target
	LastMove     time.Time // zero if no move is known
	// Exact reads the locks of each old version.
	Exact    bool
	Patience time.Duration // how long one call is retried
}

// clockMargin is how much earlier a clock of AWS may be than that of the host. AWS refuses requests
// if the difference is larger.
const clockMargin = 15 * time.Minute

// finder holds the facts that all rows need.
type finder struct {
	Config
	now time.Time
	// moved is the time from which the ends of copies count: the last move, or now.
	moved time.Time
}

// isOld reports whether a copy of time t can contain a ciphertext that was moved later.
func (f *finder) isOld(t time.Time) bool { return t.Before(f.moved.Add(clockMargin)) }

// Find asks about all targets. A call that fails makes the state of its row CannotSee. The error
// is that of ctx, or of credentials that no service accepts.
func Find(ctx context.Context, c Config) (*Result, error) {
	f := &finder{Config: c, now: time.Now().UTC().Truncate(time.Second)}
	f.moved = c.LastMove
	if f.moved.IsZero() {
		f.moved = f.now
	}
	r := &Result{Job: c.Job, Version: c.Version, Asked: f.now, LastMove: c.LastMove}
	for _, t := range c.Targets {
		ask := f.files
		switch {
		case t.S3 != nil:
			ask = f.bucket
		case t.DynamoDB != nil:
			ask = f.table
		}
		rows, err := ask(ctx, t)
		if err != nil {
			return nil, err
		}
		for i := range rows {
			rows[i].Target = t.Name
			if rows[i].Place == "" {
				rows[i].Place = t.place()
			}
		}
		r.Rows = append(r.Rows, rows...)
	}
	r.Rows = append(r.Rows, Row{
		Kind:  Elsewhere,
		State: NotLookedAt,
		Detail: "No AWS API lists dumps, caches, data warehouses, logs, backup vaults of other " +
			"accounts, and files on other machines.",
	})
	r.conclude()
	return r, nil
}

// files returns the row of a directory.
func (f *finder) files(context.Context, Target) ([]Row, error) {
	return []Row{{
		Kind:   FileCopies,
		State:  NotLookedAt,
		Detail: "Snapshots and backups of the file system cannot be listed by rotator.",
	}}, nil
}

// until sets the end of the copies of a row. If they are gone, its state is None.
func (f *finder) until(r *Row, end time.Time, gone string) {
	if end.After(f.now) {
		r.State, r.Until = Counted, end.UTC()
		return
	}
	r.State, r.Count, r.Bytes, r.Detail, r.Items = None, 0, 0, gone, nil
}
