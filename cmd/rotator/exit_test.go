package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go"
	"go.etcd.io/bbolt"

	"rotator/internal/checkpoint"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/harness"
	"rotator/internal/retry"
)

// storageExit is the error of a checkpoint with the expected exit code and a part of the hint.
type storageExit struct {
	err  error
	code int
	hint string
}

func storageExits() map[string]storageExit {
	service := func(code string) error {
		return &checkpoint.ServiceError{
			Operation: "read it",
			Err:       &smithy.GenericAPIError{Code: code},
		}
	}
	full := &fs.PathError{Op: "write", Path: "state.db", Err: syscall.ENOSPC}
	return map[string]storageExit{
		"full disk": {full, exitStorage, "writable"},
		"corrupt record": {&checkpoint.CorruptError{ID: "n", Detail: "truncated"}, exitStorage,
			""},
		"record of an older version": {&checkpoint.SchemaError{ID: "n", Schema: 1}, exitStorage,
			""},
		"record of a newer version": {&checkpoint.SchemaError{ID: "n", Schema: 9}, exitBusy, ""},
		"damaged file": {&checkpoint.DamagedError{Path: "state.db", Detail: "truncated"},
			exitStorage, ""},
		"service that throttles": {service("ThrottlingException"), exitUnavailable, "run again"},
		"service that fails":     {service("InternalServerError"), exitUnavailable, "run again"},
		"no response": {
			&checkpoint.ServiceError{Operation: "read it", Err: syscall.ECONNRESET},
			exitUnavailable,
			"run again",
		},
		"service that refuses": {service("ValidationException"), exitStorage, "writable"},
		"service that denies":  {service("AccessDeniedException"), exitAccess, ""},
		"unknown outcome": {
			fmt.Errorf("the outcome of the write of n is unknown: %w",
				service("InternalServerError")),
			exitUnavailable,
			"run again",
		},
	}
}

// TestStorageExits: a checkpoint error has the exit code of its cause, whether it occurs before,
// in or after the run. It has a hint only if the error itself does not name the remedy.
func TestStorageExits(t *testing.T) {
	t.Parallel()
	for name, c := range storageExits() {
		kind := map[int]retry.StopKind{
			exitStorage:     retry.StopStorage,
			exitUnavailable: retry.StopUnavailable,
			exitAccess:      retry.StopAccess,
		}[c.code]
		for where, err := range map[string]error{
			"before a run": &storageError{what: "read the checkpoint", err: c.err},
			"in a run": &retry.StopError{
				Kind: kind,
				What: "save the checkpoint",
				Err:  c.err,
			},
			"after a run": &storageError{
				what: "save the pass",
				err:  &retry.StopError{Kind: kind, What: "save the checkpoint", Err: c.err},
			},
			"in and after it": errors.Join(&retry.StopError{Kind: kind, Err: c.err}, &storageError{
				what: "save the pass",
				err:  c.err,
			}),
		} {
			code, hint := exitCode("run", err)
			if code != c.code || !strings.Contains(hint, c.hint) || c.code == exitStorage &&
				(hint == "") != (c.hint == "") {
				t.Errorf("%s, %s: exit code %d and hint %q, want %d and %q", name, where, code,
					hint, c.code, c.hint)
			}
		}
	}
}

// TestCheckpointServiceAway: a run whose checkpoint service fails for longer than max_outage,
// before or in the pass, exits with 69, and the next run resumes the pass.
func TestCheckpointServiceAway(t *testing.T) {
	t.Parallel()
	for place, operations := range map[string][2]string{
		// the targets are read and written by other operations
		harness.InTable:  {"dynamodb:GetItem", "dynamodb:PutItem"},
		harness.InBucket: {"s3:GetObject", "s3:PutObject"},
	} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			for _, kind := range []fault.Kind{fault.InternalError, fault.Throttle} {
				w := newTrial(t, harness.Config{
					Rate:       500,
					Checkpoint: place,
					MaxOutage:  "1s",
					Extra:      "lease: 1s",
					Items:      map[harness.Kind]int{harness.Ordinary: 100},
					Objects:    map[harness.Kind]int{},
				})
				w.CountsVary()
				for i, operation := range operations {
					w.Fault(operation, fault.Fault{Kind: kind, Skip: 3 * i})
					r := w.Run(t, "run", "-o", "json")
					if r.Code != exitUnavailable || strings.Contains(r.Log, "writable") {
						t.Errorf("with %s unavailable: want exit code %d: %s", operation,
							exitUnavailable, r)
					}
					w.Server.Faults().Clear(operation)
					w.CheckPartial(t, nil)
				}
				w.Check(t, w.Must(t, complete(), "run", "-o", "json").Summary)
			}
		})
	}
}

