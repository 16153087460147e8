package awsspec

import (
	"bytes"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

func dynamodbItemCases() []dynamodbCase {
	return []dynamodbCase{
		{"DescribeTable/key schema, types and state", dynamodbDescribe},
		{"DescribeTable/a missing table is ResourceNotFoundException", dynamodbNoTable},
		{"PutItem/values of every type are returned unchanged", dynamodbTypes},
		{"PutItem/numbers are returned in normal form", dynamodbNumbers},
		{"PutItem/invalid requests are refused", dynamodbRefusedItems},
		{"PutItem/a failed condition can return the item", dynamodbPutCondition},
		{"GetItem/a key that does not match the schema is ValidationException", dynamodbWrongKey},
		{"GetItem/projection into maps and lists", dynamodbProjection},
		{"DeleteItem/conditions and ALL_OLD", dynamodbDelete},
		{"UpdateItem/an update without a condition creates the item", dynamodbUpsert},
		{"UpdateItem/a failed condition creates no item", dynamodbNoUpsert},
		{"UpdateItem/ALL_OLD on failure returns the current item", dynamodbAllOld},
		{"UpdateItem/consumed capacity depends on the size of the item", dynamodbCapacity},
	}
}

// API_DescribeTable.
func dynamodbDescribe(p *dynamodbProbe) {
	table := p.table(true)
	out, err := p.DescribeTable(p.ctx, &dynamodb.DescribeTableInput{TableName: table})
	p.must(err)
	p.same("state", out.Table.TableStatus, types.TableStatusActive)
	p.same("partition key",
		aws.ToString(out.Table.KeySchema[0].AttributeName)+" "+
			string(out.Table.KeySchema[0].KeyType), "pk HASH")
	p.same("sort key",
		aws.ToString(out.Table.KeySchema[1].AttributeName)+" "+
			string(out.Table.KeySchema[1].KeyType), "sk RANGE")
	for _, d := range out.Table.AttributeDefinitions {
		p.same("type of "+*d.AttributeName, d.AttributeType, types.ScalarAttributeTypeS)
	}
}

// API_DescribeTable, API_Scan: errors.
func dynamodbNoTable(p *dynamodbProbe) {
	_, err := p.DescribeTable(p.ctx, &dynamodb.DescribeTableInput{TableName: aws.String("absent")})
	var missing *types.ResourceNotFoundException
	if !errors.As(err, &missing) {
		p.Errorf("DescribeTable: %v", err)
	}
	_, err = p.Scan(p.ctx, &dynamodb.ScanInput{TableName: aws.String("absent")})
	p.want("ResourceNotFoundException", err)
}

// API_AttributeValue.
func dynamodbTypes(p *dynamodbProbe) {
	table := p.table(false)
	item := map[string]any{
		"pk":   "a",
		"s":    "",
		"n":    dynamodbNumber("-12.5"),
		"b":    []byte{0, 255},
		"t":    true,
		"null": nil,
		"ss":   []string{"x", "y"},
		"ns":   []dynamodbNumber{"1", "2"},
		"bs":   [][]byte{{1}, {2}},
		"m":    map[string]any{"odd name.": []any{"x", map[string]any{}, []any{}}},
	}
	p.put(table, item)
	p.same("item", p.get(table, map[string]any{"pk": "a"}), item)
}

// Supported data types and naming rules in Amazon DynamoDB: Numbers.
func dynamodbNumbers(p *dynamodbProbe) {
	table := p.table(false)
	for written, printed := range map[string]string{
		"1.50":                                   "1.5",
		"007":                                    "7",
		"1e3":                                    "1000",
		"-0":                                     "0",
		"0.000":                                  "0",
		"12345678901234567890123456789012345678": "12345678901234567890123456789012345678",
	} {
		p.put(table, map[string]any{"pk": "a", "n": dynamodbNumber(written)})
		p.same(written, p.get(table, map[string]any{"pk": "a"})["n"], dynamodbNumber(printed))
	}
}

// API_PutItem; Quotas; Supported data types and naming rules.
func dynamodbRefusedItems(p *dynamodbProbe) {
	table := p.table(false)
	for what, item := range map[string]dynamodbItem{
		"no key":              dynamodbOf(map[string]any{"x": "1"}),
		"empty key":           dynamodbOf(map[string]any{"pk": ""}),
		"key of another type": dynamodbOf(map[string]any{"pk": dynamodbNumber("1")}),
		"empty set": {
			"pk": dynamodbValue("a"),
			"s":  &types.AttributeValueMemberSS{Value: []string{}},
		},
		"a member twice": dynamodbOf(map[string]any{"pk": "a", "s": []string{"x", "x"}}),
		"39 digits": dynamodbOf(map[string]any{
			"pk": "a",
			"n":  dynamodbNumber(strings.Repeat("1", 39)),
		}),
		"no number": dynamodbOf(map[string]any{"pk": "a", "n": dynamodbNumber("one")}),
		"over 400 KB": dynamodbOf(map[string]any{"pk": "a",
			"b": bytes.Repeat([]byte("x"), 410<<10)}),
	} {
		_, err := p.PutItem(p.ctx, &dynamodb.PutItemInput{TableName: table, Item: item})
		if err == nil {
			p.Errorf("%s is stored", what)
			continue
		}
		p.want("ValidationException", err)
	}
}

// API_PutItem: ConditionExpression, ReturnValuesOnConditionCheckFailure.
func dynamodbPutCondition(p *dynamodbProbe) {
	table := p.table(false)
	put := func(v string) error {
		_, err := p.PutItem(p.ctx, &dynamodb.PutItemInput{
			TableName:                           table,
			Item:                                dynamodbOf(map[string]any{"pk": "a", "v": v}),
			ConditionExpression:                 aws.String("attribute_not_exists(pk)"),
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		})
		return err
	}
	p.must(put("1"))
	var failed *types.ConditionalCheckFailedException
	if err := put("2"); !errors.As(err, &failed) {
		p.Fatalf("the second put: %v", err)
	}
	p.same("item of the error", dynamodbPlain(failed.Item), map[string]any{"pk": "a", "v": "1"})
	p.same("item", p.get(table, map[string]any{"pk": "a"})["v"], "1")
}

// API_GetItem.
func dynamodbWrongKey(p *dynamodbProbe) {
	table := p.table(true)
	for _, key := range []map[string]any{
		{"pk": "a"},
		{"pk": "a", "sk": "b", "x": "c"},
		{"pk": dynamodbNumber("1"), "sk": "b"},
	} {
		_, err := p.GetItem(p.ctx, &dynamodb.GetItemInput{TableName: table, Key: dynamodbOf(key)})
		p.want("ValidationException", err)
	}
}

// Using projection expressions in DynamoDB.
func dynamodbProjection(p *dynamodbProbe) {
	table := p.table(false)
	p.put(table, map[string]any{
		"pk":   "a",
		"name": "n",
		"x":    "1",
		"m":    map[string]any{"l": []any{"0", map[string]any{"k": "v", "z": "z"}, "2"}, "q": "q"},
	})
	out, err := p.GetItem(p.ctx, &dynamodb.GetItemInput{
		TableName:                table,
		Key:                      dynamodbOf(map[string]any{"pk": "a"}),
		ProjectionExpression:     aws.String("#n, m.l[1].k, m.l[2], absent"),
		ExpressionAttributeNames: map[string]string{"#n": "name"},
	})
	p.must(err)
	p.same("projection", dynamodbPlain(out.Item), map[string]any{
		"name": "n",
		"m":    map[string]any{"l": []any{map[string]any{"k": "v"}, "2"}},
	})
	_, err = p.GetItem(p.ctx, &dynamodb.GetItemInput{
		TableName:            table,
		Key:                  dynamodbOf(map[string]any{"pk": "a"}),
		ProjectionExpression: aws.String("m, m.l"),
	})
	p.want("ValidationException", err)
}

// API_DeleteItem.
func dynamodbDelete(p *dynamodbProbe) {
	table := p.table(false)
	p.put(table, map[string]any{"pk": "a", "v": "1"})
	remove := func(v string) (*dynamodb.DeleteItemOutput, error) {
		return p.DeleteItem(p.ctx, &dynamodb.DeleteItemInput{
			TableName:                 table,
			Key:                       dynamodbOf(map[string]any{"pk": "a"}),
			ConditionExpression:       aws.String("v = :v"),
			ExpressionAttributeValues: dynamodbOf(map[string]any{":v": v}),
			ReturnValues:              types.ReturnValueAllOld,
		})
	}
	_, err := remove("2")
	p.want("ConditionalCheckFailedException", err)
	out, err := remove("1")
	p.must(err)
	p.same("old values", dynamodbPlain(out.Attributes), map[string]any{"pk": "a", "v": "1"})
	if item := p.get(table, map[string]any{"pk": "a"}); item != nil {
		p.Errorf("still there: %v", item)
	}
}

// API_UpdateItem: "edits an existing item's attributes, or adds a new item".
func dynamodbUpsert(p *dynamodbProbe) {
	table := p.table(false)
	_, err := p.update(table, "SET v = :v", "", nil, map[string]any{":v": "1"})
	p.must(err)
	p.same("item", p.get(table, map[string]any{"pk": "a"}), map[string]any{"pk": "a", "v": "1"})
}

// API_UpdateItem: a condition on a value is false if the item does not exist.
func dynamodbNoUpsert(p *dynamodbProbe) {
	table := p.table(false)
	_, err := p.update(table, "SET v = :n", "v = :o", nil, map[string]any{":n": "1", ":o": "0"})
	var failed *types.ConditionalCheckFailedException
	if !errors.As(err, &failed) || len(failed.Item) > 0 {
		p.Errorf("update of nothing: %v", err)
	}
	if item := p.get(table, map[string]any{"pk": "a"}); item != nil {
		p.Errorf("it made %v", item)
	}
}

// API_UpdateItem: ReturnValuesOnConditionCheckFailure.
func dynamodbAllOld(p *dynamodbProbe) {
	table := p.table(false)
	p.put(table, map[string]any{"pk": "a", "b": []byte("now"), "x": "y"})
	_, err := p.update(table, "SET b = :n", "b = :o", nil, map[string]any{
		":n": []byte("new"),
		":o": []byte("old"),
	})
	var failed *types.ConditionalCheckFailedException
	if !errors.As(err, &failed) {
		p.Fatal(err)
	}
	p.same("item of the error", dynamodbPlain(failed.Item), map[string]any{
		"pk": "a",
		"b":  []byte("now"),
		"x":  "y",
	})
	_, err = p.update(table, "SET b = :n", "b = :o", nil, map[string]any{
		":n": []byte("new"),
		":o": []byte("now"),
	})
	p.must(err)
	p.same("item", p.get(table, map[string]any{"pk": "a"}), map[string]any{
		"pk": "a",
		"b":  []byte("new"),
		"x":  "y",
	})
}

// Read and write operations: capacity unit consumption for writes.
func dynamodbCapacity(p *dynamodbProbe) {
	table := p.table(false)
	p.put(table, map[string]any{"pk": "a", "b": bytes.Repeat([]byte("x"), 2500)})
	out, err := p.UpdateItem(p.ctx, &dynamodb.UpdateItemInput{
		TableName:                 table,
		Key:                       dynamodbOf(map[string]any{"pk": "a"}),
		UpdateExpression:          aws.String("SET v = :v"),
		ExpressionAttributeValues: dynamodbOf(map[string]any{":v": "1"}),
		ReturnConsumedCapacity:    types.ReturnConsumedCapacityTotal,
	})
	p.must(err)
	p.same("units", aws.ToFloat64(out.ConsumedCapacity.CapacityUnits), 3.0)
}
