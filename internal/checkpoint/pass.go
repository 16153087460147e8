package checkpoint

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// Status says whether a pass has reached its end.
type Status string

// The states of a pass.
const (
	Running  Status = "running" // begun and not finished, whether or not a run works on it now
	Finished Status = "complete"
)

// Pass is one complete walk over all partitions of a job. Its partitions are
// frozen here when it begins.
type Pass struct {
	Number int `json:"number"`
	// ID is a random id of the pass. It is unique among all passes and
	// checkpoints. Passes that an earlier version began have none.
	ID          string       `json:"id,omitempty"`
	Fingerprint string       `json:"fingerprint"` // of what the job means
	Destination Key          `json:"destination"`
	Sources     []Key        `json:"sources,omitempty"`
	Any         bool         `json:"any,omitempty"`
	Account     string       `json:"account,omitempty"` // of the caller that began the pass
	Mode        string       `json:"mode,omitempty"`    // what the job does; "" in older records
	Targets     []PassTarget `json:"targets"`
	Status      Status       `json:"status"`
	Started     time.Time    `json:"started"`
	Ended       time.Time    `json:"ended,omitzero"`
	// Requests and Throttled count the ReEncrypt requests of the runs that
	// ended in order; what a killed run had sent is not known.
	Requests  int64 `json:"requests"`
	Throttled int64 `json:"throttled"`
	// Logs are the audit logs of the runs, one for each worker.
	Logs []AuditLog `json:"audit_logs,omitempty"`
	// Runs are the ids of the runs that were added last, so that none is added
	// twice when its answer was lost.
	Runs []string `json:"runs,omitempty"`
	// AcceptKeys maps the keys in accept rules of the job file to their ARNs.
	AcceptKeys map[string]string `json:"accept_keys,omitempty"`
	// TokenKeys maps header tokens to the ARNs of the keys that KMS has named for
	// them, in this pass and in earlier passes.
	TokenKeys map[string]string `json:"token_keys,omitempty"`
	// Headers are the runs that counted slots by the header of their blobs, and did
	// not end with a checked sample that agreed. While there are any, figures that
	// rest on headers are no evidence.
	Headers []HeaderRun `json:"headers,omitempty"`
	// Doubts are reasons why what the pass counted is no proof.
	Doubts []string `json:"doubts,omitempty"`
	// Early is true if a run has stopped because the first slots of a rule were all alike,
	// which suggests an error in the job file.
	Early bool `json:"early,omitempty"`
}

// HeaderRun is a run that counted slots by the header of their blobs. Wrong says
// what a check has found; it is empty while nobody has checked to the end.
type HeaderRun struct {
	Run   string `json:"run"`
	Wrong string `json:"wrong,omitempty"`
}

// Identity returns a digest of the id, the job fingerprint and the destination
// key of the pass. It is empty for a pass without an id.
func (p Pass) Identity() string {
	if p.ID == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(p.ID + "\n" + p.Fingerprint + "\n" + p.Destination.ARN))
	return hex.EncodeToString(sum[:])
}

// AuditLog describes the last line of an audit log when the checkpoint was
// saved. It reveals a log that was cut short or replaced.
type AuditLog struct {
	Host  string `json:"host"`
	Name  string `json:"name"` // of the file
	Lines int64  `json:"lines"`
	Head  string `json:"head"` // hash of the last of them
}

// RunEnd is what a run adds to its pass when it ends in order.
type RunEnd struct {
	ID                  string
	Requests, Throttled int64
	Log                 AuditLog
	// Broken are the audit logs that lack lines that the checkpoint has recorded.
	Broken []AuditLog
	// AcceptKeys and TokenKeys are added to those of the pass.
	AcceptKeys, TokenKeys map[string]string
	// HeadersAgree says that the sample of what the run counted by headers was
	// checked to the end, and agreed; HeadersWrong what a check has found.
	HeadersAgree bool
	HeadersWrong string
	// Doubts are reasons why what the pass counted is no proof.
	Doubts []string
	Early  bool // as in Pass
}

// The most logs and ids of runs that the record of a pass holds: those added last.
const (
	maxLogs = 500
	maxRuns = 32
	// maxDoubts is the maximum number of doubts in a record. Those of the first
	// runs are kept.
	maxDoubts = 16
)

// maxHeaderRuns is how many runs that use headers a pass may have open. None of them
// can be forgotten, so there are no more.
const maxHeaderRuns = 200

