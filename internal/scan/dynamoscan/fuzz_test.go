package dynamoscan

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// sameKey compares keys and ignores the internal field of the types of the SDK.
func sameKey(a, b map[string]types.AttributeValue) string {
	return cmp.Diff(a, b,
		cmpopts.IgnoreUnexported(types.AttributeValueMemberS{}, types.AttributeValueMemberN{},
			types.AttributeValueMemberB{}))
}

// FuzzKey: every primary key is printed as text that JSON preserves. The text is parsed as
// the same key, and no other key has the same text.
func FuzzKey(f *testing.F) {
	if text, err := printKey(map[string]types.AttributeValue{
		"id": &types.AttributeValueMemberB{},
	}); err == nil {
		f.Errorf("a key without a value prints as %q", text)
	}
	f.Fuzz(func(t *testing.T, hashName, hash, rangeName string, binary []byte, number string) {
		// the SDK returns valid UTF-8
		hash, number = strings.ToValidUTF8(hash, "?"), strings.ToValidUTF8(number, "?")
		hashName, rangeName = strings.ToValidUTF8(hashName, "?"), strings.ToValidUTF8(rangeName,
			"?")
		if hash == "" || number == "" || len(binary) == 0 || hashName == rangeName {
			return // DynamoDB has no empty key values
		}
		texts := map[string]bool{}
		simple := map[string]types.AttributeValue{
			hashName: &types.AttributeValueMemberS{Value: hash},
		}
		for _, second := range []types.AttributeValue{nil, &types.AttributeValueMemberB{
			Value: binary,
		}, &types.AttributeValueMemberN{Value: number},
			&types.AttributeValueMemberS{Value: number}} {
			key := maps.Clone(simple)
			if second != nil {
				key[rangeName] = second
			}
			text, err := printKey(key)
			if err != nil || strings.ContainsAny(text, "\r\n") || !json.Valid([]byte(text)) {
				t.Fatalf("%v prints as %q, %v", key, text, err)
			}
			if want := referenceKey(t, key); text != want {
				t.Fatalf("%v prints as %q, want %q", key, text, want)
			}
			texts[text] = true
			again, err := parseKey(text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := sameKey(key, again); diff != "" {
				t.Fatalf("%q is parsed as another key:\n%s", text, diff)
			}
		}
		if len(texts) != 4 {
			t.Fatalf("different keys have the same text: %v", texts)
		}
	})
}

// FuzzParseKey: a text that is parsed as a key prints as a text of the same key.
func FuzzParseKey(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		key, err := parseKey(text)
		if err != nil {
			return
		}
		printed, err := printKey(key)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseKey(printed)
		if err != nil {
			t.Fatalf("%q is parsed, but its printed form %q is not: %v", text, printed, err)
		}
		if diff := sameKey(key, again); diff != "" {
			t.Fatalf("%q prints as %q, which is another key:\n%s", text, printed, diff)
		}
	})
}
