package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"go.etcd.io/bbolt"

	"rotator/internal/checkpoint"
)

// The shared checkpoints that a Config can name.
const (
	InTable  = "dynamodb://state"
	InBucket = "s3://state/rotator"

	statePrefix = "rotator/" // the prefix of the objects in InBucket
)

// createCheckpoint creates the table or bucket of a shared checkpoint.
func (w *Env) createCheckpoint(ctx context.Context) error {
	switch w.config.Checkpoint {
	case InTable:
		return checkpoint.NewDynamoDB(w.dynamodb, "state", time.Minute).CreateTable(ctx)
	case InBucket:
		_, err := w.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("state")})
		return err
	}
	if !strings.HasPrefix(w.config.Checkpoint, "file:") {
		return fmt.Errorf("an Env cannot have a checkpoint at %s", w.config.Checkpoint)
	}
	return nil
}

// StateOperations returns the operations by which the worker reads and writes a shared
// checkpoint. In a bucket, the worker reads and writes target objects with the same operations.
// In a table, it uses PutItem only for the checkpoint. Both are "" if the checkpoint is a file.
func (w *Env) StateOperations() (reads, writes string) {
	switch w.config.Checkpoint {
	case InTable:
		return "dynamodb:GetItem", "dynamodb:PutItem"
	case InBucket:
		return "s3:GetObject", "s3:PutObject"
	}
	return "", ""
}

// Store returns the current checkpoint. Guards and faults do not apply to its reads and writes.
// If the checkpoint is a file, the file must exist.
func (w *Env) Store(t testing.TB) checkpoint.Store {
	t.Helper()
	switch w.config.Checkpoint {
	case InTable:
		return checkpoint.NewDynamoDB(w.dynamodb, "state", time.Minute)
	case InBucket:
		return checkpoint.NewS3(w.s3, "state", statePrefix, time.Minute)
	}
	store, err := checkpoint.OpenFile(w.stateFile())
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func (w *Env) stateFile() string {
	return filepath.Join(w.Dir, strings.TrimPrefix(w.config.Checkpoint, "file:"))
}

// Records returns the records of the checkpoint by ID, as the worker wrote them. It returns none
// if there is no checkpoint yet.
func (w *Env) Records(t testing.TB) map[string]string {
	t.Helper()
	ids := w.recordIDs(t)
	records := map[string]string{}
	if len(ids) == 0 {
		return records
	}
	store := w.Store(t)
	for _, id := range ids {
		e, err := store.Fetch(t.Context(), id)
		if err != nil {
			t.Fatalf("record %s: %v", id, err)
		}
		records[id] = string(e.Data)
	}
	return records
}

func (w *Env) recordIDs(t testing.TB) (ids []string) {
	switch w.config.Checkpoint {
	case InTable:
		for key := range w.Server.DynamoDB().Items("state") {
			var item struct{ ID struct{ S string } }
			if err := json.Unmarshal([]byte(key), &item); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, item.ID.S)
		}
		return ids
	case InBucket:
		for key, versions := range w.Server.S3().Versions("state") {
			if id := strings.TrimPrefix(key, statePrefix); !versions[len(versions)-1].Marker &&
				!strings.HasPrefix(id, ".rotator-probe-") &&
				!strings.HasPrefix(id, "evidence/") {
				ids = append(ids, id)
			}
		}
		return ids
	}
	return fileIDs(t, w.stateFile())
}

// fileIDs returns the IDs of the records in a checkpoint file. The worker may write to the file
// meanwhile, because it opens the file for each operation. Keys that begin with a zero byte are
// not IDs.
func fileIDs(t testing.TB, path string) (ids []string) {
	t.Helper()
	if matches, err := filepath.Glob(path); err != nil || len(matches) == 0 {
		return nil
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(id, _ []byte) error {
				if id[0] != 0 {
					ids = append(ids, string(id))
				}
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// ChangeRecord replaces the data of a record by the result of change.
func (w *Env) ChangeRecord(t testing.TB, id string, change func(data []byte) []byte) {
	t.Helper()
	store := w.Store(t)
	e, err := store.Fetch(t.Context(), id)
	if err == nil {
		_, err = store.Replace(t.Context(), e, change(e.Data))
	}
	if err != nil {
		t.Fatalf("change record %s: %v", id, err)
	}
}

// checkpointText returns the content of a shared checkpoint, by the name of the record.
func (w *Env) checkpointText(t testing.TB) map[string]string {
	texts := map[string]string{}
	switch w.config.Checkpoint {
	case InTable:
		for id, item := range w.Server.DynamoDB().Items("state") {
			var record struct{ Data struct{ B []byte } }
			if err := json.Unmarshal(item, &record); err != nil {
				t.Errorf("record %s: %v", id, err)
			}
			texts["checkpoint "+id] = string(record.Data.B)
		}
	case InBucket:
		for key, versions := range w.Server.S3().Versions("state") {
			for _, v := range versions {
				texts["checkpoint "+key] += string(v.Body)
			}
		}
	}
	return texts
}

// Moves returns the number of ReEncrypt requests of the worker for blobs under the old key, and
// how many of them repeated an earlier request for the same blob.
func (w *Env) Moves() (all, repeated int) {
	w.guard.mu.Lock()
	defer w.guard.mu.Unlock()
	for _, n := range w.guard.tries {
		all += n
		repeated += n - 1
	}
	return all, repeated
}
