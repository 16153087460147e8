package dynamoscan

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// sampledItems is the number of items that Names reads.
const sampledItems = 100

// Names returns the attribute names of the first items of the table, for a
// message about an attribute that no item has. It sends one Scan request, which
// reads at most 1 MB.
func (t *Table) Names(ctx context.Context) ([]string, error) {
	in := &dynamodb.ScanInput{
		TableName:              &t.config.Table,
		Limit:                  aws.Int32(sampledItems),
		ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
	}
	if err := t.read.wait(ctx, 1); err != nil {
		return nil, err
	}
	out, err := t.config.Client.Scan(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("read items of table %s: %w", t.config.Table, err)
	}
	t.read.charge(1, consumed(out.ConsumedCapacity)...)
	names := map[string]bool{}
	for _, item := range out.Items {
		for name := range item {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// Account returns the account in the ARN of the table. It must be called after
// Check.
func (t *Table) Account(context.Context, string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if parts := strings.SplitN(t.arn, ":", 6); len(parts) == 6 {
		return parts[4]
	}
	return ""
}
