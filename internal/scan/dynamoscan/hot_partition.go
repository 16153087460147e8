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

// hot marks an error that throttles one range of keys: the partition there gets
// more requests than a partition can serve, while the rest of the table has room.
// DynamoDB says so in the reasons of the exception, "TableWrite" or the like and
// then "KeyRangeThroughputExceeded" (API_ThrottlingReason).
func hot(err error) error {
	reasons := throttlingReasons(err)
	elsewhere := func(r types.ThrottlingReason) bool {
		return !strings.HasSuffix(aws.ToString(r.Reason), "KeyRangeThroughputExceeded")
	}
	if len(reasons) == 0 || slices.ContainsFunc(reasons, elsewhere) {
		return err
	}
	return busy(err)
}

func busy(err error) error { return fmt.Errorf("%w: %w", scan.ErrContended, err) }

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

// throttledStatement says whether one statement of a batch was throttled. Its error
// has no reasons (API_BatchStatementError), so it counts as the statement's own
// trouble: sent alone it will be told the reason. That is so for any number of them in
// a batch, since what is batched was read together and may well share a partition: when it
// is the table that has no capacity left, each update says so when it is sent alone.
func throttledStatement(failed *types.BatchStatementError) bool {
	switch failed.Code {
	case types.BatchStatementErrorCodeEnumProvisionedThroughputExceeded,
		types.BatchStatementErrorCodeEnumThrottlingError,
		types.BatchStatementErrorCodeEnumRequestLimitExceeded:
		return true
	}
	return false
}
