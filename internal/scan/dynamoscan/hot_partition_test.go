package dynamoscan

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"rotator/internal/awserr"
	"rotator/internal/scan"
)

// TestHotPartition: the reasons of an exception distinguish a throttled range of keys from a
// throttled table, for each exception that has reasons.
func TestHotPartition(t *testing.T) {
	for _, code := range []string{"ProvisionedThroughputExceededException", "ThrottlingException",
		"RequestLimitExceeded"} {
		for reasons, want := range map[string]bool{
			`[{"reason":"TableWriteKeyRangeThroughputExceeded",` +
				`"resource":"arn"}]`: true,
			`[{"reason":"TableReadKeyRangeThroughputExceeded"},` +
				`{"reason":"IndexWriteKeyRangeThroughputExceeded"}]`: true,
			`[{"reason":"TableWriteKeyRangeThroughputExceeded"},` +
				`{"reason":"TableWriteProvisionedThroughputExceeded"}]`: false,
			`[{"reason":"TableWriteMaxOnDemandThroughputExceeded"}]`: false,
			`[]`: false,
		} {
			client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusBadRequest)
				_, _ = fmt.Fprintf(w,
					`{"__type":"com.amazonaws.dynamodb.v20120810#%s","message":"why",`+
						`"ThrottlingReasons":%s,"throttlingReasons":%s}`, code, reasons, reasons)
			}))
			table := New(Config{
				Client:     client,
				Table:      tableName,
				Attributes: []string{"ssn"},
				Writes:     []string{"ssn"},
			})
			row := func(value string) *scan.Row {
				return &scan.Row{
					Attributes: map[string]scan.Value{"ssn": {Kind: scan.KindS, Text: value}},
				}
			}
			change := scan.Change{
				Item: scan.Item{Ref: `{"id":{"S":"1"}}`, Payload: row("old")},
				New:  row("new"),
			}
			err := table.Replace(t.Context(), []scan.Change{change})[0].Err
			if errors.Is(err, scan.ErrContended) != want || awserr.Code(err) != code {
				t.Errorf("%s for %s: %v, want contended: %v", code, reasons, err, want)
			}
		}
	}
}

// TestHotPartitionInBatch: if a whole batch is refused because of a range of keys, its items are
// sent alone, and the write rate of the table does not decrease.
func TestHotPartitionInBatch(t *testing.T) {
	for _, code := range []string{"ProvisionedThroughputExceededException", "ThrottlingException",
		"RequestLimitExceeded"} {
		for reason, want := range map[string]bool{
			"TableWriteKeyRangeThroughputExceeded": true,
			"TableWriteAccountLimitExceeded":       false,
		} {
			store := newStore(t, simple)
			table := store.source(store.respondWith(func(w http.ResponseWriter, r *http.Request) {
				if statements(r) == 1 {
					_, _ = w.Write(
						[]byte(`{"Responses":[{"Error":{"Code":"ConditionalCheckFailed"}}]}`))
					return
				}
				w.WriteHeader(http.StatusBadRequest)
				_, _ = fmt.Fprintf(w,
					`{"__type":"com.amazonaws.dynamodb.v20120810#%s","message":"why",`+
						`"ThrottlingReasons":[{"reason":%q}],`+
						`"throttlingReasons":[{"reason":%q}]}`, code, reason, reason)
			}))
			changes := store.changesOf(table, 3, "new")
			for _, result := range table.Replace(t.Context(), changes) {
				contended := errors.Is(result.Err, scan.ErrContended)
				if contended != want || awserr.Code(result.Err) != code {
					t.Errorf("%s for %s: %v, want contended: %v", code, reason, result.Err, want)
				}
			}
			for i := range changes {
				changes[i].Unbatched = true
			}
			for _, result := range table.Replace(t.Context(), changes) {
				if result.Err != nil {
					t.Errorf("%s for %s: update sent alone: %v", code, reason, result.Err)
				}
			}
		}
	}
}

// TestThrottledStatementIsSentAlone: a statement that is throttled in a batch counts as contended.
// It is sent again as an UpdateItem, whose response contains the reason.
func TestThrottledStatementIsSentAlone(t *testing.T) {
	store := newStore(t, schema{{"id", types.ScalarAttributeTypeN}})
	table := store.source(nil)
	changes := store.changesOf(table, 6, "new")
	hot := string(changes[5].Item.Ref)
	store.fake.SetHot(func(_, key string) bool { return key == hot })
	for round := range 2 {
		for i, result := range table.Replace(t.Context(), changes) {
			if busy := errors.Is(result.Err,
				scan.ErrContended); busy != (string(changes[i].Item.Ref) == hot) ||
				!busy && result.Err != nil {
				t.Errorf("round %d, item %d: %v", round, i, result.Err)
			}
		}
		changes = store.changesOf(table, 6, "newer")
		changes[5].Unbatched = true
	}
	if got := store.faults.Counts()["dynamodb:UpdateItem"]; got != 1 {
		t.Errorf("%d single updates, want only that of the hot item in the second round", got)
	}
}
