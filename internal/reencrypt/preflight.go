package reencrypt

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"rotator/internal/awserr"
	"rotator/internal/flowcontrol"
	"rotator/internal/retry"
)

// KeyRequest contains the names of the keys in a job file.
type KeyRequest struct {
	Destination, DestinationAlgorithm string
	Sources                           []string
	SourceAlgorithm                   string
	Any                               bool
	Mode                              Mode // "" is ModeMove
	// GrantTokens are the values of kms.grant_tokens.
	GrantTokens []string
	// ReadOnly allows source keys that cannot be used, for a read-only pass.
	ReadOnly bool
	// ChangesContext reports whether slots get another encryption context.
	ChangesContext bool
}

// ResolveKeys resolves the names of the keys of a job and checks that they can be used together.
// Errors are *KeyError or those of the AWS SDK.
func ResolveKeys(ctx context.Context, client *kms.Client, request KeyRequest) (Keys, error) {
	tokens := request.GrantTokens
	destination, err := ResolveKey(ctx, client, request.Destination,
		request.DestinationAlgorithm, tokens)
	if err == nil {
		err = destination.Unusable.keyError(destination.Given)
	}
	if err != nil {
		return Keys{}, err
	}
	keys := Keys{
		Destination:     destination,
		Any:             request.Any,
		SourceAlgorithm: request.SourceAlgorithm,
		Mode:            cmp.Or(request.Mode, ModeMove),
		ChangesContext:  request.ChangesContext,
	}
	if keys.SourceAlgorithm == "" {
		keys.SourceAlgorithm = Symmetric
	}
	for _, given := range request.Sources {
		source, err := ResolveKey(ctx, client, given, request.SourceAlgorithm, tokens)
		if err == nil && !request.ReadOnly {
			err = source.Unusable.keyError(source.Given)
		}
		if err != nil {
			return Keys{}, err
		}
		if slices.ContainsFunc(keys.Sources, func(k Key) bool { return k.ARN == source.ARN }) {
			return Keys{}, &KeyError{Given: given, Wrong: true, Detail: fmt.Sprintf(
				"it is %s, which source.keys already contains; remove one of the two%s",
				source.ARN, aliasAdvice(given))}
		}
		keys.Sources = append(keys.Sources, source)
	}
	return keys, keys.check()
}

// check returns a *KeyError if no run is possible with these keys.
func (k Keys) check() error {
	if k.Any && k.SourceAlgorithm != Symmetric {
		return &KeyError{
			Given: "source.any",
			Wrong: true,
			Detail: "a ciphertext under an asymmetric key does not name its key; list the keys " +
				"in source.keys",
		}
	}
	if k.Mode != ModeMove {
		return k.checkOneKey()
	}
	for i, source := range k.Sources {
		if source.ARN == k.Destination.ARN {
			return k.sameKey(i)
		}
	}
	return nil
}

// sameKey returns the error for a source key that is also the destination key,
// without a mode that allows this.
func (k Keys) sameKey(i int) error {
	e := &KeyError{Given: k.Sources[i].Given, Field: fmt.Sprintf("source.keys[%d]", i), Wrong: true}
	what := fmt.Sprintf("it is %s, which is also the destination key", k.Destination.ARN)
	switch {
	case k.SourceAlgorithm != k.Destination.Algorithm:
		e.Detail = what + "; rotator does not move ciphertexts from one algorithm of a key to " +
			"another, so name another destination key"
	case !k.Destination.Symmetric():
		e.Detail = what + "; an asymmetric key has neither newer key material nor an encryption " +
			"context to move to, so name another destination key"
	case len(k.Sources) > 1:
		e.Detail = what + "; remove it here, because ciphertexts under it need no move, or " +
			"write a separate job for it, with mode: refresh or mode: context"
	default:
		e.Detail = what + "; if this is intended, set mode: refresh at the top of the job " +
			"file to move to the newest material of the key, or mode: context to change the " +
			"encryption context"
	}
	e.Detail += aliasAdvice(k.Sources[i].Given, k.Destination.Given)
	return e
}

// aliasAdvice returns instructions for the case that an alias in names was pointed at another key
// and two names now refer to the same key. It returns "" if no name is an alias.
func aliasAdvice(names ...string) string {
	for _, name := range names {
		if strings.HasPrefix(name, "alias/") || strings.Contains(name, ":alias/") {
			return fmt.Sprintf("; if %s named another key before, replace it by the ARN of that "+
				"key, because ciphertexts can still be under it", name)
		}
	}
	return ""
}

