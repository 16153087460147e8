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

// Status is the state of a pass.
type Status string

// The states of a pass.
const (
	Running  Status = "running" // begun and not finished, whether or not a run works on it now
	Finished Status = "complete"
)

// Pass is one complete scan of all partitions of a job. The partitions are fixed
// when the pass begins.
type Pass struct {
	Number int `json:"number"`
	// ID is a random id of the pass. It is unique among all passes and
	// checkpoints. Passes that an earlier version began have none.
	ID          string       `json:"id,omitempty"`
	Fingerprint string       `json:"fingerprint"` // digest of the job file's meaning
	Destination Key          `json:"destination"`
	Sources     []Key        `json:"sources,omitempty"`
	Any         bool         `json:"any,omitempty"`
	Account     string       `json:"account,omitempty"` // of the caller that began the pass
	Caller      string       `json:"caller,omitempty"`  // its ARN; "" in older records
	Mode        string       `json:"mode,omitempty"`    // what the job does; "" in older records
	Targets     []PassTarget `json:"targets"`
	Status      Status       `json:"status"`
	Started     time.Time    `json:"started"`
	Ended       time.Time    `json:"ended,omitzero"`
	// Requests and Throttled count the ReEncrypt requests of the runs that ended normally. They do
	// not include the requests of killed runs. Header and Shared count the slots of these runs that
	// were decided by their header, or by the response for another slot. Records of earlier
	// versions have neither.
	Requests  int64 `json:"requests"`
	Throttled int64 `json:"throttled"`
	Header    int64 `json:"header,omitempty"`
	Shared    int64 `json:"shared,omitempty"`
	// Samples describe the samples of the runs that ended normally and counted slots by headers.
	// They are kept apart, because each run draws its own sample.
	Samples []RunSample `json:"samples,omitempty"`
	// Logs are the audit logs of the runs, one for each run.
	Logs []AuditLog `json:"audit_logs,omitempty"`
	// Runs are the ids of the runs that were added last. They prevent that a run is
	// added twice after a lost response.
	Runs []string `json:"runs,omitempty"`
	// AcceptKeys maps the keys in accept rules of the job file to their ARNs.
	AcceptKeys map[string]string `json:"accept_keys,omitempty"`
	// TokenKeys maps header tokens to the ARNs of the keys that KMS has named for
	// them, in this pass and in earlier passes.
	TokenKeys map[string]string `json:"token_keys,omitempty"`
	// Headers are the runs that counted slots by the header of their blobs and ended without a
	// verified sample. If there are any, the counts that depend on headers are not evidence.
	Headers []HeaderRun `json:"headers,omitempty"`
	// Doubts are reasons why the counts of the pass are not evidence.
	Doubts []string `json:"doubts,omitempty"`
	// Early is true if a run has stopped because the first slots of a rule were all alike,
	// which suggests an error in the job file.
	Early bool `json:"early,omitempty"`
}

// HeaderRun is a run that counted slots by the header of their blobs. Wrong describes a difference
// that a check has found. It is empty if no check was completed.
type HeaderRun struct {
	Run   string `json:"run"`
	Wrong string `json:"wrong,omitempty"`
}

