package checkpoint

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// The attributes of the item of a record. idAttribute is the partition key of the
// table. There is no sort key.
const (
	idAttribute      = "id"      // S
	versionAttribute = "version" // S, unique for each write
	dataAttribute    = "data"    // B
)

// DynamoDB is a Store in a table, for processes on several machines. Every write
// sets a new version under the condition that the previous version is unchanged.
// Every read is strongly consistent (API_PutItem, ConditionExpression; API_GetItem,
// ConsistentRead).
type DynamoDB struct {
	patience
	client *dynamodb.Client
	table  string
}

var _ Store = (*DynamoDB)(nil)

// NewDynamoDB returns a Store in an existing table. limit is the maximum time of an operation,
// including the retries of the client.
func NewDynamoDB(client *dynamodb.Client, table string, limit time.Duration) *DynamoDB {
	d := &DynamoDB{client: client, table: table}
	d.SetPatience(limit)
	return d
}

// Check returns a *LocationError if the table does not exist or has other keys than a
// checkpoint table.
func (d *DynamoDB) Check(ctx context.Context) error {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	out, err := d.client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &d.table})
	if err != nil {
		return d.error("describe", err)
	}
	keys := out.Table.KeySchema
	if len(keys) != 1 || aws.ToString(keys[0].AttributeName) != idAttribute {
		return &LocationError{
			Location: "table " + d.table,
			Detail: fmt.Sprintf("its primary key is not %q alone, so it is not a checkpoint "+
				"table; use a separate table for the checkpoint "+
				"(rotator checkpoint create-table)", idAttribute),
		}
	}
	return nil
}

// TableInput returns the definition of a checkpoint table: a partition key of type
// string, on-demand billing, and no TTL, because TTL would delete records.
func (d *DynamoDB) TableInput() *dynamodb.CreateTableInput {
	return &dynamodb.CreateTableInput{
		TableName:   &d.table,
		BillingMode: types.BillingModePayPerRequest,
		KeySchema: []types.KeySchemaElement{{
			AttributeName: aws.String(idAttribute),
			KeyType:       types.KeyTypeHash,
		}},
		AttributeDefinitions: []types.AttributeDefinition{{
			AttributeName: aws.String(idAttribute),
			AttributeType: types.ScalarAttributeTypeS,
		}},
	}
}

// CreateTable creates the table and waits until it is active.
func (d *DynamoDB) CreateTable(ctx context.Context) error {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	if _, err := d.client.CreateTable(ctx, d.TableInput()); err != nil {
		return fmt.Errorf("create table %s: %w", d.table, err)
	}
	waiter := dynamodb.NewTableExistsWaiter(d.client, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay = 500 * time.Millisecond
	})
	describe := &dynamodb.DescribeTableInput{TableName: &d.table}
	if err := waiter.Wait(ctx, describe, d.limit()); err != nil {
		return fmt.Errorf("wait for table %s: %w", d.table, err)
	}
	return nil
}

// Fetch implements Store.
func (d *DynamoDB) Fetch(ctx context.Context, id string) (Entry, error) {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	out, err := d.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      &d.table,
		ConsistentRead: aws.Bool(true),
		Key: map[string]types.AttributeValue{
			idAttribute: &types.AttributeValueMemberS{Value: id},
		},
	})
	if err != nil {
		return Entry{}, d.error("read "+id+" from", err)
	}
	if out.Item == nil {
		return Entry{}, ErrNotFound
	}
	return entryOf(id, out.Item)
}

// noVersion is the Entry.version of an item without a version. No write stores it.
const noVersion = "none"

// entryOf returns the record in an item.
func entryOf(id string, item map[string]types.AttributeValue) (Entry, error) {
	e := Entry{ID: id, version: noVersion}
	version, ok := item[versionAttribute].(*types.AttributeValueMemberS)
	if ok && version.Value != "" {
		e.version = version.Value
	}
	data, whole := item[dataAttribute].(*types.AttributeValueMemberB)
	if text, other := item[dataAttribute].(*types.AttributeValueMemberS); other {
		e.Data = []byte(text.Value[:min(len(text.Value), MaxRecord)])
	}
	if whole {
		e.Data = data.Value
	}
	if !whole || e.version == noVersion {
		return e, &CorruptError{ID: id, Detail: "its version or its data is missing"}
	}
	return e, nil
}

