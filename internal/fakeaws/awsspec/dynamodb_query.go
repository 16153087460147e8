package awsspec

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

func dynamodbQueryCases() []dynamodbCase {
	return []dynamodbCase{
		{"Query/one partition, in the order of the sort key, page by page", dynamodbQueryOrder},
		{"Query/a key condition on other attributes is refused", dynamodbQueryKeys},
	}
}

// versions queries partition a of a table. It returns the sort keys of the items.
func (p *dynamodbProbe) versions(
	in dynamodb.QueryInput,
) (versions []string, out *dynamodb.QueryOutput) {
	p.Helper()
	in.ExpressionAttributeNames = map[string]string{"#pk": "pk"}
	if in.KeyConditionExpression == nil {
		in.KeyConditionExpression = aws.String("#pk = :pk")
	}
	out, err := p.Query(p.ctx, &in)
	p.must(err)
	for _, item := range out.Items {
		p.same("partition", dynamodbGo(item["pk"]), "a")
		versions = append(versions, dynamodbGo(item["sk"]).(string))
	}
	return versions, out
}

// API_Query: KeyConditionExpression, ScanIndexForward, Limit, ExclusiveStartKey.
func dynamodbQueryOrder(p *dynamodbProbe) {
	table := p.table(true)
	for i := range 5 {
		for _, partition := range []string{"a", "b"} {
			p.put(table, map[string]any{
				"pk":  partition,
				"sk":  fmt.Sprintf("%03d", i),
				"odd": i%2 == 1,
			})
		}
	}
	query := func(in dynamodb.QueryInput) ([]string, *dynamodb.QueryOutput) {
		p.Helper()
		in.TableName = table
		return p.versions(in)
	}
	values := func(more map[string]any) dynamodbItem {
		item := dynamodbOf(more)
		item[":pk"] = dynamodbValue("a")
		return item
	}
	all, _ := query(dynamodb.QueryInput{ExpressionAttributeValues: values(nil)})
	p.same("versions", all, []string{"000", "001", "002", "003", "004"})
	latest, _ := query(dynamodb.QueryInput{
		ExpressionAttributeValues: values(nil),
		ScanIndexForward:          aws.Bool(false),
		Limit:                     aws.Int32(1),
	})
	p.same("latest", latest, []string{"004"})
	between, _ := query(dynamodb.QueryInput{
		// the form that boto3 sends
		KeyConditionExpression:    aws.String("(#pk = :pk AND sk BETWEEN :low AND :high)"),
		ExpressionAttributeValues: values(map[string]any{":low": "001", ":high": "003"}),
	})
	p.same("between", between, []string{"001", "002", "003"})
	odd, out := query(dynamodb.QueryInput{
		KeyConditionExpression:    aws.String("begins_with(sk, :p) AND #pk = :pk"),
		FilterExpression:          aws.String("odd = :yes"),
		ExpressionAttributeValues: values(map[string]any{":p": "00", ":yes": true}),
	})
	p.same("odd", odd, []string{"001", "003"})
	p.same("scanned", out.ScannedCount, int32(5))

	var paged []string
	var start dynamodbItem
	for range 10 {
		page, out := query(dynamodb.QueryInput{
			ExpressionAttributeValues: values(nil),
			Limit:                     aws.Int32(2),
			ScanIndexForward:          aws.Bool(false),
			ExclusiveStartKey:         start,
		})
		paged = append(paged, page...)
		if start = out.LastEvaluatedKey; start == nil {
			break
		}
	}
	p.same("pages", paged, []string{"004", "003", "002", "001", "000"})
}

// API_Query: "You must provide the name of the partition key attribute and a single
// value for that attribute."
func dynamodbQueryKeys(p *dynamodbProbe) {
	table := p.table(true)
	p.put(table, map[string]any{"pk": "a", "sk": "1", "v": "x"})
	for _, condition := range []string{
		"sk = :x",
		"pk < :x",
		"pk = :x AND v = :x",
		"pk = :x AND sk <> :x",
		"pk = :x OR sk = :x",
	} {
		_, err := p.Query(p.ctx, &dynamodb.QueryInput{
			TableName:                 table,
			KeyConditionExpression:    &condition,
			ExpressionAttributeValues: dynamodbOf(map[string]any{":x": "a"}),
		})
		p.want("ValidationException", err)
	}
	_, err := p.Query(p.ctx, &dynamodb.QueryInput{TableName: table})
	p.want("ValidationException", err)
}
