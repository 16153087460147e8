package rotate

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// KeyRequest names the keys of a job as the job file does.
type KeyRequest struct {
	Destination, DestinationAlgorithm string
	Sources                           []string
	SourceAlgorithm                   string
	Any                               bool
}

// ResolveKeys turns the names of a job's keys into ARNs, once, and refuses
// combinations that cannot work. Errors are *KeyError, or the SDK's.
func ResolveKeys(ctx context.Context, client *kms.Client, request KeyRequest) (Keys, error) {
	destination, err := ResolveKey(ctx, client, request.Destination, request.DestinationAlgorithm)
	if err != nil {
		return Keys{}, err
	}
	keys := Keys{Destination: destination, Any: request.Any, SourceAlgorithm: request.SourceAlgorithm}
	if keys.SourceAlgorithm == "" {
		keys.SourceAlgorithm = Symmetric
	}
	for _, given := range request.Sources {
		source, err := ResolveKey(ctx, client, given, request.SourceAlgorithm)
		if err != nil {
			return Keys{}, err
		}
		if slices.ContainsFunc(keys.Sources, func(k Key) bool { return k.ARN == source.ARN }) {
			return Keys{}, &KeyError{Given: given, Wrong: true, Detail: fmt.Sprintf("it is %s, which source.keys names already; take one of them out", source.ARN)}
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
	if !k.refresh() {
		return nil
	}
	if !k.Destination.Symmetric() && k.SourceAlgorithm == k.Destination.Algorithm {
		return &KeyError{Given: k.Destination.Given, Wrong: true,
			Detail: "it is source and destination at once; KMS never rotates an asymmetric key, so there is no newer material to move to"}
	}
	if k.Destination.Symmetric() && k.Destination.Material == "" {
		return &KeyError{Given: k.Destination.Given, Wrong: true,
			Detail: "it is source and destination at once, and this KMS endpoint does not tell the id of its current key material, so a refresh cannot be decided"}
	}
	return nil
}

// CheckAuthorized asks KMS, without touching any item, whether this caller may
// do what the job needs, and returns a note for each question that the server
// would not answer. With contexts, a denial is only noted: the question carries no
// encryption context, and a policy may ask for one. Errors are *KeyError, or the
// SDK's.
func CheckAuthorized(ctx context.Context, asker Reencrypter, keys Keys, contexts bool) (notes []string, err error) {
	for _, source := range append(slices.Clone(keys.Sources), keys.Destination) {
		known, err := asker.Authorized(ctx, source)
		switch {
		case !known:
			return []string{"permissions for ReEncrypt were not checked: this KMS endpoint does not answer dry runs as AWS documents"}, nil
		case contexts && Classify(err) == ClassDenied:
			notes = append(notes, fmt.Sprintf("a dry run of ReEncrypt from %s, without an encryption context, was denied: if no policy asks for the context, allow kms:ReEncryptFrom on it", source.ARN))
		case Classify(err) == ClassDenied:
			return nil, &KeyError{Given: source.Given, Err: err, Detail: fmt.Sprintf(
				"not allowed to re-encrypt from it to %s; allow kms:ReEncryptFrom on %s and kms:ReEncryptTo on %s (deploy/iam)",
				keys.Destination.Given, source.ARN, keys.Destination.ARN)}
		case err != nil:
			return nil, fmt.Errorf("ask KMS for permission to re-encrypt from %s: %w", source.Given, err)
		}
	}
	return notes, nil
}
