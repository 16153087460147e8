package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/report"
	"rotator/internal/verdict"
)

// earlierPasses finds the passes that read targets which no newer complete pass has read: targets
// that were removed from the job file, or changed. A verdict counts what they left.
type earlierPasses struct {
	passes  *checkpoint.Passes
	job     *config.Job
	waivers []verdict.Waiver
	known   storedPasses
	read    checkpoint.Readings // of the complete passes in known
	unread  []string            // names of passes whose records cannot be read
}

// withEarlier adds the earlier passes that a verdict needs to known. unread names those that cannot
// be read.
func withEarlier(
	ctx context.Context, passes *checkpoint.Passes, job *config.Job, waivers []verdict.Waiver,
	known storedPasses,
) (all storedPasses, unread []string, err error) {
	e := &earlierPasses{passes: passes, job: job, waivers: waivers}
	for _, k := range known {
		e.add(k)
	}
	if err := e.writing(ctx); err != nil {
		return nil, nil, err
	}
	if err := e.reading(ctx); err != nil {
		return nil, nil, err
	}
	return e.known, e.unread, nil
}

// add adds a pass.
func (e *earlierPasses) add(k storedPass) {
	e.known = append(e.known, k)
	if !k.pass.Complete {
		return
	}
	for _, t := range k.summary.Targets {
		e.read.Add(checkpoint.Reading{
			Target:   t.Name,
			Where:    t.Location,
			Versions: t.Versions != nil,
			Sources:  k.summary.Sources(),
			Began:    k.pass.Started,
		})
	}
}

// has reports whether a pass is known.
func (e *earlierPasses) has(number int, readOnly bool) bool {
	for _, k := range e.known {
		if k.pass.Number == number && k.pass.ReadOnly == readOnly {
			return true
		}
	}
	return false
}

// cannotRead notes an error of one pass. It returns errors that are not about one pass.
func (e *earlierPasses) cannotRead(name string, err error) error {
	if !unusable(err) {
		return err
	}
	e.unread = append(e.unread, name)
	return nil
}

// maxMissing is the maximum number of passes without a record that are skipped. Numbers are missing
// after the head of a job was lost.
const maxMissing = 100

// writing adds passes of runs.
func (e *earlierPasses) writing(ctx context.Context) error {
	last, err := e.passes.LastNumber(ctx)
	if err != nil {
		return &storageError{what: "read the checkpoint", err: err}
	}
	for number, missing := last, 0; number > 0 && missing < maxMissing; number-- {
		if e.has(number, false) {
			continue
		}
		record, err := e.passes.Pass(ctx, number)
		switch {
		case errors.As(err, new(*checkpoint.PrunedError)):
			continue // prune keeps the last pass that read a target
		case errors.Is(err, checkpoint.ErrNotFound):
			missing++
			continue
		case err == nil:
			err = e.addWriting(ctx, record)
		default:
			err = &storageError{what: "read the checkpoint", err: err}
		}
		if err != nil {
			if err := e.cannotRead(fmt.Sprintf("pass %d", number), err); err != nil {
				return err
			}
		}
	}
	return nil
}

// isNewest reports whether no known pass has read the same at the same time or later.
func (e *earlierPasses) isNewest(one checkpoint.Reading) bool { return !e.read.Has(one) }

// addWriting adds a pass of runs, if it read a target that no newer pass has read.
func (e *earlierPasses) addWriting(ctx context.Context, record checkpoint.Pass) error {
	if !slices.ContainsFunc(record.Readings(), e.isNewest) {
		return nil
	}
	k, err := keptPassOf(ctx, e.passes, record, e.job, e.waivers)
	if err == nil {
		err = addsUp(k.summary)
	}
	if err == nil {
		e.add(k)
	}
	return err
}

// reading adds read-only passes.
func (e *earlierPasses) reading(ctx context.Context) error {
	for read, err := range e.passes.ReadPasses(ctx) {
		if read.Number > 0 && e.has(read.Number, true) {
			continue
		}
		if err == nil {
			err = e.addReading(read)
		} else {
			err = &storageError{what: "read the checkpoint", err: err}
		}
		if err != nil {
			err = e.cannotRead(fmt.Sprintf("read-only pass %d", read.Number), err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// addReading adds a read-only pass, if it read a target that no newer pass has read.
func (e *earlierPasses) addReading(read checkpoint.ReadPass) error {
	if !slices.ContainsFunc(read.Readings(), e.isNewest) {
		return nil
	}
	k, err := readPassOf(read, e.job, e.waivers)
	if err == nil {
		err = addsUp(k.summary)
	}
	if err == nil {
		e.add(k)
	}
	return err
}

// placesOf returns where the targets are, as far as the job file alone states it.
func placesOf(job *config.Job) map[string]verdict.Place {
	places := map[string]verdict.Place{}
	for _, target := range job.Targets {
		cfg, endpoint := aws.Config{}, ""
		switch {
		case target.DynamoDB != nil:
			cfg.Region, endpoint = target.DynamoDB.Region, target.DynamoDB.Endpoint
		case target.S3 != nil:
			cfg.Region, endpoint = target.S3.Region, target.S3.Endpoint
		}
		where := locationOf(target, cfg, &endpoint)
		where.Reach = reachOf(target, "")
		places[target.Name] = report.PlaceOf(where)
	}
	return places
}

// places returns where the targets of a session are.
func (s *session) places() map[string]verdict.Place {
	places := map[string]verdict.Place{}
	for _, t := range s.wiring.targets {
		places[t.name] = report.PlaceOf(t.where)
	}
	return places
}

// goneOf returns the statements of the job file about data that is gone.
func goneOf(job *config.Job) (list []verdict.Gone) {
	for _, g := range job.Gone {
		list = append(list, verdict.Gone{Target: g.Target, Before: g.Before(), Because: g.Because})
	}
	return list
}

// inputOf returns what a verdict needs to know about the job file.
func inputOf(job *config.Job) verdict.Input {
	return verdict.Input{
		Now:        time.Now().UTC(),
		JobFile:    job.File(),
		VersionsOf: job.VersionsOf(),
		Places:     placesOf(job),
		Gone:       goneOf(job),
	}
}
