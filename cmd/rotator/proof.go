package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/config"
	"rotator/internal/nearest"
	"rotator/internal/report"
)

// namer is a source that can list existing names, for hints about a name that
// was not found: attributes of items, prefixes of a bucket, or entries of a
// directory.
type namer interface {
	Names(ctx context.Context) ([]string, error)
}

// owned is a source that knows the account that owns its table or bucket; "" if it is
// unknown.
type owned interface {
	Account(ctx context.Context, caller string) string
}

// hintTime bounds the time for hints and account names, which are optional.
const hintTime = 5 * time.Second

// hintedNames is the maximum number of names in a hint.
const hintedNames = 3

// callerOf returns the ARN of the caller and the account of the credentials. Each is "" if
// it is unknown.
func callerOf(ctx context.Context, cfg aws.Config) (arn, account string) {
	ctx, cancel := context.WithTimeout(ctx, hintTime)
	defer cancel()
	if held, err := cfg.Credentials.Retrieve(ctx); err == nil {
		account = held.AccountID
	}
	client := sts.NewFromConfig(cfg, func(o *sts.Options) { o.Retryer = fewAttempts() })
	out, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", account
	}
	return aws.ToString(out.Arn), cmp.Or(account, aws.ToString(out.Account))
}

// accountFor returns the account of the credentials with which a target is
// read: the account of its role, or that of the caller.
func accountFor(target config.Target, caller string) string {
	return cmp.Or(accountOf(roleOf(target)), caller)
}

// roleOf returns the role of a target in the job file, or "".
func roleOf(target config.Target) string {
	switch {
	case target.S3 != nil:
		return target.S3.RoleARN
	case target.DynamoDB != nil:
		return target.DynamoDB.RoleARN
	}
	return ""
}

// accountOf returns the account in an ARN, or "".
func accountOf(arn string) string {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 {
		return parts[4]
	}
	return ""
}

// reachOf returns with which credentials a target of the job file is read, and which of its items
// and slots. caller is the account of the caller, or "" if it is unknown.
func reachOf(target config.Target, caller string) *checkpoint.Reach {
	r := &checkpoint.Reach{Role: roleOf(target)}
	switch {
	case target.DynamoDB != nil:
		r.Account = cmp.Or(accountOf(target.DynamoDB.Table), accountFor(target, caller))
	case target.S3 != nil:
		r.Account = cmp.Or(accountOf(target.S3.Bucket), accountFor(target, caller))
		r.Include = checkpoint.ReachList(target.S3.Include)
		r.Exclude = checkpoint.ReachList(target.S3.Exclude)
	case target.Files != nil:
		r.Include = checkpoint.ReachList(target.Files.Include)
		r.Exclude = checkpoint.ReachList(target.Files.Exclude)
		if path, err := filepath.Abs(target.Files.Root); err == nil {
			r.Path, _ = filepath.EvalSymlinks(path) // "" after an error
		}
	}
	var slots []string
	for _, slot := range target.Slots {
		slots = append(slots, slot.Path+slot.Pattern)
	}
	r.Slots = checkpoint.ReachList(slots)
	return r
}

// locationOf returns the location of a target in the job file.
func locationOf(target config.Target, cfg aws.Config, endpoint *string) checkpoint.Location {
	format := target.Format
	if format == "" && len(target.Slots) > 0 {
		format = target.Slots[0].Format
	}
	p := checkpoint.Location{
		Format:   format,
		Region:   cfg.Region,
		Endpoint: bareEndpoint(aws.ToString(endpoint)),
	}
	switch {
	case target.DynamoDB != nil:
		p.Kind, p.Table = checkpoint.LocationDynamoDB, target.DynamoDB.Table
	case target.S3 != nil:
		p.Kind, p.Bucket, p.Prefix = checkpoint.LocationS3, target.S3.Bucket, target.S3.Prefix
	case target.Files != nil:
		p.Kind, p.Root, p.Host, p.Region = checkpoint.LocationFiles, target.Files.Root,
			hostname(), ""
	}
	return p
}

// infosOf returns the report's information about the targets of a job. locations
// may lack some targets.
func infosOf(
	job *config.Job,
	locations map[string]*checkpoint.Location,
) (infos []report.TargetInfo) {
	for _, target := range job.Targets {
		info := report.TargetInfo{
			Name:       target.Name,
			Location:   locations[target.Name],
			MayBeEmpty: target.MayBeEmpty,
		}
		for i, slot := range target.Slots {
			if slot.MayBeEmpty {
				info.EmptyRules = append(info.EmptyRules, fmt.Sprintf("slots[%d]", i))
			}
		}
		switch {
		case target.S3 != nil:
			info.Complete = target.S3.Complete
		case target.Files != nil:
			info.Complete = target.Files.Complete
		}
		infos = append(infos, info)
	}
	return infos
}