// BeginHeaders notes that a run is about to count slots by headers: before it counts
// the first, so that no crash can make anybody forget it. It is false when the record
// has no room for one more.
func (p *Pass) BeginHeaders(run string) bool {
	if slices.ContainsFunc(p.Headers, func(h HeaderRun) bool { return h.Run == run }) {
		return true
	}
	if len(p.Headers) >= maxHeaderRuns {
		return false
	}
	p.Headers = append(p.Headers, HeaderRun{Run: run})
	return true
}

// endHeaders settles what BeginHeaders noted of a run.
func (p *Pass) endHeaders(end RunEnd) {
	i := slices.IndexFunc(p.Headers, func(h HeaderRun) bool { return h.Run == end.ID })
	switch {
	case i < 0:
	case end.HeadersWrong != "":
		p.Headers[i].Wrong = end.HeadersWrong
	case end.HeadersAgree:
		p.Headers = slices.Delete(p.Headers, i, i+1)
	}
}

// AddRun adds a run, once.
func (p *Pass) AddRun(end RunEnd) {
	if slices.Contains(p.Runs, end.ID) {
		return
	}
	p.Runs = lastOf(append(p.Runs, end.ID), maxRuns)
	p.endHeaders(end)
	p.AcceptKeys = merged(p.AcceptKeys, end.AcceptKeys)
	p.TokenKeys = merged(p.TokenKeys, end.TokenKeys)
	for _, doubt := range end.Doubts {
		if !slices.Contains(p.Doubts, doubt) && len(p.Doubts) < maxDoubts {
			p.Doubts = append(p.Doubts, doubt)
		}
	}
	p.Early = p.Early || end.Early
	p.Requests += end.Requests
	p.Throttled += end.Throttled
	p.addLogs(end)
}

// addLogs replaces the record of the log of a run. It keeps the record of a log
// that was cut off, replaced or lost, so that every later check reports it.
func (p *Pass) addLogs(end RunEnd) {
	for _, broken := range end.Broken {
		if !slices.Contains(p.Logs, broken) {
			p.Logs = append(p.Logs, broken)
		}
	}
	p.Logs = slices.DeleteFunc(p.Logs, func(l AuditLog) bool {
		return l.Host == end.Log.Host && l.Name == end.Log.Name && !slices.Contains(end.Broken, l)
	})
	p.Logs = lastOf(append(p.Logs, end.Log), maxLogs)
}

// maxNames is the maximum number of key names or tokens in a record.
const maxNames = 256

// merged adds more to keys, up to the maximum number.
func merged(keys, more map[string]string) map[string]string {
	for _, name := range slices.Sorted(maps.Keys(more)) {
		if keys == nil {
			keys = map[string]string{}
		}
		if _, known := keys[name]; known || len(keys) < maxNames {
			keys[name] = more[name]
		}
	}
	return keys
}

func lastOf[T any](list []T, most int) []T { return list[max(0, len(list)-most):] }

// Key is a KMS key as it was resolved when the pass began.
type Key struct {
	Given    string `json:"given"` // as in the job file
	ARN      string `json:"arn"`
	Material string `json:"material,omitempty"` // id of its current key material
	// Algorithm is the encryption algorithm; empty in records of earlier versions.
	Algorithm string `json:"algorithm,omitempty"`
}

// PassTarget is a target with its frozen partitions.
type PassTarget struct {
	Name       string      `json:"name"`
	Partitions []Partition `json:"partitions"`
	// Place is where the target is; nil in records of earlier versions.
	Place *Place `json:"place,omitempty"`
}

// Place is where a target is.
type Place struct {
	Kind     string `json:"kind"` // one of the constants below
	Table    string `json:"table,omitempty"`
	Bucket   string `json:"bucket,omitempty"`
	Prefix   string `json:"prefix,omitempty"`
	Root     string `json:"root,omitempty"`
	Host     string `json:"host,omitempty"` // of files
	Region   string `json:"region,omitempty"`
	Account  string `json:"account,omitempty"` // of the owner; empty if unknown
	Endpoint string `json:"endpoint,omitempty"`
	Format   string `json:"format,omitempty"`
}

// The kinds of places.
const (
	PlaceDynamoDB = "dynamodb"
	PlaceS3       = "s3"
	PlaceFiles    = "files"
)

// Partition is one unit of scanning; Spec is known to its source alone.
type Partition struct {
	Name string          `json:"name"`
	Spec json.RawMessage `json:"spec"`
}

