package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// attempts is the maximum number of times that a measurement is repeated. Other processes can
// make a measurement worse, but not better.
const attempts = 3

// TestRunsTogetherAreAsFastAsOne: several runs of one pass are as fast as one. Runs that wait
// for work leave the whole rate to the others, and the requests of any second are within the
// rate. One run and a group of three runs work at the same time, on separate servers, so both
// have the same share of the processors.
func TestRunsTogetherAreAsFastAsOne(t *testing.T) {
	measured(t)
	for _, l := range []load{
		{bucket: 2000, rate: 200, checkpoint: "dynamodb://state"},
		{table: 4000, rate: 400, segments: 8, checkpoint: "s3://state/rotator"},
	} {
		t.Run(l.String(), func(t *testing.T) {
			try(t, func(t *testing.T) string {
				alone, group := newSharing(t, l), newSharing(t, l)
				alone.startAll(t, 1)
				group.startAll(t, 3)
				one, three := alone.finish(t), group.finish(t)
				t.Log(one)
				t.Log(three)
				return three.wrong(l, one)
			})
		})
	}
}

// TestRunsTogetherMatrix compares two, three and four runs with one, over both kinds of
// shared checkpoints, a bucket, and tables of many segments and of few. Its results are
// meaningful only on a machine without other load.
func TestRunsTogetherMatrix(t *testing.T) {
	if os.Getenv("ROTATOR_SHARING") == "" {
		t.Skip("set ROTATOR_SHARING=1 to measure one to four runs of a pass; it takes ten minutes")
	}
	for _, checkpoint := range []string{"dynamodb://state", "s3://state/rotator"} {
		for _, l := range []load{
			{bucket: 4000, rate: 400, checkpoint: checkpoint},
			{table: 40000, rate: 2000, checkpoint: checkpoint},
			{table: 10000, rate: 1000, segments: 8, checkpoint: checkpoint},
			{table: 4000, rate: 400, segments: 2, checkpoint: checkpoint},
		} {
			t.Run(l.String(), func(t *testing.T) {
				one := together(t, l, 1)
				t.Log(one)
				if problem := one.wrong(l, one); problem != "" {
					t.Errorf("one run: %s", problem)
				}
				for runs := 2; runs <= 4; runs++ {
					try(t, func(t *testing.T) string {
						g := together(t, l, runs)
						t.Log(g)
						return g.wrong(l, one)
					})
				}
			})
		}
	}
}

// try repeats a measurement until it passes, at most attempts times.
func try(t *testing.T, measure func(*testing.T) (wrong string)) {
	t.Helper()
	for n := 1; ; n++ {
		wrong := measure(t)
		switch {
		case wrong == "" || t.Failed():
			return
		case n == attempts:
			t.Error(wrong)
			return
		}
		t.Logf("measurement %d: %s", n, wrong)
	}
}

// wrong compares a group with one run over the same load and describes what is wrong, or
// returns "". The part of the rate that the single run did not use was lost because the
// processors were busy with other work. Several runs lose it too, and may lose twice as much:
// a run with a lower rate can compensate less for delayed requests.
func (g group) wrong(l load, one group) string {
	var list []string
	lost := 1 - min(1, one.delivered)
	longest := max(one.wall, l.ideal())
	if times, most := float64(g.wall)/float64(longest), (1.05+lost)*margin(1.5); times > most {
		list = append(list, fmt.Sprintf("%d runs took %.2f times as long as one, want at most %.2f",
			g.runs, times, most))
	}
	if least := (0.95 - 2*lost) / margin(1.5); g.delivered < least {
		list = append(list, fmt.Sprintf("%d runs sent %.1f%% of the rate, want at least %.1f%%",
			g.runs, 100*g.delivered, 100*least))
	}
	if bound := g.busiest.exceeds(l.rate, margin(1.2)); bound != "" {
		list = append(list, fmt.Sprintf("%d runs: %s", g.runs, bound))
	}
	return strings.Join(list, "; ")
}

// joinsWithin is the maximum time until a run that joins has work. returnsWithin is the
// maximum time until the other runs have the share of a run that has no more work.
const (
	joinsWithin   = 2 * time.Second
	returnsWithin = time.Second
)

