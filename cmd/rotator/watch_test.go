package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"rotator/internal/harness"
	"rotator/internal/watch"
)

// TestWatchRounds: --every repeats at the interval until the context ends, which is no error. The
// exit code is that of the worst round.
func TestWatchRounds(t *testing.T) {
	quiet, used, blind := watch.Quiet, watch.Used, watch.Unknown
	failed := errors.New("failed")
	for name, c := range map[string]struct {
		every  time.Duration
		rounds []watch.Status // then the context ends
		fails  int            // number of the round that fails, from 1
		want   int            // exit code; -1 for the error of the round
	}{
		"once, quiet":          {rounds: []watch.Status{quiet}, want: exitDone},
		"once, used":           {rounds: []watch.Status{used}, want: exitRemaining},
		"once, unknown":        {rounds: []watch.Status{blind}, want: exitExceptions},
		"quiet rounds":         {time.Hour, []watch.Status{quiet, quiet, quiet}, 0, exitDone},
		"used in one of them":  {time.Hour, []watch.Status{quiet, used, quiet}, 0, exitRemaining},
		"used, then unknown":   {time.Hour, []watch.Status{used, blind}, 0, exitRemaining},
		"unknown, then used":   {time.Hour, []watch.Status{blind, used}, 0, exitRemaining},
		"stopped in the third": {time.Hour, []watch.Status{used, quiet}, 3, exitRemaining},
		"stopped in the first": {time.Hour, nil, 1, -1},
		"an error":             {time.Hour, []watch.Status{quiet, quiet, quiet}, 2, -1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				began, rounds := time.Now(), 0
				err := watchRounds(ctx, c.every, func(context.Context) (*watch.Result, error) {
					rounds++
					if at := time.Since(began); at != time.Duration(rounds-1)*c.every {
						t.Errorf("round %d begins after %s", rounds, at)
					}
					if rounds >= len(c.rounds) && c.every > 0 {
						time.AfterFunc(c.every/2, cancel)
					}
					if rounds > len(c.rounds) || rounds == len(c.rounds) && c.fails > 0 {
						cancel()
					}
					if rounds == c.fails {
						return nil, failed
					}
					k := watch.Key{Status: c.rounds[rounds-1], Given: "alias/old"}
					if k.Status != blind {
						k.LastUsage.Asked = time.Now()
					}
					return &watch.Result{Status: k.Status, Keys: []watch.Key{k}}, nil
				})
				code := exitDone
				if outcome := (*outcomeError)(nil); errors.As(err, &outcome) {
					code = outcome.code
				} else if errors.Is(err, failed) {
					code = -1
				}
				if code != c.want {
					t.Errorf("exit code %d (%v), want %d", code, err, c.want)
				}
			})
		})
	}
}

// TestWatchStops: SIGTERM ends watch --every between two rounds, with the exit code 0. With -o
// json, each round is one line.
func TestWatchStops(t *testing.T) {
	t.Parallel()
	w := newTrial(t, harness.Config{Items: map[harness.Kind]int{harness.Ordinary: 1}})
	w.ReadOnly(true)
	p := w.Command("watch", "--every", "1h", "-o", "json")
	path := filepath.Join(t.TempDir(), "out")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	p.Stdout = out
	p.Begin(t)
	var text []byte
	for over := time.Now().Add(time.Minute); !bytes.HasSuffix(text, []byte("\n")); {
		if time.Now().After(over) || p.Ended() {
			t.Fatalf("no result: %s", p.End(t).Log)
		}
		time.Sleep(20 * time.Millisecond)
		if text, err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	p.Signal(t, syscall.SIGTERM)
	if r := p.End(t); r.Code != exitDone {
		t.Errorf("exit code %d: %s", r.Code, r.Log)
	}
	var result watch.Result
	if err := json.Unmarshal(text, &result); err != nil || bytes.Count(text, []byte("\n")) != 1 ||
		result.Status != watch.Quiet || len(result.Keys) != 1 || result.Keys[0].ARN != w.Old {
		t.Errorf("%v: %s", err, text)
	}
}

// TestWatchFlags: --since takes a time or how long ago.
func TestWatchFlags(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for since, want := range map[string]time.Time{
		"":                          {},
		"36h":                       now.Add(-36 * time.Hour),
		"2026-11-29T08:00:00Z":      now.Add(-4 * time.Hour),
		"2026-11-29T08:00:00+01:00": now.Add(-5 * time.Hour),
	} {
		if got, err := (watchFlags{since: since}).begin(now); err != nil || !got.Equal(want) {
			t.Errorf("--since %q: %s, %v", since, got, err)
		}
	}
	for _, bad := range []string{"-1h", "0s", "yesterday", "2026-11-29", "2026-11-30T00:00:00Z"} {
		if _, err := (watchFlags{since: bad}).begin(now); !isUsage(err) {
			t.Errorf("--since %q: %v", bad, err)
		}
	}
}

// TestPartialHistoryIsStated: a verdict with --watch states that not all pages of the event history
// were read, and how many were.
func TestPartialHistoryIsStated(t *testing.T) {
	t.Parallel()
	for why, want := range map[string]string{
		"":           "",
		"more-pages": "alias/old: not all events of CloudTrail were read. ",
	} {
		trail := watch.Trail{Asked: time.Now(), Partial: why != "", Why: why, Pages: 20}
		f := verdictFlags{use: &watch.Result{Keys: []watch.Key{{Given: "alias/old", Trail: trail}}}}
		_, unseen := f.watched()
		text := strings.Join(unseen, "\n")
		if !strings.HasPrefix(text, want) || want == "" && text != "" ||
			want != "" && !strings.Contains(text, "read 20 pages of more; set a higher --pages") {
			t.Errorf("%q: %s", why, text)
		}
	}
}
