package reencrypt

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// KeyARN returns the ARN of a key regardless of its state and usage. Errors are
// *KeyError or errors of the SDK.
func KeyARN(
	ctx context.Context, client *kms.Client, given string, tokens []string,
) (string, error) {
	meta, err := describeKey(ctx, client, given, tokens)
	if err != nil {
		return "", describeError(given, client.Options().Region, err)
	}
	return aws.ToString(meta.Arn), nil
}
