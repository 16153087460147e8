package awsspec

import (
	"regexp"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/go-cmp/cmp"
)

func kmsKeyCases() []kmsCase {
	return []kmsCase{
		{"CreateKey/the default is a symmetric key", kmsCreateDefault},
		{"CreateKey/RSA keys encrypt with OAEP", kmsCreateRSA},
		{"CreateKey/an asymmetric key requires KeyUsage", kmsCreateWithoutUsage},
		{"CreateKey/a multi-Region key is a primary", kmsCreateMultiRegion},
		{"DescribeKey/key id, key ARN, alias name and alias ARN", kmsDescribeNames},
		{"DescribeKey/a missing key or alias is NotFoundException", kmsDescribeMissing},
		{"DisableKey/a disabled key refuses cryptographic operations", kmsDisabled},
		{"ScheduleKeyDeletion/a key pending deletion refuses nearly everything",
			kmsPendingDeletion},
		{"ScheduleKeyDeletion/the waiting period is 7 to 30 days", kmsWaitingPeriod},
		{"CancelKeyDeletion/the key is disabled afterwards", kmsCancelDeletion},
		{"EnableKey/an alias is not accepted as KeyId", kmsEnableAlias},
	}
}

// API_CreateKey, API_KeyMetadata.
func kmsCreateDefault(p *kmsProbe) {
	out, err := p.CreateKey(p.ctx, &kms.CreateKeyInput{Description: aws.String("for a case")})
	p.must(err)
	got := out.KeyMetadata
	m := aws.ToString(got.CurrentKeyMaterialId)
	if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(m) {
		p.Errorf("CurrentKeyMaterialId is %q, want 64 lower-case hexadecimal digits", m)
	}
	if age := time.Since(aws.ToTime(got.CreationDate)); age.Abs() > time.Hour {
		p.Errorf("the key was created %v ago", age)
	}
	want := &types.KeyMetadata{
		AWSAccountId:         got.AWSAccountId,
		KeyId:                got.KeyId,
		CreationDate:         got.CreationDate,
		CurrentKeyMaterialId: got.CurrentKeyMaterialId,
		Arn:                  aws.String(p.arn(got.AWSAccountId, "key/"+aws.ToString(got.KeyId))),
		Enabled:              true,
		KeyState:             types.KeyStateEnabled,
		Description:          aws.String("for a case"),
		KeyUsage:             types.KeyUsageTypeEncryptDecrypt,
		Origin:               types.OriginTypeAwsKms,
		KeyManager:           types.KeyManagerTypeCustomer,
		KeySpec:              types.KeySpecSymmetricDefault,
		//lint:ignore SA1019 the answer still has the element
		CustomerMasterKeySpec: types.CustomerMasterKeySpecSymmetricDefault,
		EncryptionAlgorithms: []types.EncryptionAlgorithmSpec{
			types.EncryptionAlgorithmSpecSymmetricDefault,
		},
		MultiRegion: aws.Bool(false),
	}
	ignore := cmp.FilterPath(func(path cmp.Path) bool {
		return path.Last().String() == ".noSmithyDocumentSerde"
	}, cmp.Ignore())
	if diff := cmp.Diff(want, got, ignore); diff != "" {
		p.Errorf("KeyMetadata (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(got, p.describe(*got.KeyId), ignore); diff != "" {
		p.Errorf("DescribeKey differs from CreateKey (-created +described):\n%s", diff)
	}
}

// API_CreateKey: the three RSA key specs; API_KeyMetadata: CurrentKeyMaterialId
// is for symmetric keys.
func kmsCreateRSA(p *kmsProbe) {
	for _, spec := range []types.KeySpec{types.KeySpecRsa2048, types.KeySpecRsa3072,
		types.KeySpecRsa4096} {
		k := p.keyOf(spec)
		algorithms := slices.Sorted(slices.Values(k.EncryptionAlgorithms))
		want := []types.EncryptionAlgorithmSpec{types.EncryptionAlgorithmSpecRsaesOaepSha1,
			types.EncryptionAlgorithmSpecRsaesOaepSha256}
		if k.KeySpec != spec || !slices.Equal(algorithms, want) || k.CurrentKeyMaterialId != nil {
			p.Errorf("a key of %s has spec %s, algorithms %v, key material id %v", spec, k.KeySpec,
				algorithms, k.CurrentKeyMaterialId)
		}
	}
}

// API_CreateKey, KeyUsage: required for asymmetric keys.
func kmsCreateWithoutUsage(p *kmsProbe) {
	_, err := p.CreateKey(p.ctx, &kms.CreateKeyInput{KeySpec: types.KeySpecRsa2048})
	p.want("ValidationException", err)
	_, err = p.CreateKey(p.ctx, &kms.CreateKeyInput{
		KeySpec:  types.KeySpecSymmetricDefault,
		KeyUsage: types.KeyUsageTypeSignVerify,
	})
	p.want("ValidationException", err)
}

// API_CreateKey, MultiRegion.
func kmsCreateMultiRegion(p *kmsProbe) {
	out, err := p.CreateKey(p.ctx, &kms.CreateKeyInput{MultiRegion: aws.Bool(true)})
	p.must(err)
	k := out.KeyMetadata
	if !regexp.MustCompile(`^mrk-[0-9a-f]{32}$`).MatchString(*k.KeyId) ||
		!aws.ToBool(k.MultiRegion) {
		p.Errorf("the key id is %s, MultiRegion is %v", *k.KeyId, k.MultiRegion)
	}
	c := k.MultiRegionConfiguration
	if c == nil || c.MultiRegionKeyType != types.MultiRegionKeyTypePrimary ||
		*c.PrimaryKey.Arn != *k.Arn || *c.PrimaryKey.Region != p.region {
		p.Errorf("MultiRegionConfiguration is %+v", c)
	}
}

// API_DescribeKey, KeyId.
func kmsDescribeNames(p *kmsProbe) {
	k := p.key()
	alias := p.alias(*k.KeyId)
	aliasARN := p.arn(k.AWSAccountId, alias)
	for _, name := range []string{*k.KeyId, *k.Arn, alias, aliasARN} {
		if got := p.describe(name); *got.Arn != *k.Arn {
			p.Errorf("%s names %s, want %s", name, *got.Arn, *k.Arn)
		}
	}
}

// API_DescribeKey: NotFoundException. A key of another Region is not found.
func kmsDescribeMissing(p *kmsProbe) {
	k := p.key()
	missing := kmsMissingARN(*k.Arn)
	for _, name := range []string{missing, missing[len(missing)-36:], "alias/rotator-not-there",
		p.inOtherRegion(*k.Arn)} {
		_, err := p.DescribeKey(p.ctx, &kms.DescribeKeyInput{KeyId: &name})
		p.want("NotFoundException", err)
	}
}

// API_DisableKey, API_EnableKey; developer guide, "Key states": DisabledException.
func kmsDisabled(p *kmsProbe) {
	k, other := p.key(), p.key()
	blob, otherBlob := p.blob(*k.KeyId, "text", nil), p.blob(*other.KeyId, "text", nil)
	p.disable(*k.KeyId)
	if got := p.describe(*k.KeyId); got.KeyState != types.KeyStateDisabled || got.Enabled {
		p.Errorf("the state is %s, enabled %v", got.KeyState, got.Enabled)
	}
	for _, err := range []error{
		kmsErr(p.Encrypt(p.ctx, &kms.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("text")})),
		kmsErr(p.GenerateDataKey(p.ctx, &kms.GenerateDataKeyInput{
			KeyId:   k.KeyId,
			KeySpec: types.DataKeySpecAes256,
		})),
		kmsErr(p.Decrypt(p.ctx, &kms.DecryptInput{CiphertextBlob: blob})),
		kmsErr(p.Decrypt(p.ctx, &kms.DecryptInput{CiphertextBlob: blob, KeyId: k.KeyId})),
		kmsErr(p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
			CiphertextBlob:   blob,
			DestinationKeyId: other.KeyId,
		})),
		kmsErr(p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
			CiphertextBlob:   blob,
			DestinationKeyId: other.KeyId,
			SourceKeyId:      k.Arn,
		})),
		kmsErr(p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
			CiphertextBlob:   otherBlob,
			DestinationKeyId: k.KeyId,
		})),
		kmsErr(p.RotateKeyOnDemand(p.ctx, &kms.RotateKeyOnDemandInput{KeyId: k.KeyId})),
	} {
		p.want("DisabledException", err)
	}
	_, err := p.EnableKey(p.ctx, &kms.EnableKeyInput{KeyId: k.KeyId})
	p.must(err)
	p.decrypts("text", &kms.DecryptInput{CiphertextBlob: blob})
}

