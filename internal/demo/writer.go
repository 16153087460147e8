package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// writer is the application that goes on working while its data is moved: it
// stores new secrets and changes attributes that have nothing to do with them,
// without looking at what rotator does.
type writer struct {
	truth  *truth
	newKey atomic.Bool
	writes int // read it only after run has returned
}

// pause between two writes: about 500 a second.
const pause = 2 * time.Millisecond

func newWriter(t *truth) *writer { return &writer{truth: t} }

// switchKey makes the writer encrypt under the new key from now on.
func (w *writer) switchKey() { w.newKey.Store(true) }

// run writes until ctx ends.
func (w *writer) run(ctx context.Context) error {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		i := rand.IntN(len(w.truth.entries))
		if w.truth.entries[i].kind == untouched {
			continue
		}
		// A write that is begun is finished, so that the truth is known.
		if err := w.write(context.WithoutCancel(ctx), i); err != nil {
			return fmt.Errorf("write to %s: %w", address(i), err)
		}
		w.writes++
	}
}

func (w *writer) write(ctx context.Context, i int) error {
	e := w.truth.entries[i]
	if i < items && rand.IntN(2) == 0 {
		e.note = randomText()
		return w.set(ctx, i, "note", &types.AttributeValueMemberS{Value: e.note})
	}
	e.secret = randomText()
	blob, err := w.encrypt(ctx, i, e.secret)
	if err != nil {
		return err
	}
	if i < items {
		return w.set(ctx, i, "ssn", &types.AttributeValueMemberB{Value: blob})
	}
	e.note = randomText()
	return w.truth.putObject(ctx, i, blob)
}

func (w *writer) set(ctx context.Context, i int, name string, value types.AttributeValue) error {
	_, err := w.truth.dynamodb.UpdateItem(ctx, &dynamodb.UpdateItemInput{TableName: aws.String(table), Key: itemKey(i),
		UpdateExpression:          aws.String("SET #name = :value"),
		ExpressionAttributeNames:  map[string]string{"#name": name},
		ExpressionAttributeValues: map[string]types.AttributeValue{":value": value}})
	return err
}

func (w *writer) encrypt(ctx context.Context, i int, secret string) ([]byte, error) {
	key := w.truth.old
	if w.newKey.Load() {
		key = w.truth.new
	}
	out, err := w.truth.kms.Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: []byte(secret), EncryptionContext: contextOf(i)})
	if err != nil {
		return nil, errors.Join(errors.New("encrypt"), err)
	}
	return out.CiphertextBlob, nil
}
