package rotate

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"rotator/internal/checkpoint"
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
		{types.KeyMetadata{KeyState: types.KeyStateUnavailable, CustomKeyStoreId: aws.String("cks-1")},
			"connect the key store (aws kms connect-custom-key-store --region eu-west-1 " +
				"--custom-key-store-id cks-1)"},
	} {
		c.meta.Arn = aws.String(arn)
		if got := stateOf(&c.meta).Remedy; !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.meta.KeyState, got, c.want)
		}
	}
}

// TestMovedAliases: the advice for names that stand for other keys than when the pass began
// names all keys that the new pass would miss, and no key that source.keys cannot hold.
func TestMovedAliases(t *testing.T) {
	const restart = "begin a new pass with rotator run --restart, which keeps the records of pass 1"
	const apart = "; move the ciphertexts under D with a separate job, because they have the " +
		"algorithm and the destination_context of pass 1"
	oaep := string(types.EncryptionAlgorithmSpecRsaesOaepSha256)
	// One pass, with the destination alias/d (key D) and the source keys alias/s (S) and
	// alias/x (X). names are the keys that the aliases stand for now.
	for _, c := range []struct {
		name, names string
		change      func(*checkpoint.Pass, *Keys)
		want        string // "" means no error
	}{
		{"none", "D S X", nil, ""},
		{"destination", "E S X", nil, "alias/d was D when pass 1 began and is E now; point it back " +
			"to go on with pass 1, or add D to source.keys, because ciphertexts are under it, " +
			"and " + restart},
		{"all", "E T Y", nil, "alias/d was D when pass 1 began and is E now, and alias/s was S " +
			"when pass 1 began and is T now, and alias/x was X when pass 1 began and is Y now; " +
			"point them back to go on with pass 1, or add D and S and X to source.keys, because " +
			"ciphertexts are under it, and " + restart},
		{"interchanged", "S D X", nil, "point them back to go on with pass 1, or " + restart},
		{"any source key", "E", func(_ *checkpoint.Pass, k *Keys) { k.Any = true },
			"point it back to go on with pass 1, or " + restart},
		{"other algorithm", "E S X", func(p *checkpoint.Pass, _ *Keys) {
			p.Destination.Algorithm = oaep
		}, "or " + restart + apart},
		{"other context", "E T X", func(_ *checkpoint.Pass, k *Keys) { k.ChangesContext = true },
			"or add S to source.keys, because ciphertexts are under it, and " + restart + "" + apart},
		{"refresh", "E E E", func(_ *checkpoint.Pass, k *Keys) { k.Mode = ModeRefresh },
			"or " + restart},
	} {
		pass := checkpoint.Pass{Number: 1, Destination: checkpoint.Key{ARN: "D"}}
		keys := Keys{SourceAlgorithm: Symmetric, Mode: ModeMove}
		now := strings.Fields(c.names)
		keys.Destination = Key{Given: "alias/d", ARN: now[0]}
		for i, arn := range now[1:] {
			pass.Sources = append(pass.Sources, checkpoint.Key{ARN: []string{"S", "X"}[i]})
			keys.Sources = append(keys.Sources,
				Key{Given: []string{"alias/s", "alias/x"}[i], ARN: arn})
		}
		if c.change != nil {
			c.change(&pass, &keys)
		}
		err := SameKeys(pass, keys)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		} else if err == nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q at the end", c.name, err, c.want)
		}
	}
}
