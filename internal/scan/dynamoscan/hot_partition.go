package dynamoscan

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"rotator/internal/scan"
)

// markHotPartition wraps an error in scan.ErrContended if DynamoDB throttles only one range
// of keys: the partition receives more requests than it can serve, while the rest of the
// table has capacity. DynamoDB reports this in the reasons of the exception, for example
// "TableWriteKeyRangeThroughputExceeded" (API_ThrottlingReason).
func markHotPartition(err error) error {
	reasons := throttlingReasons(err)
	elsewhere := func(r types.ThrottlingReason) bool {
		return !strings.HasSuffix(aws.ToString(r.Reason), "KeyRangeThroughputExceeded")
	}
	if len(reasons) == 0 || slices.ContainsFunc(reasons, elsewhere) {
		return err
	}
	return contended(err)
}

func contended(err error) error { return fmt.Errorf("%w: %w", scan.ErrContended, err) }

func throttlingReasons(err error) []types.ThrottlingReason {
	var exceeded *types.ProvisionedThroughputExceededException
	var throttled *types.ThrottlingException
	var limited *types.RequestLimitExceeded
	switch {
	case errors.As(err, &exceeded):
		return exceeded.ThrottlingReasons
	case errors.As(err, &throttled):
		return throttled.ThrottlingReasons
	case errors.As(err, &limited):
		return limited.ThrottlingReasons
	}
	return nil
}

// isThrottled reports whether a statement of a batch was throttled. Its error contains no
// reasons (API_BatchStatementError), so it is treated as contention on the item. The update
// is then sent alone, and the response contains the reason. This applies to any number of
// statements in a batch, because its items were read together and can share a partition. If
// the table has no capacity left, each single update reports that.
func isThrottled(failed *types.BatchStatementError) bool {
	switch failed.Code {
	case types.BatchStatementErrorCodeEnumProvisionedThroughputExceeded,
		types.BatchStatementErrorCodeEnumThrottlingError,
		types.BatchStatementErrorCodeEnumRequestLimitExceeded:
		return true
	}
	return false
}
