package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"rotator/internal/accept"
	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/reencrypt"
	"rotator/internal/report"
)

// resolveAccepted resolves the keys that accept rules name to their ARNs.
func (w *wiring) resolveAccepted(ctx context.Context, client *kms.Client) error {
	w.under = map[string]string{}
	var found []config.Problem
	for i, rule := range w.job.Accept {
		field := fmt.Sprintf("accept[%d].under", i)
		if rule.Under == "" {
			continue
		}
		arn := rule.Under
		if !isKeyARN(arn) {
			ask := func(ctx context.Context) (err error) {
				arn, err = reencrypt.KeyARN(ctx, client, rule.Under, w.job.KMS.GrantTokens)
				return err
			}
			err := w.patiently(ctx, "KMS", ask)
			if key := (*reencrypt.KeyError)(nil); errors.As(err, &key) {
				detail := key.Error() + "; or write the ARN of the key here"
				found = append(found, w.job.Problem(field, detail))
				continue
			}
			if err != nil {
				return err
			}
		}
		if isSource(w.keys)(arn) {
			found = append(found, w.job.Problem(field,
				"it is the source key "+arn+"; a slot under a source key cannot be accepted"))
			continue
		}
		w.under[rule.Under] = arn
	}
	return problems(w.job, found)
}

func isKeyARN(name string) bool {
	return strings.HasPrefix(name, "arn:") && strings.Contains(name, ":key/")
}

// isSource returns a function that reports whether a key is a source key of the
// job. With source.any, every key except the destination is a source key.
func isSource(keys reencrypt.Keys) func(arn string) bool {
	return func(arn string) bool {
		return keys.Any && arn != keys.Destination.ARN ||
			slices.ContainsFunc(keys.Sources, func(k reencrypt.Key) bool { return k.ARN == arn })
	}
}

// recordedKeys returns the keys of a pass from its record.
func recordedKeys(record checkpoint.Pass, job *config.Job) reencrypt.Keys {
	keys := reencrypt.Keys{
		Any:             record.Any,
		Destination:     reencrypt.Key{ARN: record.Destination.ARN},
		SourceAlgorithm: job.Source.Algorithm,
	}
	for _, source := range record.Sources {
		keys.Sources = append(keys.Sources, reencrypt.Key{ARN: source.ARN})
	}
	return keys
}

// acceptRules returns the accept rules of a job file. under maps the keys that
// they name to ARNs.
func acceptRules(job *config.Job, under map[string]string) (rules []accept.Rule) {
	for _, r := range job.Accept {
		table := slices.ContainsFunc(job.Targets, func(t config.Target) bool {
			return t.Name == r.Target && t.DynamoDB != nil
		})
		ends, _ := r.Ends()
		if r.Until == "" {
			ends = time.Time{}
		}
		rule := accept.Rule{
			Target:  r.Target,
			Matches: r.Matcher(table),
			Reasons: r.Reason,
			Under:   under[r.Under],
			Most:    int64(r.Most),
			Ends:    ends,
			Because: r.Because,
		}
		if isKeyARN(r.Under) {
			rule.Under = r.Under
		}
		if r.Under != "" && rule.Under == "" {
			rule.Unresolved = fmt.Sprintf(
				"no run of this pass has resolved %s; write the ARN of the key", r.Under)
		}
		rules = append(rules, rule)
	}
	return rules
}

// newTally returns the tally of exceptions for a job, or nil if it has no
// accept rules.
func newTally(
	job *config.Job, keys reencrypt.Keys, under map[string]string, ofToken func(string) string,
) *accept.Tally {
	if len(job.Accept) == 0 {
		return nil
	}
	return accept.NewTally(acceptRules(job, under), accept.Keys{
		IsSource:  isSource(keys),
		Symmetric: keys.SourceAlgorithm == reencrypt.Symmetric,
		OfToken:   ofToken,
	})
}

// recordedTally is newTally for a pass that is known only from its record.
func recordedTally(job *config.Job, record checkpoint.Pass) *accept.Tally {
	return newTally(job, recordedKeys(record, job), record.AcceptKeys,
		func(token string) string { return record.TokenKeys[token] })
}

// addLedger adds the exceptions of a pass that are in its ledger.
func addLedger(tally *accept.Tally, ledger iter.Seq2[checkpoint.Chunk, error]) error {
	if tally == nil {
		return nil
	}
	for chunk, err := range ledger {
		if err != nil {
			return &storageError{what: "read the ledger", err: err}
		}
		for _, e := range chunk.Entries {
			tally.Add(e)
		}
	}
	return nil
}

// acceptedBy returns a function that returns the number of the accept rule that
// covers an exception of a pass, or 0 if none does.
func acceptedBy(
	ctx context.Context, passes *checkpoint.Passes, record checkpoint.Pass, job *config.Job,
) (func(checkpoint.LedgerEntry) int, error) {
	tally := recordedTally(job, record)
	if tally == nil {
		return func(checkpoint.LedgerEntry) int { return 0 }, nil
	}
	if err := addLedger(tally, passes.Ledger(ctx, record)); err != nil {
		return nil, err
	}
	results := tally.Results(time.Now())
	return func(e checkpoint.LedgerEntry) int { return tally.RuleOf(e, results) }, nil
}

// setAccepted adds the results of the accept rules to the summary.
func setAccepted(summary *report.Summary, job *config.Job, tally *accept.Tally) {
	if tally == nil {
		return
	}
	var accepted []report.Accepted
	for i, result := range tally.Results(time.Now()) {
		accepted = append(accepted, report.Accepted{
			Rule:    result.Rule,
			Target:  job.Accept[i].Target,
			Slots:   result.Slots,
			Misfits: result.Misfits,
			Barred:  result.Barred,
			Because: job.Accept[i].Because,
			Void:    result.Void,
		})
	}
	summary.SetAccepted(accepted)
}
