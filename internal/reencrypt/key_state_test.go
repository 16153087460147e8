package reencrypt

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// TestKeyRemedies: commands for keys with imported material and keys in key stores are
// complete, and name the Region of the key.
func TestKeyRemedies(t *testing.T) {
	const arn = "arn:aws:kms:eu-west-1:111122223333:key/k"
	for _, c := range []struct {
		meta types.KeyMetadata
		want string
	}{
		{types.KeyMetadata{KeyState: types.KeyStatePendingDeletion,
			Origin: types.OriginTypeExternal},
			"enable it (aws kms enable-key --region eu-west-1 --key-id " + arn + "); if its " +
				"imported key material was deleted or has expired, import the same key material " +
				"again (aws kms get-parameters-for-import --region eu-west-1 --key-id " + arn},
		{types.KeyMetadata{KeyState: types.KeyStatePendingImport},
			"import the same key material again (aws kms get-parameters-for-import --region " +
				"eu-west-1 --key-id " + arn + ", then aws kms import-key-material)"},
		{
			types.KeyMetadata{
				KeyState:         types.KeyStateUnavailable,
				CustomKeyStoreId: aws.String("cks-1"),
			},
			"connect the key store (aws kms connect-custom-key-store --region eu-west-1 " +
				"--custom-key-store-id cks-1)",
		},
	} {
		c.meta.Arn = aws.String(arn)
		if got := stateOf(&c.meta).Remedy; !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.meta.KeyState, got, c.want)
		}
	}
}
