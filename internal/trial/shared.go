package trial

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/checkpoint"
)

// The shared checkpoints that a Config can name.
const (
	InTable  = "dynamodb://state"
	InBucket = "s3://state/rotator"
)

// state makes the table or bucket of a shared checkpoint.
func (w *World) state(ctx context.Context) error {
	switch w.config.Checkpoint {
	case InTable:
		return checkpoint.NewDynamoDB(w.dynamodb, "state", time.Minute).CreateTable(ctx)
	case InBucket:
		_, err := w.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("state")})
		return err
	}
	if !strings.HasPrefix(w.config.Checkpoint, "file:") {
		return fmt.Errorf("no world has a checkpoint at %s", w.config.Checkpoint)
	}
	return nil
}

// shared is what a shared checkpoint holds, as text.
func (w *World) shared(t testing.TB) map[string]string {
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

// Moves is how often KMS re-encrypted a blob under the old key for the worker, and
// how many of these were repetitions, of the same blob.
func (w *World) Moves() (all, again int) {
	w.guard.mu.Lock()
	defer w.guard.mu.Unlock()
	for _, n := range w.guard.moves {
		all += n
		again += n - 1
	}
	return all, again
}
