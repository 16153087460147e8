package dynamoscan

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"rotator/internal/scan"
)

// support says whether batched updates can be trusted with conditions here.
type support int

const (
	unknown support = iota
	supported
	unsupported
)

// batches asks the table once, by a batched update of an item that does not
// exist under a condition that cannot hold. Only ConditionalCheckFailed is the
// right answer: there are servers that report success, and policies that deny
// dynamodb:PartiQLUpdate. Nothing is left behind.
func (t *Table) batches(ctx context.Context) bool {
	t.mu.Lock()
	known := t.batch
	t.mu.Unlock()
	if known != unknown {
		return known == supported
	}
	result, why := t.probe(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.batch == unknown && result != unknown {
		t.batch = result
		if result == unsupported {
			t.notes = append(t.notes, fmt.Sprintf("table %s: batched conditional updates are not usable (%s); items are updated one by one", t.config.Table, why))
		}
	}
	return t.batch == supported
}

func (t *Table) probe(ctx context.Context) (result support, why string) {
	keys, err := t.keyTypes(ctx)
	if err != nil {
		return unknown, ""
	}
	u := update{key: map[string]types.AttributeValue{}, edits: []edit{{path: []step{{name: "rotator-probe"}},
		old: scan.Value{Kind: scan.KindS, Text: "old"}, new: scan.Value{Kind: scan.KindS, Text: "new"}}}}
	for name, kind := range keys {
		u.key[name] = randomKey(kind)
	}
	out, err := t.config.Client.BatchExecuteStatement(ctx, &dynamodb.BatchExecuteStatementInput{
		Statements: []types.BatchStatementRequest{t.statement(u)}})
	if err != nil {
		if code := apiCode(err); code == "AccessDeniedException" || code == "UnknownOperationException" || code == "ValidationException" {
			return unsupported, code
		}
		return unknown, "" // throttled, or not answered: ask again with the next batch
	}
	if len(out.Responses) != 1 || out.Responses[0].Error == nil {
		return unsupported, "the server reports success for a condition that does not hold"
	}
	switch code := out.Responses[0].Error.Code; code {
	case types.BatchStatementErrorCodeEnumConditionalCheckFailed:
		return supported, ""
	case types.BatchStatementErrorCodeEnumAccessDenied, types.BatchStatementErrorCodeEnumValidationError:
		return unsupported, string(code)
	}
	return unknown, ""
}

// randomKey makes a key value that no item has.
func randomKey(kind types.ScalarAttributeType) types.AttributeValue {
	text := "rotator-probe-" + rand.Text()
	switch kind {
	case types.ScalarAttributeTypeN:
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
		if err != nil {
			n = big.NewInt(1) // never: the reader does not fail
		}
		return &types.AttributeValueMemberN{Value: "-" + n.String()}
	case types.ScalarAttributeTypeB:
		return &types.AttributeValueMemberB{Value: []byte(text)}
	}
	return &types.AttributeValueMemberS{Value: text}
}

// replaceBatch sends the updates that fit as one batch, fills in their results,
// and returns those that did not fit. A request that failed as a whole leaves
// every outcome unknown.
func (t *Table) replaceBatch(ctx context.Context, updates []update, results []scan.Result) (left []update) {
	var statements []types.BatchStatementRequest
	var sent []update
	for _, u := range updates {
		s := t.statement(u)
		if len(*s.Statement) > maxStatement {
			left = append(left, u)
			continue
		}
		statements, sent = append(statements, s), append(sent, u)
	}
	if len(sent) == 0 {
		return left
	}
	if err := t.write.wait(ctx); err != nil {
		return t.all(sent, results, left, err)
	}
	out, err := t.config.Client.BatchExecuteStatement(ctx, &dynamodb.BatchExecuteStatementInput{Statements: statements,
		ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal})
	if err == nil && len(out.Responses) != len(sent) {
		err = &smithy.DeserializationError{Err: fmt.Errorf("%d answers to %d statements", len(out.Responses), len(sent))}
	}
	if err != nil {
		return t.all(sent, results, left, fmt.Errorf("update items of table %s: %w", t.config.Table, err))
	}
	for i := range out.ConsumedCapacity {
		t.write.used(&out.ConsumedCapacity[i])
	}
	for i, u := range sent {
		results[u.index] = t.answered(ctx, out.Responses[i].Error)
	}
	return left
}

// all gives every update that was sent the same error.
func (t *Table) all(sent []update, results []scan.Result, left []update, err error) []update {
	for _, u := range sent {
		results[u.index].Err = err
	}
	return left
}

// answered makes a result of the answer to one statement (API_BatchStatementError).
func (t *Table) answered(ctx context.Context, failed *types.BatchStatementError) scan.Result {
	switch {
	case failed == nil:
		return scan.Result{}
	case failed.Code == types.BatchStatementErrorCodeEnumConditionalCheckFailed:
		return t.changed(ctx, failed.Item)
	case failed.Code == types.BatchStatementErrorCodeEnumValidationError && strings.Contains(aws.ToString(failed.Message), "document path"):
		return t.changed(ctx, nil)
	}
	return scan.Result{Err: fmt.Errorf("update item of table %s: %w", t.config.Table,
		&smithy.GenericAPIError{Code: string(failed.Code), Message: aws.ToString(failed.Message)})}
}

// statement writes an update in PartiQL. Its WHERE names the whole primary key,
// as it must, and every value that is replaced.
func (t *Table) statement(u update) types.BatchStatementRequest {
	var b strings.Builder
	var parameters []types.AttributeValue
	fmt.Fprintf(&b, "UPDATE %s", quote(t.config.Table))
	for _, e := range u.edits {
		fmt.Fprintf(&b, " SET %s = ?", partiPath(e.path))
		parameters = append(parameters, toSDK(e.new))
	}
	separator := " WHERE "
	for _, name := range slices.Sorted(maps.Keys(u.key)) {
		fmt.Fprintf(&b, "%s%s = ?", separator, quote(name))
		parameters = append(parameters, u.key[name])
		separator = " AND "
	}
	for _, e := range u.edits {
		fmt.Fprintf(&b, " AND %s = ?", partiPath(e.path))
		parameters = append(parameters, toSDK(e.old))
	}
	return types.BatchStatementRequest{Statement: aws.String(b.String()), Parameters: parameters,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld}
}

func partiPath(path []step) string {
	var b strings.Builder
	for i, s := range path {
		switch {
		case s.name == "":
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
		case i > 0:
			b.WriteString("." + quote(s.name))
		default:
			b.WriteString(quote(s.name))
		}
	}
	return b.String()
}

// quote makes a PartiQL identifier of any name.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// apiCode is the service's code of an error, "" if it has none.
func apiCode(err error) string {
	if api := (smithy.APIError)(nil); errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}
