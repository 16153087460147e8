package dynamoscan

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"rotator/internal/awserr"
	"rotator/internal/scan"
)

// replaceBatch sends updates as one batch and fills in their results. It returns
// the updates that must be sent again as single updates: those whose statement
// the server refuses as invalid, and those whose condition it reports as failed
// without returning an item that has changed. If a request fails as a whole, each
// of its updates gets the error, because the outcome of each is unknown.
func (t *Table) replaceBatch(
	ctx context.Context, updates []update, results []scan.Result,
) (again []update) {
	statements := make([]types.BatchStatementRequest, len(updates))
	for i := range updates {
		statements[i] = updates[i].shape.statement(&updates[i],
			t.knownSupport(updates[i].shape.form))
	}
	responses, err := t.execute(ctx, statements)
	if err != nil && awserr.Code(err) == "ValidationException" {
		return refusedAs(updates, "ValidationException") // nothing was applied
	}
	if err != nil {
		for _, u := range updates {
			results[u.index] = scan.Result{Err: err}
		}
		return nil
	}
	var proven uint64
	for i, u := range updates {
		if failed := responses[i].Error; failed == nil {
			proven |= 1 << u.shape.form
		} else if result, ok := t.statementResult(ctx, &u, failed); ok {
			results[u.index] = result
		} else {
			u.refused = awserr.Code(statementError(failed))
			again = append(again, u)
		}
	}
	if known := t.proven.Load(); proven&^known != 0 {
		t.proven.Or(proven)
	}
	return again
}

// refusedAs returns the updates with the code of the error that refused them.
func refusedAs(updates []update, code string) []update {
	for i := range updates {
		updates[i].refused = code
	}
	return updates
}

// execute sends one batch and returns one response for each statement.
func (t *Table) execute(
	ctx context.Context, statements []types.BatchStatementRequest,
) ([]types.BatchStatementResponse, error) {
	if err := t.write.wait(ctx, len(statements)); err != nil {
		return nil, err
	}
	out, err := t.config.Client.BatchExecuteStatement(ctx, &dynamodb.BatchExecuteStatementInput{
		Statements:             statements,
		ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
	})
	if err == nil && len(out.Responses) != len(statements) {
		err = &smithy.DeserializationError{
			Err: fmt.Errorf("%d responses to %d statements", len(out.Responses), len(statements)),
		}
	}
	if err != nil {
		return nil, fmt.Errorf("update %d items of table %s: %w", len(statements), t.config.Table,
			markHotPartition(err))
	}
	t.write.charge(len(statements), out.ConsumedCapacity...)
	return out.Responses, nil
}

// statementResult returns the result of a statement that failed. It returns false if the update
// must be sent again as a single update: servers other than DynamoDB may misread a statement that
// they do not refuse.
func (t *Table) statementResult(
	ctx context.Context, u *update, failed *types.BatchStatementError,
) (scan.Result, bool) {
	if failed.Code == types.BatchStatementErrorCodeEnumConditionalCheckFailed {
		if len(failed.Item) == 0 || u.holds(failed.Item) {
			return scan.Result{}, false
		}
		return t.conditionFailed(ctx, failed.Item), true
	}
	err := statementError(failed)
	if result, ok := t.itemError(err); ok {
		return result, true
	}
	if err.Code == "ValidationException" {
		return scan.Result{}, false
	}
	result := scan.Result{Err: fmt.Errorf("update item of table %s: %w", t.config.Table, err)}
	if isThrottled(failed) {
		result.Err = contended(result.Err)
	}
	return result, true
}

// learn compares the results of single updates with the refusal of the same updates
// in a batch. If a single update succeeds, the server does not understand
// statements of that form. A form of which another statement has succeeded stays in
// use.
func (t *Table) learn(refused []update, results []scan.Result) {
	for _, u := range refused {
		valid := results[u.index].Err == nil ||
			u.refused == "ValidationException" && errors.Is(results[u.index].Err, scan.ErrChanged)
		if valid && t.proven.Load()&(1<<u.shape.form) == 0 {
			t.refuse(u.shape.form, "this server returns "+u.refused+
				" for a statement, but accepts the same update as UpdateItem")
		}
	}
}

// statementError gives the error of one statement the code that the same error has in the response
// to a single update (API_BatchStatementError).
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
