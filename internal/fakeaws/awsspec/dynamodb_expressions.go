package awsspec

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

func dynamodbExpressionCases() []dynamodbCase {
	return []dynamodbCase{
		{"ConditionExpression/operators and functions", dynamodbConditions},
		{"ConditionExpression/equality of every type", dynamodbEquality},
		{"UpdateExpression/SET, REMOVE, ADD and DELETE", dynamodbUpdates},
		{"UpdateExpression/invalid requests are refused", dynamodbRefusedUpdates},
		{"UpdateExpression/all values are computed from the old item", dynamodbSimultaneous},
		{"UpdateExpression/ReturnValues", dynamodbReturnValues},
		{"TransactWriteItems/all writes succeed or none", dynamodbTransaction},
	}
}

func dynamodbConditionsCases() map[string]bool {
	return map[string]bool{
		"s = :s":                            true,
		"s <> :s":                           false,
		"n = :5":                            true,
		"n < :6":                            true,
		"n <= :4":                           false,
		"n > :4":                            true,
		"n >= :5":                           true,
		"s < :6":                            false,
		"n BETWEEN :4 AND :6":               true,
		"n BETWEEN :6 AND :4":               false,
		"s IN (:x, :s)":                     true,
		"s IN (:x)":                         false,
		"attribute_exists(m.k)":             true,
		"attribute_exists(m.z)":             false,
		"attribute_not_exists(l[2])":        true,
		"attribute_type(s, :S)":             true,
		"begins_with(s, :t)":                true,
		"begins_with(b, :b)":                true,
		"begins_with(b, :t)":                false,
		"contains(s, :x)":                   true,
		"contains(l, :x)":                   true,
		"contains(ss, :one)":                true,
		"size(s) = :4":                      true,
		"size(l) < :4":                      true,
		"absent = :x":                       false,
		"absent <> :x":                      true,
		"l[0] = :x":                         true,
		"m.k = l[0]":                        false,
		"NOT s = :s":                        false,
		"NOT (s = :x OR n = :4) AND n = :5": true,
		"s = :x OR n = :5 AND s = :s":       true,
	}
}

// Condition and filter expressions, operators, and functions in DynamoDB.
func dynamodbConditions(p *dynamodbProbe) {
	table := p.table(false)
	p.put(table, map[string]any{
		"pk": "a",
		"s":  "text",
		"n":  dynamodbNumber("5"),
		"b":  []byte("bytes"),
		"l":  []any{"x", dynamodbNumber("1")},
		"m":  map[string]any{"k": "v"},
		"ss": []string{"one", "two"},
	})
	values := map[string]any{
		":s":   "text",
		":t":   "te",
		":x":   "x",
		":one": "one",
		":b":   []byte("by"),
		":4":   dynamodbNumber("4"),
		":5":   dynamodbNumber("5.0"),
		":6":   dynamodbNumber("6"),
		":S":   "S",
	}
	for condition, want := range dynamodbConditionsCases() {
		used := map[string]any{":s": "text"}
		for name, v := range values {
			if dynamodbUses(condition, name) {
				used[name] = v
			}
		}
		_, err := p.update(table, "SET checked = :s", condition, nil, used)
		if want {
			if err != nil {
				p.Errorf("%s: %v, want it to hold", condition, err)
			}
			continue
		}
		p.want("ConditionalCheckFailedException", err)
	}
}

// dynamodbUses reports whether the expression contains the value placeholder name.
func dynamodbUses(expression, name string) bool {
	for i := range expression {
		end := i + len(name)
		if end <= len(expression) && expression[i:end] == name &&
			(end == len(expression) || expression[end] == ' ' || expression[end] == ')' ||
				expression[end] == ',') {
			return true
		}
	}
	return false
}