// checkOneKey checks the keys for the modes refresh and context, in which the destination key
// must be the only source key.
func (k Keys) checkOneKey() error {
	for i, source := range k.Sources {
		if source.ARN != k.Destination.ARN {
			return &KeyError{
				Given: source.Given,
				Field: fmt.Sprintf("source.keys[%d]", i),
				Wrong: true,
				Detail: fmt.Sprintf("it is %s, but mode: %s requires the same key as source and "+
					"destination, and the destination is %s; name that key here, or remove mode "+
					"to move between keys", source.ARN, k.Mode, k.Destination.ARN),
			}
		}
	}
	switch {
	case k.Any || !k.Destination.Symmetric():
		return &KeyError{
			Given: k.Destination.Given,
			Field: "mode",
			Wrong: true,
			Detail: fmt.Sprintf(
				"mode: %s is for one symmetric key, named in source.keys and in destination.key",
				k.Mode),
		}
	case k.Refresh() && k.Destination.Material == "":
		return &KeyError{Given: k.Destination.Given, Field: "mode", Wrong: true,
			Detail: "this KMS endpoint does not return the id of the current key material, so a " +
				"refresh is not possible"}
	}
	return nil
}

// CheckAuthorized sends dry runs of ReEncrypt to check that the caller has the permissions for
// the job. It returns notes about checks without a clear result. The requests pass the limiter,
// because they count towards the quota of ReEncrypt. With contexts, a denial is only a note:
// dry runs contain no encryption context, and a policy can require one. Errors are *KeyError or
// those of the AWS SDK.
func CheckAuthorized(
	ctx context.Context, asker Reencrypter, limiter *flowcontrol.Limiter, keys Keys, contexts bool,
) (notes []string, err error) {
	for _, source := range append(keys.usableSources(), keys.Destination) {
		sent, err := limiter.Begin(ctx)
		if err != nil {
			return nil, err
		}
		known, err := asker.Authorized(ctx, source)
		limiter.End(sent, retry.ResponseTo(err), awserr.RetryAfter(err))
		switch {
		case !known:
			return []string{"permissions for ReEncrypt were not checked: this KMS endpoint does " +
				"not support dry runs as AWS documents them"}, nil
		case contexts && retry.Classify(err) == retry.KindDenied:
			notes = append(notes, fmt.Sprintf("a dry run of ReEncrypt from %s, without an "+
				"encryption context, was denied: if no policy requires the context, allow "+
				"kms:ReEncryptFrom on it", source.ARN))
		case retry.Classify(err) == retry.KindDenied:
			return nil, &KeyError{Given: source.Given, Err: err, Detail: fmt.Sprintf(
				"not allowed to re-encrypt from it to %s; allow kms:ReEncryptFrom on %s and "+
					"kms:ReEncryptTo on %s (deploy/iam)",
				keys.Destination.Given, source.ARN, keys.Destination.ARN)}
		case grantTokenError(source.Given, err) != nil:
			return nil, grantTokenError(source.Given, err)
		case err != nil:
			return nil, fmt.Errorf("ask KMS for permission to re-encrypt from %s: %w",
				source.Given, err)
		}
	}
	return notes, nil
}

// KeyChanges describes changes of the keys of a job during a pass.
type KeyChanges struct {
	Doubts []string // changes because of which the counts of the pass are not evidence
	Notes  []string // other changes
}

// CompareKeys compares the current state of the keys in KMS with keys. began is the ID of the
// key material that was current at the start of the pass. Errors are those of the AWS SDK.
func CompareKeys(
	ctx context.Context, client *kms.Client, keys Keys, began string, tokens []string,
) (changes KeyChanges, err error) {
	seen := map[string]bool{}
	for i, key := range append([]Key{keys.Destination}, keys.Sources...) {
		if seen[key.Given] || key.Unusable.State != "" {
			continue
		}
		seen[key.Given] = true
		meta, err := describeKey(ctx, client, key.Given, tokens)
		if err != nil {
			return KeyChanges{}, err
		}
		switch arn := aws.ToString(meta.Arn); {
		case arn != key.ARN:
			changes.Notes = append(changes.Notes, fmt.Sprintf(
				"%s now refers to %s; in this pass it referred to %s", key.Given, arn, key.ARN))
		case i == 0 && meta.KeyState != types.KeyStateEnabled:
			now := stateOf(meta)
			changes.Doubts = append(changes.Doubts, fmt.Sprintf("the state of the destination "+
				"key is now %s: ciphertexts under it cannot be decrypted; %s", now.State,
				now.Remedy))
		case i == 0 && keys.Refresh():
			changes.Doubts = append(changes.Doubts,
				rotatedSince(key, began, aws.ToString(meta.CurrentKeyMaterialId))...)
		}
	}
	return changes, nil
}

// rotatedSince returns a message if now, the current key material, differs from the material at
// the start of the run or from began, the material at the start of the pass.
func rotatedSince(key Key, began, now string) []string {
	if now == key.Material && (began == "" || began == now) {
		return nil
	}
	return []string{fmt.Sprintf("the key was rotated during the pass: its newest material is now "+
		"%s, and slots that were moved or found current before are on older material; run again",
		now)}
}
