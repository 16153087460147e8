package watch

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
)

const (
	// trailPace is the time between two requests to CloudTrail: 2 a second for each account and
	// Region (API_LookupEvents).
	trailPace = 500 * time.Millisecond
	// trailPage is the number of events of a page, the maximum of CloudTrail.
	trailPage = 50
	// disablingPages limits the pages that are read to find out when a key was disabled.
	disablingPages = 5
	// maxSkew is how much the clock of a run may be slow.
	maxSkew = 5 * time.Minute
	// sourceKMS is the event source of KMS.
	sourceKMS = "kms.amazonaws.com"
)

// event is what rotator reads of a CloudTrail record ("CloudTrail record contents"). It does not
// read the encryption contexts.
type event struct {
	EventName, ErrorCode, ErrorMessage string
	EventTime                          time.Time
	EventID, RequestID, UserAgent      string
	UserIdentity                       struct {
		ARN, InvokedBy string
		SessionContext struct{ SessionIssuer struct{ ARN string } }
	}
	Resources         []struct{ ARN string }
	RequestParameters struct{ KeyID, SourceKeyID, DestinationKeyID string }
}

// id returns the id of the event.
func (e *event) id() string {
	return cmp.Or(e.EventID, e.RequestID+" "+e.EventName+" "+e.EventTime.Format(time.RFC3339Nano))
}

// about reports whether the event is about the key. The event of a refused request can have no
// resource; then its message or its parameters name the key.
func (e *event) about(k *Key) bool {
	for _, resource := range e.Resources {
		if resource.ARN == k.ARN {
			return true
		}
	}
	if len(e.Resources) > 0 {
		return false
	}
	p := e.RequestParameters
	names := []string{k.ARN, k.ARN[strings.LastIndexByte(k.ARN, '/')+1:], k.Given}
	for _, given := range []string{p.KeyID, p.SourceKeyID, p.DestinationKeyID} {
		if given != "" && slices.Contains(names, given) {
			return true
		}
	}
	return strings.Contains(e.ErrorMessage, k.ARN)
}

// operation returns the operation, for ReEncrypt with the side of the key as in IAM.
func (e *event) operation(k *Key) string {
	if e.EventName != "ReEncrypt" {
		return e.EventName
	}
	if len(e.Resources) > 1 && e.Resources[0].ARN != k.ARN {
		return "ReEncryptTo"
	}
	return "ReEncryptFrom"
}

// caller returns the role, user or service that made the request, and the service that made it
// for that role or user.
func (e *event) caller() (arn, via string) {
	id := e.UserIdentity
	arn = cmp.Or(id.SessionContext.SessionIssuer.ARN, id.ARN, id.InvokedBy, "unknown")
	if id.InvokedBy != arn {
		via = id.InvokedBy
	}
	return arn, via
}

// manages reports whether an operation only manages or describes a key. An unknown operation is
// a use of the key. So is GetPublicKey: its caller can encrypt outside of KMS.
func manages(operation string) bool {
	if operation == "GetPublicKey" {
		return false
	}
	for _, verb := range []string{"Describe", "List", "Get", "Create", "Update", "Delete",
		"Enable", "Disable", "Put", "Schedule", "Cancel", "Tag", "Untag", "Replicate", "Rotate",
		"Synchronize", "Import", "Retire", "Revoke", "Connect", "Disconnect"} {
		if strings.HasPrefix(operation, verb) {
			return true
		}
	}
	return false
}

// concerns reports whether the event says that a caller used the key or needs it. AWS services
// create a grant before they use a key, so a refused CreateGrant counts.
func (e *event) concerns() bool {
	return !manages(e.EventName) || e.EventName == "CreateGrant" && e.ErrorCode != ""
}

// refused reports whether an error code means that a caller did not get what it needs. A dry run
// always ends with an error.
func refused(code string) bool { return code != "" && code != "DryRunOperationException" }

// reading is the progress of one lookup.
type reading struct {
	asked         time.Time
	pages, events int
	oldest        time.Time // of the events that were read
	more          bool      // not all pages were read
	unreadable    int       // events
	unseen        *Unseen   // why a page could not be read
}

// read looks up events, the newest first, and calls each for every event.
func (w *Watcher) read(
	ctx context.Context, q question, in cloudtrail.LookupEventsInput, pages int, each func(event),
) (r reading, err error) {
	r.asked = time.Now().UTC()
	in.MaxResults = aws.Int32(trailPage)
	for r.pages < pages {
		var out *cloudtrail.LookupEventsOutput
		r.unseen, err = w.call(ctx, q, func(ctx context.Context) (err error) {
			if err = w.pace(ctx); err != nil {
				return err
			}
			out, err = w.config.Trail.LookupEvents(ctx, &in)
			return err
		})
		if err != nil || r.unseen != nil {
			r.more = true
			return r, err
		}
		r.pages++
		for _, found := range out.Events {
			var e event
			if json.Unmarshal([]byte(aws.ToString(found.CloudTrailEvent)), &e) != nil {
				r.unreadable++
				continue
			}
			r.events++
			r.oldest = e.EventTime
			each(e)
		}
		if aws.ToString(out.NextToken) == "" {
			return r, nil
		}
		in.NextToken = out.NextToken
	}
	r.more = true
	return r, nil
}

// pace waits until the next request to CloudTrail may be sent.
func (w *Watcher) pace(ctx context.Context) error {
	wait := time.NewTimer(time.Until(w.paced))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	w.paced = time.Now().Add(trailPace)
	return nil
}

