package watch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"rotator/internal/awserr"
)

// Config is the configuration of a Watcher.
type Config struct {
	// KMS and Trail are clients for the Region of the keys. Their retries must be off.
	KMS   *kms.Client
	Trail *cloudtrail.Client
	// Keys are the source keys.
	Keys []Source
	// GrantTokens are for DescribeKey.
	GrantTokens []string
	// Account is the account of the caller, or "" if it is not known.
	Account      string
	Job, Version string
	// Since is the begin of the period. Zero is the default: the earlier one of the last request
	// of rotator and of the time at which the first key was disabled, otherwise as long as
	// CloudTrail keeps events.
	Since time.Time
	// Pages is the maximum number of pages of CloudTrail in one round, without those that find
	// out when a key was disabled.
	Pages int
	// Patience is how long one call is retried.
	Patience time.Duration
}

// Source is a source key of the job. ARN is the ARN of the key as it is known from records of the
// job, or "". It takes precedence, because an alias can be moved to another key.
type Source struct{ Given, ARN string }

// NoKeyError is the error for a source key that does not exist.
type NoKeyError struct {
	Source
	Err error
}

func (e *NoKeyError) Error() string { return fmt.Sprintf("%s: %v", e.Given, e.Err) }
func (e *NoKeyError) Unwrap() error { return e.Err }

// Watcher asks AWS about keys. Later rounds read only those events of CloudTrail that are new. Its
// methods must not be called concurrently.
type Watcher struct {
	config  Config
	paced   time.Time // when the next request to CloudTrail may be sent
	history history
}

// New returns a Watcher.
func New(c Config) *Watcher { return &Watcher{config: c} }

// Round asks once about all keys. own may change between rounds. The error is that of a key that
// does not exist, of credentials that are refused, or of the end of ctx; no other failure is an
// error.
func (w *Watcher) Round(ctx context.Context, own Own) (*Result, error) {
	now := time.Now().UTC()
	r := &Result{Job: w.config.Job, Version: w.config.Version, Asked: now, Status: Quiet}
	for _, source := range w.config.Keys {
		key, err := w.describe(ctx, source)
		if err != nil {
			return nil, err
		}
		r.Keys = append(r.Keys, key)
	}
	if err := w.disabledAt(ctx, r.Keys); err != nil {
		return nil, err
	}
	w.history.keepDisabled(r.Keys, now)
	r.Since = w.since(own, r.Keys, now)
	if err := w.trail(ctx, own, r); err != nil {
		return nil, err
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.ARN != "" {
			if err := w.askKMS(ctx, own, k); err != nil {
				return nil, err
			}
			k.nameCaller(r.requests[k.LastUsage.RequestID])
		}
		k.conclude(r.Since)
		if k.Status.rank() > r.Status.rank() {
			r.Status = k.Status
		}
	}
	return r, nil
}

// since returns the begin of the period.
func (w *Watcher) since(own Own, keys []Key, now time.Time) time.Time {
	oldest := now.Add(-TrailHistory)
	since := w.config.Since
	if since.IsZero() {
		since = own.Last
		for _, k := range keys {
			if !k.Disabled.IsZero() && (since.IsZero() || k.Disabled.Before(since)) {
				since = k.Disabled
			}
		}
	}
	switch {
	case since.IsZero(), since.After(now.Add(time.Second)): // unknown, or a clock is wrong
		return oldest
	case since.After(now): // Own.Last is rounded up to a second
		return now
	}
	return since.UTC()
}

// describe returns the key with its state (DescribeKey).
func (w *Watcher) describe(ctx context.Context, source Source) (Key, error) {
	k := Key{ARN: source.ARN, Given: source.Given, CannotSee: []Unseen{}, Facts: []Fact{}}
	if strings.Contains(source.Given, ":key/") {
		k.ARN = source.Given
	}
	k.Trail.Callers = []Caller{}
	var meta *types.KeyMetadata
	var missing error
	err := w.ask(ctx, &k, stateOfKey, func(ctx context.Context) error {
		out, err := w.config.KMS.DescribeKey(ctx, &kms.DescribeKeyInput{
			KeyId:       aws.String(cmp.Or(k.ARN, source.Given)),
			GrantTokens: w.config.GrantTokens,
		})
		if awserr.Code(err) == "NotFoundException" {
			missing = &NoKeyError{Source: source, Err: err}
		}
		if err == nil && out.KeyMetadata == nil {
			err = errNoKey
		}
		if err == nil {
			meta = out.KeyMetadata
		}
		return err
	})
	if err == nil {
		err = missing
	}
	if err != nil || meta == nil {
		return k, err
	}
	k.ARN = cmp.Or(aws.ToString(meta.Arn), k.ARN)
	k.State = string(meta.KeyState)
	k.Spec = string(meta.KeySpec)
	k.Created = utc(meta.CreationDate)
	k.Deletion = utc(meta.DeletionDate)
	return k, nil
}

// errNoKey is the error for a response of DescribeKey without a key.
var errNoKey = errors.New("the response of KMS describes no key")

