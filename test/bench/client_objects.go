package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

// minimalObjects moves objects whose keys it knows.
func (c *client) minimalObjects(
	ctx context.Context, move func(context.Context, string) error,
) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for i := range c.items {
		group.Go(func() error { return move(ctx, idOf(i)) })
	}
	return group.Wait()
}

// simpleObjects lists the objects and moves each.
func (c *client) simpleObjects(
	ctx context.Context, move func(context.Context, string) error,
) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	in := &s3.ListObjectsV2Input{Bucket: aws.String(resourceName)}
	pages := s3.NewListObjectsV2Paginator(c.s3, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		for _, object := range page.Contents {
			group.Go(func() error { return move(ctx, aws.ToString(object.Key)) })
		}
	}
	return group.Wait()
}

// moveBody replaces the ciphertext in a body: GET and PUT.
func (c *client) moveBody(ctx context.Context, key string) error {
	in := &s3.GetObjectInput{Bucket: aws.String(resourceName), Key: &key}
	out, err := c.s3.GetObject(ctx, in)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(out.Body)
	_ = out.Body.Close()
	if err != nil {
		return err
	}
	var document struct {
		Tenant string
		Secret []byte
	}
	if err := json.Unmarshal(body, &document); err != nil {
		return err
	}
	pairs := map[string]string{"tenant": document.Tenant, "purpose": "pii"}
	new, err := c.move(ctx, document.Secret, pairs)
	if err != nil {
		return err
	}
	old, _ := json.Marshal(document.Secret) // base64 in quotes
	written, _ := json.Marshal(new)
	replaced := bytes.Replace(body, old, written, 1)
	if bytes.Equal(body, replaced) {
		return fmt.Errorf("object %s does not contain its secret in the expected form", key)
	}
	_, err = c.s3.PutObject(ctx, &s3.PutObjectInput{
		Bucket:      aws.String(resourceName),
		Key:         &key,
		Body:        bytes.NewReader(replaced),
		IfMatch:     out.ETag,
		ContentType: out.ContentType,
		Metadata:    out.Metadata,
	})
	return err
}

// moveHeader replaces the ciphertext in the user metadata of an object: HEAD and COPY.
func (c *client) moveHeader(ctx context.Context, key string) error {
	in := &s3.HeadObjectInput{Bucket: aws.String(resourceName), Key: &key}
	out, err := c.s3.HeadObject(ctx, in)
	if err != nil {
		return err
	}
	old, err := base64.StdEncoding.DecodeString(out.Metadata[wrappedKey])
	if err != nil {
		return err
	}
	var pairs map[string]string
	if err := json.Unmarshal([]byte(out.Metadata[wrappedContext]), &pairs); err != nil {
		return err
	}
	new, err := c.move(ctx, old, pairs)
	if err != nil {
		return err
	}
	out.Metadata[wrappedKey] = base64.StdEncoding.EncodeToString(new)
	_, err = c.s3.CopyObject(ctx, &s3.CopyObjectInput{
		Bucket:            aws.String(resourceName),
		Key:               &key,
		CopySource:        aws.String(resourceName + "/" + key),
		CopySourceIfMatch: out.ETag,
		MetadataDirective: s3types.MetadataDirectiveReplace,
		Metadata:          out.Metadata,
		ContentType:       out.ContentType,
	})
	return err
}
