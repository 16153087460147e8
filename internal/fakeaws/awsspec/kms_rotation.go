package awsspec

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func kmsAliasCases() []kmsCase {
	return []kmsCase{
		{"CreateAlias/an existing name is AlreadyExistsException", kmsAliasTwice},
		{"CreateAlias/invalid names are refused", kmsAliasNames},
		{"UpdateAlias/the alias names another key of the same kind", kmsAliasUpdate},
		{"DeleteAlias/the key is kept", kmsAliasDelete},
		{"ListAliases/the aliases of a key, page by page", kmsAliasPages},
	}
}

// API_CreateAlias: AlreadyExistsException.
func kmsAliasTwice(p *kmsProbe) {
	k := p.key()
	alias := p.alias(*k.KeyId)
	_, err := p.CreateAlias(p.ctx, &kms.CreateAliasInput{
		AliasName:   &alias,
		TargetKeyId: p.key().KeyId,
	})
	p.want("AlreadyExistsException", err)
}

// API_CreateAlias, AliasName and TargetKeyId.
func kmsAliasNames(p *kmsProbe) {
	k := p.key()
	for name, code := range map[string]string{
		"no-prefix":         "ValidationException",
		"alias/with a gap":  "ValidationException",
		"alias/aws/rotator": "InvalidAliasNameException",
	} {
		_, err := p.CreateAlias(p.ctx,
			&kms.CreateAliasInput{AliasName: &name, TargetKeyId: k.KeyId})
		p.want(code, err)
	}
	_, err := p.CreateAlias(p.ctx, &kms.CreateAliasInput{
		AliasName:   aws.String("alias/rotator-x"),
		TargetKeyId: aws.String(kmsMissingARN(*k.Arn)),
	})
	p.want("NotFoundException", err)
}

// API_UpdateAlias. It is documented that a key of another kind is refused, but not with which
// error code.
func kmsAliasUpdate(p *kmsProbe) {
	old, next, rsa := p.key(), p.key(), p.keyOf(types.KeySpecRsa2048)
	alias := p.alias(*old.KeyId)
	_, err := p.UpdateAlias(p.ctx, &kms.UpdateAliasInput{AliasName: &alias, TargetKeyId: next.Arn})
	p.must(err)
	if got := p.describe(alias); *got.Arn != *next.Arn {
		p.Errorf("the alias names %s, want %s", *got.Arn, *next.Arn)
	}
	if _, err = p.UpdateAlias(p.ctx,
		&kms.UpdateAliasInput{AliasName: &alias, TargetKeyId: rsa.KeyId}); err == nil {
		p.Error("an alias of a symmetric key was moved to an RSA key")
	}
	_, err = p.UpdateAlias(p.ctx, &kms.UpdateAliasInput{
		AliasName:   aws.String(alias + "-not-there"),
		TargetKeyId: next.KeyId,
	})
	p.want("NotFoundException", err)
}

// API_DeleteAlias.
func kmsAliasDelete(p *kmsProbe) {
	k := p.key()
	alias := p.alias(*k.KeyId)
	_, err := p.DeleteAlias(p.ctx, &kms.DeleteAliasInput{AliasName: &alias})
	p.must(err)
	_, err = p.DescribeKey(p.ctx, &kms.DescribeKeyInput{KeyId: &alias})
	p.want("NotFoundException", err)
	_, err = p.DeleteAlias(p.ctx, &kms.DeleteAliasInput{AliasName: &alias})
	p.want("NotFoundException", err)
	p.describe(*k.KeyId)
}

