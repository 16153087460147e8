package awsspec

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
)

// dynamodbCase is one behaviour of DynamoDB.
type dynamodbCase struct {
	name string
	run  func(*dynamodbProbe)
}

// DynamoDB runs the cases of DynamoDB against the endpoint of cfg, as subtests.
func DynamoDB(t *testing.T, cfg aws.Config) { runAll(t, DynamoDBCases(cfg)) }

// DynamoDBCases returns the cases of DynamoDB for the endpoint of cfg. Retries are off.
func DynamoDBCases(cfg aws.Config) (list []Case) {
	client := dynamodb.NewFromConfig(cfg, func(o *dynamodb.Options) {
		o.Retryer = aws.NopRetryer{}
	})
	for _, cases := range [][]dynamodbCase{dynamodbItemCases(), dynamodbExpressionCases(),
		dynamodbScanCases(), dynamodbQueryCases(), dynamodbBatchCases(), dynamodbCopyCases()} {
		for _, c := range cases {
			list = append(list, Case{Name: c.name, run: func(ctx context.Context, t T) {
				c.run(&dynamodbProbe{T: t, Client: client, ctx: ctx})
			}})
		}
	}
	return list
}

// dynamodbProbe is a client that fails the test instead of returning errors.
type dynamodbProbe struct {
	T
	*dynamodb.Client
	ctx context.Context
}

type dynamodbItem = map[string]types.AttributeValue

func (p *dynamodbProbe) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// want fails the test unless the error has the code.
func (p *dynamodbProbe) want(code string, err error) {
	p.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		p.Errorf("error is %v, want %s", err, code)
	}
}

// same fails the test unless the values are equal.
func (p *dynamodbProbe) same(what string, got, want any) {
	p.Helper()
	if !reflect.DeepEqual(got, want) {
		p.Errorf("%s is %v, want %v", what, got, want)
	}
}

// table creates a table with the partition key "pk" and, if sorted is true, the sort key
// "sk". Both are strings.
func (p *dynamodbProbe) table(sorted bool) *string {
	p.Helper()
	name := "rotator-" + rand.Text()
	in := &dynamodb.CreateTableInput{TableName: &name, BillingMode: types.BillingModePayPerRequest}
	for i, key := range []struct {
		name string
		kind types.KeyType
	}{{"pk", types.KeyTypeHash}, {"sk", types.KeyTypeRange}} {
		if i == 0 || sorted {
			in.KeySchema = append(in.KeySchema, types.KeySchemaElement{
				AttributeName: aws.String(key.name),
				KeyType:       key.kind,
			})
			in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{
				AttributeName: aws.String(key.name),
				AttributeType: types.ScalarAttributeTypeS,
			})
		}
	}
	_, err := p.CreateTable(p.ctx, in)
	p.must(err)
	p.must(dynamodb.NewTableExistsWaiter(p.Client, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, time.Second
	}).Wait(p.ctx, &dynamodb.DescribeTableInput{TableName: &name}, 30*time.Second))
	return &name
}

// put stores an item.
func (p *dynamodbProbe) put(table *string, item map[string]any) {
	p.Helper()
	_, err := p.PutItem(p.ctx, &dynamodb.PutItemInput{TableName: table, Item: dynamodbOf(item)})
	p.must(err)
}

// get returns an item as plain values, nil if there is none.
func (p *dynamodbProbe) get(table *string, key map[string]any) map[string]any {
	p.Helper()
	out, err := p.GetItem(p.ctx, &dynamodb.GetItemInput{
		TableName:      table,
		Key:            dynamodbOf(key),
		ConsistentRead: aws.Bool(true),
	})
	p.must(err)
	if out.Item == nil {
		return nil
	}
	return dynamodbPlain(out.Item)
}

// update calls UpdateItem for the item "a".
func (p *dynamodbProbe) update(
	table *string, update, condition string, names map[string]string, values map[string]any,
) (*dynamodb.UpdateItemOutput, error) {
	in := &dynamodb.UpdateItemInput{
		TableName:                           table,
		Key:                                 dynamodbOf(map[string]any{"pk": "a"}),
		UpdateExpression:                    &update,
		ExpressionAttributeNames:            names,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	if condition != "" {
		in.ConditionExpression = &condition
	}
	if values != nil {
		in.ExpressionAttributeValues = dynamodbOf(values)
	}
	return p.UpdateItem(p.ctx, in)
}

// dynamodbNumber is the text of a number.
type dynamodbNumber string

// dynamodbOf converts plain values to attribute values: string, dynamodbNumber, []byte, bool,
// nil, map, []any, and the sets []string and [][]byte.
func dynamodbOf(m map[string]any) dynamodbItem {
	item := dynamodbItem{}
	for name, v := range m {
		item[name] = dynamodbValue(v)
	}
	return item
}

func dynamodbValue(v any) types.AttributeValue {
	switch v := v.(type) {
	case string:
		return &types.AttributeValueMemberS{Value: v}
	case dynamodbNumber:
		return &types.AttributeValueMemberN{Value: string(v)}
	case []byte:
		return &types.AttributeValueMemberB{Value: v}
	case bool:
		return &types.AttributeValueMemberBOOL{Value: v}
	case []string:
		return &types.AttributeValueMemberSS{Value: v}
	case [][]byte:
		return &types.AttributeValueMemberBS{Value: v}
	case []dynamodbNumber:
		set := &types.AttributeValueMemberNS{}
		for _, n := range v {
			set.Value = append(set.Value, string(n))
		}
		return set
	case map[string]any:
		return &types.AttributeValueMemberM{Value: dynamodbOf(v)}
	case []any:
		list := &types.AttributeValueMemberL{}
		for _, e := range v {
			list.Value = append(list.Value, dynamodbValue(e))
		}
		return list
	}
	return &types.AttributeValueMemberNULL{Value: true}
}

// dynamodbPlain is the inverse of dynamodbOf. It sorts sets.
func dynamodbPlain(item dynamodbItem) map[string]any {
	m := map[string]any{}
	for name, v := range item {
		m[name] = dynamodbGo(v)
	}
	return m
}

func dynamodbGo(v types.AttributeValue) any {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return v.Value
	case *types.AttributeValueMemberN:
		return dynamodbNumber(v.Value)
	case *types.AttributeValueMemberB:
		return v.Value
	case *types.AttributeValueMemberBOOL:
		return v.Value
	case *types.AttributeValueMemberSS:
		return slices.Sorted(slices.Values(v.Value))
	case *types.AttributeValueMemberBS:
		return slices.SortedFunc(slices.Values(v.Value), func(a, b []byte) int {
			return slices.Compare(a, b)
		})
	case *types.AttributeValueMemberNS:
		var set []dynamodbNumber
		for _, n := range slices.Sorted(slices.Values(v.Value)) {
			set = append(set, dynamodbNumber(n))
		}
		return set
	case *types.AttributeValueMemberM:
		return dynamodbPlain(v.Value)
	case *types.AttributeValueMemberL:
		list := []any{}
		for _, e := range v.Value {
			list = append(list, dynamodbGo(e))
		}
		return list
	}
	return nil
}

func dynamodbID(n int) string { return fmt.Sprintf("item-%04d", n) }
