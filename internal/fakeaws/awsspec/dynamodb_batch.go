package awsspec

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

func dynamodbBatchCases() []dynamodbCase {
	return []dynamodbCase{
		{"BatchExecuteStatement/each conditional update has its own response", dynamodbBatch},
		{"BatchExecuteStatement/several fields in one SET clause", dynamodbBatchListed},
		{"BatchExecuteStatement/several SET clauses", dynamodbBatchRepeated},
		{"BatchExecuteStatement/nested paths", dynamodbBatchPaths},
		{"BatchExecuteStatement/attribute names with special characters", dynamodbBatchNames},
		{"BatchExecuteStatement/IS MISSING and IS NOT MISSING", dynamodbBatchPresence},
		{"BatchExecuteStatement/an update to more than 400 KB is refused", dynamodbBatchSize},
		{"BatchExecuteStatement/invalid requests are refused", dynamodbBatchRefused},
		{"BatchExecuteStatement/a condition on a missing attribute fails",
			dynamodbBatchNothing},
	}
}

func (p *dynamodbProbe) batch(
	statements ...types.BatchStatementRequest,
) []types.BatchStatementResponse {
	p.Helper()
	for i := range statements {
		statements[i].ReturnValuesOnConditionCheckFailure =
			types.ReturnValuesOnConditionCheckFailureAllOld
	}
	out, err := p.BatchExecuteStatement(p.ctx, &dynamodb.BatchExecuteStatementInput{
		Statements: statements,
	})
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

// dynamodbFails returns the error code of a response, "" if there is none.
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
		dynamodbStatement(update, []byte("new"), "a", "absent", []byte("old")),
		dynamodbStatement(`UPDATE "absent" SET "b" = ? WHERE "pk" = ?`, []byte("new"), "a"),
	)
	for i, want := range []types.BatchStatementErrorCodeEnum{"",
		types.BatchStatementErrorCodeEnumConditionalCheckFailed,
		types.BatchStatementErrorCodeEnumConditionalCheckFailed,
		types.BatchStatementErrorCodeEnumResourceNotFound} {
		p.same("answer "+string(rune('0'+i)), dynamodbFails(answers[i]), want)
	}
	if answers[1].Error != nil {
		p.same("item of the error", dynamodbPlain(answers[1].Error.Item), map[string]any{
			"pk": "a",
			"sk": "2",
			"b":  []byte("old"),
			"x":  "y",
		})
	}
	p.same("updated", p.get(table, map[string]any{"pk": "a", "sk": "1"}), map[string]any{
		"pk": "a",
		"sk": "1",
		"b":  []byte("new"),
		"x":  "y",
	})
	p.same("not updated", p.get(table, map[string]any{"pk": "a", "sk": "2"})["b"], []byte("old"))
	if item := p.get(table, map[string]any{"pk": "a", "sk": "absent"}); item != nil {
		p.Errorf("it made %v", item)
	}
}

// Running batch operations with PartiQL for DynamoDB, whose example sets two
// attributes in one clause.
func dynamodbBatchListed(p *dynamodbProbe) { p.severalFields(`SET "a" = ?, "b" = ?`) }

// PartiQL update statements for DynamoDB, whose example has two SET clauses.
func dynamodbBatchRepeated(p *dynamodbProbe) { p.severalFields(`SET "a" = ? SET "b" = ?`) }

// severalFields tests a form of an UPDATE that sets two attributes, with a condition on both.
func (p *dynamodbProbe) severalFields(set string) {
	p.Helper()
	table := p.table(false)
	p.put(table, map[string]any{"pk": "x", "a": "old", "b": []byte("old"), "c": "kept"})
	update := `UPDATE "` + *table + `" ` + set + ` WHERE "pk" = ? AND "a" = ? AND "b" = ?`
	answers := p.batch(dynamodbStatement(update, "new", []byte("new"), "x", "old",
		[]byte("another")))
	p.same("answer of a condition on the second one", dynamodbFails(answers[0]),
		types.BatchStatementErrorCodeEnumConditionalCheckFailed)
	answers = p.batch(dynamodbStatement(update, "new", []byte("new"), "x", "old", []byte("old")))
	p.same("answer", dynamodbFails(answers[0]), types.BatchStatementErrorCodeEnum(""))
	p.same("item", p.get(table, map[string]any{"pk": "x"}),
		map[string]any{"pk": "x", "a": "new", "b": []byte("new"), "c": "kept"})
}

// PartiQL update statements; PartiQL data types.
func dynamodbBatchPaths(p *dynamodbProbe) {
	table := p.table(false)
	p.put(table, map[string]any{"pk": "a",
		"m": map[string]any{"l": []any{"0", map[string]any{"k": "old"}}}})
	update := `UPDATE "` + *table + `" SET "m"."l"[1]."k" = ? WHERE "pk" = ? AND "m"."l"[1]."k" = ?`
	answers := p.batch(dynamodbStatement(update, "new", "a", "another"))
	p.same("answer of a condition", dynamodbFails(answers[0]),
		types.BatchStatementErrorCodeEnumConditionalCheckFailed)
	answers = p.batch(dynamodbStatement(update, "new", "a", "old"))
	p.same("answer", dynamodbFails(answers[0]), types.BatchStatementErrorCodeEnum(""))
	p.same("item", p.get(table, map[string]any{"pk": "a"}),
		map[string]any{"pk": "a", "m": map[string]any{"l": []any{"0", map[string]any{"k": "new"}}}})
}

