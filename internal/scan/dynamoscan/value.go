package dynamoscan

import (
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"rotator/internal/scan"
)

// fromSDK converts a value as the SDK returns it.
func fromSDK(v types.AttributeValue) (scan.Value, error) {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return scan.Value{Kind: scan.KindS, Text: v.Value}, nil
	case *types.AttributeValueMemberN:
		return scan.Value{Kind: scan.KindN, Text: v.Value}, nil
	case *types.AttributeValueMemberB:
		return scan.Value{Kind: scan.KindB, Bytes: v.Value}, nil
	case *types.AttributeValueMemberBOOL:
		return scan.Value{Kind: scan.KindBool, Bool: v.Value}, nil
	case *types.AttributeValueMemberNULL:
		return scan.Value{Kind: scan.KindNull}, nil
	case *types.AttributeValueMemberSS:
		return scan.Value{Kind: scan.KindSS, Texts: v.Value}, nil
	case *types.AttributeValueMemberNS:
		return scan.Value{Kind: scan.KindNS, Texts: v.Value}, nil
	case *types.AttributeValueMemberBS:
		return scan.Value{Kind: scan.KindBS, ByteSet: v.Value}, nil
	case *types.AttributeValueMemberM:
		members := make(map[string]scan.Value, len(v.Value))
		for name, member := range v.Value {
			converted, err := fromSDK(member)
			if err != nil {
				return scan.Value{}, err
			}
			members[name] = converted
		}
		return scan.Value{Kind: scan.KindM, Map: members}, nil
	case *types.AttributeValueMemberL:
		elements := make([]scan.Value, len(v.Value))
		for i, element := range v.Value {
			converted, err := fromSDK(element)
			if err != nil {
				return scan.Value{}, err
			}
			elements[i] = converted
		}
		return scan.Value{Kind: scan.KindL, List: elements}, nil
	}
	return scan.Value{}, fmt.Errorf("value of unknown type %T", v)
}

// toSDK converts a value for a request.
func toSDK(v scan.Value) types.AttributeValue {
	switch v.Kind {
	case scan.KindS:
		return &types.AttributeValueMemberS{Value: v.Text}
	case scan.KindN:
		return &types.AttributeValueMemberN{Value: v.Text}
	case scan.KindB:
		return &types.AttributeValueMemberB{Value: v.Bytes}
	case scan.KindBool:
		return &types.AttributeValueMemberBOOL{Value: v.Bool}
	case scan.KindSS:
		return &types.AttributeValueMemberSS{Value: v.Texts}
	case scan.KindNS:
		return &types.AttributeValueMemberNS{Value: v.Texts}
	case scan.KindBS:
		return &types.AttributeValueMemberBS{Value: v.ByteSet}
	case scan.KindM:
		members := make(map[string]types.AttributeValue, len(v.Map))
		for name, member := range v.Map {
			members[name] = toSDK(member)
		}
		return &types.AttributeValueMemberM{Value: members}
	case scan.KindL:
		elements := make([]types.AttributeValue, len(v.List))
		for i, element := range v.List {
			elements[i] = toSDK(element)
		}
		return &types.AttributeValueMemberL{Value: elements}
	}
	return &types.AttributeValueMemberNULL{Value: true}
}

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
	text, err := json.Marshal(printed) // sorts the names
	return string(text), err
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
		default:
			key[name] = &types.AttributeValueMemberB{Value: v.B}
		}
	}
	return key, nil
}
