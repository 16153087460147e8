package rotate_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/smithy-go"

	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/flowcontrol"
	"rotator/internal/reencrypt"
)

// TestGrantTokenRefused: if KMS refuses a grant token, the error of every kind of request names
// the token as the cause, whether or not DescribeKey checks it. The error does not mean that
// the key is unknown.
func TestGrantTokenRefused(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	keys := cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}})
	tokens := []string{"forged"}
	_, resolved := reencrypt.ResolveKeys(t.Context(), cloud.client,
		reencrypt.KeyRequest{Destination: new, Sources: []string{old}, GrantTokens: tokens})
	_, named := reencrypt.KeyARN(t.Context(), cloud.client, new, tokens)
	unusable, err := reencrypt.FindUnusable(t.Context(), cloud.client, keys, tokens)
	if err != nil || unusable == nil {
		t.Fatalf("FindUnusable: %v, %v", unusable, err)
	}
	client := reencrypt.NewKMS(cloud.client.ReEncrypt, keys.Destination, tokens)
	_, authorized := reencrypt.CheckAuthorized(t.Context(), client, flowcontrol.NewLimiter(1000),
		keys, false)
	_, err = reencrypt.DescribeKeyState(cloud.client, tokens)(t.Context(), new)
	if refused := (smithy.APIError)(nil); !errors.As(err, &refused) ||
		refused.ErrorCode() != "InvalidGrantTokenException" {
		t.Errorf("DescribeKeyState: %v", err)
	}
	for name, err := range map[string]error{"ResolveKeys": resolved, "KeyARN": named,
		"FindUnusable": unusable, "CheckAuthorized": authorized} {
		key := (*reencrypt.KeyError)(nil)
		if !errors.As(err, &key) || key.Wrong || !strings.Contains(key.Detail, "kms.grant_tokens") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
