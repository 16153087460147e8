package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// pause is the time between two writes: about 500 writes per second.
const pause = 2 * time.Millisecond

// writer is an application that keeps writing during the migration. It stores new secrets
// and changes other attributes, and does not coordinate with rotator.
type writer struct {
	data   *dataset
	newKey atomic.Bool
	writes int // valid after run has returned
}

func newWriter(data *dataset) *writer { return &writer{data: data} }

// switchKey makes the writer encrypt under the new key. It may be called while run is
// running.
func (w *writer) switchKey() { w.newKey.Store(true) }

// run writes until ctx is done.
func (w *writer) run(ctx context.Context) error {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		i := rand.IntN(len(w.data.entries))
		if w.data.entries[i].kind == exception {
			continue
		}
		// A started write is completed, so that its result is known.
		if err := w.write(context.WithoutCancel(ctx), i); err != nil {
			return fmt.Errorf("write to %s: %w", w.data.address(i), err)
		}
		w.writes++
	}
}

func (w *writer) write(ctx context.Context, i int) error {
	e, isItem := w.data.entries[i], i < w.data.items
	if isItem && rand.IntN(2) == 0 {
		e.note = randomText()
		return w.update(ctx, i, "note", &types.AttributeValueMemberS{Value: e.note})
	}
	e.secret = randomText()
	blob, err := w.encrypt(ctx, i, e.secret)
	if err != nil {
		return err
	}
	if isItem {
		return w.update(ctx, i, "ssn", &types.AttributeValueMemberB{Value: blob})
	}
	e.note = randomText()
	return w.data.putObject(ctx, i, blob)
}

// update sets one attribute of an item.
func (w *writer) update(
	ctx context.Context, i int, name string, value types.AttributeValue,
) error {
	_, err := w.data.dynamodb.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                 aws.String(table),
		Key:                       itemKey(i),
		UpdateExpression:          aws.String("SET #name = :value"),
		ExpressionAttributeNames:  map[string]string{"#name": name},
		ExpressionAttributeValues: map[string]types.AttributeValue{":value": value},
	})
	return err
}

func (w *writer) encrypt(ctx context.Context, i int, secret string) ([]byte, error) {
	key := w.data.old
	if w.newKey.Load() {
		key = w.data.new
	}
	out, err := w.data.kms.Encrypt(ctx, &kms.EncryptInput{
		KeyId:             &key,
		Plaintext:         []byte(secret),
		EncryptionContext: w.data.contextOf(i),
	})
	if err != nil {
		return nil, err
	}
	return out.CiphertextBlob, nil
}
