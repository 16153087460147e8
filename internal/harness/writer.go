package harness

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// The methods below are the application. It writes without regard to the worker. The expected
// state of an entry is the last write that the server acknowledged.

// Touch changes an attribute of an item that is not a slot. It does nothing for objects, which
// only Replace writes.
func (w *Env) Touch(ctx context.Context, e *Entry) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.deleted || e.Target != Table {
		return nil
	}
	note := "touched-" + rand.Text()
	if err := w.update(ctx, e, "note", &types.AttributeValueMemberS{Value: note}); err != nil {
		return err
	}
	e.note = note
	return nil
}

// Replace encrypts a new plaintext under key, which is Old or New, and stores the ciphertext in
// the first slot. The worker must not change a ciphertext under New.
func (w *Env) Replace(ctx context.Context, e *Entry, key string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.deleted || len(e.slots) == 0 || e.Kind == Archived {
		return nil
	}
	w.CountsVary()
	s := e.slots[0]
	secret := w.plaintext()
	blob, err := w.seal(key, secret, w.contextUnder(key, e, s))
	if err != nil {
		return err
	}
	before, note := *s, e.note
	s.secret, s.blob, s.want = secret, blob, OutcomeRotated
	if key == w.New {
		s.want = OutcomeCurrent
	}
	if e.Target == Table {
		err = w.update(ctx, e, s.path, &types.AttributeValueMemberB{Value: blob})
	} else {
		e.note = "replaced-" + rand.Text()
		err = w.putObject(ctx, e)
	}
	if err != nil {
		*s, e.note = before, note
		return fmt.Errorf("replace %s: %w", e.ID, err)
	}
	return nil
}

// Relocate changes only the attributes from which the destination context of a Bound entry is
// made. The update has the condition that the slot still has the application's ciphertext under
// the old key, whose context uses none of these attributes. Otherwise nothing changes.
func (w *Env) Relocate(ctx context.Context, e *Entry) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.deleted || e.Kind != Bound || e.slots[0].want != OutcomeRotated {
		return nil
	}
	region, city := "region-"+rand.Text(), "city-"+rand.Text()
	text := func(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
	_, err := w.dynamodb.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:           aws.String(Table),
		Key:                 e.key(),
		UpdateExpression:    aws.String("SET #region = :region, home.city = :city"),
		ConditionExpression: aws.String("pin = :pin"),
		ExpressionAttributeNames: map[string]string{
			"#region": "region",
		},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":region": text(region),
			":city":   text(city),
			":pin":    &types.AttributeValueMemberB{Value: e.slots[0].blob},
		},
	})
	var conflict *types.ConditionalCheckFailedException
	if errors.As(err, &conflict) {
		return nil
	}
	if err == nil {
		e.region, e.city = region, city
	}
	return err
}

// Delete deletes the entry. It must not exist again afterwards.
func (w *Env) Delete(ctx context.Context, e *Entry) (err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w.CountsVary()
	if e.Target == Table {
		_, err = w.dynamodb.DeleteItem(ctx, &dynamodb.DeleteItemInput{
			TableName: aws.String(Table),
			Key:       e.key(),
		})
	} else {
		_, err = w.s3.DeleteObject(ctx, &s3.DeleteObjectInput{
			Bucket: aws.String(Bucket),
			Key:    &e.ID,
		})
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", e.ID, err)
	}
	e.deleted = true
	return nil
}

// Deleted reports whether the application has deleted the entry.
func (w *Env) Deleted(e *Entry) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.deleted
}

// Add stores one more ordinary entry. An object that it adds is listed before all objects of the
// seed. The position of an item in a scan is not defined.
func (w *Env) Add(ctx context.Context, target string) (*Entry, error) {
	kind := Ordinary
	if target == Documents {
		kind = Document
	}
	w.CountsVary()
	w.mu.Lock()
	number := max(len(w.entries), w.nextNumber) // Add may be called concurrently
	w.nextNumber = number + 1
	w.mu.Unlock()
	e, err := w.newEntryAt(target, kind, number, "!")
	if err != nil {
		return nil, err
	}
	w.register(e)
	e.mu.Lock()
	defer e.mu.Unlock()
	if target == Table {
		_, err = w.dynamodb.PutItem(ctx, &dynamodb.PutItemInput{
			TableName: aws.String(Table),
			Item:      e.item(w.config.Padding),
		})
	} else {
		err = w.putObject(ctx, e)
	}
	if err != nil {
		return nil, fmt.Errorf("add %s: %w", e.ID, err)
	}
	e.recordRest(w.readStored()[e.ID])
	return e, nil
}

// Write calls Touch, Replace or, rarely, Delete for a random entry once per pause, until ctx is
// done. It does not interrupt a write. Replace uses a random key of keys. Write returns the
// number of writes.
func (w *Env) Write(
	ctx context.Context, pause time.Duration, keys ...string,
) (writes int, err error) {
	entries := w.Entries(func(e *Entry) bool {
		return e.Kind != Poison && e.Kind != Foreign && e.Kind != Archived
	})
	if len(entries) == 0 || len(keys) == 0 {
		return 0, errors.New("nothing to write to, or no key to write under")
	}
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return writes, nil
		case <-ticker.C:
		}
		e, writeCtx := entries[mathrand.IntN(len(entries))], context.WithoutCancel(ctx)
		switch n := mathrand.IntN(20); {
		case n == 0:
			err = w.Delete(writeCtx, e)
		case n < 8:
			err = w.Touch(writeCtx, e)
		default:
			err = w.Replace(writeCtx, e, keys[mathrand.IntN(len(keys))])
		}
		if err != nil {
			return writes, err
		}
		writes++
	}
}

func (e *Entry) key() map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: e.ID}}
}

func (w *Env) update(
	ctx context.Context, e *Entry, name string, value types.AttributeValue,
) error {
	_, err := w.dynamodb.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                 aws.String(Table),
		Key:                       e.key(),
		UpdateExpression:          aws.String("SET #name = :value"),
		ExpressionAttributeNames:  map[string]string{"#name": name},
		ExpressionAttributeValues: map[string]types.AttributeValue{":value": value},
	})
	return err
}
