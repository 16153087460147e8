// Package awsspec specifies the behaviour of the AWS services by cases that use the real SDK
// clients and run against any endpoint: the fake services of this repository, other servers,
// or AWS. Each case names the page of the API reference, or the part of a developer guide,
// that it follows. Each case creates its own keys, tables and buckets, so cases share no
// state. They do not clean up.
package awsspec

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
)

// kmsCase is one behaviour of KMS.
type kmsCase struct {
	name string
	run  func(*kmsProbe)
}

// KMS runs the cases of KMS against the endpoint of cfg, as subtests.
func KMS(t *testing.T, cfg aws.Config) { runAll(t, KMSCases(cfg)) }

// KMSCases returns the cases of KMS for the endpoint of cfg. Retries are off, so that a case
// receives the first answer.
func KMSCases(cfg aws.Config) (list []Case) {
	client := kms.NewFromConfig(cfg, func(o *kms.Options) { o.Retryer = aws.NopRetryer{} })
	groups := [][]kmsCase{
		kmsKeyCases(),
		kmsAliasCases(),
		kmsRotationCases(),
		kmsCryptCases(),
		kmsReEncryptCases(),
		kmsDryRunCases(),
		kmsGrantCases(),
		kmsSignCases(),
	}
	if partition(cfg.Region) == "aws-cn" {
		groups = append(groups, kmsSM2Cases())
	}
	for _, cases := range groups {
		for _, c := range cases {
			list = append(list, Case{Name: c.name, run: func(ctx context.Context, t T) {
				c.run(&kmsProbe{T: t, Client: client, ctx: ctx, region: cfg.Region})
			}})
		}
	}
	return list
}

// partition returns the partition in the ARNs of a Region, such as aws-cn.
func partition(region string) string {
	if strings.HasPrefix(region, "cn-") {
		return "aws-cn"
	}
	return "aws"
}

// kmsProbe is a KMS client that fails the test instead of returning errors.
type kmsProbe struct {
	T
	*kms.Client
	ctx    context.Context
	region string
}

// must fails the test on an error.
func (p *kmsProbe) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// want fails the test unless the error has the code. All errors that a caller of KMS causes
// have HTTP status 400 and a request id (CommonErrors).
func (p *kmsProbe) want(code string, err error) {
	p.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		p.Errorf("error is %v, want %s", err, code)
		return
	}
	var response *awshttp.ResponseError
	if !errors.As(err, &response) {
		p.Errorf("%s comes without a response", code)
	} else if response.HTTPStatusCode() != http.StatusBadRequest ||
		response.ServiceRequestID() == "" {
		p.Errorf("%s has status %d and request id %q, want 400 and some id", code,
			response.HTTPStatusCode(), response.ServiceRequestID())
	}
}

// arn returns the ARN of a resource of an account in the Region, such as "alias/name".
func (p *kmsProbe) arn(account *string, resource string) string {
	return "arn:" + partition(p.region) + ":kms:" + p.region + ":" + aws.ToString(account) + ":" +
		resource
}

// key creates a symmetric key.
func (p *kmsProbe) key() *types.KeyMetadata { return p.keyOf(types.KeySpecSymmetricDefault) }

// keyOf creates a key for encryption.
func (p *kmsProbe) keyOf(spec types.KeySpec) *types.KeyMetadata {
	p.Helper()
	out, err := p.CreateKey(p.ctx, &kms.CreateKeyInput{
		KeySpec:  spec,
		KeyUsage: types.KeyUsageTypeEncryptDecrypt,
	})
	p.must(err)
	return out.KeyMetadata
}

// signingKey creates a key that cannot encrypt.
func (p *kmsProbe) signingKey() *types.KeyMetadata {
	p.Helper()
	out, err := p.CreateKey(p.ctx, &kms.CreateKeyInput{
		KeySpec:  types.KeySpecRsa2048,
		KeyUsage: types.KeyUsageTypeSignVerify,
	})
	p.must(err)
	return out.KeyMetadata
}

func (p *kmsProbe) describe(keyID string) *types.KeyMetadata {
	p.Helper()
	out, err := p.DescribeKey(p.ctx, &kms.DescribeKeyInput{KeyId: &keyID})
	p.must(err)
	return out.KeyMetadata
}

// alias creates an alias with a unique name.
func (p *kmsProbe) alias(keyID string) string {
	p.Helper()
	name := "alias/rotator-" + strings.ToLower(rand.Text())
	_, err := p.CreateAlias(p.ctx, &kms.CreateAliasInput{AliasName: &name, TargetKeyId: &keyID})
	p.must(err)
	return name
}

// blob encrypts under a symmetric key.
func (p *kmsProbe) blob(keyID, plaintext string, context map[string]string) []byte {
	p.Helper()
	out, err := p.Encrypt(p.ctx, &kms.EncryptInput{
		KeyId:             &keyID,
		Plaintext:         []byte(plaintext),
		EncryptionContext: context,
	})
	p.must(err)
	return out.CiphertextBlob
}

// blobRSA encrypts under an asymmetric key.
func (p *kmsProbe) blobRSA(
	keyID, plaintext string, algorithm types.EncryptionAlgorithmSpec,
) []byte {
	p.Helper()
	out, err := p.Encrypt(p.ctx, &kms.EncryptInput{
		KeyId:               &keyID,
		Plaintext:           []byte(plaintext),
		EncryptionAlgorithm: algorithm,
	})
	p.must(err)
	return out.CiphertextBlob
}

// decrypts fails the test unless the request returns the plaintext.
func (p *kmsProbe) decrypts(want string, in *kms.DecryptInput) *kms.DecryptOutput {
	p.Helper()
	out, err := p.Decrypt(p.ctx, in)
	p.must(err)
	if !bytes.Equal(out.Plaintext, []byte(want)) {
		p.Error("the plaintext is not the one that was encrypted")
	}
	return out
}

func (p *kmsProbe) disable(keyID string) {
	p.Helper()
	_, err := p.DisableKey(p.ctx, &kms.DisableKeyInput{KeyId: &keyID})
	p.must(err)
}

func (p *kmsProbe) schedule(keyID string) {
	p.Helper()
	_, err := p.ScheduleKeyDeletion(p.ctx, &kms.ScheduleKeyDeletionInput{
		KeyId:               &keyID,
		PendingWindowInDays: aws.Int32(7),
	})
	p.must(err)
}

func (p *kmsProbe) rotate(keyID string) {
	p.Helper()
	_, err := p.RotateKeyOnDemand(p.ctx, &kms.RotateKeyOnDemandInput{KeyId: &keyID})
	p.must(err)
}

// kmsMissingARN returns the ARN of a key that does not exist, in the account and Region of
// arn.
func kmsMissingARN(arn string) string {
	return arn[:strings.LastIndexByte(arn, '/')+1] + "00000000-0000-4000-8000-000000000000"
}

// elsewhere returns the ARN of a key with the same id in another Region.
func (p *kmsProbe) inOtherRegion(arn string) string {
	other := "eu-north-1"
	if p.region == other {
		other = "us-east-1"
	}
	return strings.Replace(arn, ":"+p.region+":", ":"+other+":", 1)
}
