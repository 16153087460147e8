package main

import (
	"strings"
	"testing"
	"time"

	"rotator/internal/fakeaws/fakedynamodb"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fakes3"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/harness"
)

// throttlingBurst: the rate falls to about the quota within two seconds and rises again when there
// is capacity. No slot fails because of throttling.
func throttlingBurst(t *testing.T) {
	t.Run("quota", func(t *testing.T) {
		t.Parallel()
		const rate, slots = 600, 240
		quota := int(60 / margin(2.4)) // a busy machine must also reach it
		w := newTrial(t, harness.Config{
			Items:   map[harness.Kind]int{harness.Ordinary: slots},
			Objects: map[harness.Kind]int{},
			Rate:    rate,
			Workers: 32,
		})
		w.Server.KMS().SetReEncryptQuota(quota)
		p := runs(w).Begin(t)
		until(t, "the first requests", requestsSent(w, 10))
		time.Sleep(1500 * time.Millisecond)
		before, since := w.Requests("kms:ReEncrypt"), time.Now()
		time.Sleep(600 * time.Millisecond)
		if perSecond := float64(
			w.Requests("kms:ReEncrypt")-before) / time.Since(since).Seconds(); timed() &&
			perSecond > float64(3*quota) {
			t.Errorf("after 1.5 s of throttling rotator sends %.0f requests per second, "+
				"under a quota of %d", perSecond, quota)
		}
		left := slots - w.Requests("kms:ReEncrypt") // at least
		w.Server.KMS().SetReEncryptQuota(0)
		since = time.Now()
		r := p.End(t)
		atQuota := time.Duration(left) * time.Second / time.Duration(quota)
		if timed() && left > quota && time.Since(since) > atQuota {
			t.Errorf("after the throttling ended %d slots took %s, as long as at the quota (%s)",
				left, time.Since(since), atQuota)
		}
		if r.Code != exitDone || r.Summary == nil || r.Summary.KMS.Throttled == 0 {
			t.Fatalf("want exit code 0 and throttled requests: %s", r)
		}
		w.Check(t, r.Summary)
		// One more request confirms that the first new ciphertext is under the destination key.
		if s := r.Summary.KMS; s.Requests-s.Throttled != slots+1 {
			t.Errorf("%d requests, %d of them throttled, for %d slots", s.Requests, s.Throttled,
				slots)
		}
	})
	t.Run("every service", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, fewer())
		w.Fault("*", fault.Fault{Kind: fault.Throttle, Share: 0.3})
		toTheEnd(t, w)
	})
}

// serverErrors: a second of errors delays a run by about a second. Permanent errors stop the run
// with 69 after max_outage, and the next run continues.
func serverErrors(t *testing.T) {
	t.Run("a second", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{Rate: 300})
		p := runs(w).Begin(t)
		until(t, "the first requests", requestsSent(w, 40))
		w.Fault("*", fault.Fault{Kind: fault.InternalError})
		time.Sleep(time.Second)
		w.Server.Faults().Clear("")
		r := p.End(t)
		if r.Code != exitExceptions {
			t.Fatalf("want exit code 3: %s", r)
		}
		w.Check(t, r.Summary)
	})
	each(t, sharedHomes(), stateOutage)
	unavailable := fault.Fault{
		Kind:   fault.Refusal,
		Answer: fault.Answer{Status: 503, Code: "ServiceUnavailable"},
	}
	type outage struct {
		operations []string
		fault      fault.Fault
	}
	var worlds []*harness.Env
	var processes []*harness.Process
	outages := []outage{
		{[]string{"kms:ReEncrypt"}, fault.Fault{Kind: fault.InternalError, Skip: 60}},
		{[]string{"dynamodb:BatchExecuteStatement", "dynamodb:UpdateItem"}, unavailable},
		{[]string{"dynamodb:Scan"}, fault.Fault{Kind: fault.Reset, Skip: 1}},
		{[]string{"s3:PutObject"}, unavailable},
		{[]string{"s3:GetObject", "s3:ListObjectsV2"}, fault.Fault{
			Kind: fault.InternalError,
			Skip: 5,
		}},
	}
	for _, o := range outages {
		w := newTrial(t, harness.Config{MaxOutage: "1s"})
		for _, operation := range o.operations {
			w.Fault(operation, o.fault)
		}
		worlds, processes = append(worlds, w), append(processes, runs(w).Begin(t))
	}
	for i, w := range worlds {
		operation := outages[i].operations[0]
		r := processes[i].End(t)
		stopped(t, w, r, exitUnavailable)
		if n := w.Requests(operation); n > 400 {
			t.Errorf("%s: %d requests during an outage of one second", operation, n)
		}
		w.Server.Faults().Clear("")
		toTheEnd(t, w)
	}
}

