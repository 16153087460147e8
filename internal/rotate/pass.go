package rotate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/reencrypt"
	"rotator/internal/retry"
	"rotator/internal/scan"
)

// Plan describes the work of a pass.
type Plan struct {
	Job string
	// Fingerprint identifies the work. A pass can be resumed only with the same fingerprint.
	// It changes with a target, slot or key of the job file, but not with a limit.
	Fingerprint string
	// Before is the fingerprint that an older version gives the same work, or "".
	Before  string
	Keys    reencrypt.Keys
	Targets []Target
	// Account and Caller are the AWS account and the ARN of the caller, for the record of
	// the pass.
	Account, Caller string
}

// describes reports whether a pass has the fingerprint of the plan.
func (p Plan) describes(pass checkpoint.Pass) bool {
	return pass.Fingerprint == p.Fingerprint || p.Before != "" && pass.Fingerprint == p.Before
}

// OpenedPass is a new or resumed pass.
type OpenedPass struct {
	Pass       checkpoint.Pass
	Partitions []Partition
	// Notes are messages for the user about how the pass was started or resumed.
	Notes []string
}

// openAttempts is the maximum number of attempts to open a pass while other processes start
// passes of the same job.
const openAttempts = 20

// OpenPass resumes the unfinished pass of the job, or starts the next pass. With restart it
// always starts a new pass. Processes that call it at the same time without restart get the
// same pass. The error is a *retry.StopError of kind StopJob if the unfinished pass has another
// fingerprint, or if an alias no longer refers to the key of the pass. Otherwise the pass would
// move some slots to one key and the others to another.
func OpenPass(
	ctx context.Context, passes *checkpoint.Passes, plan Plan, restart bool,
) (*OpenedPass, error) {
	if restart {
		pass, err := newPass(ctx, plan)
		if err != nil {
			return nil, err
		}
		if pass, err = passes.Restart(ctx, pass); err != nil {
			return nil, storeError(err)
		}
		return openedPass(plan, pass,
			fmt.Sprintf("started pass %d (--restart); previous records were kept", pass.Number))
	}
	for range openAttempts {
		found, err := openPass(ctx, passes, plan)
		if !errors.Is(err, checkpoint.ErrFenced) {
			return found, err
		}
	}
	return nil, storeError(checkpoint.ErrFenced)
}

// openPass is one attempt of OpenPass. The error is checkpoint.ErrFenced if another process
// started a pass at the same time.
func openPass(ctx context.Context, passes *checkpoint.Passes, plan Plan) (*OpenedPass, error) {
	last, err := passes.Last(ctx)
	switch {
	case errors.Is(err, checkpoint.ErrNotFound) || err == nil && last.Status == checkpoint.Finished:
		return beginPass(ctx, passes, plan, last)
	case err != nil:
		return nil, storeError(err)
	}
	if !plan.describes(last) {
		if nothing, err := movedNothing(ctx, passes, last); err != nil || nothing {
			return replacePass(ctx, passes, plan, last, err)
		}
		return nil, &retry.StopError{Kind: retry.StopJob, What: fmt.Sprintf("unfinished pass %d, "+
			"started %s, has other keys, targets or slots than this job file: finish the pass "+
			"with its own job file, give this job another name (job), or start a new pass with "+
			"rotator run --restart, which keeps the records of the unfinished pass",
			last.Number, last.Started.Format(time.RFC3339))}
	}
	if err := SameKeys(last, plan.Keys); err != nil {
		return nil, err
	}
	if last, err = passes.Identify(ctx, last); err != nil {
		return nil, storeError(err)
	}
	return openedPass(plan, last, fmt.Sprintf("resumed pass %d, started %s",
		last.Number, last.Started.Format(time.RFC3339)))
}

// movedNothing reports whether a pass was stopped early, because its job file seemed wrong,
// and has moved no slot. A corrected job file can then start the next pass.
func movedNothing(
	ctx context.Context, passes *checkpoint.Passes, pass checkpoint.Pass,
) (bool, error) {
	if !pass.Early {
		return false, nil
	}
	totals, err := passes.Totals(ctx, pass)
	for _, counts := range totals {
		if counts.Slots.Rotated > 0 {
			return false, err
		}
	}
	return err == nil, err
}