// recordedInfos is infosOf for a recorded pass. If the pass belongs to another
// job file, may_be_empty is not applied.
func recordedInfos(job *config.Job, record checkpoint.Pass) ([]report.TargetInfo, error) {
	locations := map[string]*checkpoint.Location{}
	var infos []report.TargetInfo
	for _, target := range record.Targets {
		locations[target.Name] = target.Location
		infos = append(infos, report.TargetInfo{Name: target.Name, Location: target.Location})
	}
	print, err := job.Fingerprint()
	if err == nil && print == record.Fingerprint {
		infos = infosOf(job, locations)
	}
	return infos, err
}

// infos returns the report's information about the targets of this session.
func (s *session) infos() []report.TargetInfo {
	locations := map[string]*checkpoint.Location{}
	for i := range s.wiring.targets {
		locations[s.wiring.targets[i].name] = &s.wiring.targets[i].where
	}
	return infosOf(s.job, locations)
}

// sources returns the source keys of the session for the report.
func (s *session) sources() (keys []checkpoint.Key) {
	for _, k := range s.wiring.keys.Sources {
		keys = append(keys, checkpoint.Key{ARN: k.ARN, Given: k.Given, Algorithm: k.Algorithm})
	}
	return keys
}

// hint adds similar existing names to each target or rule that found no
// ciphertext. It must be called after SetTargets.
func (s *session) hint(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, hintTime)
	defer cancel()
	known := map[string][]string{}
	for _, u := range s.summary.Unmatched() {
		names, asked := known[u.Target]
		if !asked {
			names = s.namesIn(ctx, u.Target)
			known[u.Target] = names
		}
		want := wanted(s.job, u)
		f := nearest.Finder{Want: want, Most: hintedNames}
		if u.Rule != "" {
			f.Within = nearest.MaxDistance(want)
		}
		for _, name := range names {
			if name != want {
				f.Add(name)
			}
		}
		for _, n := range f.Names() {
			u.Near = append(u.Near, n.Text)
		}
	}
}

// namesIn lists existing names in a target. It returns none after an error.
func (s *session) namesIn(ctx context.Context, target string) []string {
	for _, p := range s.wiring.targets {
		if source, ok := p.source.(namer); ok && p.name == target {
			names, err := source.Names(ctx)
			if err != nil {
				s.logger.Debug("could not list names similar to the missing one")
			}
			return names
		}
	}
	return nil
}

// wanted returns the name that a target or rule did not find.
func wanted(job *config.Job, u *report.Unproven) string {
	if path, err := ciphertext.ParsePath(u.Place); err == nil && u.Rule != "" {
		return path[0].Name
	}
	for _, target := range job.Targets {
		switch {
		case target.Name != u.Target:
		case target.S3 != nil:
			return target.S3.Prefix
		case target.Files != nil && len(target.Files.Include) > 0:
			first, _, _ := strings.Cut(target.Files.Include[0], "/")
			return first
		}
	}
	return ""
}

// unproven returns the error with the exit code of a complete pass in which a
// rule found no ciphertext, or nil.
func (s *session) unproven() error {
	list := s.summary.NotProven
	if len(list) == 0 {
		return nil
	}
	text := "not proven: " + list[0].Sentence
	if len(list) > 1 {
		text += fmt.Sprintf(" (%d more are in the result)", len(list)-1)
	}
	return &outcomeError{code: exitExceptions, text: text}
}

// keptTokens is the maximum number of tokens of a run that are stored in the
// record of its pass.
const keptTokens = 64

// tokenKeys returns the keys of header tokens for the record of the pass: those
// of its exceptions, and those that KMS named in this run.
func (s *session) tokenKeys(p *pass) map[string]string {
	keys := map[string]string{}
	for _, engine := range s.engines {
		maps.Copy(keys, engine.NamedTokens(keptTokens))
	}
	maps.Copy(keys, s.tally.TokenKeys())
	for _, state := range p.states() {
		for origin := range state.Counts.Origins {
			if token, ok := origin.Token(); ok && s.keyOfToken(token) != "" {
				keys[token] = s.keyOfToken(token)
			}
		}
	}
	return keys
}

// states returns the states of the partitions of a pass; none for a retry.
func (p *pass) states() []checkpoint.State {
	if p.tracker == nil {
		return nil
	}
	return p.tracker.Snapshot()
}
