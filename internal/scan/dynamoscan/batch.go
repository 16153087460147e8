package dynamoscan

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"rotator/internal/scan"
)

// replaceBatch sends the updates that fit as one batch, fills in their results,
// and returns those that did not fit. A request that failed as a whole gives each
// of its updates that error: nobody knows which were applied.
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
	answers, err := t.execute(ctx, statements)
	for i, u := range sent {
		if err != nil {
			results[u.index] = scan.Result{Err: err}
			continue
		}
		results[u.index] = t.answered(ctx, answers[i].Error)
	}
	return left
}

// execute sends one batch, and returns one answer for each statement.
func (t *Table) execute(ctx context.Context, statements []types.BatchStatementRequest) ([]types.BatchStatementResponse, error) {
	if err := t.write.wait(ctx, len(statements)); err != nil {
		return nil, err
	}
	out, err := t.config.Client.BatchExecuteStatement(ctx, &dynamodb.BatchExecuteStatementInput{Statements: statements,
		ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal})
	if err == nil && len(out.Responses) != len(statements) {
		err = &smithy.DeserializationError{Err: fmt.Errorf("%d answers to %d statements", len(out.Responses), len(statements))}
	}
	if err != nil {
		return nil, fmt.Errorf("update %d items of table %s: %w", len(statements), t.config.Table, hot(err))
	}
	t.write.used(len(statements), out.ConsumedCapacity...)
	return out.Responses, nil
}

// answered makes a result of the answer to one statement.
func (t *Table) answered(ctx context.Context, failed *types.BatchStatementError) scan.Result {
	if failed == nil {
		return scan.Result{}
	}
	if failed.Code == types.BatchStatementErrorCodeEnumConditionalCheckFailed {
		return t.changed(ctx, failed.Item)
	}
	err := statementError(failed)
	if result, ok := t.invalid(err); ok {
		return result
	}
	result := scan.Result{Err: fmt.Errorf("update item of table %s: %w", t.config.Table, err)}
	if throttledStatement(failed) {
		result.Err = busy(result.Err)
	}
	return result
}

// statementError gives the error of one statement the code that the same error
// has when it is the answer to a single call (API_BatchStatementError).
func statementError(failed *types.BatchStatementError) *smithy.GenericAPIError {
	code := string(failed.Code)
	switch failed.Code {
	case types.BatchStatementErrorCodeEnumValidationError:
		code = "ValidationException"
	case types.BatchStatementErrorCodeEnumThrottlingError:
		code = "ThrottlingException"
	case types.BatchStatementErrorCodeEnumProvisionedThroughputExceeded,
		types.BatchStatementErrorCodeEnumItemCollectionSizeLimitExceeded,
		types.BatchStatementErrorCodeEnumTransactionConflict,
		types.BatchStatementErrorCodeEnumResourceNotFound,
		types.BatchStatementErrorCodeEnumAccessDenied,
		types.BatchStatementErrorCodeEnumDuplicateItem:
		code += "Exception"
	}
	fault := smithy.FaultClient
	if failed.Code == types.BatchStatementErrorCodeEnumInternalServerError {
		fault = smithy.FaultServer
	}
	return &smithy.GenericAPIError{Code: code, Message: aws.ToString(failed.Message), Fault: fault}
}

// statement writes an update in PartiQL. Its WHERE names the whole primary key,
// as it must, every value that is replaced, and the guards ("PartiQL update statements
// for DynamoDB").
func (t *Table) statement(u update) types.BatchStatementRequest {
	var b strings.Builder
	var parameters []types.AttributeValue
	b.WriteString("UPDATE " + quote(t.config.Table))
	for _, e := range u.edits {
		b.WriteString(" SET " + partiPath(e.path) + " = ?")
		parameters = append(parameters, toSDK(e.new))
	}
	separator := " WHERE "
	for _, name := range slices.Sorted(maps.Keys(u.key)) {
		b.WriteString(separator + quote(name) + " = ?")
		parameters = append(parameters, u.key[name])
		separator = " AND "
	}
	parameters = u.where(&b, parameters)
	return types.BatchStatementRequest{Statement: aws.String(b.String()), Parameters: parameters,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld}
}

func partiPath(path []scan.Step) string {
	var b strings.Builder
	for i, s := range path {
		if s.Element {
			b.WriteString("[" + strconv.Itoa(s.Index) + "]")
			continue
		}
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(quote(s.Name))
	}
	return b.String()
}

// quote makes a PartiQL identifier of any name.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
