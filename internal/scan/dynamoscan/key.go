package dynamoscan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// keyValue is a key attribute in the JSON of the DynamoDB API.
type keyValue struct {
	S *string `json:"S,omitempty"`
	N *string `json:"N,omitempty"`
	B []byte  `json:"B,omitempty"`
}

// printKey writes a primary key as JSON: names in order, values as in the
// DynamoDB API, {"id":{"S":"a"}}. One key has one text.
func printKey(key map[string]types.AttributeValue) (string, error) {
	printed := map[string]keyValue{}
	for name, value := range key {
		switch v := value.(type) {
		case *types.AttributeValueMemberS:
			printed[name] = keyValue{S: &v.Value}
		case *types.AttributeValueMemberN:
			printed[name] = keyValue{N: &v.Value}
		case *types.AttributeValueMemberB:
			printed[name] = keyValue{B: v.Value}
		default:
			return "", fmt.Errorf("key attribute %s is a %T, and keys are S, N or B", name, value)
		}
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text) // sorts the names
	encoder.SetEscapeHTML(false)      // people read it
	err := encoder.Encode(printed)
	return strings.TrimSuffix(text.String(), "\n"), err
}

// parseKey reads what printKey wrote.
func parseKey(text string) (map[string]types.AttributeValue, error) {
	var printed map[string]keyValue
	if err := json.Unmarshal([]byte(text), &printed); err != nil {
		return nil, fmt.Errorf("%q is not a primary key: %w", text, err)
	}
	key := map[string]types.AttributeValue{}
	for name, v := range printed {
		switch {
		case v.S != nil:
			key[name] = &types.AttributeValueMemberS{Value: *v.S}
		case v.N != nil:
			key[name] = &types.AttributeValueMemberN{Value: *v.N}
		case len(v.B) > 0: // DynamoDB has no empty keys, nor does printKey print them
			key[name] = &types.AttributeValueMemberB{Value: v.B}
		default:
			return nil, fmt.Errorf("%q is not a primary key: %s has no value", text, name)
		}
	}
	if len(key) == 0 {
		return nil, fmt.Errorf("%q is not a primary key: it names no attribute", text)
	}
	return key, nil
}
