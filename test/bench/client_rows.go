package main

import (
	"context"
	"errors"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"
)

// minimalRows sends only the requests that cannot be avoided. It does not scan, because it knows
// the items of the table.
func (c *client) minimalRows(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for first := 0; first < c.items; first += batchSize {
		group.Go(func() error {
			return c.minimalBatch(ctx, first, min(first+batchSize, c.items))
		})
	}
	return group.Wait()
}

// minimalBatch moves the items from first to before end.
func (c *client) minimalBatch(ctx context.Context, first, end int) error {
	in := &dynamodb.BatchExecuteStatementInput{}
	for i := first; i < end; i++ {
		old := blobOf(sourceKey, i)
		new, err := c.move(ctx, old, contextOf(i))
		if err != nil {
			return err
		}
		in.Statements = append(in.Statements, types.BatchStatementRequest{
			Statement: aws.String(statement),
			Parameters: []types.AttributeValue{
				&types.AttributeValueMemberB{Value: new},
				&types.AttributeValueMemberS{Value: idOf(i)},
				&types.AttributeValueMemberB{Value: old},
			},
		})
	}
	out, err := c.dynamodb.BatchExecuteStatement(ctx, in)
	if err != nil {
		return err
	}
	failed := func(r types.BatchStatementResponse) bool { return r.Error != nil }
	if slices.ContainsFunc(out.Responses, failed) {
		return errors.New("a statement failed")
	}
	return nil
}

// simpleRows scans the table and moves item by item.
func (c *client) simpleRows(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	in := &dynamodb.ScanInput{TableName: aws.String(resourceName)}
	pages := dynamodb.NewScanPaginator(c.dynamodb, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		for _, item := range page.Items {
			group.Go(func() error { return c.simpleRow(ctx, item) })
		}
	}
	return group.Wait()
}

func (c *client) simpleRow(ctx context.Context, item map[string]types.AttributeValue) error {
	old, ok := item["secret"].(*types.AttributeValueMemberB)
	tenant, named := item["tenant"].(*types.AttributeValueMemberS)
	if !ok || !named {
		return errors.New("an item without secret or tenant")
	}
	pairs := map[string]string{"tenant": tenant.Value, "purpose": "pii"}
	new, err := c.move(ctx, old.Value, pairs)
	if err != nil {
		return err
	}
	_, err = c.dynamodb.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:           aws.String(resourceName),
		Key:                 map[string]types.AttributeValue{"id": item["id"]},
		UpdateExpression:    aws.String("SET secret = :n0"),
		ConditionExpression: aws.String("secret = :o0"),
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":o0": old,
			":n0": &types.AttributeValueMemberB{Value: new},
		},
	})
	return err
}