// Comparison operator and function reference: "=" of documents and sets.
func dynamodbEquality(p *dynamodbProbe) {
	table := p.table(false)
	for what, pair := range map[string][2]any{
		"binary":             {[]byte{1, 0}, []byte{1, 0}},
		"numbers by value":   {dynamodbNumber("1.0"), dynamodbNumber("1")},
		"booleans":           {true, true},
		"null":               {nil, nil},
		"sets without order": {[][]byte{{1}, {2}}, [][]byte{{2}, {1}}},
		"maps":               {map[string]any{"a": []any{"x"}}, map[string]any{"a": []any{"x"}}},
	} {
		p.put(table, map[string]any{"pk": "a", "v": pair[0]})
		if _, err := p.update(table, "SET checked = :v", "v = :v", nil, map[string]any{
			":v": pair[1],
		}); err != nil {
			p.Errorf("%s: %v, want them equal", what, err)
		}
	}
	for what, pair := range map[string][2]any{
		"string and binary":     {"a", []byte("a")},
		"lists in order":        {[]any{"a", "b"}, []any{"b", "a"}},
		"sets of other members": {[]string{"a"}, []string{"a", "b"}},
		"number and string":     {dynamodbNumber("1"), "1"},
	} {
		p.put(table, map[string]any{"pk": "a", "v": pair[0]})
		if _, err := p.update(table, "SET checked = :v", "v = :v", nil, map[string]any{
			":v": pair[1],
		}); err == nil {
			p.Errorf("%s are equal", what)
		}
	}
}

// dynamodbUpdatesCase is a case of dynamodbUpdates.
type dynamodbUpdatesCase struct {
	update string
	values map[string]any
	want   map[string]any // of the attributes m, n, s, l
}

func dynamodbUpdatesCases() []dynamodbUpdatesCase {
	return []dynamodbUpdatesCase{
		{
			"SET m.k = :v",
			map[string]any{":v": "new"},
			map[string]any{"m": map[string]any{"k": "new", "o": "o"}},
		},
		{
			"SET m.fresh = :v, s = n",
			map[string]any{":v": "new"},
			map[string]any{
				"m": map[string]any{"k": "v", "o": "o", "fresh": "new"},
				"s": dynamodbNumber("5"),
			},
		},
		{"SET l[1] = :v", map[string]any{":v": "new"}, map[string]any{"l": []any{"0", "new", "2"}}},
		{
			"SET l[9] = :v",
			map[string]any{":v": "new"},
			map[string]any{"l": []any{"0", "1", "2", "new"}},
		},
		{
			"SET n = n + :v",
			map[string]any{":v": dynamodbNumber("0.5")},
			map[string]any{"n": dynamodbNumber("5.5")},
		},
		{
			"SET n = n - :v",
			map[string]any{":v": dynamodbNumber("7")},
			map[string]any{"n": dynamodbNumber("-2")},
		},
		{
			"SET s = if_not_exists(s, :v), n = if_not_exists(absent, :v)",
			map[string]any{":v": "new"},
			map[string]any{"n": "new"},
		},
		{
			"SET l = list_append(l, :v)",
			map[string]any{":v": []any{"3"}},
			map[string]any{"l": []any{"0", "1", "2", "3"}},
		},
		{
			"REMOVE l[0], l[1], m.k",
			nil,
			map[string]any{"l": []any{"2"}, "m": map[string]any{"o": "o"}},
		},
		{
			"ADD n :v",
			map[string]any{":v": dynamodbNumber("2")},
			map[string]any{"n": dynamodbNumber("7")},
		},
		{
			"ADD s2 :v",
			map[string]any{":v": []string{"b", "z"}},
			map[string]any{"s2": []string{"a", "b", "z"}},
		},
		{"DELETE s2 :v", map[string]any{":v": []string{"b"}}, map[string]any{"s2": []string{"a"}}},
	}
}

// Using update expressions in DynamoDB.
func dynamodbUpdates(p *dynamodbProbe) {
	table := p.table(false)
	key := map[string]any{"pk": "a"}
	for _, test := range dynamodbUpdatesCases() {
		item := map[string]any{
			"pk": "a",
			"m":  map[string]any{"k": "v", "o": "o"},
			"n":  dynamodbNumber("5"),
			"s":  "s",
			"l":  []any{"0", "1", "2"},
			"s2": []string{"a", "b"},
		}
		p.put(table, item)
		if _, err := p.update(table, test.update, "", nil, test.values); err != nil {
			p.Errorf("%s: %v", test.update, err)
			continue
		}
		for name, v := range test.want {
			item[name] = v
		}
		p.same(test.update, p.get(table, key), item)
	}
}