// replacePass starts the next pass after last, a pass that moved nothing. err is the error of
// movedNothing.
func replacePass(
	ctx context.Context, passes *checkpoint.Passes, plan Plan, last checkpoint.Pass, err error,
) (*OpenedPass, error) {
	if err != nil {
		return nil, storeError(err)
	}
	next, err := beginPass(ctx, passes, plan, last)
	if err == nil {
		next.Notes = append(next.Notes, fmt.Sprintf("started pass %d with the changed job file: "+
			"pass %d was stopped early, and its record contains no moved slots",
			next.Pass.Number, last.Number))
	}
	return next, err
}

// SameKeys returns a *retry.StopError of kind StopJob if key names in the job file now refer to
// other keys than at the start of the pass.
func SameKeys(pass checkpoint.Pass, keys reencrypt.Keys) error {
	before := append([]checkpoint.Key{pass.Destination}, pass.Sources...)
	now := append([]reencrypt.Key{keys.Destination}, keys.Sources...)
	var moved []string
	var left []checkpoint.Key // keys of the pass that the job file no longer names
	for i := range min(len(before), len(now)) {
		if before[i].ARN == now[i].ARN {
			continue
		}
		text := fmt.Sprintf("%s was %s when pass %d began and is %s now", now[i].Given,
			before[i].ARN, pass.Number, now[i].ARN)
		if slices.Contains(moved, text) {
			continue // a key that is both source and destination
		}
		moved = append(moved, text)
		if !slices.ContainsFunc(now, func(k reencrypt.Key) bool { return k.ARN == before[i].ARN }) {
			left = append(left, before[i])
		}
	}
	if len(moved) == 0 {
		return nil
	}
	back := "point it back"
	if len(moved) > 1 {
		back = "point them back"
	}
	return &retry.StopError{
		Kind: retry.StopJob,
		What: fmt.Sprintf("%s; %s to go on with pass %d, or %s",
			strings.Join(moved, ", and "), back, pass.Number, newPassAdvice(pass, keys, left)),
	}
}

// newPassAdvice returns instructions for a new pass after key names were pointed at other keys.
// left are the keys of the pass that the job file no longer names.
func newPassAdvice(pass checkpoint.Pass, keys reencrypt.Keys, left []checkpoint.Key) string {
	command := "rotator run --restart"
	if pass.Status == checkpoint.Finished {
		command = "rotator run"
	}
	advice := fmt.Sprintf("begin a new pass with %s, which keeps the records of pass %d",
		command, pass.Number)
	if keys.Mode == reencrypt.ModeRefresh || keys.Mode == reencrypt.ModeContext {
		return advice
	}
	var listed, apart []string
	for _, key := range left {
		moved := key.ARN == pass.Destination.ARN // the pass moved ciphertexts to this key
		other := key.Algorithm != "" && key.Algorithm != keys.SourceAlgorithm
		switch {
		case moved && (other || keys.ChangesContext):
			apart = append(apart, key.ARN)
		case !keys.Any:
			listed = append(listed, key.ARN)
		}
	}
	if len(listed) > 0 {
		advice = fmt.Sprintf("add %s to source.keys, because ciphertexts are under it, and %s",
			strings.Join(listed, " and "), advice)
	}
	if len(apart) > 0 {
		advice += fmt.Sprintf("; move the ciphertexts under %s with a separate job, because they "+
			"have the algorithm and the destination_context of pass %d",
			strings.Join(apart, " and "), pass.Number)
	}
	return advice
}

