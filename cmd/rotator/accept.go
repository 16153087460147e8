package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"rotator/internal/accept"
	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/report"
	"rotator/internal/rotate"
)

// resolveAccepted finds the keys that accept rules name, by the names that they give them.
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
				arn, err = rotate.KeyARN(ctx, client, rule.Under)
				return err
			}
			err := rotate.Patiently(ctx, time.Duration(w.job.MaxOutage), "KMS", ask)
			if key := (*rotate.KeyError)(nil); errors.As(err, &key) {
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

// isSource reports whether a key is one that the job moves from. With source.any every key
// is, but for the destination.
func isSource(keys rotate.Keys) func(arn string) bool {
	return func(arn string) bool {
		return keys.Any && arn != keys.Destination.ARN ||
			slices.ContainsFunc(keys.Sources, func(k rotate.Key) bool { return k.ARN == arn })
	}
}

// recordedKeys are the keys of a pass, as its record has them.
func recordedKeys(record checkpoint.Pass, job *config.Job) rotate.Keys {
	keys := rotate.Keys{
		Any:             record.Any,
		Destination:     rotate.Key{ARN: record.Destination.ARN},
		SourceAlgorithm: job.Source.Algorithm,
	}
	for _, source := range record.Sources {
		keys.Sources = append(keys.Sources, rotate.Key{ARN: source.ARN})
	}
	return keys
}

// acceptRules makes the rules of a job file; under has the ARNs of the keys that they name.
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

// newTally makes the tally of exceptions for a job with accept rules; nil without.
func newTally(
	job *config.Job, keys rotate.Keys, under map[string]string, ofToken func(string) string,
) *accept.Tally {
	if len(job.Accept) == 0 {
		return nil
	}
	return accept.NewTally(acceptRules(job, under), accept.Keys{
		IsSource:  isSource(keys),
		Symmetric: keys.SourceAlgorithm == rotate.Symmetric,
		OfToken:   ofToken,
	})
}

// recordedTally is newTally for a pass of which there is only its record.
func recordedTally(job *config.Job, record checkpoint.Pass) *accept.Tally {
	return newTally(job, recordedKeys(record, job), record.AcceptKeys,
		func(token string) string { return record.TokenKeys[token] })
}

// addLedger adds the exceptions of a pass that are in its ledger.
func addLedger(
	ctx context.Context, tally *accept.Tally, passes *checkpoint.Passes, record checkpoint.Pass,
) error {
	if tally == nil {
		return nil
	}
	for chunk, err := range passes.Ledger(ctx, record) {
		if err != nil {
			return &storageError{what: "read the ledger", err: err}
		}
		for _, e := range chunk.Entries {
			tally.Add(e)
		}
	}
	return nil
}

// acceptedBy returns what tells the number of the accept rule that takes an exception of a
// pass, 0 for none.
func acceptedBy(
	ctx context.Context, passes *checkpoint.Passes, record checkpoint.Pass, job *config.Job,
) (func(checkpoint.LedgerEntry) int, error) {
	tally := recordedTally(job, record)
	if tally == nil {
		return func(checkpoint.LedgerEntry) int { return 0 }, nil
	}
	if err := addLedger(ctx, tally, passes, record); err != nil {
		return nil, err
	}
	results := tally.Results(time.Now())
	return func(e checkpoint.LedgerEntry) int { return tally.RuleOf(e, results) }, nil
}

// setAccepted fills in what the accept rules make of the exceptions.
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
			Because: job.Accept[i].Because,
			Void:    result.Void,
		})
	}
	summary.SetAccepted(accepted)
}
