package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/spf13/cobra"

	"rotator/internal/config"
	"rotator/internal/version"
	"rotator/internal/watch"
)

// watchPatience is how long one call of watch is retried.
const watchPatience = 10 * time.Second

// watchPages is the default of --pages.
const watchPages = 20

// watchFlags are the flags of watch.
type watchFlags struct {
	since string
	every time.Duration
	pages int
}

func newWatchCommand(std streams) *cobra.Command {
	var flags watchFlags
	cmd := jobCommand(std, "watch", "Report the callers that still use or need the source keys",
		`Ask KMS and CloudTrail, for each source key, about its state, last use, grants, aliases and
rotation, and about the calls of callers other than rotator, including refused calls.
Watch only reads, and needs only the permissions in deploy/iam/watch.json. If one of them
is missing, the result states what could not be seen.

KMS can report a use up to 1 hour late. CloudTrail shows an event typically within 15
minutes, and does not record all refused calls.

Exit codes: 0 no use and no refused call is known; 4 another caller used a key, or was
refused; 3 neither the last use nor the callers of a key could be read. For other codes
see docs/exit-codes.md.`,
		func(ctx context.Context, c *jobFlags, job *config.Job) error {
			return watchJob(ctx, c, job, flags)
		})
	cmd.PreRunE = func(*cobra.Command, []string) error { return flags.check() }
	cmd.Flags().StringVar(&flags.since, "since", "",
		"begin of the period: a time (2026-11-29T08:00:00Z) or how long ago (36h) (default: the "+
			"last request of rotator, or when a key was disabled, if that is earlier)")
	cmd.Flags().DurationVar(&flags.every, "every", 0,
		"repeat at this interval until stopped (default: once)")
	cmd.Flags().IntVar(&flags.pages, "pages", watchPages,
		"maximum number of pages to read from CloudTrail, each with up to 50 events")
	return cmd
}

// check returns an error for flags that cannot be used.
func (f watchFlags) check() error {
	const shortest = time.Minute
	switch {
	case f.every != 0 && f.every < shortest:
		return usagef("--every %s: the shortest interval is %s", f.every, shortest)
	case f.pages < 1:
		return usagef("--pages %d: at least 1 page must be read", f.pages)
	}
	_, err := f.begin(time.Now())
	return err
}

// begin returns the time of --since, or zero without it.
func (f watchFlags) begin(now time.Time) (time.Time, error) {
	if f.since == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(f.since); err == nil && ago > 0 {
		return now.Add(-ago), nil
	}
	begin, err := time.Parse(time.RFC3339, f.since)
	if err != nil || begin.After(now) {
		return begin, usagef("--since %s: write a past time such as 2026-11-29T08:00:00Z, or how "+
			"long ago, such as 36h", f.since)
	}
	return begin, nil
}

// watchJob reports once on the source keys, or at each interval of --every.
func watchJob(ctx context.Context, c *jobFlags, job *config.Job, flags watchFlags) error {
	if len(job.Source.Keys) == 0 {
		return problem(job, "source",
			"there is no source key to watch; list the keys in source.keys")
	}
	watcher, records, err := newWatcher(ctx, c, job, flags)
	if err != nil {
		return err
	}
	return watchRounds(ctx, flags.every, func(ctx context.Context) (*watch.Result, error) {
		result, err := watcher.Round(ctx, records.own(ctx))
		if err != nil {
			return nil, watchError(job, err)
		}
		return result, c.printWatch(result, flags.every > 0)
	})
}

// watchRounds calls round once, or at each interval until ctx ends. It returns the worst outcome.
// A round that the end of ctx cuts short does not count, except the first one.
func watchRounds(
	ctx context.Context, every time.Duration, round func(context.Context) (*watch.Result, error),
) error {
	var worst error
	for first := true; ; first = false {
		result, err := round(ctx)
		switch {
		case err != nil && ctx.Err() != nil && !first:
			return worst
		case err != nil:
			return err
		}
		worst = worse(worst, watchOutcome(result))
		if every == 0 || !sleepFor(ctx, every) {
			return worst
		}
	}
}

