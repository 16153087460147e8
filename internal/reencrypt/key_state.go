package reencrypt

import (
	"context"
	"fmt"
	"rotator/internal/retry"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Unusable states why a key cannot be used, according to DescribeKey.
type Unusable struct {
	State  string // of the key; "" if the key can be used
	Why    string // "it is disabled"
	Remedy string // how to make the key usable
	// Deletion is when KMS will delete the key; zero if it is not known.
	Deletion time.Time
}

// stateOf returns why a key cannot be used, or the zero Unusable.
func stateOf(meta *types.KeyMetadata) Unusable {
	arn := aws.ToString(meta.Arn)
	enable := "enable it (" + keyCommand("enable-key", arn) + ")"
	cancel := "cancel the deletion (" + keyCommand("cancel-key-deletion", arn) +
		"), which leaves the key disabled, and then " + enable
	importing := "import the same key material again (" +
		keyCommand("get-parameters-for-import", arn) + ", then aws kms import-key-material)"
	if meta.Origin == types.OriginTypeExternal {
		cancel += "; if its imported key material was deleted or has expired, " + importing +
			" instead of enabling it"
	}
	u := Unusable{State: string(meta.KeyState)}
	switch meta.KeyState {
	case types.KeyStateEnabled:
		return Unusable{}
	case types.KeyStateDisabled:
		u.Why, u.Remedy = "it is disabled", enable
	case types.KeyStatePendingDeletion:
		u.Why, u.Remedy = "it will be deleted"+deletionDate(meta), cancel
		u.Deletion = aws.ToTime(meta.DeletionDate)
	case types.KeyStatePendingReplicaDeletion:
		u.Why, u.Remedy = "it will be deleted after its replica keys"+waitingPeriod(meta), cancel
	case types.KeyStatePendingImport:
		u.Why = "it has no key material: the imported material was deleted, has expired, or was " +
			"never imported"
		u.Remedy = importing
	case types.KeyStateUnavailable:
		u.Why = "its key store" + keyStore(meta) + " is disconnected or does not respond"
		u.Remedy = "connect the key store (" + keyStoreCommand(meta) + ")"
	case types.KeyStateCreating, types.KeyStateUpdating:
		u.Why = "its state is " + u.State
		u.Remedy = "wait until its state is Enabled"
	default:
		u.Why = "its state is " + u.State
		u.Remedy = "make its state Enabled"
	}
	return u
}

// keyCommand returns a command of the AWS CLI for a key. The CLI does not take the Region
// from an ARN.
func keyCommand(operation, arn string) string {
	return inRegion(operation, arn) + " --key-id " + arn
}

// keyStoreCommand returns the command that connects the key store of a key.
func keyStoreCommand(meta *types.KeyMetadata) string {
	text := inRegion("connect-custom-key-store", aws.ToString(meta.Arn))
	if meta.CustomKeyStoreId != nil {
		text += " --custom-key-store-id " + *meta.CustomKeyStoreId
	}
	return text
}

func inRegion(operation, arn string) string {
	text := "aws kms " + operation
	if parts := strings.Split(arn, ":"); len(parts) > 3 && parts[3] != "" {
		text += " --region " + parts[3]
	}
	return text
}

func deletionDate(meta *types.KeyMetadata) string {
	if meta.DeletionDate == nil {
		return ""
	}
	return " on " + meta.DeletionDate.UTC().Format(time.RFC3339)
}

func waitingPeriod(meta *types.KeyMetadata) string {
	if meta.PendingDeletionWindowInDays == nil {
		return ""
	}
	return fmt.Sprintf(" and a waiting period of %d days", *meta.PendingDeletionWindowInDays)
}

func keyStore(meta *types.KeyMetadata) string {
	if meta.CustomKeyStoreId == nil {
		return ""
	}
	return " " + *meta.CustomKeyStoreId
}

// keyError returns the error for a key that cannot be used, or nil.
func (u Unusable) keyError(given string) error {
	if u.State == "" {
		return nil
	}
	return &KeyError{Given: given, Detail: u.Why + "; " + u.Remedy + ", then run again"}
}

// FindUnusable returns a *KeyError for the first key of a job that cannot be used now, or
// nil if there is none. It is called after KMS refused a request because of the state of a
// key. Errors are those of the SDK.
func FindUnusable(
	ctx context.Context, client *kms.Client, keys Keys, tokens []string,
) (*KeyError, error) {
	for _, key := range append([]Key{keys.Destination}, keys.Sources...) {
		meta, err := describeKey(ctx, client, key.ARN, tokens)
		if refused := grantTokenError(key.Given, err); refused != nil {
			return refused, nil
		}
		if retry.Classify(err) == retry.KindKeyState {
			return &KeyError{Given: key.Given, Err: err,
				Detail: "KMS no longer knows " + key.ARN + ": it was deleted"}, nil
		}
		if err != nil {
			return nil, err
		}
		if u := stateOf(meta); u.State != "" {
			return &KeyError{Given: key.Given, Detail: u.Why + "; " + u.Remedy}, nil
		}
	}
	return nil, nil
}
