package watch

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

const (
	// TrailOverlap is the length of the period that two consecutive rounds both read, because
	// CloudTrail can deliver events late. It is four times TrailDelay.
	TrailOverlap = time.Hour
	// maxKept is the maximum number of events that are kept between two rounds. With more, the
	// next round reads the whole period again.
	maxKept = 50_000
)

// The values of Trail.Why that are not reasons of failed requests.
const (
	whyMorePages  = "more-pages"
	whyUnreadable = "unreadable-events"
)

// history has the events about the keys that the rounds so far have read, so that the next round
// reads only what is new.
type history struct {
	keys []string // ARNs
	// from and until are the period of which events were read. until is zero if the next round
	// must read the whole period.
	from, until time.Time
	why         string           // why the events are not all of the period; or ""
	events      map[string]event // by id
	// disabled has the times since which keys cannot be used, by ARN, as of disabledAsked.
	disabled      map[string]time.Time
	disabledAsked time.Time
}

// unchanged returns the time from which a round must search for DisableKey events. It returns nil
// if the round must search the whole period.
func (h *history) unchanged(keys []*Key) *time.Time {
	for _, k := range keys {
		if h.disabled[k.ARN].IsZero() {
			return nil
		}
	}
	if h.disabledAsked.IsZero() {
		return nil
	}
	since := h.disabledAsked.Add(-TrailOverlap)
	return &since
}

// keepDisabled stores the times since which unusable keys cannot be used. It replaces the stored
// times.
func (h *history) keepDisabled(keys []Key, asked time.Time) {
	h.disabled, h.disabledAsked = map[string]time.Time{}, asked
	for _, k := range keys {
		if k.unusable() && !k.Disabled.IsZero() {
			h.disabled[k.ARN] = k.Disabled
		}
	}
}

// start returns the time from which a round must read events, for a period that begins at since.
// It returns since if the events of earlier rounds cannot be used.
func (h *history) start(keys []string, since time.Time) time.Time {
	// Reading more of the period again would end at the same page.
	covered := !since.Before(h.from) || h.why == whyMorePages
	if h.until.IsZero() || !covered || !slices.Equal(h.keys, keys) {
		return since
	}
	if start := h.until.Add(-TrailOverlap); start.After(since) {
		return start
	}
	return since
}

// newestFirst returns the events.
func (h *history) newestFirst() []event {
	return slices.SortedFunc(maps.Values(h.events), func(a, b event) int {
		return cmp.Or(b.EventTime.Compare(a.EventTime), cmp.Compare(a.id(), b.id()))
	})
}

// add adds the events that a round has read since start. The period of the round begins at since.
func (h *history) add(keys []string, since, start time.Time, r reading, found map[string]event) {
	if start.Equal(since) {
		h.from, h.why, h.events = since, "", map[string]event{}
	}
	if since.After(h.from) {
		h.from = since
		if h.why == whyMorePages {
			h.why = ""
		}
	}
	maps.Copy(h.events, found)
	if r.more && r.unseen == nil {
		h.from, h.why = r.oldest, whyMorePages
	}
	maps.DeleteFunc(h.events, func(_ string, e event) bool {
		return e.EventTime.Before(since) || h.why == whyMorePages && e.EventTime.Before(h.from)
	})
	if r.unreadable > 0 && h.why == "" {
		h.why = whyUnreadable
	}
	h.keys, h.until = keys, r.asked
	if r.unseen != nil || len(h.events) > maxKept {
		h.until = time.Time{}
	}
}
