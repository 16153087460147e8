package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"go.etcd.io/bbolt"
)

// Prunable is a Store whose records can be listed and deleted.
type Prunable interface {
	Store
	// List iterates over the records whose ids begin with prefix, in any order. It ends after
	// an error.
	List(ctx context.Context, prefix string) iter.Seq2[Size, error]
	// Delete deletes the record if it has not changed since e was returned; otherwise the error
	// is ErrConflict. The result is nil if the record does not exist.
	Delete(ctx context.Context, e Entry) error
}

// Size is the stored size of a record in bytes.
type Size struct {
	ID    string
	Bytes int64
}

var (
	_ Prunable = (*Memory)(nil)
	_ Prunable = (*File)(nil)
	_ Prunable = (*DynamoDB)(nil)
	_ Prunable = (*S3)(nil)
)

// settleDelete returns the result of a delete that failed with err. If the record does not exist,
// an earlier attempt has deleted it.
func settleDelete(ctx context.Context, s Store, e Entry, err error) error {
	now, reading := s.Fetch(ctx, e.ID)
	switch {
	case errors.Is(reading, ErrNotFound):
		return nil
	case undecided(reading):
		return fmt.Errorf("it is unknown whether %s was deleted: %w", e.ID, err)
	case now.version != e.version:
		return ErrConflict
	}
	return err
}

// List implements Prunable.
func (m *Memory) List(_ context.Context, prefix string) iter.Seq2[Size, error] {
	m.mu.Lock()
	all := maps.Clone(m.records)
	m.mu.Unlock()
	return func(yield func(Size, error) bool) {
		for _, id := range slices.Sorted(maps.Keys(all)) {
			if strings.HasPrefix(id, prefix) && !yield(Size{id, int64(len(all[id].Data))}, nil) {
				return
			}
		}
	}
}

// Delete implements Prunable.
func (m *Memory) Delete(_ context.Context, e Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now, ok := m.records[e.ID]; ok && now.version != e.version {
		return ErrConflict
	}
	delete(m.records, e.ID)
	return nil
}

// List implements Prunable.
func (f *File) List(_ context.Context, prefix string) iter.Seq2[Size, error] {
	return func(yield func(Size, error) bool) {
		var all []Size
		err := f.view(func(b *bbolt.Bucket) error {
			return b.ForEach(func(id, value []byte) error {
				if strings.HasPrefix(string(id), prefix) && string(id) != indexKey {
					all = append(all, Size{string(id), int64(len(value))})
				}
				return nil
			})
		})
		if err != nil {
			yield(Size{}, err)
			return
		}
		for _, one := range all { // outside of the transaction, which locks the file
			if !yield(one, nil) {
				return
			}
		}
	}
}

// Delete implements Prunable.
func (f *File) Delete(_ context.Context, e Entry) error {
	return f.update(func(b *bbolt.Bucket) error {
		now, err := read(b, e.ID)
		if errors.Is(err, ErrNotFound) {
			if err := f.missing(b, e.ID); !errors.Is(err, ErrNotFound) {
				return err
			}
			return nil
		}
		if now.version != e.version {
			return ErrConflict
		}
		if err := b.Delete([]byte(e.ID)); err != nil {
			return err
		}
		return setIndex(b, indexOf(b))
	})
}

// List implements Prunable. It reads the whole table.
func (d *DynamoDB) List(ctx context.Context, prefix string) iter.Seq2[Size, error] {
	in := &dynamodb.ScanInput{
		TableName:                &d.table,
		ConsistentRead:           aws.Bool(true),
		FilterExpression:         aws.String("begins_with(#id, :prefix)"),
		ExpressionAttributeNames: map[string]string{"#id": idAttribute},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":prefix": &types.AttributeValueMemberS{Value: prefix},
		},
	}
	return func(yield func(Size, error) bool) {
		for {
			out, err := d.scan(ctx, in)
			if err != nil {
				yield(Size{}, d.error("list", err))
				return
			}
			for _, item := range out.Items {
				if !yield(sizeOf(item), nil) {
					return
				}
			}
			if in.ExclusiveStartKey = out.LastEvaluatedKey; len(in.ExclusiveStartKey) == 0 {
				return
			}
		}
	}
}

func (d *DynamoDB) scan(
	ctx context.Context, in *dynamodb.ScanInput,
) (*dynamodb.ScanOutput, error) {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	return d.client.Scan(ctx, in)
}

func sizeOf(item map[string]types.AttributeValue) (s Size) {
	if id, ok := item[idAttribute].(*types.AttributeValueMemberS); ok {
		s.ID = id.Value
	}
	if data, ok := item[dataAttribute].(*types.AttributeValueMemberB); ok {
		s.Bytes = int64(len(data.Value))
	}
	return s
}

// Delete implements Prunable.
func (d *DynamoDB) Delete(ctx context.Context, e Entry) error {
	var put dynamodb.PutItemInput
	setCondition(&put, e.version)
	bounded, cancel := d.bound(ctx)
	defer cancel()
	_, err := d.client.DeleteItem(bounded, &dynamodb.DeleteItemInput{
		TableName: &d.table,
		Key: map[string]types.AttributeValue{
			idAttribute: &types.AttributeValueMemberS{Value: e.ID},
		},
		ConditionExpression:       put.ConditionExpression,
		ExpressionAttributeNames:  put.ExpressionAttributeNames,
		ExpressionAttributeValues: put.ExpressionAttributeValues,
	})
	if err == nil {
		return nil
	}
	return settleDelete(ctx, d, e, d.error("delete "+e.ID+" from", err))
}

// List implements Prunable.
func (s *S3) List(ctx context.Context, prefix string) iter.Seq2[Size, error] {
	in := &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: s.key(prefix)}
	return func(yield func(Size, error) bool) {
		for {
			out, err := s.list(ctx, in)
			if err != nil {
				yield(Size{}, s.error("list", err))
				return
			}
			for _, object := range out.Contents {
				id := strings.TrimPrefix(aws.ToString(object.Key), s.prefix)
				if !yield(Size{id, aws.ToInt64(object.Size)}, nil) {
					return
				}
			}
			if in.ContinuationToken = out.NextContinuationToken; in.ContinuationToken == nil {
				return
			}
		}
	}
}

func (s *S3) list(
	ctx context.Context, in *s3.ListObjectsV2Input,
) (*s3.ListObjectsV2Output, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return s.client.ListObjectsV2(ctx, in)
}

// Delete implements Prunable. In a bucket with versioning the object keeps its old versions.
func (s *S3) Delete(ctx context.Context, e Entry) error {
	bounded, cancel := s.bound(ctx)
	defer cancel()
	_, err := s.client.DeleteObject(bounded, &s3.DeleteObjectInput{
		Bucket:  &s.bucket,
		Key:     s.key(e.ID),
		IfMatch: aws.String(e.version),
	})
	if err == nil {
		return nil
	}
	return settleDelete(ctx, s, e, s.error("delete "+e.ID+" from", err))
}