// Progress is how far a pass is in one partition. Everything before Cursor has
// a durable outcome, and is in Counts and in the ledger, once.
type Progress struct {
	Cursor []byte    `json:"cursor,omitempty"` // empty: at the start
	Done   bool      `json:"done,omitempty"`
	Counts Counts    `json:"counts"`
	Chunks []Chunks  `json:"chunks,omitempty"` // the ledger chunks that belong to this partition
	Saved  time.Time `json:"saved,omitzero"`
	// Log is the last durable line of the audit log of the worker that saved this
	// state.
	Log *AuditLog `json:"audit_log,omitempty"`
	// Owner is the worker that has claimed the partition, "" for none, and Epoch
	// how often it was claimed.
	Owner string `json:"owner,omitempty"`
	Epoch int64  `json:"epoch,omitempty"`
}

// Chunks are the ledger chunks of one epoch of a partition, numbered from 0.
type Chunks struct {
	Epoch int64 `json:"epoch"`
	N     int   `json:"n"`
}

// chunkName is a chunk of a partition.
type chunkName struct {
	epoch int64
	n     int
}

// addChunk adds a chunk and names it.
func (p *Progress) addChunk() chunkName {
	if last := len(p.Chunks) - 1; last < 0 || p.Chunks[last].Epoch != p.Epoch {
		p.Chunks = append(p.Chunks, Chunks{Epoch: p.Epoch})
	}
	last := &p.Chunks[len(p.Chunks)-1]
	last.N++
	return chunkName{p.Epoch, last.N - 1}
}

// chunkNames lists the chunks, oldest first.
func (p *Progress) chunkNames() (names []chunkName) {
	for _, c := range p.Chunks {
		for n := range c.N {
			names = append(names, chunkName{c.Epoch, n})
		}
	}
	return names
}

// head says at which pass a job is.
type head struct {
	Pass int `json:"pass"`
}

// Passes keeps the passes of one job in a Store.
type Passes struct {
	store Store
	job   string
}

// NewPasses returns the passes of a job.
func NewPasses(store Store, job string) *Passes { return &Passes{store: store, job: job} }

func (p *Passes) headID() string           { return "jobs/" + p.job + "/head" }
func (p *Passes) memberListID() string     { return "jobs/" + p.job + "/roster" }
func (p *Passes) passID(number int) string { return fmt.Sprintf("jobs/%s/pass/%d", p.job, number) }

// partitionID names a target by its place in the pass, since names of targets
// may have letters that ids do not.
func (p *Passes) partitionID(number, target, partition int) string {
	return fmt.Sprintf("%s/partition/%d/%d", p.passID(number), target, partition)
}

func (p *Passes) chunkID(number, target, partition int, chunk chunkName) string {
	return fmt.Sprintf("%s/ledger/%d/%d/%d.%d", p.passID(number), target, partition, chunk.epoch, chunk.n)
}

// Last returns the pass that began last; ErrNotFound when none ever did.
func (p *Passes) Last(ctx context.Context) (Pass, error) {
	var h head
	if _, err := p.fetch(ctx, p.headID(), "head", &h); err != nil {
		return Pass{}, err
	}
	pass, err := p.Pass(ctx, h.Pass)
	if errors.Is(err, ErrNotFound) {
		return Pass{}, &CorruptError{ID: p.passID(h.Pass), Detail: "it is missing"}
	}
	return pass, err
}

// Pass returns one pass; ErrNotFound when there is none of that number.
func (p *Passes) Pass(ctx context.Context, number int) (pass Pass, err error) {
	_, err = p.fetch(ctx, p.passID(number), "pass", &pass)
	return pass, err
}

// Begin makes a new pass the last one of the job, with the next number, and
// returns it as it is stored. A pass counts from the moment the head names it, so
// a crash in between leaves a record that nothing refers to; the next Begin takes
// it, if it means the same, so that of workers that begin at the same time all
// work on one pass. ErrFenced when another pass has begun since after was read.
func (p *Passes) Begin(ctx context.Context, after int, pass Pass) (Pass, error) {
	var h head
	before, err := p.fetch(ctx, p.headID(), "head", &h)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Pass{}, err
	}
	if h.Pass != after {
		return Pass{}, ErrFenced
	}
	if pass, err = p.createPass(ctx, after+1, pass); err != nil {
		return Pass{}, err
	}
	_, err = p.save(ctx, before, p.headID(), "head", head{Pass: pass.Number})
	return pass, err
}

