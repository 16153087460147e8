package fakekms

import (
	"sync"
	"sync/atomic"
	"time"
)

// lastUse is the last successful cryptographic operation with a key.
type lastUse struct {
	operation, request, event string
	at                        time.Time
}

// usageDelay is how long GetKeyLastUsage does not report a use. Without a delay, only the last
// use of a key is kept.
type usageDelay struct {
	by atomic.Int64 // a time.Duration

	mu      sync.Mutex
	waiting map[*key][]*lastUse // uses that were delayed, oldest first
}

// SetUsageDelay sets how long after a successful operation GetKeyLastUsage reports it. KMS
// documents up to an hour. 0, the default, reports every use immediately, including earlier ones.
func (s *Service) SetUsageDelay(d time.Duration) { s.usage.by.Store(int64(d)) }

// used records that the request used the key successfully. Only the first key of a request has
// the event of the request; the event of the other one would be that of its account.
func (k *key) used(r request) {
	use := &lastUse{
		operation: r.operation,
		request:   r.id,
		event:     r.trace.event,
		at:        time.Now(),
	}
	if r.trace.uses++; r.trace.uses > 1 {
		use.event = newUUID()
	}
	if d := r.trace.delay; d.by.Load() > 0 {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.waiting == nil {
			d.waiting = map[*key][]*lastUse{}
		}
		d.waiting[k] = append(d.waiting[k], use)
		return
	}
	k.lastUse.Store(use)
}

// lastUseOf returns the last use of the key that is at least as old as the delay, or nil.
func (d *usageDelay) lastUseOf(k *key, now time.Time) *lastUse {
	d.mu.Lock()
	defer d.mu.Unlock()
	due := now.Add(-time.Duration(d.by.Load()))
	for len(d.waiting[k]) > 0 && !d.waiting[k][0].at.After(due) {
		next := d.waiting[k][0]
		d.waiting[k] = d.waiting[k][1:]
		if last := k.lastUse.Load(); last == nil || last.at.Before(next.at) {
			k.lastUse.Store(next)
		}
	}
	return k.lastUse.Load()
}

type keyLastUsage struct {
	Operation         string `json:",omitempty"`
	Timestamp         *epoch `json:",omitempty"`
	CloudTrailEventID string `json:"CloudTrailEventId,omitempty"`
	KMSRequestID      string `json:"KmsRequestId,omitempty"`
}

type getKeyLastUsageOutput struct {
	KeyID             string `json:"KeyId"`
	KeyCreationDate   *epoch
	TrackingStartDate *epoch
	KeyLastUsage      keyLastUsage // empty if the key was never used
}

// getKeyLastUsage is API_GetKeyLastUsage. Only successful requests count; dry runs never do. It
// accepts every key state.
func (s *Service) getKeyLastUsage(r request, in keyInput) (any, error) {
	k, err := s.named(r, in.KeyID)
	if err != nil {
		return nil, err
	}
	out := getKeyLastUsageOutput{
		KeyID:             k.id,
		KeyCreationDate:   ref(k.created),
		TrackingStartDate: ref(k.created),
	}
	if last := s.usage.lastUseOf(k, time.Now()); last != nil {
		out.KeyLastUsage = keyLastUsage{
			Operation:         last.operation,
			Timestamp:         ref(last.at.Truncate(time.Millisecond)),
			CloudTrailEventID: last.event,
			KMSRequestID:      last.request,
		}
	}
	return out, nil
}