// TestRestartAfterDamage: one record is damaged in the middle of a pass. A run refuses it with
// advice, and following the advice completes the job.
func TestRestartAfterDamage(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"head", "pass/1"} {
		t.Run("file "+strings.ReplaceAll(id, "/", "-"), func(t *testing.T) {
			t.Parallel()
			w := newTrial(t, harness.Config{Rate: 500})
			halfway(t, w, 50)
			breakRecord(t, statePath(w), id)
			checkRestart(t, w)
		})
	}
	t.Run("partition of a finished pass", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{Rate: 500})
		w.CountsVary()
		w.Must(t, complete(), "run", "-o", "json")
		breakRecord(t, statePath(w), "pass/1/partition/0/0")
		if r := w.Must(t, complete(), "run", "-o", "json"); r.Summary.Pass != 2 ||
			!strings.Contains(strings.Join(r.Summary.Notes, " "), "cannot be read") {
			t.Errorf("want pass 2 and a note: %s", r)
		}
	})
	t.Run("roster", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, harness.Config{Rate: 500, Checkpoint: harness.InTable, Extra: "lease: 1s"})
		halfway(t, w, 50)
		client := dynamodb.NewFromConfig(aws.Config{
			Region:       "us-east-1",
			BaseEndpoint: aws.String(w.Server.Endpoint()),
			Credentials: credentials.NewStaticCredentialsProvider("AKIAFAKEAWSFAKEAWS00",
				"not-a-secret", ""),
		})
		store := checkpoint.NewDynamoDB(client, "state", time.Minute)
		e, err := store.Fetch(t.Context(), "jobs/trial/roster")
		if err == nil {
			_, err = store.Replace(t.Context(), e, []byte("{}"))
		}
		if err != nil {
			t.Fatal(err)
		}
		checkRestart(t, w)
	})
}

// checkRestart checks that a run with a corrupt record advises --restart, and follows the advice.
func checkRestart(t *testing.T, w *harness.Env) {
	t.Helper()
	w.CountsVary()
	if r := w.Run(t, "run", "-o", "json"); r.Code != exitStorage ||
		!strings.Contains(r.Log, "--restart") || strings.Contains(r.Log, "writable") {
		t.Errorf("want exit code %d and only the advice to restart: %s", exitStorage, r)
	}
	r := w.Must(t, complete(), "run", "--restart", "-o", "json")
	w.Check(t, r.Summary)
	if r.Summary.Pass != 2 {
		t.Errorf("the new pass is %d, want 2", r.Summary.Pass)
	}
	if r := w.Run(t, "run", "-o", "json"); !slices.Contains(complete(), r.Code) ||
		r.Summary.Pass != 3 {
		t.Errorf("the next run: %s", r)
	}
}

// breakRecord changes a byte in the middle of a record of the job.
func breakRecord(t *testing.T, path, id string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	broken := db.Update(func(tx *bbolt.Tx) error {
		records, key := tx.Bucket([]byte("records")), []byte("jobs/trial/"+id)
		value := bytes.Clone(records.Get(key))
		if len(value) == 0 {
			return fmt.Errorf("there is no record %s", key)
		}
		value[len(value)/2] ^= 1
		return records.Put(key, value)
	})
	if err := errors.Join(broken, db.Close()); err != nil {
		t.Fatal(err)
	}
}