// Bounds on how many passes that the head does not know are passed over.
const (
	maxUnlinked    = 1000
	maxRestartStep = 1 << 30
)

// place stores a pass under the first number from first that is free, or has the
// same pass already.
func (p *Passes) createPass(ctx context.Context, first int, pass Pass) (Pass, error) {
	for number := first; number < first+maxUnlinked; number++ {
		pass.Number = number
		_, err := p.save(ctx, Entry{}, p.passID(number), "pass", pass)
		if err == nil {
			return pass, nil
		}
		if !errors.Is(err, ErrFenced) {
			return Pass{}, err
		}
		there, err := p.Pass(ctx, number)
		if err == nil && there.Fingerprint == pass.Fingerprint && there.Status == Running {
			return there, nil
		}
		if err != nil && !IsUnreadable(err) {
			return Pass{}, err
		}
	}
	return Pass{}, &CorruptError{ID: p.headID(), Detail: fmt.Sprintf("%d passes behind pass %d are there that it does not know", maxUnlinked, first)}
}

// Restart begins a new pass although the last is unfinished, or its records
// cannot be read. Those stay where they are; a head or a member list that cannot be read
// is copied before it is replaced. Workers on the old pass are fenced off.
func (p *Passes) Restart(ctx context.Context, pass Pass) (Pass, error) {
	var h head
	before, broken, err := p.fetchToReplace(ctx, p.headID(), "head", &h)
	if err != nil {
		return Pass{}, err
	}
	if broken {
		if err := p.backUp(ctx, before); err != nil {
			return Pass{}, err
		}
		h.Pass = 0
	}
	// Unlike Begin it never takes a pass that is there: it may be the one that is
	// to be left behind. The steps double, since without a head nobody knows how
	// many there are.
	for step := 1; step < maxRestartStep; step *= 2 {
		number := h.Pass + step
		pass.Number = number
		_, err := p.save(ctx, Entry{}, p.passID(number), "pass", pass)
		if errors.Is(err, ErrFenced) {
			continue
		}
		if err == nil {
			_, err = p.save(ctx, before, p.headID(), "head", head{Pass: number})
		}
		if err == nil {
			err = p.repairMemberList(ctx, number)
		}
		return pass, err
	}
	return Pass{}, &CorruptError{ID: p.headID(), Detail: fmt.Sprintf("%d passes are there that it does not know", maxRestartStep)}
}

// look is fetch for what may be left behind: that nothing is there is no error, and
// broken says that it cannot be trusted, and can be replaced all the same.
func (p *Passes) fetchToReplace(ctx context.Context, id, kind string, v any) (before Entry, broken bool, err error) {
	before, err = p.store.Fetch(ctx, id)
	if err == nil {
		err = Decode(id, kind, before.Data, v)
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return Entry{}, false, nil
	case IsUnreadable(err) && before.Exists():
		return before, true, nil
	}
	return before, false, err
}

// keep copies a record to an id that nothing else has.
func (p *Passes) backUp(ctx context.Context, e Entry) error {
	kept := fmt.Sprintf("%s.kept-%s", e.ID, time.Now().UTC().Format("20060102T150405.000000000"))
	_, err := p.store.Create(ctx, kept, e.Data)
	return err
}

// swapAttempts bounds how often a record is changed again that others change too.
const swapAttempts = 100

// Update changes the record of a pass, whatever other workers do to it at the same
// time, and returns it as it is stored. Change may be called several times.
func (p *Passes) Update(ctx context.Context, number int, change func(*Pass)) (Pass, error) {
	for n := range swapAttempts { // of those who collide, one always wins
		var pass Pass
		before, err := p.fetch(ctx, p.passID(number), "pass", &pass)
		if err != nil {
			return Pass{}, err
		}
		change(&pass)
		err = p.swap(ctx, before, p.passID(number), "pass", pass)
		if !errors.Is(err, ErrConflict) {
			return pass, err
		}
		if err := pause(ctx, time.Duration(n)*time.Millisecond); err != nil {
			return Pass{}, err
		}
	}
	return Pass{}, fmt.Errorf("pass %d was changed by others %d times in a row", number, swapAttempts)
}

