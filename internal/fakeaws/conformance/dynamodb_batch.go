package conformance

import (
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

func dynamodbBatchCases() []dynamodbCase {
	return []dynamodbCase{
		{"BatchExecuteStatement/conditional updates, each with its own answer", dynamodbBatch},
		{"BatchExecuteStatement/nested paths and odd names", dynamodbBatchPaths},
		{"BatchExecuteStatement/what is refused", dynamodbBatchRefused},
		{"BatchExecuteStatement/a value that is not there fails the condition", dynamodbBatchNothing},
	}
}

func (p *dynamodbProbe) batch(statements ...types.BatchStatementRequest) []types.BatchStatementResponse {
	p.Helper()
	for i := range statements {
		statements[i].ReturnValuesOnConditionCheckFailure = types.ReturnValuesOnConditionCheckFailureAllOld
	}
	out, err := p.BatchExecuteStatement(p.ctx, &dynamodb.BatchExecuteStatementInput{Statements: statements})
	p.must(err)
	if len(out.Responses) != len(statements) {
		p.Fatalf("%d answers to %d statements", len(out.Responses), len(statements))
	}
	return out.Responses
}

func dynamodbStatement(text string, parameters ...any) types.BatchStatementRequest {
	s := types.BatchStatementRequest{Statement: &text}
	for _, v := range parameters {
		s.Parameters = append(s.Parameters, dynamodbValue(v))
	}
	return s
}

// fails is the error code of an answer, "" for none.
func dynamodbFails(r types.BatchStatementResponse) types.BatchStatementErrorCodeEnum {
	if r.Error == nil {
		return ""
	}
	return r.Error.Code
}

// API_BatchExecuteStatement, API_BatchStatementError; PartiQL update statements.
func dynamodbBatch(p *dynamodbProbe) {
	table := p.table(true)
	for _, sk := range []string{"1", "2", "3"} {
		p.put(table, map[string]any{"pk": "a", "sk": sk, "b": []byte("old"), "x": "y"})
	}
	update := `UPDATE "` + *table + `" SET "b" = ? WHERE "pk" = ? AND "sk" = ? AND "b" = ?`
	answers := p.batch(
		dynamodbStatement(update, []byte("new"), "a", "1", []byte("old")),
		dynamodbStatement(update, []byte("new"), "a", "2", []byte("another")),
		dynamodbStatement(update, []byte("new"), "a", "nobody", []byte("old")),
		dynamodbStatement(`UPDATE "nobody" SET "b" = ? WHERE "pk" = ?`, []byte("new"), "a"),
	)
	for i, want := range []types.BatchStatementErrorCodeEnum{"", types.BatchStatementErrorCodeEnumConditionalCheckFailed,
		types.BatchStatementErrorCodeEnumConditionalCheckFailed, types.BatchStatementErrorCodeEnumResourceNotFound} {
		p.same("answer "+string(rune('0'+i)), dynamodbFails(answers[i]), want)
	}
	if answers[1].Error != nil {
		p.same("item of the error", dynamodbPlain(answers[1].Error.Item), map[string]any{"pk": "a", "sk": "2", "b": []byte("old"), "x": "y"})
	}
	p.same("updated", p.get(table, map[string]any{"pk": "a", "sk": "1"}), map[string]any{"pk": "a", "sk": "1", "b": []byte("new"), "x": "y"})
	p.same("not updated", p.get(table, map[string]any{"pk": "a", "sk": "2"})["b"], []byte("old"))
	if item := p.get(table, map[string]any{"pk": "a", "sk": "nobody"}); item != nil {
		p.Errorf("it made %v", item)
	}
}

// PartiQL update statements; PartiQL data types; identifiers in double quotes.
func dynamodbBatchPaths(p *dynamodbProbe) {
	table := p.table(false)
	p.put(table, map[string]any{"pk": "a", "m": map[string]any{"l": []any{"0", map[string]any{"odd.name": "old"}}}, `q"uote`: "old"})
	answers := p.batch(dynamodbStatement(`UPDATE "`+*table+`" SET "m"."l"[1]."odd.name" = ? SET "q""uote" = ? WHERE "pk" = ? AND "m"."l"[1]."odd.name" = ? AND "q""uote" = ?`,
		"new", "new", "a", "old", "old"))
	p.same("answer", dynamodbFails(answers[0]), types.BatchStatementErrorCodeEnum(""))
	p.same("item", p.get(table, map[string]any{"pk": "a"}),
		map[string]any{"pk": "a", "m": map[string]any{"l": []any{"0", map[string]any{"odd.name": "new"}}}, `q"uote`: "new"})
}

// API_BatchExecuteStatement: 25 statements; PartiQL update statements: the WHERE
// clause must name one primary key.
func dynamodbBatchRefused(p *dynamodbProbe) {
	table := p.table(false)
	p.put(table, map[string]any{"pk": "a", "v": "1"})
	var many []types.BatchStatementRequest
	for range 26 {
		many = append(many, dynamodbStatement(`UPDATE "`+*table+`" SET v = ? WHERE pk = ?`, "2", "b"))
	}
	_, err := p.BatchExecuteStatement(p.ctx, &dynamodb.BatchExecuteStatementInput{Statements: many})
	p.want("ValidationException", err)
	answers := p.batch(dynamodbStatement(`UPDATE "`+*table+`" SET v = ? WHERE v = ?`, "2", "1"))
	p.same("no key", dynamodbFails(answers[0]), types.BatchStatementErrorCodeEnumValidationError)
	answers = p.batch(dynamodbStatement(`UPDATE "`+*table+`" SET pk = ? WHERE pk = ?`, "b", "a"))
	p.same("a key attribute", dynamodbFails(answers[0]), types.BatchStatementErrorCodeEnumValidationError)
	answers = p.batch(dynamodbStatement(`UPDATE "`+*table+`" SET v = ? WHERE pk = ?`, "2"))
	p.same("a parameter missing", dynamodbFails(answers[0]), types.BatchStatementErrorCodeEnumValidationError)
	p.same("item", p.get(table, map[string]any{"pk": "a"}), map[string]any{"pk": "a", "v": "1"})
}

// PartiQL update statements: a WHERE that is not true is ConditionalCheckFailed.
func dynamodbBatchNothing(p *dynamodbProbe) {
	table := p.table(false)
	p.put(table, map[string]any{"pk": "a", "v": "1"})
	answers := p.batch(dynamodbStatement(`UPDATE "`+*table+`" SET w = ? WHERE pk = ? AND nobody = ?`, "2", "a", "1"))
	p.same("answer", dynamodbFails(answers[0]), types.BatchStatementErrorCodeEnumConditionalCheckFailed)
	_, err := p.BatchExecuteStatement(p.ctx, &dynamodb.BatchExecuteStatementInput{Statements: []types.BatchStatementRequest{
		dynamodbStatement(`UPDATE "`+*table+`" SET v = ? WHERE pk = ?`, "2", "a"), dynamodbStatement(`UPDATE "`+*table+`" SET v = ? WHERE pk = ?`, "3", "a")}})
	p.want("ValidationException", err)
	p.same("item", p.get(table, map[string]any{"pk": "a"})["v"], "1")
}
