package checkpoint

import (
	"context"
	"iter"
	"slices"
)

// Records are the records of all partitions of a pass, as one read found them. They save reads
// for callers that need more than one of the figures.
type Records struct {
	passes *Passes
	pass   Pass
	all    []progressRecord
}

// Records reads the records of all partitions of a pass.
func (p *Passes) Records(ctx context.Context, pass Pass) (*Records, error) {
	all, err := p.readAll(ctx, pass)
	if err != nil {
		return nil, err
	}
	return &Records{passes: p, pass: pass, all: all}, nil
}

// Done reports whether every partition of the pass is done.
func (r *Records) Done() bool {
	return !slices.ContainsFunc(r.all, func(p progressRecord) bool { return !p.Done })
}

// Totals returns the counts of the pass by target, including the changes by retries. It reads the
// ledger.
func (r *Records) Totals(ctx context.Context) (map[string]Counts, error) {
	totals := map[string]Counts{}
	for _, target := range r.pass.Targets {
		totals[target.Name] = Counts{}
	}
	for _, p := range r.all {
		name := r.pass.Targets[p.target].Name
		sum := totals[name]
		sum.Add(p.Counts)
		totals[name] = sum
	}
	for chunk, err := range r.Ledger(ctx) {
		if err != nil {
			return nil, err
		}
		sum := totals[chunk.target]
		sum.Add(chunk.Adjust)
		totals[chunk.target] = sum
	}
	return totals, nil
}

// Ledger iterates over the chunks of the ledger of the pass. An error ends the iteration.
func (r *Records) Ledger(ctx context.Context) iter.Seq2[Chunk, error] {
	return r.passes.ledgerOf(ctx, r.pass, r.all)
}

// Logs returns the audit log lines that are recorded in the pass, without duplicates: from runs
// that ended normally, and from the last save of every partition by each run.
func (r *Records) Logs() []AuditLog {
	logs := slices.Clone(r.pass.Logs)
	for _, p := range r.all {
		saved := p.Earlier
		if p.Log != nil {
			saved = append(slices.Clip(saved), *p.Log)
		}
		for _, log := range saved {
			if !slices.Contains(logs, log) {
				logs = append(logs, log)
			}
		}
	}
	return logs
}
