package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

// findings are counts of entries after the migration.
type findings struct {
	readable   int // under the new key, with the plaintext that was stored last
	unreadable int // not under the new key, or in the ledger
	lost       int // with another plaintext
	damaged    int // with another value beside the ciphertext
	untouched  int // exceptions that are unchanged and in the ledger
	touched    int // other exceptions
}

// complete reports whether no entry was lost or changed.
func (f findings) complete(n amounts) bool {
	exceptions := n.poison + n.foreign
	return f == findings{readable: n.items + n.objects - exceptions, untouched: exceptions}
}

func (f *findings) add(g findings) {
	f.readable += g.readable
	f.unreadable += g.unreadable
	f.lost += g.lost
	f.damaged += g.damaged
	f.untouched += g.untouched
	f.touched += g.touched
}

// check reads every entry and compares it with the values that were stored last. ledger has
// the addresses of the slots in the ledger, which must be the exceptions only.
func (d *dataset) check(ctx context.Context, ledger map[string]bool) (findings, error) {
	results := make([]findings, len(d.entries))
	var group errgroup.Group
	group.SetLimit(concurrency)
	for i := range d.entries {
		group.Go(func() error {
			blob, note, err := d.read(ctx, i)
			if err != nil {
				return err
			}
			results[i] = d.checkOne(ctx, i, blob, note, ledger[d.address(i)])
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return findings{}, err
	}
	var sum findings
	for _, r := range results {
		sum.add(r)
	}
	return sum, nil
}

// checkOne compares an entry with its stored values. listed reports whether it is in the
// ledger.
func (d *dataset) checkOne(
	ctx context.Context, i int, blob []byte, note string, listed bool,
) (f findings) {
	e := d.entries[i]
	if note != e.note {
		f.damaged++
	}
	if e.kind == exception {
		if bytes.Equal(blob, e.blob) && listed {
			f.untouched++
		} else {
			f.touched++
		}
		return f
	}
	out, err := d.kms.Decrypt(ctx, &kms.DecryptInput{
		CiphertextBlob:    blob,
		EncryptionContext: d.contextOf(i),
	})
	switch {
	case err != nil || aws.ToString(out.KeyId) != d.new || listed:
		f.unreadable++
	case string(out.Plaintext) != e.secret:
		f.lost++
	default:
		f.readable++
	}
	return f
}

// damaged is the note of an entry that has other parts than were stored.
const damaged = "damaged"

// read returns the ciphertext of an entry and its note.
func (d *dataset) read(ctx context.Context, i int) (blob []byte, note string, err error) {
	if i < d.items {
		return d.readItem(ctx, i)
	}
	return d.readObject(ctx, i)
}

func (d *dataset) readItem(ctx context.Context, i int) (blob []byte, note string, err error) {
	out, err := d.dynamodb.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      aws.String(table),
		ConsistentRead: aws.Bool(true),
		Key:            itemKey(i),
	})
	if err != nil {
		return nil, "", err
	}
	slot, _ := out.Item["ssn"].(*types.AttributeValueMemberB)
	other, _ := out.Item["note"].(*types.AttributeValueMemberS)
	if slot == nil || other == nil || len(out.Item) != 4 {
		return nil, damaged, nil
	}
	return slot.Value, other.Value, nil
}

func (d *dataset) readObject(ctx context.Context, i int) (blob []byte, note string, err error) {
	out, err := d.s3.GetObject(ctx, &s3.GetObjectInput{
		Bucket:       aws.String(bucket),
		Key:          aws.String(objectKey(i)),
		ChecksumMode: s3types.ChecksumModeEnabled,
	})
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = out.Body.Close() }()
	body, err := io.ReadAll(out.Body)
	if err != nil {
		return nil, "", err
	}
	if aws.ToString(out.ContentType) != contentType || aws.ToInt32(out.TagCount) != 1 {
		return nil, damaged, nil
	}
	blob, err = base64.StdEncoding.DecodeString(string(bytes.TrimSpace(body)))
	return blob, out.Metadata["note"], err
}