// Reserved words in DynamoDB; identifiers in double quotes.
func dynamodbBatchNames(p *dynamodbProbe) {
	table := p.table(false)
	p.put(table, map[string]any{"pk": "a"})
	for _, name := range []string{"SET", "odd name", "é", "odd.name", "odd[0]", `q"uote`} {
		p.put(table, map[string]any{"pk": "a", name: "old"})
		quoted := `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
		answers := p.batch(dynamodbStatement(`UPDATE "`+*table+`" SET `+quoted+
			` = ? WHERE "pk" = ? AND `+
			quoted+` = ?`, "new", "a", "old"))
		p.same("answer of "+name, dynamodbFails(answers[0]), types.BatchStatementErrorCodeEnum(""))
		p.same("item of "+name, p.get(table, map[string]any{"pk": "a"}),
			map[string]any{"pk": "a", name: "new"})
	}
}

// Using the MISSING function with PartiQL for DynamoDB.
func dynamodbBatchPresence(p *dynamodbProbe) {
	table := p.table(false)
	p.put(table, map[string]any{"pk": "a", "v": "1", "w": "1"})
	for condition, want := range map[string]types.BatchStatementErrorCodeEnum{
		`"w" IS NOT MISSING`: "", `"x" IS MISSING`: "",
		`"w" IS MISSING`:     types.BatchStatementErrorCodeEnumConditionalCheckFailed,
		`"x" IS NOT MISSING`: types.BatchStatementErrorCodeEnumConditionalCheckFailed,
	} {
		answers := p.batch(dynamodbStatement(
			`UPDATE "`+*table+`" SET "v" = ? WHERE "pk" = ? AND "v" = ? AND `+condition, "1", "a",
			"1"))
		p.same("answer of "+condition, dynamodbFails(answers[0]), want)
	}
}

// Service, account, and table quotas: 400 KB, names included.
func dynamodbBatchSize(p *dynamodbProbe) {
	table := p.table(false)
	const most = 400<<10 - len("pk"+"a"+"v")
	p.put(table, map[string]any{"pk": "a", "v": "old"})
	update := `UPDATE "` + *table + `" SET "v" = ? WHERE "pk" = ? AND "v" = ?`
	answers := p.batch(dynamodbStatement(update, strings.Repeat("x", most+1), "a", "old"))
	p.same("answer over it", dynamodbFails(answers[0]),
		types.BatchStatementErrorCodeEnumValidationError)
	if e := answers[0].Error; e != nil {
		p.same("message", aws.ToString(e.Message),
			"Item size to update has exceeded the maximum allowed size")
	}
	p.same("item", p.get(table, map[string]any{"pk": "a"})["v"], "old")
	answers = p.batch(dynamodbStatement(update, strings.Repeat("x", most), "a", "old"))
	p.same("answer at the limit", dynamodbFails(answers[0]), types.BatchStatementErrorCodeEnum(""))
}

// API_BatchExecuteStatement: 25 statements; PartiQL update statements: the WHERE
// clause must name one primary key.
func dynamodbBatchRefused(p *dynamodbProbe) {
	table := p.table(false)
	p.put(table, map[string]any{"pk": "a", "v": "1"})
	var many []types.BatchStatementRequest
	for range 26 {
		many = append(many,
			dynamodbStatement(`UPDATE "`+*table+`" SET v = ? WHERE pk = ?`, "2", "b"))
	}
	_, err := p.BatchExecuteStatement(p.ctx, &dynamodb.BatchExecuteStatementInput{Statements: many})
	p.want("ValidationException", err)
	answers := p.batch(dynamodbStatement(`UPDATE "`+*table+`" SET v = ? WHERE v = ?`, "2", "1"))
	p.same("no key", dynamodbFails(answers[0]), types.BatchStatementErrorCodeEnumValidationError)
	answers = p.batch(dynamodbStatement(`UPDATE "`+*table+`" SET pk = ? WHERE pk = ?`, "b", "a"))
	p.same("a key attribute", dynamodbFails(answers[0]),
		types.BatchStatementErrorCodeEnumValidationError)
	answers = p.batch(dynamodbStatement(`UPDATE "`+*table+`" SET v = ? WHERE pk = ?`, "2"))
	p.same("a parameter missing", dynamodbFails(answers[0]),
		types.BatchStatementErrorCodeEnumValidationError)
	p.same("item", p.get(table, map[string]any{"pk": "a"}), map[string]any{"pk": "a", "v": "1"})
}

// PartiQL update statements: if WHERE is not true, the error is ConditionalCheckFailed.
func dynamodbBatchNothing(p *dynamodbProbe) {
	table := p.table(false)
	p.put(table, map[string]any{"pk": "a", "v": "1"})
	answers := p.batch(dynamodbStatement(`UPDATE "`+*table+
		`" SET w = ? WHERE pk = ? AND absent = ?`, "2", "a", "1"))
	p.same("answer", dynamodbFails(answers[0]),
		types.BatchStatementErrorCodeEnumConditionalCheckFailed)
	_, err := p.BatchExecuteStatement(p.ctx, &dynamodb.BatchExecuteStatementInput{
		Statements: []types.BatchStatementRequest{
			dynamodbStatement(`UPDATE "`+*table+`" SET v = ? WHERE pk = ?`, "2", "a"),
			dynamodbStatement(`UPDATE "`+*table+`" SET v = ? WHERE pk = ?`, "3", "a")},
	})
	p.want("ValidationException", err)
	p.same("item", p.get(table, map[string]any{"pk": "a"})["v"], "1")
}
