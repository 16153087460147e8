package fakedynamodb_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"pgregory.net/rapid"

	"rotator/internal/fakeaws/awsspec"
	"rotator/internal/fakeaws/fakedynamodb"
	"rotator/internal/fakeaws/fault"
)

func start(t testing.TB) (*fakedynamodb.Service, *fault.Injector, aws.Config) {
	t.Helper()
	service := fakedynamodb.New(fakedynamodb.Config{Region: "us-west-2", Account: "111122223333"})
	faults := fault.New(1)
	server := httptest.NewServer(faults.Handler(service))
	t.Cleanup(server.Close)
	return service, faults, aws.Config{Region: "us-west-2", BaseEndpoint: aws.String(server.URL),
		Credentials: credentials.NewStaticCredentialsProvider("AKIAALICE", "secret", ""),
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} }}
}

func TestConformance(t *testing.T) {
	_, _, cfg := start(t)
	awsspec.DynamoDB(t, cfg)
}

func newTable(t testing.TB, client *dynamodb.Client) *string {
	t.Helper()
	name := aws.String("table")
	_, err := client.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName:   name,
		BillingMode: types.BillingModePayPerRequest,
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String("pk"), KeyType: types.KeyTypeHash},
		},
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String("pk"), AttributeType: types.ScalarAttributeTypeS},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func put(ctx context.Context, client *dynamodb.Client, table *string, pk, v string) error {
	_, err := client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: table,
		Item: map[string]types.AttributeValue{
			"pk": &types.AttributeValueMemberS{Value: pk},
			"v":  &types.AttributeValueMemberS{Value: v},
		},
	})
	return err
}

// TestFaults: each fault is applied or not, as its kind says.
func TestFaults(t *testing.T) {
	service, faults, cfg := start(t)
	client := dynamodb.NewFromConfig(cfg)
	table := newTable(t, client)
	for _, test := range []struct {
		fault   fault.Fault
		code    string // "" if the connection breaks
		applied bool
	}{
		{
			fault.Fault{Kind: fault.Throttle, Times: 1},
			"ProvisionedThroughputExceededException",
			false,
		},
		{fault.Fault{Kind: fault.InternalError, Times: 1}, "InternalServerError", false},
		{fault.Fault{Kind: fault.Reset, Times: 1}, "", false},
		{fault.Fault{Kind: fault.LostResponse, Times: 1}, "", true},
		{fault.Fault{Kind: fault.LostResponse, Times: 1, Delay: time.Millisecond}, "", true},
	} {
		faults.Set("dynamodb:PutItem", test.fault)
		id := fmt.Sprintf("%+v", test.fault)
		err := put(t.Context(), client, table, id, "1")
		var api smithy.APIError
		if errors.As(err, &api) != (test.code != "") ||
			api != nil && api.ErrorCode() != test.code || err == nil {
			t.Errorf("%s: %v, want %q", id, err, test.code)
		}
		if applied := len(service.Items("table")) > 0; applied != test.applied {
			t.Errorf("%s: applied %v, want %v", id, applied, test.applied)
		}
		if err := put(t.Context(), client, table, id, "2"); err != nil {
			t.Errorf("%s after the fault: %v", id, err)
		}
		if _, err := client.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{
			TableName: table,
			Key: map[string]types.AttributeValue{
				"pk": &types.AttributeValueMemberS{Value: id},
			},
		}); err != nil {
			t.Fatal(err)
		}
	}
	if n := faults.Counts()["dynamodb:PutItem"]; n != 10 {
		t.Errorf("%d requests counted, want 10", n)
	}
}

// TestHookIsAConcurrentWriter: the changes made by Before are visible to the request.
func TestHookIsAConcurrentWriter(t *testing.T) {
	_, faults, cfg := start(t)
	client := dynamodb.NewFromConfig(cfg)
	table := newTable(t, client)
	if err := put(t.Context(), client, table, "a", "1"); err != nil {
		t.Fatal(err)
	}
	faults.Set("dynamodb:UpdateItem", fault.Fault{
		Times: 1,
		Before: func(_ *http.Request, _ []byte) {
			if err := put(t.Context(), client, table, "a", "theirs"); err != nil {
				t.Error(err)
			}
		},
	})
	_, err := client.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName: table,
		Key: map[string]types.AttributeValue{
			"pk": &types.AttributeValueMemberS{Value: "a"},
		},
		UpdateExpression:    aws.String("SET v = :n"),
		ConditionExpression: aws.String("v = :o"),
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":n": &types.AttributeValueMemberS{Value: "ours"},
			":o": &types.AttributeValueMemberS{Value: "1"},
		},
	})
	var failed *types.ConditionalCheckFailedException
	if !errors.As(err, &failed) {
		t.Errorf("update after a concurrent write: %v", err)
	}
}

func TestPolicyDeniesABatch(t *testing.T) {
	service, _, cfg := start(t)
	client := dynamodb.NewFromConfig(cfg)
	table := newTable(t, client)
	service.SetPolicy(func(c fakedynamodb.Call) bool {
		return c.Action != "dynamodb:PartiQLUpdate" || c.AccessKey != "AKIAALICE"
	})
	out, err := client.BatchExecuteStatement(t.Context(), &dynamodb.BatchExecuteStatementInput{
		Statements: []types.BatchStatementRequest{{
			Statement: aws.String(`UPDATE "table" SET v = ? WHERE pk = ?`),
			Parameters: []types.AttributeValue{
				&types.AttributeValueMemberS{Value: "1"}, &types.AttributeValueMemberS{Value: "a"}},
		}},
	})
	if err != nil || out.Responses[0].Error == nil ||
		out.Responses[0].Error.Code != types.BatchStatementErrorCodeEnumAccessDenied {
		t.Errorf("%+v, %v, want AccessDeniedException", out, err)
	}
	if err := put(t.Context(), client, table, "a", "1"); err != nil {
		t.Error(err)
	}
}

// TestScanSeesEveryItemOnce checks this for any number of segments and any limit.
func TestScanSeesEveryItemOnce(t *testing.T) {
	_, _, cfg := start(t)
	client := dynamodb.NewFromConfig(cfg)
	table := newTable(t, client)
	const items = 60
	for i := range items {
		if err := put(t.Context(), client, table, fmt.Sprint(i), "1"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		total := rapid.Int32Range(1, 9).Draw(r, "total")
		limit := rapid.Int32Range(1, 40).Draw(r, "limit")
		seen := map[string]int{}
		for segment := range total {
			var from map[string]types.AttributeValue
			for range 200 {
				out, err := client.Scan(t.Context(), &dynamodb.ScanInput{
					TableName:         table,
					Segment:           &segment,
					TotalSegments:     &total,
					Limit:             &limit,
					ExclusiveStartKey: from,
				})
				if err != nil {
					r.Fatal(err)
				}
				for _, item := range out.Items {
					seen[item["pk"].(*types.AttributeValueMemberS).Value]++
				}
				if from = out.LastEvaluatedKey; from == nil {
					break
				}
			}
		}
		for id, n := range seen {
			if n != 1 {
				r.Fatalf("%s returned %d times", id, n)
			}
		}
		if len(seen) != items {
			r.Fatalf("%d items returned, want %d", len(seen), items)
		}
	})
}