// attribute selects events by one attribute.
func attribute(key types.LookupAttributeKey, value string) []types.LookupAttribute {
	return []types.LookupAttribute{{AttributeKey: key, AttributeValue: &value}}
}

// disabledAt finds out since when the unusable keys cannot be used. KMS does not report it.
func (w *Watcher) disabledAt(ctx context.Context, keys []Key) error {
	for _, name := range []string{"DisableKey", "ScheduleKeyDeletion"} {
		var open []*Key
		for i := range keys {
			if k := &keys[i]; k.unusable() && k.ARN != "" && k.Disabled.IsZero() {
				open = append(open, k)
			}
		}
		if len(open) == 0 {
			return nil
		}
		in := cloudtrail.LookupEventsInput{
			LookupAttributes: attribute(types.LookupAttributeKeyEventName, name),
			StartTime:        w.history.unchanged(open),
		}
		r, err := w.read(ctx, timeOfDisabling(), in, disablingPages, func(e event) {
			for _, k := range open {
				if k.Disabled.IsZero() && e.ErrorCode == "" && e.about(k) {
					k.Disabled = e.EventTime.UTC()
				}
			}
		})
		if err != nil {
			return err
		}
		for _, k := range open {
			if k.Disabled.IsZero() {
				k.Disabled = w.history.disabled[k.ARN]
			}
			if r.unseen != nil && k.Disabled.IsZero() {
				k.CannotSee = append(k.CannotSee, *r.unseen)
			}
		}
		if r.unseen != nil {
			return nil // the other lookup would fail, too
		}
	}
	return nil
}

// trail reads the events of KMS once for all keys.
func (w *Watcher) trail(ctx context.Context, own Own, r *Result) error {
	var keys []*Key
	for i := range r.Keys {
		if r.Keys[i].ARN != "" {
			keys = append(keys, &r.Keys[i])
		}
	}
	if len(keys) == 0 {
		return nil
	}
	var arns []string
	for _, k := range keys {
		arns = append(arns, k.ARN)
	}
	start := w.history.start(arns, r.Since)
	in := cloudtrail.LookupEventsInput{
		LookupAttributes: attribute(types.LookupAttributeKeyEventSource, sourceKMS),
		StartTime:        &start,
	}
	found := map[string]event{}
	read, err := w.read(ctx, callersOfKey(), in, w.config.Pages, func(e event) {
		if e.concerns() && slices.ContainsFunc(keys, e.about) {
			found[e.id()] = e
		}
	})
	if err != nil {
		return err
	}
	w.history.add(arns, r.Since, start, read, found)
	requests := map[string]*event{}
	for _, e := range w.history.newestFirst() {
		for _, k := range keys {
			if e.about(k) {
				k.Trail.add(own, k, &e)
				requests[e.RequestID] = &e
			}
		}
	}
	for _, k := range keys {
		k.Trail.finish(read, &w.history)
		if read.unseen != nil {
			k.CannotSee = append(k.CannotSee, *read.unseen)
		}
		if account := k.account(); w.config.Account != "" && account != w.config.Account {
			k.CannotSee = append(k.CannotSee, otherAccount(account, w.config.Account))
		}
	}
	r.requests = requests
	return nil
}

// otherAccount is the entry for a key of another account.
func otherAccount(owner, asked string) Unseen {
	q := callersOfKey()
	return Unseen{
		What:       q.what + " in other accounts",
		Permission: q.permission,
		Reason:     "other-account",
		Sentence: fmt.Sprintf("CloudTrail of account %s has only its own calls; the key belongs "+
			"to account %s, whose CloudTrail also has those of others: run watch there, too",
			asked, owner),
	}
}

// add counts an event about the key.
func (t *Trail) add(own Own, k *Key, e *event) {
	ofRotator := strings.Contains(e.UserAgent, "rotator/")
	if own.RequestIDs[e.RequestID] {
		t.Own++
		return
	}
	if ofRotator && !e.EventTime.After(own.Last.Add(maxSkew)) {
		t.OwnByAgent++
		return
	}
	arn, via := e.caller()
	c := Caller{
		ARN:       arn,
		Via:       via,
		Operation: e.operation(k),
		Result:    e.ErrorCode,
		Refused:   refused(e.ErrorCode),
		Rotator:   ofRotator,
	}
	at := slices.IndexFunc(t.Callers, func(other Caller) bool {
		other.Calls, other.First, other.Last = 0, time.Time{}, time.Time{}
		return other == c
	})
	if at < 0 {
		at = len(t.Callers)
		t.Callers = append(t.Callers, c)
	}
	known, when := &t.Callers[at], e.EventTime.UTC()
	known.Calls++
	if known.First.IsZero() || when.Before(known.First) {
		known.First = when
	}
	if when.After(known.Last) {
		known.Last = when
	}
}

// finish notes what the lookup covers, and sorts the callers: the newest call first.
func (t *Trail) finish(r reading, h *history) {
	t.Pages, t.Events = r.pages, r.events
	if r.pages > 0 {
		t.Asked, t.From = r.asked, h.from.UTC()
		t.Partial, t.Why = h.why != "", h.why
	}
	if r.unseen != nil && r.pages > 0 {
		t.Partial, t.From = true, r.oldest.UTC()
		t.Why = r.unseen.Reason
	}
	slices.SortStableFunc(t.Callers, func(a, b Caller) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.ARN, b.ARN),
			cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Result, b.Result))
	})
}