// beginPass starts the next pass after last. If another process has started it already,
// beginPass returns that pass, or checkpoint.ErrFenced.
func beginPass(
	ctx context.Context, passes *checkpoint.Passes, plan Plan, last checkpoint.Pass,
) (*OpenedPass, error) {
	pass, err := newPass(ctx, plan)
	if err != nil {
		return nil, err
	}
	pass.TokenKeys = last.TokenKeys // KMS may not be able to name them again
	stored, err := passes.Begin(ctx, last.Number, pass)
	if errors.Is(err, checkpoint.ErrFenced) {
		return nil, err
	}
	if err != nil {
		return nil, storeError(err)
	}
	if err := SameKeys(stored, plan.Keys); err != nil {
		return nil, err
	}
	return openedPass(plan, stored)
}

// newPass returns the record for a new pass. It asks every target for its partitions.
func newPass(ctx context.Context, plan Plan) (checkpoint.Pass, error) {
	pass := checkpoint.Pass{
		ID:          rand.Text(),
		Fingerprint: plan.Fingerprint,
		Started:     time.Now().UTC(),
		Status:      checkpoint.Running,
		Any:         plan.Keys.Any,
		Mode:        string(plan.Keys.Mode),
		Account:     plan.Account,
		Caller:      plan.Caller,
		Destination: recordKey(plan.Keys.Destination),
	}
	for _, key := range plan.Keys.Sources {
		pass.Sources = append(pass.Sources, recordKey(key))
	}
	for _, target := range plan.Targets {
		partitions, err := target.Lister.Partitions(ctx)
		if err != nil {
			return pass, fmt.Errorf("partition target %s: %w", target.Name, err)
		}
		record := checkpoint.PassTarget{Name: target.Name}
		if location := target.Location; location.Kind != "" {
			record.Location = &location
		}
		for _, p := range partitions {
			record.Partitions = append(record.Partitions, checkpoint.Partition{
				Name: p.Name,
				Spec: p.Spec,
			})
		}
		pass.Targets = append(pass.Targets, record)
	}
	return pass, nil
}

func recordKey(k reencrypt.Key) checkpoint.Key {
	return checkpoint.Key{
		ARN:       k.ARN,
		Given:     k.Given,
		Material:  k.Material,
		Algorithm: k.Algorithm,
	}
}

// openedPass returns a stored pass with its partitions. Every target of the pass must be in the
// plan.
func openedPass(plan Plan, pass checkpoint.Pass, notes ...string) (*OpenedPass, error) {
	o := &OpenedPass{Pass: pass, Notes: notes}
	for _, record := range pass.Targets {
		target := slices.IndexFunc(plan.Targets,
			func(t Target) bool { return t.Name == record.Name })
		if target < 0 {
			return nil, &retry.StopError{
				Kind: retry.StopInternal,
				What: fmt.Sprintf("pass %d has target %s, which is not in the job file",
					pass.Number, record.Name),
			}
		}
		for _, p := range record.Partitions {
			o.Partitions = append(o.Partitions, Partition{
				Target: target,
				Spec:   scan.Partition{Name: p.Name, Spec: p.Spec},
			})
		}
	}
	return o, nil
}

// ClosePass adds a run to the record of its pass. For a complete run, complete holds the records of
// the pass, read after the run ended. For other runs, it is nil. After a complete run, ClosePass
// also finishes the pass, unless another process has finished it. It is then an error if a
// partition is not done. ClosePass returns the record as stored. Every error is a *retry.StopError.
func ClosePass(
	ctx context.Context, passes *checkpoint.Passes, pass checkpoint.Pass, end checkpoint.RunEnd,
	complete *checkpoint.Records,
) (checkpoint.Pass, error) {
	if complete != nil && pass.Status != checkpoint.Finished && !complete.Done() {
		return pass, &retry.StopError{
			Kind: retry.StopInternal,
			What: "the run ended with partitions that are not done",
		}
	}
	record, err := passes.Update(ctx, pass.Number, func(record *checkpoint.Pass) {
		record.AddRun(end)
		if complete != nil && record.Status != checkpoint.Finished {
			record.Status, record.Ended = checkpoint.Finished, time.Now().UTC()
		}
	})
	if err != nil {
		return pass, storeError(err)
	}
	return record, nil
}