// utc returns the time in UTC, or zero.
func utc(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// askKMS asks KMS about the use of a key, its grants, aliases and rotation.
func (w *Watcher) askKMS(ctx context.Context, own Own, k *Key) error {
	for _, ask := range []func(context.Context, *Key) error{
		func(ctx context.Context, k *Key) error { return w.lastUsage(ctx, own, k) },
		w.grants,
		w.aliases,
		w.rotation,
	} {
		if err := ask(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// lastUsage reads the last use of a key.
func (w *Watcher) lastUsage(ctx context.Context, own Own, k *Key) error {
	var out *kms.GetKeyLastUsageOutput
	asked := time.Now().UTC()
	err := w.ask(ctx, k, lastUse, func(ctx context.Context) (err error) {
		out, err = w.config.KMS.GetKeyLastUsage(ctx, &kms.GetKeyLastUsageInput{KeyId: &k.ARN})
		return err
	})
	if err != nil || out == nil {
		return err
	}
	u := &k.LastUsage
	u.Asked, u.Tracking = asked, utc(out.TrackingStartDate)
	if last := out.KeyLastUsage; last != nil && last.Timestamp != nil {
		u.At = utc(last.Timestamp)
		u.Operation = string(last.Operation)
		u.RequestID = aws.ToString(last.KmsRequestId)
		u.EventID = aws.ToString(last.CloudTrailEventId)
	}
	if !own.Last.IsZero() && asked.Before(own.Last.Add(UsageDelay)) {
		u.Early, u.AskAgain = true, own.Last.Add(UsageDelay).UTC()
	}
	u.By = own.by(*u)
	return nil
}

// nameCaller names the caller of the last use by its event in CloudTrail, which may be nil.
func (k *Key) nameCaller(e *event) {
	if u := &k.LastUsage; e != nil && u.RequestID != "" && u.By != ByRotator {
		u.Caller, _ = e.caller()
	}
}

// by returns the caller of the last use.
func (o Own) by(u Usage) By {
	switch {
	case u.At.IsZero():
		return ""
	case o.RequestIDs[u.RequestID]:
		return ByRotator
	case o.Last.IsZero(),
		!u.At.After(o.Last) && (len(o.RequestIDs) == 0 || u.Early || u.At.Before(o.Gaps)):
		return ByUnknown // it can be a request of rotator whose id is not known
	}
	return ByOther
}

// grants reads the grants on a key.
func (w *Watcher) grants(ctx context.Context, k *Key) error {
	var found []Grant
	done := false
	err := w.ask(ctx, k, grantsOfKey, func(ctx context.Context) error {
		found = []Grant{}
		pages := kms.NewListGrantsPaginator(w.config.KMS, &kms.ListGrantsInput{KeyId: &k.ARN})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			for _, g := range page.Grants {
				found = append(found, grantOf(g))
			}
		}
		done = true
		return nil
	})
	if done {
		k.Grants = found
	}
	return err
}

func grantOf(g types.GrantListEntry) Grant {
	grant := Grant{
		ID:      aws.ToString(g.GrantId),
		Name:    aws.ToString(g.Name),
		Grantee: cmp.Or(aws.ToString(g.GranteePrincipal), aws.ToString(g.GranteeServicePrincipal)),
		Created: utc(g.CreationDate),
	}
	for _, operation := range g.Operations {
		grant.Operations = append(grant.Operations, string(operation))
	}
	slices.Sort(grant.Operations)
	return grant
}

// aliases reads the aliases of a key.
func (w *Watcher) aliases(ctx context.Context, k *Key) error {
	var found []string
	done := false
	err := w.ask(ctx, k, aliasesOfKey, func(ctx context.Context) error {
		found = []string{}
		pages := kms.NewListAliasesPaginator(w.config.KMS, &kms.ListAliasesInput{KeyId: &k.ARN})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			for _, a := range page.Aliases {
				found = append(found, aws.ToString(a.AliasName))
			}
		}
		done = true
		return nil
	})
	if done {
		slices.Sort(found)
		k.Aliases = found
	}
	return err
}

// rotation reads the rotation status and the materials of a symmetric key.
func (w *Watcher) rotation(ctx context.Context, k *Key) error {
	if k.Spec != "" && k.Spec != string(types.KeySpecSymmetricDefault) {
		return nil
	}
	var status *kms.GetKeyRotationStatusOutput
	err := w.ask(ctx, k, rotationOfKey, func(ctx context.Context) (err error) {
		status, err = w.config.KMS.GetKeyRotationStatus(ctx,
			&kms.GetKeyRotationStatusInput{KeyId: &k.ARN})
		return err
	})
	if err != nil || status == nil {
		return err
	}
	k.Rotation = &Rotation{
		Enabled:    status.KeyRotationEnabled,
		PeriodDays: int(aws.ToInt32(status.RotationPeriodInDays)),
		Next:       utc(status.NextRotationDate),
	}
	var found []Material
	done := false
	err = w.ask(ctx, k, materialsOfKey, func(ctx context.Context) error {
		found = nil
		pages := kms.NewListKeyRotationsPaginator(w.config.KMS, &kms.ListKeyRotationsInput{
			KeyId:              &k.ARN,
			IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial,
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			for _, m := range page.Rotations {
				found = append(found, Material{
					ID:      aws.ToString(m.KeyMaterialId),
					State:   string(m.KeyMaterialState),
					Rotated: utc(m.RotationDate),
				})
			}
		}
		done = true
		return nil
	})
	if done {
		k.Rotation.Materials = found
	}
	return err
}