// TestRunThatJoinsGetsWork: if one run holds every segment of a table, a second run gets a part
// of the work within two seconds of joining. The length of the lease does not matter.
func TestRunThatJoinsGetsWork(t *testing.T) {
	measured(t)
	for _, checkpoint := range []string{"dynamodb://state", "s3://state/rotator"} {
		l := load{table: 20000, segments: 8, rate: 1000, checkpoint: checkpoint, lease: "30s"}
		t.Run(l.String(), func(t *testing.T) {
			try(t, func(t *testing.T) string {
				s := newSharing(t, l)
				first := s.start(t, 0)
				until(t, "the first run to be busy", func() bool { return s.sent(0) > 2000 })
				second := s.start(t, 1)
				until(t, "requests of the second run", func() bool { return s.sent(1) > 0 })
				began, _ := s.span(1)
				took := began.Sub(s.joinedAt(1))
				t.Logf("%v from joining to the first request", took.Round(time.Millisecond))
				for _, p := range []sharer{first, second} {
					if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
						t.Fatal(err)
					}
				}
				first.summary(t, exitInterrupted)
				second.summary(t, exitInterrupted)
				if float64(took) > float64(joinsWithin)*margin(3) {
					return fmt.Sprintf("a run that joined had its first request after %v", took)
				}
				return ""
			})
		})
	}
}

// TestShareOfAnIdleRunReturns: the other run gets the share of a run that has no more work, or
// was stopped, within a second.
func TestShareOfAnIdleRunReturns(t *testing.T) {
	measured(t)
	l := load{bucket: 2000, table: 600, segments: 1, rate: 300, checkpoint: "dynamodb://state"}
	for name, stop := range map[string]bool{"no more work": false, "stopped": true} {
		t.Run(name, func(t *testing.T) {
			try(t, func(t *testing.T) string { return shareReturns(t, l, stop) })
		})
	}
}

func shareReturns(t *testing.T, l load, stop bool) string {
	s := newSharing(t, l)
	runs := []sharer{s.start(t, 0), s.start(t, 1)}
	until(t, "both runs to work", func() bool { return s.sent(0) > 100 && s.sent(1) > 100 })
	if stop {
		if err := runs[0].cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		runs[0].summary(t, exitInterrupted)
		runs[1].summary(t, exitDone)
	} else {
		runs[0].summary(t, exitDone)
		runs[1].summary(t, exitDone)
	}
	s.check(t)
	_, idle := s.span(0)
	_, end := s.span(1)
	if idle.After(end) {
		idle, end = end, idle
	}
	from := idle.Add(returnsWithin)
	if end.Sub(from) < time.Second {
		return fmt.Sprintf("the other run continued alone for only %v", end.Sub(idle))
	}
	moves := s.seen()
	before, after := delivered(moves, idle.Add(-time.Second), idle), delivered(moves, from, end)
	t.Logf("%.0f requests a second before, %.0f from a second after, of %d: %v",
		before, after, l.rate, perSecond(moves))
	// Before, the run had half of the rate. If the processors are busy, it does not reach
	// the whole rate.
	if 3*after*margin(1.2) < 2*float64(l.rate) {
		return fmt.Sprintf("%.0f requests a second from a second after the other run had "+
			"no work, of %d", after, l.rate)
	}
	return s.busiest().exceeds(l.rate, margin(1.2))
}

// TestRateHoldsWhileRunsComeAndGo: the requests of every second are within the rate while runs
// join and are stopped, killed, and paused for longer than their lease. All slots are moved.
func TestRateHoldsWhileRunsComeAndGo(t *testing.T) {
	measured(t)
	l := load{bucket: 1000, table: 9000, segments: 16, rate: 600, checkpoint: "dynamodb://state"}
	s := newSharing(t, l)
	keeper := s.start(t, 0)
	var runs []sharer
	for n := range 9 {
		time.Sleep(time.Second) // the runs work
		runs = append(runs, s.start(t, n+1))
		signal, ok := map[int]syscall.Signal{
			3: syscall.SIGTERM,
			4: syscall.SIGKILL,
			5: syscall.SIGSTOP,
			6: syscall.SIGTERM,
			7: syscall.SIGKILL,
		}[n]
		if ok {
			_ = runs[n-3].cmd.Process.Signal(signal) // of a run that may have ended
		}
	}
	time.Sleep(time.Second)
	_ = runs[2].cmd.Process.Signal(syscall.SIGCONT) // more than its lease after SIGSTOP
	if summary := keeper.summary(t, exitDone); summary.Pass != 1 {
		t.Errorf("pass %d ended, want 1", summary.Pass)
	}
	for _, r := range runs {
		<-r.over
	}
	moves := s.seen()
	t.Logf("in the busiest second %+v, %d requests: %v", s.busiest(), len(moves), perSecond(moves))
	if bound := s.busiest().exceeds(l.rate, margin(1.2)); bound != "" {
		t.Error(bound)
	}
	s.check(t)
}
