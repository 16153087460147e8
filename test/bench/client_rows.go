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

// bareRows makes the calls that cannot be avoided, and no others: it does not
// even scan, since it knows what is in the table.
func (c *client) bareRows(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for first := 0; first < c.items; first += batchSize {
		group.Go(func() error {
			in := &dynamodb.BatchExecuteStatementInput{}
			for i := first; i < min(first+batchSize, c.items); i++ {
				old := blobOf(sourceKey, i)
				new, err := c.move(ctx, old, contextOf(i))
				if err != nil {
					return err
				}
				in.Statements = append(in.Statements, types.BatchStatementRequest{Statement: aws.String(statement), Parameters: []types.AttributeValue{
					&types.AttributeValueMemberB{Value: new}, &types.AttributeValueMemberS{Value: idOf(i)}, &types.AttributeValueMemberB{Value: old}}})
			}
			out, err := c.dynamodb.BatchExecuteStatement(ctx, in)
			if err == nil && slices.ContainsFunc(out.Responses, func(r types.BatchStatementResponse) bool { return r.Error != nil }) {
				err = errors.New("a statement failed")
			}
			return err
		})
	}
	return group.Wait()
}

// naiveRows scans, and moves item by item.
func (c *client) naiveRows(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	pages := dynamodb.NewScanPaginator(c.dynamodb, &dynamodb.ScanInput{TableName: aws.String(place)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		for _, item := range page.Items {
			group.Go(func() error { return c.naiveRow(ctx, item) })
		}
	}
	return group.Wait()
}

func (c *client) naiveRow(ctx context.Context, item map[string]types.AttributeValue) error {
	old, ok := item["secret"].(*types.AttributeValueMemberB)
	tenant, named := item["tenant"].(*types.AttributeValueMemberS)
	if !ok || !named {
		return errors.New("an item without secret or tenant")
	}
	new, err := c.move(ctx, old.Value, map[string]string{"tenant": tenant.Value, "purpose": "pii"})
	if err != nil {
		return err
	}
	_, err = c.dynamodb.UpdateItem(ctx, &dynamodb.UpdateItemInput{TableName: aws.String(place), Key: map[string]types.AttributeValue{"id": item["id"]},
		UpdateExpression: aws.String("SET secret = :n0"), ConditionExpression: aws.String("secret = :o0"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":o0": old, ":n0": &types.AttributeValueMemberB{Value: new}}})
	return err
}
