package dynamoscan

import (
	"context"
	"crypto/rand"
	"errors"
	"math/big"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"rotator/internal/scan"
)

// support is what is known about batched updates with a form of conditions.
type support int

const (
	unknown support = iota
	supported
	unsupported
)

// form is a kind of condition of a batched update.
type form int

const (
	equality form = iota // attributes compared with values
	presence             // also IS MISSING and IS NOT MISSING
	forms                // the number of forms
)

// supports reports whether batched updates with a form of conditions may be
// used. Before the first one, one goroutine sends a probe and the others wait
// for its result. If the result is unclear (throttled, lost), the next batch
// sends the probe again.
func (t *Table) supports(ctx context.Context, f form) bool {
	if known := t.knownSupport(f); known != unknown {
		return known == supported
	}
	select {
	case t.probing <- struct{}{}:
		defer func() { <-t.probing }()
	case <-ctx.Done():
		return false
	}
	if known := t.knownSupport(f); known != unknown {
		return known == supported
	}
	learned, why := t.probe(ctx, f)
	t.mu.Lock()
	t.batch[f] = learned
	t.mu.Unlock()
	if learned == unsupported {
		what := "batched conditional updates"
		if f == presence {
			what = "batched updates with the condition that an attribute exists or does not exist"
		}
		t.note("table %s: %s cannot be used (%s), so items are updated one by one",
			t.config.Table, what, why)
	}
	return learned == supported
}

func (t *Table) knownSupport(f form) support {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.batch[f]
}

// probe sends one batched update of an item that does not exist, under a
// condition that cannot hold. Only ConditionalCheckFailed is the right answer:
// there are servers that report success, and policies that deny
// dynamodb:PartiQLUpdate.
func (t *Table) probe(ctx context.Context, f form) (result support, why string) {
	keys, err := t.primaryKey(ctx)
	if err != nil {
		return unknown, ""
	}
	u := probeUpdate(f)
	for name, kind := range keys {
		u.key[name] = randomKey(kind)
	}
	answers, err := t.execute(ctx, []types.BatchStatementRequest{t.statement(u)})
	if err == nil && answers[0].Error != nil {
		err = statementError(answers[0].Error)
	}
	if err == nil {
		t.clean(ctx, u.key)
		return unsupported, "this server reports success for a condition that does not hold"
	}
	switch code := apiCode(err); code {
	case string(types.BatchStatementErrorCodeEnumConditionalCheckFailed):
		return supported, ""
	case "AccessDeniedException":
		return unsupported, "dynamodb:PartiQLUpdate is not allowed"
	case "UnknownOperationException", "ValidationException":
		return unsupported, "this server answers " + code
	}
	if status := httpStatus(err); status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status == http.StatusNotImplemented {
		return unsupported, "this server does not know BatchExecuteStatement"
	}
	return unknown, ""
}

// probeUpdate returns the update of a probe without its key.
func probeUpdate(f form) update {
	at := []scan.Step{{Name: probeAttribute}}
	e := edit{
		path: at,
		old:  scan.Value{Kind: scan.KindS, Text: "old"},
		new:  scan.Value{Kind: scan.KindS, Text: "new"},
	}
	u := update{key: map[string]types.AttributeValue{}, edits: []edit{e}}
	u.checks = []check{{path: at, value: e.old}}
	if f == presence {
		absent := []scan.Step{{Name: probeAttribute + "-absent"}}
		u.checks = []check{{path: at, state: scan.Present}, {path: absent, state: scan.Absent}}
	}
	return u
}

// probeAttribute is the one attribute that the probe's item would have.
const probeAttribute = "rotator-probe"

// clean deletes the item that a server without conditions may have made of the
// probe; nobody else has its key.
func (t *Table) clean(ctx context.Context, key map[string]types.AttributeValue) {
	_, err := t.config.Client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &t.config.Table, Key: key,
		ConditionExpression:       aws.String("#probe = :new"),
		ExpressionAttributeNames:  map[string]string{"#probe": probeAttribute},
		ExpressionAttributeValues: map[string]types.AttributeValue{":new": &types.AttributeValueMemberS{Value: "new"}}})
	if failed := (*types.ConditionalCheckFailedException)(nil); err == nil || errors.As(err, &failed) {
		return
	}
	if text, printErr := printKey(key); printErr == nil {
		t.note("table %s: an item with the key %s may be left of the probe of batched updates; delete it", t.config.Table, text)
	}
}

// randomKey makes a key value that no item has.
func randomKey(kind types.ScalarAttributeType) types.AttributeValue {
	switch kind {
	case types.ScalarAttributeTypeN:
		return &types.AttributeValueMemberN{Value: new(big.Int).SetBytes([]byte(rand.Text())[:15]).String()}
	case types.ScalarAttributeTypeB:
		return &types.AttributeValueMemberB{Value: []byte(probeAttribute + "-" + rand.Text())}
	}
	return &types.AttributeValueMemberS{Value: probeAttribute + "-" + rand.Text()}
}

// apiCode is the service's code of an error, "" if it has none.
func apiCode(err error) string {
	if api := (smithy.APIError)(nil); errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// httpStatus is the status of the answer that an error was made of, 0 if it has
// none.
func httpStatus(err error) int {
	var answered interface{ HTTPStatusCode() int }
	if errors.As(err, &answered) {
		return answered.HTTPStatusCode()
	}
	return 0
}
