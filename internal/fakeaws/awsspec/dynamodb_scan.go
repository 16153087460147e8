package awsspec

import (
	"bytes"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

func dynamodbScanCases() []dynamodbCase {
	return []dynamodbCase{
		{"Scan/segments and pages contain each item once", dynamodbSegments},
		{"Scan/a start key of another segment is refused", dynamodbForeignSegment},
		{"Scan/a page ends at 1 MB", dynamodbPages},
		{"Scan/Limit applies before the filter", dynamodbFilter},
	}
}

func (p *dynamodbProbe) fill(table *string, n int) {
	p.Helper()
	for first := 0; first < n; first += 25 {
		var puts []types.WriteRequest
		for i := first; i < min(first+25, n); i++ {
			puts = append(puts, types.WriteRequest{
				PutRequest: &types.PutRequest{
					Item: dynamodbOf(map[string]any{"pk": dynamodbID(i), "v": "1"}),
				},
			})
		}
		_, err := p.BatchWriteItem(p.ctx, &dynamodb.BatchWriteItemInput{
			RequestItems: map[string][]types.WriteRequest{*table: puts},
		})
		p.must(err)
	}
}

// API_Scan: Segment, TotalSegments, Limit, ExclusiveStartKey; in-place updates do
// not move items.
func dynamodbSegments(p *dynamodbProbe) {
	table := p.table(false)
	p.fill(table, 100)
	seen := map[string]int{}
	for segment := range int32(3) {
		var start dynamodbItem
		for range 100 {
			out, err := p.Scan(p.ctx, &dynamodb.ScanInput{
				TableName:         table,
				Segment:           aws.Int32(segment),
				TotalSegments:     aws.Int32(3),
				Limit:             aws.Int32(7),
				ExclusiveStartKey: start,
			})
			p.must(err)
			if out.Count > 7 || out.ScannedCount != out.Count {
				p.Fatalf("a page of %d items, %d scanned, and the limit is 7", out.Count,
					out.ScannedCount)
			}
			for _, item := range out.Items {
				seen[dynamodbGo(item["pk"]).(string)]++
				_, err := p.UpdateItem(p.ctx, &dynamodb.UpdateItemInput{
					TableName:        table,
					Key:              dynamodbItem{"pk": item["pk"]},
					UpdateExpression: aws.String("SET v = :v"),
					ExpressionAttributeValues: dynamodbOf(map[string]any{
						":v": strings.Repeat("longer", 9),
					}),
				})
				p.must(err)
			}
			if start = out.LastEvaluatedKey; start == nil {
				break
			}
		}
	}
	p.same("items", len(seen), 100)
	for id, n := range seen {
		if n != 1 {
			p.Errorf("%s was seen %d times", id, n)
		}
	}
}

// API_Scan: LastEvaluatedKey must be used with the same segment.
func dynamodbForeignSegment(p *dynamodbProbe) {
	table := p.table(false)
	p.fill(table, 50)
	out, err := p.Scan(p.ctx, &dynamodb.ScanInput{
		TableName:     table,
		Segment:       aws.Int32(0),
		TotalSegments: aws.Int32(4),
		Limit:         aws.Int32(1),
	})
	p.must(err)
	if out.LastEvaluatedKey == nil {
		p.Fatal("segment 0 of 4 has no second item")
	}
	_, err = p.Scan(p.ctx, &dynamodb.ScanInput{
		TableName:         table,
		Segment:           aws.Int32(1),
		TotalSegments:     aws.Int32(4),
		ExclusiveStartKey: out.LastEvaluatedKey,
	})
	p.want("ValidationException", err)
	_, err = p.Scan(p.ctx, &dynamodb.ScanInput{
		TableName:     table,
		Segment:       aws.Int32(4),
		TotalSegments: aws.Int32(4),
	})
	p.want("ValidationException", err)
	_, err = p.Scan(p.ctx, &dynamodb.ScanInput{TableName: table, Segment: aws.Int32(0)})
	if err == nil {
		p.Error("a Segment without TotalSegments is taken")
	}
}

// API_Scan: "If the total size of scanned items exceeds the maximum dataset size
// limit of 1 MB, the scan completes and results are returned".
func dynamodbPages(p *dynamodbProbe) {
	table := p.table(false)
	for i := range 8 {
		p.put(table, map[string]any{"pk": dynamodbID(i), "b": bytes.Repeat([]byte("x"), 300<<10)})
	}
	seen, pages := 0, 0
	var start dynamodbItem
	for range 20 {
		out, err := p.Scan(p.ctx, &dynamodb.ScanInput{
			TableName:              table,
			ExclusiveStartKey:      start,
			ProjectionExpression:   aws.String("pk"),
			ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
		})
		p.must(err)
		seen += int(out.Count)
		pages++
		if out.Count > 4 {
			p.Errorf("a page of %d items of 300 KB", out.Count)
		}
		if used := aws.ToFloat64(out.ConsumedCapacity.CapacityUnits); out.Count == 4 &&
			(used < 140 || used > 160) {
			p.Errorf(
				"4 items of 300 KB cost %v units, want about 150: projection does not save any",
				used,
			)
		}
		if start = out.LastEvaluatedKey; start == nil {
			break
		}
	}
	p.same("items", seen, 8)
	if pages < 2 {
		p.Errorf("%d pages for 2.4 MB", pages)
	}
}

// API_Scan: FilterExpression, Count and ScannedCount.
func dynamodbFilter(p *dynamodbProbe) {
	table := p.table(false)
	p.fill(table, 20)
	out, err := p.Scan(p.ctx, &dynamodb.ScanInput{
		TableName:                 table,
		Limit:                     aws.Int32(20),
		FilterExpression:          aws.String("pk < :p"),
		ExpressionAttributeValues: dynamodbOf(map[string]any{":p": dynamodbID(5)}),
	})
	p.must(err)
	p.same("count", out.Count, int32(5))
	p.same("scanned", out.ScannedCount, int32(20))
}
