package main

import (
	"slices"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
	"rotator/internal/rotate"
)

// meaning is what makes two job files the same work: keys, places, formats and
// slots, but no limit and no name of a file. Its JSON is the fingerprint of a
// pass, so fields are only ever added.
type meaning struct {
	Destination config.Destination
	Source      config.Source
	Targets     []targetMeaning
}

type targetMeaning struct {
	Name, Table, Bucket, Prefix, KeyPattern string
	Region, Endpoint                        string
	Format                                  string
	Slots                                   []config.Slot
	Contexts                                *contextMeaning `json:",omitempty"`
	Files                                   *filesMeaning   `json:",omitempty"`
	Objects                                 *objectsMeaning `json:",omitempty"`
	InstructionSuffix                       string          `json:",omitempty"`
}

// objectsMeaning describes the objects of a target that does not cover a whole
// bucket.
type objectsMeaning struct {
	Include, Exclude []string
}

// filesMeaning is which files a target has.
type filesMeaning struct {
	Root             string
	Include, Exclude []string
}

// contextMeaning is what a target says of contexts beside its slots. Which file of
// contexts there is, and what stands in it, is not a part: a name that was added
// there is for retry.
type contextMeaning struct {
	Context, Destination map[string]string
	Name                 string `json:",omitempty"` // by which contexts are looked up
}

// The mode is not part of the fingerprint, because it follows from the keys and
// the contexts. A pass of an older version without modes can therefore be
// resumed once the job file has one.
func fingerprint(job *config.Job) (string, error) { return fingerprintOf(job, false) }

// fingerprintBefore returns the fingerprint of the job file without
// "destination_context: {}" at an asymmetric destination key, as older versions
// computed it.
func fingerprintBefore(job *config.Job) (string, error) {
	return fingerprintOf(job, job.Destination.Algorithm != config.DefaultAlgorithm)
}

// sameWork reports whether a pass has the keys, targets and slots of the job
// file.
func sameWork(record checkpoint.Pass, job *config.Job) (bool, error) {
	now, err := fingerprint(job)
	if err != nil || record.Fingerprint == now {
		return err == nil, err
	}
	before, err := fingerprintBefore(job)
	return record.Fingerprint == before, err
}

// fingerprintOf digests the meaning of a job. If unconfirmed is set, it ignores
// empty destination contexts.
func fingerprintOf(job *config.Job, unconfirmed bool) (string, error) {
	m := meaning{Destination: job.Destination, Source: job.Source}
	for _, target := range job.Targets {
		if unconfirmed {
			target.Slots = slices.Clone(target.Slots)
			for i := range target.Slots {
				if len(target.Slots[i].DestinationContext) == 0 {
					target.Slots[i].DestinationContext = nil
				}
			}
		}
		t := targetMeaning{Name: target.Name, Format: target.Format, Slots: target.Slots,
			InstructionSuffix: target.InstructionSuffix}
		if target.Context != nil || target.DestinationContext != nil || target.ContextFile != nil {
			t.Contexts = &contextMeaning{Context: target.Context, Destination: target.DestinationContext}
			if target.ContextFile != nil {
				t.Contexts.Name = target.ContextFile.Name
			}
		}
		if d := target.DynamoDB; d != nil {
			t.Table, t.Region, t.Endpoint = d.Table, d.Region, d.Endpoint
		}
		if s := target.S3; s != nil {
			t.Bucket, t.Prefix, t.KeyPattern, t.Region, t.Endpoint = s.Bucket, s.Prefix, s.KeyPattern, s.Region, s.Endpoint
			if len(s.Include)+len(s.Exclude) > 0 {
				t.Objects = &objectsMeaning{Include: s.Include, Exclude: s.Exclude}
			}
		}
		if f := target.Files; f != nil {
			t.KeyPattern, t.Files = f.KeyPattern, &filesMeaning{Root: f.Root, Include: f.Include, Exclude: f.Exclude}
		}
		m.Targets = append(m.Targets, t)
	}
	return rotate.Fingerprint(m)
}