// stateOutage: the same for the service of the checkpoint. It becomes unavailable during the pass,
// first for a second and then permanently. On a busy machine a response can take two seconds.
func stateOutage(t *testing.T, c harness.Config) {
	c.Rate, c.MaxOutage = 60, "5s"
	w := newTrial(t, c)
	away := func(kind fault.Kind) {
		reads, writes := w.StateOperations()
		for _, operation := range []string{reads, writes} {
			w.Fault(operation, fault.Fault{Kind: kind})
		}
	}
	p := runs(w).Begin(t)
	until(t, "the first requests", requestsSent(w, 20))
	away(fault.InternalError)
	time.Sleep(time.Second)
	w.Server.Faults().Clear("")
	until(t, "more requests", requestsSent(w, 10))
	away(fault.Reset)
	stopped(t, w, p.End(t), exitUnavailable)
	w.Server.Faults().Clear("")
	w.CountsVary() // slots that were written but not saved
	toTheEnd(t, w)
}

// lostResponses: writes whose response is lost are counted once and not repeated.
func lostResponses(t *testing.T) {
	for name, set := range map[string]func(*harness.Env){
		"batches": func(w *harness.Env) {
			w.Fault("dynamodb:BatchExecuteStatement", fault.Fault{
				Kind:  fault.LostResponse,
				Share: 0.5,
			})
		},
		"single updates": func(w *harness.Env) {
			w.Server.DynamoDB().SetPolicy(func(c fakedynamodb.Call) bool {
				return c.Action != "dynamodb:PartiQLUpdate"
			})
			w.Fault("dynamodb:UpdateItem", fault.Fault{Kind: fault.LostResponse, Share: 0.5})
		},
		"puts": func(w *harness.Env) {
			w.Fault("s3:PutObject", fault.Fault{Kind: fault.LostResponse, Share: 0.5})
		},
		"ciphertexts": func(w *harness.Env) {
			w.Fault("kms:ReEncrypt", fault.Fault{Kind: fault.LostResponse, Share: 0.1})
		},
		"all writes, after a while": func(w *harness.Env) {
			for _, operation := range writeOperations() {
				w.Fault(operation, fault.Fault{
					Kind:  fault.LostResponse,
					Share: 0.6,
					Delay: 20 * time.Millisecond,
				})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTrial(t, fewer())
			set(w)
			toTheEnd(t, w)
		})
	}
	each(t, sharedHomes(), func(t *testing.T, c harness.Config) {
		w := newTrial(t, c)
		reads, writes := w.StateOperations()
		for _, operation := range append(writeOperations(), reads, writes) {
			w.Fault(operation, fault.Fault{Kind: fault.LostResponse, Share: 0.4})
		}
		toTheEnd(t, w)
	})
}

// resets: a connection that breaks before, during or after a request only delays a run. Incomplete
// data is never treated as complete.
func resets(t *testing.T) {
	for name, kind := range map[string]fault.Kind{
		"before":            fault.Reset,
		"half of a request": fault.HalfRequest,
		"half of an answer": fault.HalfResponse,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTrial(t, harness.Config{})
			w.Fault("*", fault.Fault{Kind: kind, Share: 0.1})
			for _, operation := range append(writeOperations(), "s3:GetObject") {
				w.Fault(operation, fault.Fault{Kind: kind, Share: 0.2})
			}
			toTheEnd(t, w)
		})
		each(t, sharedHomes(), func(t *testing.T, c harness.Config) {
			w := newTrial(t, c)
			w.Fault("*", fault.Fault{Kind: kind, Share: 0.1})
			reads, writes := w.StateOperations()
			for _, operation := range []string{reads, writes} {
				w.Fault(operation, fault.Fault{Kind: kind, Share: 0.3})
			}
			toTheEnd(t, w)
		})
	}
}

// clockSkew: the SDK learns the time of the server from its responses.
func clockSkew(t *testing.T) {
	for name, ahead := range map[string]time.Duration{
		"20 minutes ahead":  20 * time.Minute,
		"20 minutes behind": -20 * time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTrial(t, harness.Config{})
			w.Server.SetClock(ahead)
			r := w.Run(t, "run", "-o", "json")
			if r.Code != exitExceptions {
				t.Errorf("a wrong clock stops the run before it begins; want exit code 3: %s", r)
				w.CheckPartial(t, r.Summary)
				return
			}
			w.Check(t, r.Summary)
		})
	}
	t.Run("a jump", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{Rate: 400})
		p := runs(w).Begin(t)
		until(t, "the first requests", requestsSent(w, 40))
		w.Server.SetClock(20 * time.Minute)
		r := p.End(t)
		if r.Code != exitExceptions {
			t.Errorf("a jump of the clock stops the run; want exit code 3: %s", r)
			w.CheckPartial(t, r.Summary)
			w.Server.SetClock(0)
			toTheEnd(t, w)
			return
		}
		w.Check(t, r.Summary)
	})
}