// RunSample is the sample of one run.
type RunSample struct {
	Run string `json:"run"`
	Sample
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

// AuditLog describes the last line of an audit log when the checkpoint was saved. With it, a check
// detects a log that was truncated or replaced.
type AuditLog struct {
	Host  string `json:"host"`
	Name  string `json:"name"` // of the file
	Lines int64  `json:"lines"`
	Head  string `json:"head"` // hash of the last of them
	// ID is the id of the log, and Dir the directory of its files on Host. Records of earlier
	// versions have neither, and a log without lines has no id.
	ID  string `json:"id,omitempty"`
	Dir string `json:"dir,omitempty"`
}

// sameLog reports whether two records are of the same log.
func (a AuditLog) sameLog(b AuditLog) bool {
	if a.ID != "" && b.ID != "" {
		return a.ID == b.ID
	}
	return a.Host == b.Host && a.Name == b.Name && (a.Dir == b.Dir || a.Dir == "" || b.Dir == "")
}

// RunEnd is the data that a run adds to its pass when it ends normally.
type RunEnd struct {
	ID                  string
	Requests, Throttled int64
	Header, Shared      int64
	Sample              Sample
	Log                 AuditLog
	// Broken are the audit logs that lack lines that the checkpoint has recorded.
	Broken []AuditLog
	// AcceptKeys and TokenKeys are added to those of the pass.
	AcceptKeys, TokenKeys map[string]string
	// HeadersAgree is true if the whole sample of slots that the run counted by
	// headers was checked without a difference. HeadersWrong describes a difference.
	HeadersAgree bool
	HeadersWrong string
	// Doubts are reasons why the counts of the pass are not evidence.
	Doubts []string
	Early  bool // as in Pass
}

// The maximum numbers of logs and of run ids in a pass record. Those added last are
// kept.
const (
	maxLogs = 500
	maxRuns = 32
	// maxDoubts is the maximum number of doubts in a record. Those of the first
	// runs are kept.
	maxDoubts = 16
)

// maxHeaderRuns is the maximum number of entries in Pass.Headers and Pass.Samples together. An
// entry is never dropped to make room for another one.
const maxHeaderRuns = 200

// BeginHeaders records that a run will count slots by headers. It must be stored
// before the run counts the first one, so that the record survives a crash. It
// returns false if the record has no room for another run.
func (p *Pass) BeginHeaders(run string) bool {
	if slices.ContainsFunc(p.Headers, func(h HeaderRun) bool { return h.Run == run }) {
		return true
	}
	if len(p.Headers)+len(p.Samples) >= maxHeaderRuns {
		return false
	}
	p.Headers = append(p.Headers, HeaderRun{Run: run})
	return true
}

// endHeaders completes the entry that BeginHeaders added.
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

// AddRun adds a run. It does nothing if the run was added before.
func (p *Pass) AddRun(end RunEnd) {
	if slices.Contains(p.Runs, end.ID) {
		return
	}
	p.Runs = lastOf(append(p.Runs, end.ID), maxRuns)
	p.endHeaders(end)
	p.AcceptKeys = merged(p.AcceptKeys, end.AcceptKeys)
	p.TokenKeys = merged(p.TokenKeys, end.TokenKeys)
	p.AddDoubts(end.Doubts)
	p.Early = p.Early || end.Early
	p.Requests += end.Requests
	p.Throttled += end.Throttled
	p.Header += end.Header
	p.Shared += end.Shared
	if end.Sample.Population > 0 {
		p.Samples = append(p.Samples, RunSample{Run: end.ID, Sample: end.Sample})
	}
	p.addLogs(end)
}

// AddDoubts adds reasons why the counts of the pass are not evidence.
func (p *Pass) AddDoubts(doubts []string) {
	for _, doubt := range doubts {
		if !slices.Contains(p.Doubts, doubt) && len(p.Doubts) < maxDoubts {
			p.Doubts = append(p.Doubts, doubt)
		}
	}
}

// addLogs replaces the record of the log of a run. It keeps the record of a log that was truncated,
// replaced or lost, so that every later check reports it.
func (p *Pass) addLogs(end RunEnd) {
	for _, broken := range end.Broken {
		if !slices.Contains(p.Logs, broken) {
			p.Logs = append(p.Logs, broken)
		}
	}
	p.Logs = slices.DeleteFunc(p.Logs, func(l AuditLog) bool {
		return l.sameLog(end.Log) && !slices.Contains(end.Broken, l)
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

// PassTarget is a target and its partitions, which are fixed when the pass begins.
type PassTarget struct {
	Name       string      `json:"name"`
	Partitions []Partition `json:"partitions"`
	// Location is where the target is; nil in records of earlier versions.
	Location *Location `json:"place,omitempty"`
}

// Location is where a target is.
type Location struct {
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
	// Reach is nil in records of earlier versions.
	Reach *Reach `json:"reach,omitempty"`
}

// The kinds of locations.
const (
	LocationDynamoDB = "dynamodb"
	LocationS3       = "s3"
	LocationFiles    = "files"
)

// Partition is one unit of scanning. Only its source interprets Spec.
type Partition struct {
	Name string          `json:"name"`
	Spec json.RawMessage `json:"spec"`
}

// Progress is the state of one partition in a pass. All items before Cursor have a
// durable outcome, and are counted exactly once in Counts and in the ledger.
type Progress struct {
	Cursor []byte    `json:"cursor,omitempty"` // empty: at the start
	Done   bool      `json:"done,omitempty"`
	Counts Counts    `json:"counts"`
	Chunks []Chunks  `json:"chunks,omitempty"` // the ledger chunks that belong to this partition
	Saved  time.Time `json:"saved,omitzero"`
	// Log is the last durable line of the audit log of the run that saved this state.
	Log *AuditLog `json:"audit_log,omitempty"`
	// Earlier are the last durable lines of the logs of runs that saved this partition before,
	// at most maxEarlier. A run that was killed left no other record of its log.
	Earlier []AuditLog `json:"earlier_audit_logs,omitempty"`
	// Owner is the id of the run that has claimed the partition, or "". Epoch is the number of
	// claims.
	Owner string `json:"owner,omitempty"`
	Epoch int64  `json:"epoch,omitempty"`
}

// maxEarlier is the maximum number of logs in Progress.Earlier. The newest are kept.
const maxEarlier = 16

// setLog sets Log, which may be nil. If Log was of another log, that one is kept in Earlier.
func (p *Progress) setLog(log *AuditLog) {
	before := p.Log
	p.Log = log
	if before == nil || log == nil || before.Lines == 0 || before.sameLog(*log) {
		return
	}
	others := func(l AuditLog) bool { return l.sameLog(*before) }
	p.Earlier = slices.DeleteFunc(slices.Clone(p.Earlier), others)
	p.Earlier = lastOf(append(p.Earlier, *before), maxEarlier)
}

// Chunks are the ledger chunks of one epoch of a partition, numbered from 0.
type Chunks struct {
	Epoch int64 `json:"epoch"`
	N     int   `json:"n"`
}

// chunkName identifies a chunk of a partition.
type chunkName struct {
	epoch int64
	n     int
}

// addChunk adds a chunk and returns its name.
func (p *Progress) addChunk() chunkName {
	if last := len(p.Chunks) - 1; last < 0 || p.Chunks[last].Epoch != p.Epoch {
		p.Chunks = append(p.Chunks, Chunks{Epoch: p.Epoch})
	}
	last := &p.Chunks[len(p.Chunks)-1]
	last.N++
	return chunkName{p.Epoch, last.N - 1}
}

// chunkNames returns the names of the chunks, the oldest first.
func (p *Progress) chunkNames() (names []chunkName) {
	for _, c := range p.Chunks {
		for n := range c.N {
			names = append(names, chunkName{c.Epoch, n})
		}
	}
	return names
}

// head is the record that names the last pass of a job.
type head struct {
	Pass int `json:"pass"`
}

// Passes stores the passes of one job in a Store. Its methods may be called
// concurrently.
type Passes struct {
	store Store
	job   string
}

// NewPasses returns the passes of a job.
func NewPasses(store Store, job string) *Passes { return &Passes{store: store, job: job} }

func (p *Passes) headID() string           { return "jobs/" + p.job + "/head" }
func (p *Passes) memberListID() string     { return "jobs/" + p.job + "/roster" }
func (p *Passes) passID(number int) string { return fmt.Sprintf("jobs/%s/pass/%d", p.job, number) }

// partitionID identifies a target by its index in the pass, because the name of a
// target may have characters that an id cannot have.
func (p *Passes) partitionID(number, target, partition int) string {
	return fmt.Sprintf("%s/partition/%d/%d", p.passID(number), target, partition)
}

func (p *Passes) chunkID(number, target, partition int, chunk chunkName) string {
	return fmt.Sprintf("%s/ledger/%d/%d/%d.%d", p.passID(number), target, partition,
		chunk.epoch, chunk.n)
}

// Last returns the pass that began last. The error is ErrNotFound if there is none.
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

// LastNumber returns the number of the pass that began last, or 0 if there is none.
func (p *Passes) LastNumber(ctx context.Context) (int, error) {
	var h head
	_, err := p.fetch(ctx, p.headID(), "head", &h)
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return h.Pass, err
}

// Pass returns the pass with a number. The error is ErrNotFound if there is none.
func (p *Passes) Pass(ctx context.Context, number int) (pass Pass, err error) {
	_, err = p.fetchKept(ctx, p.passID(number), "pass", &pass)
	return pass, err
}

// Begin stores a pass with the next number as the last pass of the job, and returns the stored
// record. A pass is valid only if the head names it. A crash before that leaves an unlinked record.
// The next Begin uses this record if it describes the same pass, so that runs that begin at the
// same time work on one pass. The error is ErrFenced if another pass has begun after the pass with
// the number after.
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

// The maximum numbers of unlinked passes that Begin and Restart skip.
const (
	maxUnlinked    = 1000
	maxRestartStep = 1 << 30
)

// createPass stores a pass under the first free number from first, or returns the first
// unfinished pass with the same fingerprint.
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
		if err != nil && !IsUnreadable(err) && !isPruned(err) {
			return Pass{}, err
		}
	}
	detail := fmt.Sprintf("it does not name %d existing passes from pass %d", maxUnlinked, first)
	return Pass{}, &CorruptError{ID: p.headID(), Detail: detail}
}

// Restart begins a new pass even if the last pass is unfinished or its records cannot be read. It
// keeps those records. It copies an unreadable head or member list before it replaces it. Runs of
// the old pass are fenced off.
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
	// Unlike Begin, Restart never continues an existing pass, because it may be the
	// abandoned one. The steps double, because without a head the number of passes is
	// unknown.
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
	detail := fmt.Sprintf("it does not name %d existing passes", maxRestartStep)
	return Pass{}, &CorruptError{ID: p.headID(), Detail: detail}
}

// fetchToReplace reads a record that the caller will replace. A missing record is not
// an error. broken reports that the record is unreadable and can be replaced.
func (p *Passes) fetchToReplace(
	ctx context.Context, id, kind string, v any,
) (before Entry, broken bool, err error) {
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

// backUp copies a record to a new id.
func (p *Passes) backUp(ctx context.Context, e Entry) error {
	kept := fmt.Sprintf("%s.kept-%s", e.ID, time.Now().UTC().Format("20060102T150405.000000000"))
	_, err := p.store.Create(ctx, kept, e.Data)
	return err
}

// swapAttempts is the maximum number of attempts of Update.
const swapAttempts = 100

// Update changes the record of a pass and returns the stored record. Other runs may change the
// record concurrently: change is called again after each conflict.
func (p *Passes) Update(ctx context.Context, number int, change func(*Pass)) (Pass, error) {
	var conflict error
	for n := range swapAttempts { // of several concurrent writes, one always succeeds
		var pass Pass
		before, err := p.fetchAfter(ctx, conflict, p.passID(number), "pass", &pass)
		if isPruned(findPruned(before, err)) {
			return Pass{}, ErrFenced // it is pruned only if the job is at a later pass
		}
		if err != nil {
			return Pass{}, err
		}
		change(&pass)
		_, conflict = p.swap(ctx, before, p.passID(number), "pass", pass)
		if !errors.Is(conflict, ErrConflict) {
			return pass, conflict
		}
		if err := pause(ctx, time.Duration(n)*time.Millisecond); err != nil {
			return Pass{}, err
		}
	}
	return Pass{}, fmt.Errorf("other processes changed pass %d %d times in a row",
		number, swapAttempts)
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

// Logs returns the audit log lines that are recorded in a pass (Records.Logs).
func (p *Passes) Logs(ctx context.Context, pass Pass) ([]AuditLog, error) {
	records, err := p.Records(ctx, pass)
	if err != nil {
		return nil, err
	}
	return records.Logs(), nil
}

// Progress returns the progress of a partition of a target. Targets and partitions are
// counted from 0. The progress of a partition that was never saved is zero.
func (p *Passes) Progress(ctx context.Context, number, target, partition int) (Progress, error) {
	progress, _, err := p.progress(ctx, number, target, partition)
	return progress, err
}

func (p *Passes) progress(
	ctx context.Context, number, target, partition int,
) (progress Progress, e Entry, err error) {
	e, err = p.fetch(ctx, p.partitionID(number, target, partition), "progress", &progress)
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return progress, e, err
}

// readers is the maximum number of concurrent reads of partition records.
const readers = 8

// progressRecord is the record of a partition, with its position in the pass.
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

// Totals returns the current counts of the pass by target, including the changes by
// retries.
func (p *Passes) Totals(ctx context.Context, pass Pass) (map[string]Counts, error) {
	records, err := p.Records(ctx, pass)
	if err != nil {
		return nil, err
	}
	return records.Totals(ctx)
}

func (p *Passes) fetch(ctx context.Context, id, kind string, v any) (Entry, error) {
	e, err := p.store.Fetch(ctx, id)
	if err != nil {
		return Entry{}, err
	}
	return e, Decode(id, kind, e.Data, v)
}

// fetchAfter is fetch after an attempt to write the record that failed with the given error, or
// nil before the first attempt. If the error contains the record, no request is necessary.
func (p *Passes) fetchAfter(
	ctx context.Context, failed error, id, kind string, v any,
) (Entry, error) {
	conflict := (*conflictError)(nil)
	if errors.As(failed, &conflict) && conflict.now.ID == id && conflict.now.Exists() {
		return conflict.now, Decode(id, kind, conflict.now.Data, v)
	}
	return p.fetch(ctx, id, kind, v)
}

// save replaces before, or creates the record if before does not exist. The error is
// ErrFenced if another process has written the record first.
func (p *Passes) save(ctx context.Context, before Entry, id, kind string, v any) (Entry, error) {
	e, err := p.swap(ctx, before, id, kind, v)
	if errors.Is(err, ErrConflict) {
		return Entry{}, ErrFenced
	}
	return e, err
}

// swap is like save for a record that several runs change. The error is ErrConflict if another run
// has written the record first. The caller then reads it with fetchAfter.
func (p *Passes) swap(
	ctx context.Context, before Entry, id, kind string, v any,
) (e Entry, err error) {
	data, err := Encode(kind, v)
	if err != nil {
		return Entry{}, err
	}
	if before.Exists() {
		e, err = p.store.Replace(ctx, before, data)
	} else {
		e, err = p.store.Create(ctx, id, data)
	}
	return e, err
}

// put writes a record whether or not it exists.
func (p *Passes) put(ctx context.Context, id, kind string, v any) error {
	before, err := p.store.Fetch(ctx, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	_, err = p.save(ctx, before, id, kind, v)
	return err
}