// API_ListAliases, KeyId, Limit and Marker.
func kmsAliasPages(p *kmsProbe) {
	k, other := p.key(), p.key()
	p.alias(*other.KeyId)
	var want, got []string
	for range 5 {
		want = append(want, p.alias(*k.KeyId))
	}
	pages := kms.NewListAliasesPaginator(p.Client, &kms.ListAliasesInput{
		KeyId: k.KeyId,
		Limit: aws.Int32(2),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(p.ctx)
		p.must(err)
		if len(page.Aliases) > 2 {
			p.Errorf("a page has %d aliases, want 2 at most", len(page.Aliases))
		}
		for _, a := range page.Aliases {
			if *a.TargetKeyId != *k.KeyId || *a.AliasArn != p.arn(k.AWSAccountId, *a.AliasName) {
				p.Errorf("alias %s has ARN %s and target %s", *a.AliasName, *a.AliasArn,
					*a.TargetKeyId)
			}
			got = append(got, *a.AliasName)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		p.Errorf("the aliases are %v, want %v", got, want)
	}
	_, err := p.ListAliases(p.ctx, &kms.ListAliasesInput{Marker: aws.String("no marker")})
	p.want("InvalidMarkerException", err)
}

func kmsRotationCases() []kmsCase {
	return []kmsCase{
		{"RotateKeyOnDemand/old blobs remain readable, new blobs use the new material", kmsRotate},
		{"RotateKeyOnDemand/at most 25 rotations", kmsRotateLimit},
		{"RotateKeyOnDemand/an asymmetric key is UnsupportedOperationException", kmsRotateRSA},
		{"ListKeyRotations/with and without the first material, page by page", kmsRotations},
		{"GetKeyLastUsage/ReEncrypt is recorded on both keys", kmsLastUsage},
		{"GetKeyLastUsage/failed requests are not recorded", kmsLastUsageFailed},
	}
}

// API_RotateKeyOnDemand; API_Decrypt, KeyMaterialId; developer guide, "Rotating
// keys".
func kmsRotate(p *kmsProbe) {
	k := p.key()
	old := p.blob(*k.KeyId, "text", nil)
	out, err := p.RotateKeyOnDemand(p.ctx, &kms.RotateKeyOnDemandInput{KeyId: k.KeyId})
	p.must(err)
	current := p.describe(*k.KeyId).CurrentKeyMaterialId
	if *current == *k.CurrentKeyMaterialId || *out.KeyId == "" {
		p.Error("the key material is the same as before")
	}
	next := p.blob(*k.KeyId, "text", nil)
	if m := p.decrypts("text",
		&kms.DecryptInput{CiphertextBlob: old}).KeyMaterialId; *m != *k.CurrentKeyMaterialId {
		p.Errorf("the old blob is under material %s, want %s", *m, *k.CurrentKeyMaterialId)
	}
	if m := p.decrypts("text",
		&kms.DecryptInput{CiphertextBlob: next, KeyId: k.KeyId}).KeyMaterialId; *m != *current {
		p.Errorf("the new blob is under material %s, want %s", *m, *current)
	}
}

// API_RotateKeyOnDemand: LimitExceededException.
func kmsRotateLimit(p *kmsProbe) {
	k := p.key()
	for range 25 {
		p.rotate(*k.KeyId)
	}
	_, err := p.RotateKeyOnDemand(p.ctx, &kms.RotateKeyOnDemandInput{KeyId: k.KeyId})
	p.want("LimitExceededException", err)
}

// API_RotateKeyOnDemand, API_ListKeyRotations: symmetric keys only.
func kmsRotateRSA(p *kmsProbe) {
	k := p.keyOf(types.KeySpecRsa2048)
	_, err := p.RotateKeyOnDemand(p.ctx, &kms.RotateKeyOnDemandInput{KeyId: k.KeyId})
	p.want("UnsupportedOperationException", err)
	_, err = p.ListKeyRotations(p.ctx, &kms.ListKeyRotationsInput{KeyId: k.KeyId})
	p.want("UnsupportedOperationException", err)
}

// API_ListKeyRotations, API_RotationsListEntry. The order is not documented.
func kmsRotations(p *kmsProbe) {
	k := p.key()
	for range 3 {
		p.rotate(*k.KeyId)
	}
	current := *p.describe(*k.KeyId).CurrentKeyMaterialId
	list := func(include types.IncludeKeyMaterial) (all []types.RotationsListEntry) {
		pages := kms.NewListKeyRotationsPaginator(p.Client, &kms.ListKeyRotationsInput{
			KeyId:              k.KeyId,
			IncludeKeyMaterial: include,
			Limit:              aws.Int32(2),
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(p.ctx)
			p.must(err)
			all = append(all, page.Rotations...)
		}
		return all
	}
	if n := len(list("")); n != 3 {
		p.Errorf("%d rotations are listed, want 3", n)
	}
	all := list(types.IncludeKeyMaterialAllKeyMaterial)
	if len(all) != 4 {
		p.Errorf("%d materials are listed, want 4", len(all))
	}
	for _, m := range all {
		first := *m.KeyMaterialId == *k.CurrentKeyMaterialId
		if (m.KeyMaterialState == types.KeyMaterialStateCurrent) != (*m.KeyMaterialId == current) {
			p.Errorf("material %s is %s, and %s is current", *m.KeyMaterialId, m.KeyMaterialState,
				current)
		}
		if (m.RotationDate == nil) != first ||
			(m.RotationType == types.RotationTypeOnDemand) == first {
			p.Errorf("material %s, first: %v, was rotated %q at %v", *m.KeyMaterialId, first,
				m.RotationType, m.RotationDate)
		}
	}
}

// API_GetKeyLastUsage: an unused key has an empty record; ReEncrypt is recorded on both keys.
func kmsLastUsage(p *kmsProbe) {
	from, to := p.key(), p.key()
	blob := p.blob(*from.KeyId, "text", nil)
	if got := p.lastUsage(*to.KeyId).KeyLastUsage; got == nil || got.Operation != "" ||
		got.Timestamp != nil {
		p.Errorf("an unused key was last used %+v", got)
	}
	got := p.lastUsage(*from.Arn).KeyLastUsage
	if got.Operation != types.KeyLastUsageTrackingOperationEncrypt {
		p.Errorf("the last operation is %q, want Encrypt", got.Operation)
	}
	_, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		CiphertextBlob:   blob,
		DestinationKeyId: to.KeyId,
	})
	p.must(err)
	events := map[string]bool{}
	for _, id := range []string{*from.KeyId, *to.KeyId} {
		out := p.lastUsage(id)
		got := out.KeyLastUsage
		if got.Operation != types.KeyLastUsageTrackingOperationReEncrypt ||
			time.Since(aws.ToTime(got.Timestamp)).Abs() > time.Hour ||
			aws.ToString(got.KmsRequestId) == "" || out.TrackingStartDate == nil ||
			out.KeyCreationDate == nil {
			p.Errorf("the last use of %s is %+v", id, got)
		}
		events[aws.ToString(got.CloudTrailEventId)] = true
	}
	if len(events) != 2 {
		p.Errorf("the two keys have %d CloudTrail events, want 2", len(events))
	}
}

func (p *kmsProbe) lastUsage(keyID string) *kms.GetKeyLastUsageOutput {
	p.Helper()
	out, err := p.GetKeyLastUsage(p.ctx, &kms.GetKeyLastUsageInput{KeyId: &keyID})
	p.must(err)
	return out
}

// API_GetKeyLastUsage: only successful operations count. A dry run never counts, because it
// always ends with an error. Aliases are refused.
func kmsLastUsageFailed(p *kmsProbe) {
	from, to := p.key(), p.key()
	blob := p.blob(*from.KeyId, "text", nil)
	_, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		CiphertextBlob:   blob,
		DestinationKeyId: to.KeyId,
		DryRun:           aws.Bool(true),
	})
	p.want("DryRunOperationException", err)
	_, err = p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		CiphertextBlob:          blob,
		DestinationKeyId:        to.KeyId,
		SourceEncryptionContext: map[string]string{"a": "b"},
	})
	p.want("InvalidCiphertextException", err)
	if got := p.lastUsage(*to.KeyId).KeyLastUsage; got == nil || got.Operation != "" {
		p.Errorf("a key that was never used successfully was used %+v", got)
	}
	if _, err = p.GetKeyLastUsage(p.ctx, &kms.GetKeyLastUsageInput{
		KeyId: aws.String(p.alias(*to.KeyId)),
	}); err == nil {
		p.Error("GetKeyLastUsage takes an alias")
	}
}
