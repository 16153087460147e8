package rotate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/scan"
)

// Plan is what a pass is about. Two plans with the same Fingerprint are the
// same work: changing a limit resumes, changing a target, slot or key does not.
type Plan struct {
	Job         string
	Fingerprint string
	Keys        Keys
	Targets     []Target
}

// Fingerprint digests the meaning of a job: any value that encoding/json can
// write.
func Fingerprint(meaning any) (string, error) {
	text, err := json.Marshal(meaning)
	if err != nil {
		return "", fmt.Errorf("fingerprint the job: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// Opened is a pass that is ready to be worked on.
type Opened struct {
	Pass       checkpoint.Pass
	Partitions []Partition
	// Notes say how this pass came to be, where that is not plain.
	Notes []string
}

// OpenPass resumes the unfinished pass of the plan's job, or begins the next
// one. An alias that names another key than when the pass began is a *StopError
// of kind StopJob: half of the slots would end under one key and half under the
// other.
func OpenPass(ctx context.Context, passes *checkpoint.Passes, plan Plan) (*Opened, error) {
	last, err := passes.Last(ctx)
	switch {
	case errors.Is(err, checkpoint.ErrNotFound):
		return beginPass(ctx, passes, plan, 1, nil)
	case err != nil:
		return nil, storeError(err)
	}
	if last.Status == checkpoint.Finished {
		return beginPass(ctx, passes, plan, last.Number+1, nil)
	}
	if last.Fingerprint != plan.Fingerprint {
		return beginPass(ctx, passes, plan, last.Number+1, []string{fmt.Sprintf(
			"the job file asks for other targets, slots or keys than pass %d, which was left unfinished; this is pass %d", last.Number, last.Number+1)})
	}
	if err := SameKeys(last, plan.Keys); err != nil {
		return nil, err
	}
	return resumePass(ctx, passes, plan, last)
}

// SameKeys refuses to go on with a pass when a name of the job file stands for
// another key than when the pass began: a *StopError of kind StopJob.
func SameKeys(pass checkpoint.Pass, keys Keys) error {
	was := append([]checkpoint.Key{pass.Destination}, pass.Sources...)
	is := append([]Key{keys.Destination}, keys.Sources...)
	for i := range min(len(was), len(is)) {
		if was[i].ARN != is[i].ARN {
			return &StopError{Kind: StopJob, What: fmt.Sprintf(
				"%s was %s when pass %d began and is %s now; point it back to finish the pass, or name the key by its ARN (which begins a new pass)",
				is[i].Given, was[i].ARN, pass.Number, is[i].ARN)}
		}
	}
	return nil
}

func beginPass(ctx context.Context, passes *checkpoint.Passes, plan Plan, number int, notes []string) (*Opened, error) {
	pass := checkpoint.Pass{Number: number, Fingerprint: plan.Fingerprint, Started: time.Now().UTC(), Status: checkpoint.Running,
		Any: plan.Keys.Any, Destination: recordKey(plan.Keys.Destination)}
	for _, key := range plan.Keys.Sources {
		pass.Sources = append(pass.Sources, recordKey(key))
	}
	opened := &Opened{Notes: notes}
	for i, target := range plan.Targets {
		partitions, err := target.Lister.Partitions(ctx)
		if err != nil {
			return nil, fmt.Errorf("partition target %s: %w", target.Name, err)
		}
		record := checkpoint.PassTarget{Name: target.Name}
		for _, p := range partitions {
			record.Partitions = append(record.Partitions, checkpoint.Partition{Name: p.Name, Spec: p.Spec})
			opened.Partitions = append(opened.Partitions, Partition{Target: i, Spec: p})
		}
		pass.Targets = append(pass.Targets, record)
	}
	if err := passes.Begin(ctx, pass); err != nil {
		return nil, storeError(err)
	}
	opened.Pass = pass
	return opened, nil
}

func recordKey(k Key) checkpoint.Key {
	return checkpoint.Key{ARN: k.ARN, Given: k.Given, Material: k.Material}
}

func resumePass(ctx context.Context, passes *checkpoint.Passes, plan Plan, pass checkpoint.Pass) (*Opened, error) {
	opened := &Opened{Pass: pass}
	for t, record := range pass.Targets {
		target := slices.IndexFunc(plan.Targets, func(t Target) bool { return t.Name == record.Name })
		if target < 0 {
			return nil, &StopError{Kind: StopInternal, What: fmt.Sprintf("pass %d has target %s, which the job does not", pass.Number, record.Name)}
		}
		for i, p := range record.Partitions {
			progress, err := passes.Progress(ctx, pass.Number, t, i)
			if err != nil {
				return nil, storeError(err)
			}
			opened.Partitions = append(opened.Partitions, Partition{Target: target, Spec: scan.Partition{Name: p.Name, Spec: p.Spec},
				Cursor: progress.Cursor, Done: progress.Done})
		}
	}
	opened.Notes = append(opened.Notes, fmt.Sprintf("resumed pass %d, begun %s", pass.Number, pass.Started.Format(time.RFC3339)))
	return opened, nil
}
