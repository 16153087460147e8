package report

import (
	"rotator/internal/checkpoint"
)

// Example is one slot that failed, is foreign or is in conflict.
type Example struct {
	Target string `json:"target"`
	Ref    string `json:"ref"`
	Path   string `json:"path,omitempty"`
	Detail string `json:"detail,omitempty"`
	Key    string `json:"key,omitempty"`
}

// Limits of examples.
const (
	examplesEach    = 3   // per reason
	examplesPrinted = 10  // in text output, for all reasons together
	examplesReasons = 100 // reasons with examples
)

// Examples collects a few exceptions of each reason. The zero value is ready to use.
type Examples struct {
	byReason map[reasonKey][]Example
}

type reasonKey struct{ outcome, reason string }

// Add adds an exception, unless its reason already has enough examples.
func (e *Examples) Add(entry checkpoint.LedgerEntry) {
	key := reasonKey{entry.Outcome, entry.Reason}
	have, known := e.byReason[key]
	if len(have) >= examplesEach || !known && len(e.byReason) >= examplesReasons {
		return
	}
	if e.byReason == nil {
		e.byReason = map[reasonKey][]Example{}
	}
	e.byReason[key] = append(have, Example{
		Target: entry.Target,
		Ref:    entry.Ref,
		Path:   entry.Path,
		Detail: entry.Detail,
		Key:    entry.Key,
	})
}

// Enough reports whether each reason has the maximum number of examples.
func (e *Examples) Enough(reasons []Reason) bool {
	for _, r := range reasons {
		have, known := e.byReason[reasonKey{r.Outcome, r.Reason}]
		full := !known && len(e.byReason) >= examplesReasons
		if int64(len(have)) < min(r.Slots, examplesEach) && !full {
			return false
		}
	}
	return true
}

// SetExamples adds examples to the reasons of the summary. It must be called
// after SetTargets.
func (s *Summary) SetExamples(e *Examples) {
	for i, r := range s.Reasons {
		s.Reasons[i].Examples = e.byReason[reasonKey{r.Outcome, r.Reason}]
	}
}