// Using update expressions; expression attribute names and values; API_UpdateItem.
func dynamodbRefusedUpdates(p *dynamodbProbe) {
	table := p.table(false)
	p.put(table, map[string]any{"pk": "a", "m": map[string]any{}, "s": "s"})
	v := map[string]any{":v": "x"}
	for _, test := range []struct {
		update string
		names  map[string]string
		values map[string]any
	}{
		{"SET pk = :v", nil, v},
		{"SET absent.k = :v", nil, v},
		{"SET s.k = :v", nil, v},
		{"SET m.k = :v, m = :v", nil, v},
		{"SET x = :w", nil, v},
		{"SET #x = :v", nil, v},
		{"SET x = :v", map[string]string{"#x": "x"}, v},
		{"SET x = :v SET y = :v", nil, v},
		{"SET x = s + :v", nil, v},
		{"SET x = absent", nil, nil},
		{"SET", nil, nil},
		{"FROB x", nil, nil},
	} {
		_, err := p.update(table, test.update, "", test.names, test.values)
		if err == nil {
			p.Errorf("%s is done", test.update)
			continue
		}
		p.want("ValidationException", err)
	}
}

// Using update expressions: values refer to the item before the update.
func dynamodbSimultaneous(p *dynamodbProbe) {
	table := p.table(false)
	p.put(table, map[string]any{"pk": "a", "x": "1", "y": "2"})
	_, err := p.update(table, "SET x = y, y = x", "", nil, nil)
	p.must(err)
	p.same("item", p.get(table, map[string]any{
		"pk": "a",
	}), map[string]any{"pk": "a", "x": "2", "y": "1"})
}

// API_UpdateItem: ReturnValues.
func dynamodbReturnValues(p *dynamodbProbe) {
	table := p.table(false)
	for returned, want := range map[types.ReturnValue]map[string]any{
		types.ReturnValueAllOld:     {"pk": "a", "x": "1", "y": "2"},
		types.ReturnValueAllNew:     {"pk": "a", "x": "3", "y": "2"},
		types.ReturnValueUpdatedOld: {"x": "1"},
		types.ReturnValueUpdatedNew: {"x": "3"},
		types.ReturnValueNone:       {},
	} {
		p.put(table, map[string]any{"pk": "a", "x": "1", "y": "2"})
		out, err := p.UpdateItem(p.ctx, &dynamodb.UpdateItemInput{
			TableName:                 table,
			Key:                       dynamodbOf(map[string]any{"pk": "a"}),
			UpdateExpression:          aws.String("SET x = :v"),
			ExpressionAttributeValues: dynamodbOf(map[string]any{":v": "3"}),
			ReturnValues:              returned,
		})
		p.must(err)
		p.same(string(returned), dynamodbPlain(out.Attributes), want)
	}
}

// API_TransactWriteItems.
func dynamodbTransaction(p *dynamodbProbe) {
	table := p.table(false)
	p.put(table, map[string]any{"pk": "a", "v": "1"})
	transact := func(condition string) error {
		_, err := p.TransactWriteItems(p.ctx, &dynamodb.TransactWriteItemsInput{
			TransactItems: []types.TransactWriteItem{
				{Put: &types.Put{TableName: table, Item: dynamodbOf(map[string]any{"pk": "b"})}},
				{
					Update: &types.Update{
						TableName:           table,
						Key:                 dynamodbOf(map[string]any{"pk": "a"}),
						UpdateExpression:    aws.String("SET v = :n"),
						ConditionExpression: aws.String("v = :o"),
						ExpressionAttributeValues: dynamodbOf(map[string]any{
							":n": "2",
							":o": condition,
						}),
					},
				},
			},
		})
		return err
	}
	err := transact("0")
	p.want("TransactionCanceledException", err)
	if item := p.get(table, map[string]any{"pk": "b"}); item != nil {
		p.Errorf("half of it was done: %v", item)
	}
	p.must(transact("1"))
	p.same("updated", p.get(table, map[string]any{"pk": "a"})["v"], "2")
	p.same("put", p.get(table, map[string]any{"pk": "b"}), map[string]any{"pk": "b"})
}