// slowRuns are runs that take half a minute, because rotator waits that long for keys and
// credentials. They start before all rows and run concurrently with them.
type slowRuns struct{ begun []slowRun }

type slowRun struct {
	row     int
	name    string
	world   *harness.Env
	process *harness.Process
	// ended checks the end of the run.
	ended func(t *testing.T, r harness.Result)
}

func startSlowRuns(t *testing.T) *slowRuns {
	s := &slowRuns{}
	if testing.Short() {
		return s
	}
	s.disableKeys(t)
	s.revokeCredentials(t)
	return s
}

// disableKeys starts the runs of row 7.
func (s *slowRuns) disableKeys(t *testing.T) {
	source := func(w *harness.Env) string { return w.Old }
	destination := func(w *harness.Env) string { return w.New }
	for _, way := range []struct {
		name   string
		key    func(*harness.Env) string
		state  fakekms.KeyState
		advice string
	}{
		{"source disabled", source, fakekms.Disabled, "it is disabled; enable it"},
		{"destination disabled", destination, fakekms.Disabled, "it is disabled; enable it"},
		{"destination pending deletion", destination, fakekms.PendingDeletion,
			"; cancel the deletion"},
	} {
		w := newTrial(t, harness.Config{Rate: 400})
		p := runs(w).Begin(t)
		until(t, "the first requests", requestsSent(w, 40))
		set := func(state fakekms.KeyState) {
			if err := w.Server.KMS().SetState(way.key(w), state); err != nil {
				t.Fatal(err)
			}
		}
		set(way.state)
		s.begun = append(s.begun, slowRun{7, way.name, w, p, func(t *testing.T, r harness.Result) {
			stopped(t, w, r, exitAccess)
			if !strings.Contains(r.Log, "rotator: key "+way.key(w)+": it ") ||
				!strings.Contains(r.Log, way.advice) {
				t.Errorf("want the key and its state first, and %q: %s", way.advice, r)
			}
			set(fakekms.Enabled)
			toTheEnd(t, w)
		}})
	}
}

// revokeCredentials starts the runs of row 6.
func (s *slowRuns) revokeCredentials(t *testing.T) {
	for name, broken := range map[string]bool{"revoked": false, "for good": true} {
		w, v, p := vended(t, harness.Config{Rate: 250}, time.Hour)
		v.Break(broken)
		v.Revoke()
		s.begun = append(s.begun, slowRun{6, name, w, p, func(t *testing.T, r harness.Result) {
			switch {
			case broken:
				stopped(t, w, r, exitAccess)
				if !strings.Contains(r.Log, "rotator: the endpoint of container credentials") ||
					!strings.Contains(r.Log, "the last ones, access key ASIAWORKER") {
					t.Errorf("want the endpoint and the last access key: %s", r)
				}
			case r.Code == exitExceptions:
				w.Check(t, r.Summary)
				return
			default:
				t.Errorf("the service reported expired credentials, and new ones were available; "+
					"the run requested %d, and ended with exit code %d after %s, want %d: %s",
					v.Issued()-1, r.Code, r.Took.Round(time.Millisecond), exitExceptions, r.Log)
			}
			toTheEnd(t, w)
		}})
	}
}

// finish waits for the slow runs of a row.
func (s *slowRuns) finish(t *testing.T, row int) {
	if len(s.begun) == 0 {
		t.Skip("takes half a minute, too long for -short")
	}
	for _, run := range s.begun {
		if run.row == row {
			t.Run(run.name, func(t *testing.T) {
				t.Parallel()
				run.ended(t, run.process.End(t))
			})
		}
	}
}

// vended begins a run that gets its credentials from a credential server. They are valid for the
// given time.
func vended(
	t *testing.T,
	c harness.Config,
	life time.Duration,
) (*harness.Env, *harness.CredentialServer, *harness.Process) {
	t.Helper()
	w := newTrial(t, c)
	v := w.CredentialServer(t, life)
	p := runs(w)
	v.Env(p)
	p.Begin(t)
	until(t, "the first requests", requestsSent(w, 40))
	return w, v, p
}

