package rotate

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"rotator/internal/checkpoint"
	"rotator/internal/reencrypt"
)

// movedAliasCase is a pass with the destination alias/d (key D) and the source keys alias/s (S)
// and alias/x (X).
type movedAliasCase struct {
	name   string
	names  string // the keys to which the aliases refer now
	change func(*checkpoint.Pass, *reencrypt.Keys)
	want   string // "" means no error
}

func movedAliasCases() []movedAliasCase {
	const restart = "begin a new pass with rotator run --restart, which keeps the records of pass 1"
	const apart = "; move the ciphertexts under D with a separate job, because they have the " +
		"algorithm and the destination_context of pass 1"
	oaep := string(types.EncryptionAlgorithmSpecRsaesOaepSha256)
	return []movedAliasCase{
		{"none", "D S X", nil, ""},
		{
			"destination",
			"E S X",
			nil,
			"alias/d was D when pass 1 began and is E now; point it back " +
				"to go on with pass 1, or add D to source.keys, because ciphertexts are " +
				"under it, and " + restart,
		},
		{"all", "E T Y", nil, "alias/d was D when pass 1 began and is E now, and alias/s was S " +
			"when pass 1 began and is T now, and alias/x was X when pass 1 began and is Y now; " +
			"point them back to go on with pass 1, or add D and S and X to source.keys, because " +
			"ciphertexts are under it, and " + restart},
		{"interchanged", "S D X", nil, "point them back to go on with pass 1, or " + restart},
		{"any source key", "E", func(_ *checkpoint.Pass, k *reencrypt.Keys) { k.Any = true },
			"point it back to go on with pass 1, or " + restart},
		{"other algorithm", "E S X", func(p *checkpoint.Pass, _ *reencrypt.Keys) {
			p.Destination.Algorithm = oaep
		}, "or " + restart + apart},
		{
			"other context",
			"E T X",
			func(_ *checkpoint.Pass, k *reencrypt.Keys) {
				k.ChangesContext = true
			},
			"or add S to source.keys, because ciphertexts are under it, and " + restart + "" +
				apart,
		},
		{"refresh", "E E E", func(_ *checkpoint.Pass, k *reencrypt.Keys) {
			k.Mode = reencrypt.ModeRefresh
		},
			"or " + restart},
	}
}

// TestMovedAliases: if key names refer to other keys than at the start of the pass, the advice
// names all keys that a new pass would miss, and no key that source.keys cannot contain.
func TestMovedAliases(t *testing.T) {
	for _, c := range movedAliasCases() {
		pass := checkpoint.Pass{Number: 1, Destination: checkpoint.Key{ARN: "D"}}
		keys := reencrypt.Keys{SourceAlgorithm: reencrypt.Symmetric, Mode: reencrypt.ModeMove}
		now := strings.Fields(c.names)
		keys.Destination = reencrypt.Key{Given: "alias/d", ARN: now[0]}
		for i, arn := range now[1:] {
			pass.Sources = append(pass.Sources, checkpoint.Key{ARN: []string{"S", "X"}[i]})
			keys.Sources = append(keys.Sources,
				reencrypt.Key{Given: []string{"alias/s", "alias/x"}[i], ARN: arn})
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