// sleepFor waits. It returns false if ctx ends first.
func sleepFor(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// newWatcher returns a Watcher for the source keys, and the records of the job.
func newWatcher(
	ctx context.Context, c *jobFlags, job *config.Job, flags watchFlags,
) (*watch.Watcher, *jobRecords, error) {
	base, err := c.loadAWS(ctx, job.Workers, keyTimeout)
	if err != nil {
		return nil, nil, err
	}
	c.outages.SetPatience(min(watchPatience, time.Duration(job.MaxOutage)))
	settings := job.KMS
	cfg := withTarget(base, settings.Region, settings.Endpoint, settings.RoleARN)
	if cfg.Region == "" {
		return nil, nil, problem(job, "kms.region",
			"no AWS Region is set; set it here, or set AWS_REGION")
	}
	if err := regions(job, cfg.Region); err != nil {
		return nil, nil, err
	}
	since, err := flags.begin(time.Now())
	if err != nil {
		return nil, nil, err
	}
	records := openRecords(ctx, c, job)
	// The endpoint of KMS has no CloudTrail and no STS.
	others := withTarget(base, settings.Region, "", settings.RoleARN)
	_, account := callerOf(ctx, others)
	w := watch.Config{
		KMS:         kms.NewFromConfig(cfg),
		Trail:       cloudtrail.NewFromConfig(others),
		Keys:        records.sources(ctx),
		GrantTokens: settings.GrantTokens,
		Account:     account,
		Job:         job.Job,
		Version:     version.String(),
		Since:       since,
		Pages:       flags.pages,
		Patience:    min(watchPatience, time.Duration(job.MaxOutage)),
	}
	return watch.New(w), records, nil
}

// printWatch writes a result to stdout, and what could not be seen to the log.
func (c *jobFlags) printWatch(r *watch.Result, repeated bool) error {
	for _, k := range r.Keys {
		for _, u := range k.CannotSee {
			c.logger.Warn(fmt.Sprintf("%s: cannot see %s: %s", k.Given, u.What,
				c.secrets.Text(u.Sentence)))
		}
	}
	if c.output == "json" {
		return r.JSON(c.out, repeated)
	}
	if err := r.Text(c.out); err != nil || !repeated {
		return err
	}
	_, err := fmt.Fprintln(c.out)
	return err
}

// watchOutcome returns the error with the exit code of a result, or nil.
func watchOutcome(r *watch.Result) error {
	var text []string
	code := exitDone
	for _, k := range r.Keys {
		is := exitDone
		switch {
		case k.Status == watch.Used, k.Status == watch.Refused:
			is = exitRemaining
		case k.Blind():
			is = exitExceptions
		}
		if is != exitDone {
			text = append(text, k.Sentence)
		}
		code = max(code, is)
	}
	if code == exitDone {
		return nil
	}
	return &outcomeError{code: code, text: strings.Join(text, " ")}
}

// worse returns the one of two outcomes of watchOutcome with the greater exit code, or the later
// one.
func worse(before, now error) error {
	var b, n *outcomeError
	if errors.As(before, &b) && (!errors.As(now, &n) || b.code > n.code) {
		return before
	}
	return now
}

// watchError adds the line of the job file to the error for a key that does not exist.
func watchError(job *config.Job, err error) error {
	missing := (*watch.NoKeyError)(nil)
	if !errors.As(err, &missing) {
		return err
	}
	for i, key := range job.Source.Keys {
		if key == missing.Given {
			return problem(job, fmt.Sprintf("source.keys[%d]", i), "KMS has no such key: "+
				"its alias or id is wrong for this account and Region, or it has been deleted")
		}
	}
	return err
}
