package dynamoscan

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"rotator/internal/scan"
)

// fromSDK converts a value of the SDK.
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

// toSDK converts a value to the type of the SDK.
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