// expiredCredentials: credentials are renewed when they expire, and when the service reports that
// they have expired. If this is not possible, the run stops with 77, and no slot counts as failed
// because of it.
func (s *slowRuns) expiredCredentials(t *testing.T) {
	inTime := func(t *testing.T, c harness.Config) {
		w, v, p := vended(t, c, time.Second)
		r := p.End(t)
		if r.Code != exitExceptions || v.Issued() < 2 {
			t.Fatalf("%d access keys; want exit code 3: %s", v.Issued(), r)
		}
		w.Check(t, r.Summary)
	}
	t.Run("in time", func(t *testing.T) {
		t.Parallel()
		inTime(t, harness.Config{Rate: 250})
	})
	each(t, sharedHomes(), func(t *testing.T, c harness.Config) {
		c.Rate = 50
		inTime(t, c)
	})
	s.finish(t, 6)
}

// keysOff: a key that becomes usable again soon only delays a run. One that does not stops the run
// with 77 after some time, no slot counts as failed, and a run continues when the key is usable
// again.
func (s *slowRuns) keysOff(t *testing.T) {
	t.Run("for a second", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{Rate: 400})
		p := runs(w).Begin(t)
		until(t, "the first requests", requestsSent(w, 40))
		for _, key := range []string{w.Old, w.New} {
			for _, state := range []fakekms.KeyState{fakekms.Disabled, fakekms.Enabled} {
				if err := w.Server.KMS().SetState(key, state); err != nil {
					t.Fatal(err)
				}
				if state == fakekms.Disabled {
					time.Sleep(500 * time.Millisecond)
				}
			}
		}
		r := p.End(t)
		if r.Code != exitExceptions {
			t.Fatalf("want exit code 3: %s", r)
		}
		w.Check(t, r.Summary)
	})
	t.Run("unavailable", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{})
		w.Fault("kms:ReEncrypt", fault.Fault{
			Kind:   fault.Refusal,
			Share:  0.1,
			Answer: fault.Answer{Status: 500, Code: "KeyUnavailableException"},
		})
		toTheEnd(t, w)
	})
	s.finish(t, 7)
}

// deniedItems: a denial is a property of the item while other requests succeed, and stops the run
// if none succeeds.
func deniedItems(t *testing.T) {
	mine := func(key string) bool { return strings.HasSuffix(key, "0.enc") }
	t.Run("some", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{})
		w.Server.KMS().SetPolicy(func(c fakekms.Call) bool {
			return c.Action != "kms:ReEncryptFrom" ||
				c.EncryptionContext["tenant"] != "tenant-3" || c.EncryptionContext["purpose"] == ""
		})
		w.Server.S3().SetPolicy(func(c fakes3.Call) bool {
			return c.Action != "s3:GetObject" || !mine(c.Key)
		})
		denied := func(e *harness.Entry) bool {
			return e.Target == harness.Table && e.Tenant() == "tenant-3" ||
				e.Target == harness.Objects && mine(e.ID)
		}
		w.Deny(denied)
		r := toTheEnd(t, w, "--exact") // a slot that is decided by its header is not denied
		if r.Code != exitExceptions {
			t.Errorf("want exit code 3: %s", r)
		}
		w.Server.KMS().SetPolicy(nil)
		w.Server.S3().SetPolicy(nil)
		w.Allow(denied)
		r = w.Must(t, []int{exitExceptions}, "retry", "-o", "json")
		w.Check(t, r.Summary)
	})
	for name, deny := range map[string]func(*harness.Env){
		"all of KMS": func(w *harness.Env) {
			w.Server.KMS().SetPolicy(func(c fakekms.Call) bool {
				return !strings.HasPrefix(c.Action, "kms:ReEncrypt")
			})
		},
		"all of DynamoDB's writes": func(w *harness.Env) {
			w.Server.DynamoDB().SetPolicy(func(c fakedynamodb.Call) bool {
				return c.Action != "dynamodb:PartiQLUpdate" && c.Action != "dynamodb:UpdateItem"
			})
		},
		"all of S3's writes": func(w *harness.Env) {
			w.Server.S3().SetPolicy(func(c fakes3.Call) bool { return c.Action != "s3:PutObject" })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			deniedRun(t, deny)
		})
	}
}

// deniedRun checks a run to which a service denies all requests of a kind.
func deniedRun(t *testing.T, deny func(*harness.Env)) {
	w := newTrial(t, harness.Config{})
	deny(w)
	r := w.Run(t, "run", "-o", "json")
	if r.Code != exitAccess {
		t.Errorf("want exit code %d: %s", exitAccess, r)
	}
	w.CheckPartial(t, r.Summary)
	deniedInLedger(t, w, r)
	w.Server.KMS().SetPolicy(nil)
	w.Server.DynamoDB().SetPolicy(nil)
	w.Server.S3().SetPolicy(nil)
	w.Must(t, complete(), "run", "-o", "json")
	w.CountsVary() // the first denials counted as failures of their items
	r = w.Must(t, complete(), "retry", "-o", "json")
	w.Check(t, r.Summary)
}
