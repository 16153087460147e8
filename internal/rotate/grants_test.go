package rotate_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/smithy-go"

	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/flowcontrol"
	"rotator/internal/rotate"
)

// TestGrantTokenRefused: if KMS refuses a grant token, the error of every kind of request names
// the token as the cause, whether or not DescribeKey checks it. The error does not mean that
// the key is unknown.
func TestGrantTokenRefused(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	keys := cloud.resolve(t, rotate.KeyRequest{Destination: new, Sources: []string{old}})
	tokens := []string{"forged"}
	_, resolved := rotate.ResolveKeys(t.Context(), cloud.client,
		rotate.KeyRequest{Destination: new, Sources: []string{old}, GrantTokens: tokens})
	_, named := rotate.KeyARN(t.Context(), cloud.client, new, tokens)
	unusable, err := rotate.FindUnusable(t.Context(), cloud.client, keys, tokens)
	if err != nil || unusable == nil {
		t.Fatalf("FindUnusable: %v, %v", unusable, err)
	}
	client := rotate.NewKMS(cloud.client.ReEncrypt, keys.Destination, tokens)
	_, authorized := rotate.CheckAuthorized(t.Context(), client, flowcontrol.NewLimiter(1000),
		keys, false)
	_, err = rotate.DescribeKeyState(cloud.client, tokens)(t.Context(), new)
	if refused := (smithy.APIError)(nil); !errors.As(err, &refused) ||
		refused.ErrorCode() != "InvalidGrantTokenException" {
		t.Errorf("DescribeKeyState: %v", err)
	}
	for name, err := range map[string]error{"ResolveKeys": resolved, "KeyARN": named,
		"FindUnusable": unusable, "CheckAuthorized": authorized} {
		key := (*rotate.KeyError)(nil)
		if !errors.As(err, &key) || key.Wrong || !strings.Contains(key.Detail, "kms.grant_tokens") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
