package dynamoscan

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// written is the protocol of the SDK for one request whose body is there already; method
// and headers are the SDK's.
type written struct {
	smithyhttp.ClientProtocol
	body []byte
}

func (w *written) install(o *dynamodb.Options) { w.ClientProtocol, o.Protocol = o.Protocol, w }

// SerializeRequest implements smithyhttp.ClientProtocol.
func (w *written) SerializeRequest(ctx context.Context, schema *smithy.OperationSchema, _ smithy.Serializable, request *smithyhttp.Request) error {
	if err := w.ClientProtocol.SerializeRequest(ctx, schema, nothing{}, request); err != nil {
		return err
	}
	whole, err := request.SetStream(bytes.NewReader(w.body))
	if err != nil {
		return &smithy.SerializationError{Err: fmt.Errorf("set the body: %w", err)}
	}
	*request = *whole
	return nil
}

// nothing is an input without members.
type nothing struct{}

// Serialize implements smithy.Serializable.
func (nothing) Serialize(smithy.ShapeSerializer) {}

// appendBatch appends a batch as the SDK writes it (AWS JSON 1.0; the members in the order
// of BatchExecuteStatementInput.SerializeMembers): the SDK writes each value into a buffer
// of its own that grows. It is false for what is rare, and left to the SDK.
func appendBatch(body []byte, in *dynamodb.BatchExecuteStatementInput) (_ []byte, ok bool) {
	if in.ReturnConsumedCapacity == "" || len(in.Statements) == 0 {
		return body, false
	}
	body, ok = appendASCII(append(body, `{"ReturnConsumedCapacity":`...), string(in.ReturnConsumedCapacity))
	body = append(body, `,"Statements":`...)
	for i := range in.Statements {
		if body, ok = appendStatement(append(body, "[,"[min(i, 1)]), &in.Statements[i]); !ok {
			return body, false
		}
	}
	return append(body, "]}"...), ok
}

func appendStatement(body []byte, s *types.BatchStatementRequest) (_ []byte, ok bool) {
	if s.ConsistentRead != nil || len(s.Parameters) == 0 || s.ReturnValuesOnConditionCheckFailure == "" || s.Statement == nil {
		return body, false
	}
	body = append(body, `{"Parameters":`...)
	for i, value := range s.Parameters {
		if body, ok = appendParameter(append(body, "[,"[min(i, 1)]), value); !ok {
			return body, false
		}
	}
	if body, ok = appendASCII(append(body, `],"ReturnValuesOnConditionCheckFailure":`...), string(s.ReturnValuesOnConditionCheckFailure)); !ok {
		return body, false
	}
	body, ok = appendASCII(append(body, `,"Statement":`...), *s.Statement)
	return append(body, '}'), ok
}

func appendParameter(body []byte, value types.AttributeValue) (_ []byte, ok bool) {
	switch value := value.(type) {
	case *types.AttributeValueMemberB:
		return append(base64.StdEncoding.AppendEncode(append(body, `{"B":"`...), value.Value), `"}`...), true
	case *types.AttributeValueMemberS:
		body, ok = appendASCII(append(body, `{"S":`...), value.Value)
	case *types.AttributeValueMemberN:
		body, ok = appendASCII(append(body, `{"N":`...), value.Value)
	}
	return append(body, '}'), ok
}

// appendASCII appends a string in JSON. It is false for other than printable ASCII.
func appendASCII(body []byte, s string) ([]byte, bool) {
	body = append(body, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c > '~':
			return body, false
		case c == '"' || c == '\\':
			body = append(body, '\\', c)
		default:
			body = append(body, c)
		}
	}
	return append(body, '"'), true
}

// sizeOf is about the length of the body of a batch, in bytes.
func sizeOf(in *dynamodb.BatchExecuteStatementInput) int {
	size := 64
	for _, s := range in.Statements {
		size += 96 + len(*s.Statement)*9/8
		for _, value := range s.Parameters {
			switch value := value.(type) {
			case *types.AttributeValueMemberB:
				size += 9 + base64.StdEncoding.EncodedLen(len(value.Value))
			case *types.AttributeValueMemberS:
				size += 9 + len(value.Value)
			case *types.AttributeValueMemberN:
				size += 9 + len(value.Value)
			}
		}
	}
	return size
}