// kmsErr drops the output of a call.
func kmsErr[T any](_ T, err error) error { return err }

// Developer guide, "Key states", PendingDeletion. The guide also allows DisabledException for
// cryptographic operations, but keys that are scheduled for deletion are reported to give
// KMSInvalidStateException first.
func kmsPendingDeletion(p *kmsProbe) {
	k, other := p.key(), p.key()
	blob, otherBlob := p.blob(*k.KeyId, "text", nil), p.blob(*other.KeyId, "text", nil)
	alias := p.alias(*other.KeyId)
	p.schedule(*k.KeyId)
	for _, err := range []error{
		kmsErr(p.Encrypt(p.ctx, &kms.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("text")})),
		kmsErr(p.Decrypt(p.ctx, &kms.DecryptInput{CiphertextBlob: blob})),
		kmsErr(p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
			CiphertextBlob:   blob,
			DestinationKeyId: other.KeyId,
		})),
		kmsErr(p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
			CiphertextBlob:   otherBlob,
			DestinationKeyId: k.KeyId,
		})),
		kmsErr(p.EnableKey(p.ctx, &kms.EnableKeyInput{KeyId: k.KeyId})),
		kmsErr(p.DisableKey(p.ctx, &kms.DisableKeyInput{KeyId: k.KeyId})),
		kmsErr(p.ScheduleKeyDeletion(p.ctx, &kms.ScheduleKeyDeletionInput{KeyId: k.KeyId})),
		kmsErr(p.RotateKeyOnDemand(p.ctx, &kms.RotateKeyOnDemandInput{KeyId: k.KeyId})),
		kmsErr(p.CreateAlias(p.ctx, &kms.CreateAliasInput{
			AliasName:   aws.String(alias + "-2"),
			TargetKeyId: k.KeyId,
		})),
		kmsErr(p.UpdateAlias(p.ctx,
			&kms.UpdateAliasInput{AliasName: &alias, TargetKeyId: k.KeyId})),
	} {
		p.want("KMSInvalidStateException", err)
	}
}

