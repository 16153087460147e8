package awsspec

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func kmsGrantCases() []kmsCase {
	return []kmsCase{
		{"CreateGrant/a grant is listed until it is revoked", kmsGrant},
		{"CreateGrant/invalid requests are refused", kmsGrantRefused},
		{"ReEncrypt/a grant token is accepted before the grant is visible", kmsGrantToken},
		{"ReEncrypt/an unknown grant token is InvalidGrantTokenException", kmsGrantForged},
	}
}

// grant creates a grant to re-encrypt from a key.
func (p *kmsProbe) grant(k *types.KeyMetadata) *kms.CreateGrantOutput {
	p.Helper()
	out, err := p.CreateGrant(p.ctx, &kms.CreateGrantInput{KeyId: k.Arn,
		GranteePrincipal: p.grantee(k), Name: aws.String("for-a-case"),
		Operations: []types.GrantOperation{types.GrantOperationReEncryptFrom,
			types.GrantOperationReEncryptTo}})
	p.must(err)
	return out
}

// grantee returns the account of a key as a principal.
func (p *kmsProbe) grantee(k *types.KeyMetadata) *string {
	return aws.String("arn:" + partition(p.region) + ":iam::" + *k.AWSAccountId + ":root")
}

// API_CreateGrant, API_ListGrants, API_RevokeGrant. A new grant can be missing in the list
// for minutes ("Grants and eventual consistency"), so a missing grant is not an error.
func kmsGrant(p *kmsProbe) {
	k := p.key()
	made := p.grant(k)
	if aws.ToString(made.GrantId) == "" || aws.ToString(made.GrantToken) == "" {
		p.Errorf("the grant has id %v and a token of %d bytes", made.GrantId,
			len(aws.ToString(made.GrantToken)))
	}
	list, err := p.ListGrants(p.ctx, &kms.ListGrantsInput{KeyId: k.Arn})
	p.must(err)
	for _, g := range list.Grants {
		want := []types.GrantOperation{types.GrantOperationReEncryptFrom,
			types.GrantOperationReEncryptTo}
		if *g.GrantId != *made.GrantId || *g.KeyId != *k.Arn || *g.Name != "for-a-case" ||
			*g.GranteePrincipal != *p.grantee(k) ||
			!slices.Equal(slices.Sorted(slices.Values(g.Operations)), want) {
			p.Errorf("the list has %+v", g)
		}
	}
	_, err = p.RevokeGrant(p.ctx, &kms.RevokeGrantInput{KeyId: k.Arn, GrantId: made.GrantId})
	p.must(err)
	_, err = p.RevokeGrant(p.ctx, &kms.RevokeGrantInput{KeyId: k.Arn,
		GrantId: aws.String(strings.Repeat("0", 64))})
	p.want("NotFoundException", err)
}

// API_CreateGrant: GranteePrincipal, Constraints.
func kmsGrantRefused(p *kmsProbe) {
	operations := []types.GrantOperation{types.GrantOperationDecrypt}
	k, rsa := p.key(), p.keyOf(types.KeySpecRsa2048)
	_, err := p.CreateGrant(p.ctx, &kms.CreateGrantInput{KeyId: k.KeyId,
		GranteePrincipal: aws.String("not-an-arn"), Operations: operations})
	p.want("InvalidArnException", err)
	_, err = p.CreateGrant(p.ctx, &kms.CreateGrantInput{KeyId: k.KeyId,
		GranteePrincipal: p.grantee(k), Operations: []types.GrantOperation{"Dance"}})
	p.want("ValidationException", err)
	_, err = p.CreateGrant(p.ctx, &kms.CreateGrantInput{KeyId: rsa.KeyId,
		GranteePrincipal: p.grantee(k), Operations: operations,
		Constraints: &types.GrantConstraints{
			EncryptionContextSubset: map[string]string{"a": "b"}}})
	p.want("ValidationException", err)
	p.disable(*k.KeyId)
	_, err = p.CreateGrant(p.ctx, &kms.CreateGrantInput{KeyId: k.KeyId,
		GranteePrincipal: p.grantee(k), Operations: operations})
	p.want("DisabledException", err)
}

// API_ReEncrypt, GrantTokens.
func kmsGrantToken(p *kmsProbe) {
	from, to := p.key(), p.key()
	tokens := []string{*p.grant(from).GrantToken, *p.grant(to).GrantToken}
	_, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		CiphertextBlob:   p.blob(*from.KeyId, "text", nil),
		SourceKeyId:      from.KeyId,
		DestinationKeyId: to.KeyId,
		GrantTokens:      tokens,
	})
	p.must(err)
	_, err = p.DescribeKey(p.ctx, &kms.DescribeKeyInput{KeyId: from.KeyId, GrantTokens: tokens})
	p.must(err)
}

// API_ReEncrypt: InvalidGrantTokenException.
func kmsGrantForged(p *kmsProbe) {
	k := p.key()
	_, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{CiphertextBlob: p.blob(*k.KeyId, "text", nil),
		SourceKeyId: k.KeyId, DestinationKeyId: k.KeyId, GrantTokens: []string{"forged"}})
	p.want("InvalidGrantTokenException", err)
}
