package reencrypt

import (
	"reflect"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// TestMembersOfReEncrypt: a request of a job with every possible setting sets every member of
// ReEncrypt, except those of dry runs. The test fails if a new version of the SDK has other
// members.
func TestMembersOfReEncrypt(t *testing.T) {
	client := NewKMS(nil, Key{ARN: "new", Algorithm: Symmetric}, []string{"token"})
	context := map[string]string{"tenant": "a"}
	in := client.input(Request{Blob: []byte{1}, Source: Key{ARN: "old", Algorithm: Symmetric},
		Context: context, DestinationContext: context})
	dry := []string{"DryRun", "DryRunModifiers"}
	filled := 0
	for field, value := range reflect.ValueOf(in).Elem().Fields() {
		switch {
		case !field.IsExported():
		case slices.Contains(dry, field.Name) != value.IsZero():
			t.Errorf("%s is %v", field.Name, value)
		case !value.IsZero():
			filled++
		}
	}
	if want := reflect.TypeFor[kms.ReEncryptInput](); filled < 8 {
		t.Errorf("%s has %d members that are filled", want, filled)
	}
}