// API_ScheduleKeyDeletion.
func kmsWaitingPeriod(p *kmsProbe) {
	k := p.key()
	for _, days := range []int32{6, 31} {
		_, err := p.ScheduleKeyDeletion(p.ctx, &kms.ScheduleKeyDeletionInput{
			KeyId:               k.KeyId,
			PendingWindowInDays: &days,
		})
		p.want("ValidationException", err)
	}
	out, err := p.ScheduleKeyDeletion(p.ctx, &kms.ScheduleKeyDeletionInput{KeyId: k.KeyId})
	p.must(err)
	if *out.KeyId != *k.Arn || out.KeyState != types.KeyStatePendingDeletion ||
		aws.ToInt32(out.PendingWindowInDays) != 30 {
		p.Errorf("the answer is for %s, in state %s, after %d days", *out.KeyId, out.KeyState,
			aws.ToInt32(out.PendingWindowInDays))
	}
	got := p.describe(*k.KeyId)
	if left := time.Until(aws.ToTime(got.DeletionDate)); left < 29*24*time.Hour ||
		left > 32*24*time.Hour {
		p.Errorf("the key is deleted in %v, want about 30 days", left)
	}
}

// API_CancelKeyDeletion.
func kmsCancelDeletion(p *kmsProbe) {
	k := p.key()
	_, err := p.CancelKeyDeletion(p.ctx, &kms.CancelKeyDeletionInput{KeyId: k.KeyId})
	p.want("KMSInvalidStateException", err)
	p.schedule(*k.KeyId)
	out, err := p.CancelKeyDeletion(p.ctx, &kms.CancelKeyDeletionInput{KeyId: k.KeyId})
	p.must(err)
	if got := p.describe(*k.KeyId); *out.KeyId != *k.Arn ||
		got.KeyState != types.KeyStateDisabled || got.DeletionDate != nil {
		p.Errorf("%s is %s, to be deleted at %v", *out.KeyId, got.KeyState, got.DeletionDate)
	}
}

// API_EnableKey and the other operations that change a key: key id or key ARN.
func kmsEnableAlias(p *kmsProbe) {
	alias := p.alias(*p.key().KeyId)
	_, err := p.EnableKey(p.ctx, &kms.EnableKeyInput{KeyId: &alias})
	if err == nil {
		p.Error("EnableKey takes an alias")
	}
}
