package dynamoscan

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"pgregory.net/rapid"
)

// capture is an HTTP client that keeps what it is asked to send, and sends nothing.
type capture struct {
	header http.Header
	body   []byte
	length int64
}

func (c *capture) Do(r *http.Request) (*http.Response, error) {
	c.header, c.length = r.Header.Clone(), r.ContentLength
	c.body, _ = io.ReadAll(r.Body)
	return nil, errors.New("nothing is sent")
}

// TestBatchesAsTheSDK: a batch that we write ourselves is the SDK's, byte for byte, with
// its headers.
func TestBatchesAsTheSDK(t *testing.T) {
	var ours, left int
	text := rapid.OneOf(rapid.StringMatching(`[ -~]{0,40}`), rapid.SampledFrom([]string{`"a"."b" = ?`, `\`, "", "<&>'", "\x7f", "\n", "é", "\xff", "\u2028"}))
	value := rapid.Custom(func(t *rapid.T) types.AttributeValue {
		switch rapid.IntRange(0, 12).Draw(t, "kind") {
		case 0:
			return &types.AttributeValueMemberBOOL{Value: true}
		case 1:
			return &types.AttributeValueMemberM{Value: map[string]types.AttributeValue{"a": &types.AttributeValueMemberN{Value: "1"}}}
		case 2, 3, 4:
			return &types.AttributeValueMemberS{Value: text.Draw(t, "text")}
		case 5, 6:
			return &types.AttributeValueMemberN{Value: "-1.5E+3"}
		}
		return &types.AttributeValueMemberB{Value: rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "bytes")}
	})
	statement := rapid.Custom(func(t *rapid.T) types.BatchStatementRequest {
		s := types.BatchStatementRequest{Statement: aws.String(text.Draw(t, "statement")), Parameters: rapid.SliceOfN(value, 0, 4).Draw(t, "parameters"),
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld}
		if rapid.IntRange(0, 20).Draw(t, "consistent") == 0 {
			s.ConsistentRead = aws.Bool(true)
		}
		return s
	})
	rapid.Check(t, func(t *rapid.T) {
		in := &dynamodb.BatchExecuteStatementInput{ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
			Statements: rapid.SliceOfN(statement, 1, 3).Draw(t, "statements")}
		body, ok := appendBatch(nil, in)
		if !ok {
			left++
			return
		}
		ours++
		want, got := send(in), send(in, (&written{body: body}).install)
		for _, h := range []http.Header{want.header, got.header} {
			for _, name := range []string{"Authorization", "X-Amz-Date", "Amz-Sdk-Invocation-Id"} { // of each request
				if h.Get(name) == "" {
					t.Errorf("no header %s", name)
				}
				h.Del(name)
			}
		}
		if !bytes.Equal(got.body, want.body) || got.length != want.length || len(got.header) != len(want.header) {
			t.Fatalf("%d bytes %q\nwant %d bytes %q\nheaders %v\nwant %v", got.length, got.body, want.length, want.body, got.header, want.header)
		}
		for name := range want.header {
			if got.header.Get(name) != want.header.Get(name) {
				t.Errorf("%s: %q, want %q", name, got.header.Get(name), want.header.Get(name))
			}
		}
	})
	if ours == 0 || left == 0 {
		t.Errorf("%d batches were ours, and %d left to the SDK", ours, left)
	}
}

func send(in *dynamodb.BatchExecuteStatementInput, options ...func(*dynamodb.Options)) *capture {
	c := &capture{}
	client := dynamodb.New(dynamodb.Options{Region: "eu-west-1", HTTPClient: c, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "")})
	_, _ = client.BatchExecuteStatement(context.Background(), in, options...) // nothing is sent
	return c
}
