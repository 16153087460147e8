package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/fakeaws/fakes3"
)

// seed stores the entries of the configuration. The kinds are spread evenly over each target.
func (w *Env) seed(t testing.TB) error {
	var items []*Entry
	for _, kind := range interleave(w.config.Items) {
		e, err := w.newEntry(Table, kind, len(w.entries))
		if err != nil {
			return err
		}
		items = append(items, e)
		w.register(e)
	}
	for batch := range slices.Chunk(items, 25) {
		var puts []types.WriteRequest
		for _, e := range batch {
			puts = append(puts, types.WriteRequest{
				PutRequest: &types.PutRequest{Item: e.item(w.config.Padding)},
			})
		}
		if _, err := w.dynamodb.BatchWriteItem(t.Context(), &dynamodb.BatchWriteItemInput{
			RequestItems: map[string][]types.WriteRequest{Table: puts},
		}); err != nil {
			return err
		}
	}
	for _, kind := range interleave(w.config.Objects) {
		target := Objects
		if kind == Document {
			target = Documents
		}
		e, err := w.newEntry(target, kind, len(w.entries))
		if err != nil {
			return err
		}
		w.register(e)
		if err := w.putObject(t.Context(), e); err != nil {
			return err
		}
	}
	current := w.readStored()
	for _, e := range w.entries {
		e.recordRest(current[e.ID])
	}
	return nil
}

// interleave returns a list that contains each kind counts[kind] times, in mixed order.
func interleave(counts map[Kind]int) (list []Kind) {
	remaining := maps.Clone(counts)
	for len(remaining) > 0 {
		for kind := range kinds {
			switch {
			case remaining[kind] <= 0:
				delete(remaining, kind)
			default:
				list = append(list, kind)
				remaining[kind]--
			}
		}
	}
	return list
}

// register adds e to the entries of the Env.
func (w *Env) register(e *Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.entries = append(w.entries, e)
	w.byID[e.ID] = e
}

// putObject stores the entry as an object, and replaces the object if it exists.
func (w *Env) putObject(ctx context.Context, e *Entry) error {
	in := &s3.PutObjectInput{
		Bucket:       aws.String(Bucket),
		Key:          &e.ID,
		Body:         bytes.NewReader(e.body(w.config.ObjectPadding)),
		ContentType:  aws.String("text/x-secret"),
		CacheControl: aws.String("no-store"),
		Metadata:     map[string]string{"tenant": e.tenant, "note": e.note},
		Tagging:      aws.String("stage=prod&team=a%20b"),
		StorageClass: s3types.StorageClassStandardIa,
	}
	if e.Kind == Archived {
		in.StorageClass = []s3types.StorageClass{s3types.StorageClassGlacier,
			s3types.StorageClassDeepArchive}[e.number%2]
	}
	if w.config.Bucket == Locked {
		in.ObjectLockMode = []s3types.ObjectLockMode{s3types.ObjectLockModeGovernance,
			s3types.ObjectLockModeCompliance}[e.number%2]
		in.ObjectLockRetainUntilDate = &w.retainUntil
		in.ObjectLockLegalHoldStatus = s3types.ObjectLockLegalHoldStatusOn
	}
	_, err := w.s3.PutObject(ctx, in)
	return err
}

// readStored returns the stored items and objects by ID.
func (w *Env) readStored() map[string]stored {
	out := map[string]stored{}
	for id, text := range w.Server.DynamoDB().Items(Table) {
		var key struct{ ID struct{ S string } }
		s, err := parseItem(text)
		if err != nil || json.Unmarshal([]byte(id), &key) != nil {
			s.rest = "not an item: " + id
		}
		out[key.ID.S] = s
	}
	for key, versions := range w.Server.S3().Versions(Bucket) {
		if latest := versions[len(versions)-1]; !latest.Marker {
			out[key] = parseObject(key, latest)
		}
	}
	return out
}

func parseObject(key string, v fakes3.Version) stored {
	target := Objects
	if bytes.HasPrefix([]byte(key), []byte(documentPrefix)) {
		target = Documents
	}
	s := parseBody(target, v.Body)
	s.rest = fmt.Sprintf("%s\nheaders %v\ntags %s\ngrants %s\nlock %s", s.rest, v.Headers, v.Tags,
		v.Grants, v.Lock)
	return s
}