// Create implements Store.
func (d *DynamoDB) Create(ctx context.Context, id string, data []byte) (Entry, error) {
	return d.put(ctx, id, "", data)
}

// Replace implements Store.
func (d *DynamoDB) Replace(ctx context.Context, e Entry, data []byte) (Entry, error) {
	return d.put(ctx, e.ID, e.version, data)
}

// put writes a record under the condition that its version is still old; "" means
// that the record must not exist. If the condition failed or there was no response,
// an earlier attempt of the same request may have been applied. put therefore reads
// the record and looks for the version of this write.
func (d *DynamoDB) put(ctx context.Context, id, old string, data []byte) (Entry, error) {
	if err := checkSize(id, data); err != nil {
		return Entry{}, err
	}
	version := rand.Text()
	in := &dynamodb.PutItemInput{
		TableName: &d.table,
		Item: map[string]types.AttributeValue{
			idAttribute:      &types.AttributeValueMemberS{Value: id},
			versionAttribute: &types.AttributeValueMemberS{Value: version},
			dataAttribute:    &types.AttributeValueMemberB{Value: data},
		},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	setCondition(in, old)
	bounded, cancel := d.bound(ctx)
	defer cancel()
	_, err := d.client.PutItem(bounded, in)
	if err == nil {
		return Entry{ID: id, Data: data, version: version}, nil
	}
	var refused *types.ConditionalCheckFailedException
	now, reading := d.found(ctx, id, err)
	switch {
	case reading == nil && now.version == version:
		return now, nil
	case errors.As(err, &refused) && undecided(reading):
		return Entry{}, fmt.Errorf("it is unknown whether %s was written: %w", id, reading)
	case errors.As(err, &refused) && reading == nil:
		return Entry{}, &conflictError{now}
	case errors.As(err, &refused):
		return Entry{}, ErrConflict
	}
	return Entry{}, d.error("write "+id+" to", err)
}

// found returns the record after a write that failed. If the condition failed, the response
// contains the record (ReturnValuesOnConditionCheckFailure), unless the server does not know
// this parameter.
func (d *DynamoDB) found(ctx context.Context, id string, failed error) (Entry, error) {
	var refused *types.ConditionalCheckFailedException
	if errors.As(failed, &refused) && len(refused.Item) > 0 {
		return entryOf(id, refused.Item)
	}
	return d.Fetch(ctx, id)
}

// setCondition adds the condition that the version is still old.
func setCondition(in *dynamodb.PutItemInput, old string) {
	text := func(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
	switch old {
	case "":
		in.ConditionExpression = aws.String("attribute_not_exists(#id)")
		in.ExpressionAttributeNames = map[string]string{"#id": idAttribute}
	case noVersion:
		in.ConditionExpression = aws.String("attribute_exists(#id) AND (attribute_not_exists(#v) " +
			"OR NOT attribute_type(#v, :s) OR #v = :empty)")
		in.ExpressionAttributeNames = map[string]string{"#id": idAttribute, "#v": versionAttribute}
		in.ExpressionAttributeValues = map[string]types.AttributeValue{
			":s":     text("S"),
			":empty": text(""),
		}
	default:
		in.ConditionExpression = aws.String("#v = :old")
		in.ExpressionAttributeNames = map[string]string{"#v": versionAttribute}
		in.ExpressionAttributeValues = map[string]types.AttributeValue{":old": text(old)}
	}
}

func (d *DynamoDB) error(operation string, err error) error {
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		return &LocationError{
			Location: "table " + d.table,
			Detail: "there is no such table in this account and Region; correct the name, " +
				"or create it with rotator checkpoint create-table",
		}
	}
	return &ServiceError{
		Operation: fmt.Sprintf("%s the checkpoint table %s", operation, d.table),
		Err:       err,
	}
}