// Identify adds an id to a pass of an earlier version without one, and returns
// the stored record.
func (p *Passes) Identify(ctx context.Context, pass Pass) (Pass, error) {
	if pass.ID != "" {
		return pass, nil
	}
	return p.Update(ctx, pass.Number, func(record *Pass) {
		if record.ID == "" {
			record.ID = rand.Text()
		}
	})
}

// Logs returns the audit log lines that are recorded in a pass, without
// duplicates: from runs that ended in order, and from the last save of every
// partition.
func (p *Passes) Logs(ctx context.Context, pass Pass) ([]AuditLog, error) {
	logs := slices.Clone(pass.Logs)
	all, err := p.readAll(ctx, pass)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Log != nil && !slices.Contains(logs, *r.Log) {
			logs = append(logs, *r.Log)
		}
	}
	return logs, nil
}

// Done says whether every partition of a pass is done, by the records themselves.
func (p *Passes) Done(ctx context.Context, pass Pass) (bool, error) {
	all, err := p.readAll(ctx, pass)
	undone := slices.ContainsFunc(all, func(r progressRecord) bool { return !r.Done })
	return err == nil && !undone, err
}

// Progress returns how far a pass is in the partition of a target, both counted
// from 0; a partition that was never saved is at its start.
func (p *Passes) Progress(ctx context.Context, number, target, partition int) (Progress, error) {
	progress, _, err := p.progress(ctx, number, target, partition)
	return progress, err
}

func (p *Passes) progress(ctx context.Context, number, target, partition int) (progress Progress, e Entry, err error) {
	e, err = p.fetch(ctx, p.partitionID(number, target, partition), "progress", &progress)
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return progress, e, err
}

// readers is the maximum number of concurrent reads of partition records.
const readers = 8

// progressRecord is the record of a partition, with its place in the pass.
type progressRecord struct {
	Progress
	target, index int
	entry         Entry
}

// readAll returns the records of all partitions of a pass, in its order.
func (p *Passes) readAll(ctx context.Context, pass Pass) (all []progressRecord, err error) {
	for t, target := range pass.Targets {
		for i := range target.Partitions {
			all = append(all, progressRecord{target: t, index: i})
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for i := range all {
		group.Go(func() (err error) {
			r := &all[i]
			r.Progress, r.entry, err = p.progress(ctx, pass.Number, r.target, r.index)
			return err
		})
	}
	return all, group.Wait()
}

// Totals returns what the pass counted so far, by target, with what retries
// changed since.
func (p *Passes) Totals(ctx context.Context, pass Pass) (map[string]Counts, error) {
	totals := map[string]Counts{}
	for _, target := range pass.Targets {
		totals[target.Name] = Counts{}
	}
	all, err := p.readAll(ctx, pass)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		name := pass.Targets[r.target].Name
		sum := totals[name]
		sum.Add(r.Counts)
		totals[name] = sum
	}
	for chunk, err := range p.ledgerOf(ctx, pass, all) {
		if err != nil {
			return nil, err
		}
		sum := totals[chunk.target]
		sum.Add(chunk.Adjust)
		totals[chunk.target] = sum
	}
	return totals, nil
}

func (p *Passes) fetch(ctx context.Context, id, kind string, v any) (Entry, error) {
	e, err := p.store.Fetch(ctx, id)
	if err != nil {
		return Entry{}, err
	}
	return e, Decode(id, kind, e.Data, v)
}

// save replaces before, or creates the record when before is none. Whoever
// comes second is fenced off.
func (p *Passes) save(ctx context.Context, before Entry, id, kind string, v any) (Entry, error) {
	data, err := Encode(kind, v)
	if err != nil {
		return Entry{}, err
	}
	var e Entry
	if before.Exists() {
		e, err = p.store.Replace(ctx, before, data)
	} else {
		e, err = p.store.Create(ctx, id, data)
	}
	if errors.Is(err, ErrConflict) {
		return Entry{}, ErrFenced
	}
	return e, err
}

// swap is save for a record that several workers take turns with: whoever comes
// second gets ErrConflict, and tries again on what is there then.
func (p *Passes) swap(ctx context.Context, before Entry, id, kind string, v any) error {
	_, err := p.save(ctx, before, id, kind, v)
	if errors.Is(err, ErrFenced) {
		return ErrConflict
	}
	return err
}

// put writes a record whether or not it is there already.
func (p *Passes) put(ctx context.Context, id, kind string, v any) error {
	before, err := p.store.Fetch(ctx, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	_, err = p.save(ctx, before, id, kind, v)
	return err
}
