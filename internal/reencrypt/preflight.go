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

// KeyRequest names the keys of a job as the job file does.
type KeyRequest struct {
	Destination, DestinationAlgorithm string
	Sources                           []string
	SourceAlgorithm                   string
	Any                               bool
	Mode                              Mode // "" is ModeMove
	// GrantTokens are those of the job.
	GrantTokens []string
	// ReadOnly allows source keys that cannot be used, for a read-only pass.
	ReadOnly bool
	// ChangesContext reports whether slots get another encryption context.
	ChangesContext bool
}

// ResolveKeys turns the names of a job's keys into ARNs, once, and refuses
// combinations that cannot work. Errors are *KeyError, or the SDK's.
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
				"it is %s, which source.keys names already; take one of them out%s",
				source.ARN, aliasAdvice(given))}
		}
		keys.Sources = append(keys.Sources, source)
	}
	return keys, keys.check()
}

// check refuses what no run could do.
func (k Keys) check() error {
	if k.Any && k.SourceAlgorithm != Symmetric {
		return &KeyError{Given: "source.any", Wrong: true, Detail: "an asymmetric blob does not name its key; list the keys in source.keys"}
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

// aliasAdvice returns what to do if names of keys stand for one key because an alias was
// pointed at it, or "" if no name is an alias.
func aliasAdvice(names ...string) string {
	for _, name := range names {
		if strings.HasPrefix(name, "alias/") || strings.Contains(name, ":alias/") {
			return fmt.Sprintf("; if %s named another key before, replace it by the ARN of that "+
				"key, because ciphertexts can still be under it", name)
		}
	}
	return ""
}

// checkOneKey refuses source keys other than the destination key, for the modes
// with one key.
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

// CheckAuthorized asks KMS, without touching any item, whether this caller may
// do what the job needs, and returns a note for each question that the server
// would not answer. The questions pass the limiter, because they count towards the quota of
// ReEncrypt. With contexts, a denial is only noted: the question carries no
// encryption context, and a policy may ask for one. Errors are *KeyError, or the
// SDK's.
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
			return []string{"permissions for ReEncrypt were not checked: this KMS endpoint does not answer dry runs as AWS documents"}, nil
		case contexts && retry.Classify(err) == retry.KindDenied:
			notes = append(notes, fmt.Sprintf("a dry run of ReEncrypt from %s, without an encryption context, was denied: if no policy asks for the context, allow kms:ReEncryptFrom on it", source.ARN))
		case retry.Classify(err) == retry.KindDenied:
			return nil, &KeyError{Given: source.Given, Err: err, Detail: fmt.Sprintf(
				"not allowed to re-encrypt from it to %s; allow kms:ReEncryptFrom on %s and kms:ReEncryptTo on %s (deploy/iam)",
				keys.Destination.Given, source.ARN, keys.Destination.ARN)}
		case grantTokenError(source.Given, err) != nil:
			return nil, grantTokenError(source.Given, err)
		case err != nil:
			return nil, fmt.Errorf("ask KMS for permission to re-encrypt from %s: %w", source.Given, err)
		}
	}
	return notes, nil
}

// KeyChanges are changes of the keys of a job during a pass.
type KeyChanges struct {
	Doubts []string // reasons why the figures of the pass are not evidence
	Notes  []string // the others
}

// CompareKeys compares the current state of the keys in KMS with that of the
// pass. began is the id of the key material that was current when the pass
// began. Errors are those of the SDK.
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

// rotatedSince compares the current material of a key with the material at the
// beginning of the pass and of the run.
func rotatedSince(key Key, began, now string) []string {
	if now == key.Material && (began == "" || began == now) {
		return nil
	}
	return []string{fmt.Sprintf("the key was rotated during the pass: its newest material is now "+
		"%s, and slots that were moved or found current before are on older material; run again",
		now)}
}
