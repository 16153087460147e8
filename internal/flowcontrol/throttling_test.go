package flowcontrol

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rotator/internal/telemetry"
)

// TestThrottlingIsReported: throttling is reported when the current rate has been below 80% of
// the given rate for 10 s, then every 30 s, and when the rate is back. A short reduction is not
// reported. The same holds for a limiter without a given rate.
func TestThrottlingIsReported(t *testing.T) {
	for _, given := range []float64{400, math.Inf(1)} {
		t.Run(fmt.Sprint(given), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { reportsThrottling(t, given) })
		})
	}
}

func reportsThrottling(t *testing.T, given float64) {
	var out bytes.Buffer
	began := time.Now()
	limiter := NewLimiter(given)
	watched := &throttling{
		Watched: Watched{Service: "KMS", Requests: " requests", Limiter: limiter},
		logger:  telemetry.NewLogger(telemetry.Config{Output: &out}),
	}
	quota := func(at time.Duration) float64 {
		switch {
		case at > 20*time.Second && at < 22*time.Second: // a short reduction
			return 300
		case at > 60*time.Second && at < 130*time.Second:
			return 40
		}
		return 1000
	}
	second, served, looked := time.Duration(-1), 0.0, time.Duration(0)
	for at := time.Since(began); at < 200*time.Second; at = time.Since(began) {
		if math.IsInf(given, 1) {
			time.Sleep(time.Second / 200)
		}
		_ = limiter.Wait(t.Context())
		if now := at.Truncate(time.Second); now != second {
			second, served = now, 0
		}
		if served++; served > quota(at) {
			limiter.Observe(Throttled, 0)
		} else {
			limiter.Observe(Served, 0)
		}
		for ; looked <= at; looked += time.Second {
			watched.check(time.Now())
		}
	}
	checkThrottlingLines(t, out.String(), began)
}

func checkThrottlingLines(t *testing.T, text string, began time.Time) {
	t.Helper()
	var got []string
	var at []time.Duration
	for line := range strings.Lines(text) {
		var l struct {
			Time           time.Time
			Level, Message string
			Throttled      int
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		got = append(got, l.Level+": "+l.Message)
		at = append(at, l.Time.Sub(began))
		if l.Throttled == 0 {
			t.Errorf("no throttled requests in %s", line)
		}
	}
	want := []string{"warn: KMS throttles requests", "warn: KMS still throttles requests",
		"warn: KMS still throttles requests", "info: KMS no longer throttles requests"}
	if !slices.Equal(got, want) {
		t.Fatalf("lines:\n%s", text)
	}
	if at[0] < 70*time.Second || at[0] > 75*time.Second || at[1]-at[0] < throttledEvery ||
		at[1]-at[0] > throttledEvery+1500*time.Millisecond ||
		at[3] < 130*time.Second || at[3] > 150*time.Second {
		t.Errorf("lines at %v", at)
	}
}
