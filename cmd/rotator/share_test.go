package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"rotator/internal/fakeaws/fault"
)

// TestAuditSharesTheRate: an audit and a verify that work beside a run divide the rate with
// it, and use the whole rate when the run has ended. The promised limit is the rate plus 5%.
// The test allows 15%, because other tests use the same processors.
func TestAuditSharesTheRate(t *testing.T) {
	const rate, rows = 150, 400
	for _, place := range []string{"dynamodb://state", "s3://state/rotator"} {
		t.Run(place, func(t *testing.T) {
			b := newCrashBenchOf(t, rows, rate, 2)
			b.share(t, place)
			var seen arrivals
			b.server.Faults().Set("kms:ReEncrypt", fault.Fault{Of: func(*http.Request) bool {
				seen.add(time.Now())
				return false
			}})
			began := time.Now()
			processes := []process{
				b.start(t, "run", "-f", "job.yaml", "--exact", "-o", "json"),
				b.start(t, "audit", "-f", "job.yaml", "--exact", "-o", "json"),
			}
			for _, p := range processes {
				if s := p.summary(t, exitDone); s.Slots.Seen != rows {
					t.Errorf("%v counted %d slots, want %d", p.cmd.Args[1:], s.Slots.Seen, rows)
				}
			}
			t.Logf("took %s", time.Since(began))
			seen.check(t, 1.15*rate)
		})
	}
}

// TestUnsharedRateIsSaid: an audit that cannot divide the rate with runs states why.
func TestUnsharedRateIsSaid(t *testing.T) {
	for place, want := range map[string]string{
		"file:.rotator/state.db": "because the checkpoint is a file",
		"dynamodb://state":       "because the checkpoint cannot be used",
	} {
		t.Run(place, func(t *testing.T) {
			b := newCrashBenchOf(t, 3, 100, 1)
			if !strings.HasPrefix(place, "file:") {
				b.share(t, place)
			}
			b.server.Faults().Set("dynamodb:PutItem", fault.Fault{
				Kind:   fault.Refusal,
				Answer: fault.Answer{Status: http.StatusBadRequest, Code: "AccessDeniedException"},
			})
			p := b.start(t, "audit", "-f", "job.yaml", "-o", "json")
			if s := p.summary(t, exitDone); s.Slots.Remaining != 3 {
				t.Errorf("%+v", s.Slots)
			}
			if text := fmt.Sprint(p.log); !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		})
	}
}
