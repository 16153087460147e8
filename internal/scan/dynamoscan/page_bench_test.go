package dynamoscan

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// canned is a server without a network. It responds to every Scan with one page, and to every other
// request with the description of the table.
type canned struct {
	page []byte
}

const cannedTable = `{"Table": {
	"KeySchema": [
		{"AttributeName": "customer", "KeyType": "HASH"},
		{"AttributeName": "document", "KeyType": "RANGE"}
	],
	"AttributeDefinitions": [
		{"AttributeName": "customer", "AttributeType": "S"},
		{"AttributeName": "document", "AttributeType": "N"}
	]
}}`

func (c *canned) Do(r *http.Request) (*http.Response, error) {
	body := []byte(cannedTable)
	if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".Scan") {
		body = c.page
	}
	return &http.Response{
		StatusCode:    http.StatusOK,
		Header:        http.Header{"X-Amz-Crc32": {sumOf(body)}},
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
	}, nil
}

// cannedPage returns a page of n items with two keys, a blob of 250 bytes and three strings.
func cannedPage(n int) []byte {
	random := rand.NewChaCha8([32]byte{})
	var page bytes.Buffer
	fmt.Fprintf(&page,
		`{"ConsumedCapacity":{"CapacityUnits":128.5,"TableName":"customers"},"Count":%d,"Items":[`,
		n)
	for i := range n {
		blob := make([]byte, 250)
		_, _ = random.Read(blob)
		if i > 0 {
			page.WriteByte(',')
		}
		fmt.Fprintf(&page,
			`{"document":{"N":"%d"},"ssn":{"B":"%s"},"tenant":{"S":"tenant-%d"},`+
				`"region":{"S":"eu-west-1"},"customer":{"S":"customer-%08d"},`+
				`"purpose":{"S":"pii"}}`,
			i%3, base64.StdEncoding.EncodeToString(blob), i%100, i)
	}
	fmt.Fprintf(&page,
		`],"LastEvaluatedKey":{"document":{"N":"1"},"customer":{"S":"customer-1"}},`+
			`"ScannedCount":%d}`, n)
	return page.Bytes()
}

func cannedSource(c *canned, change func(*Config)) *Table {
	client := dynamodb.New(dynamodb.Options{
		Region:      "eu-west-1",
		HTTPClient:  c,
		Retryer:     aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	})
	config := Config{
		Client:     client,
		Table:      tableName,
		Segments:   1,
		Attributes: []string{"ssn", "tenant", "region", "purpose"},
		Writes:     []string{"ssn"},
	}
	if change != nil {
		change(&config)
	}
	return New(config)
}

// BenchmarkPage measures the time and the allocations to turn the bytes of a response into rows,
// without a network: for a page of 1 MB, and for a page of the size that a run requests.
func BenchmarkPage(b *testing.B) {
	for _, n := range []int{2250, 250} {
		body := cannedPage(n)
		for _, path := range []string{"sdk", "own"} {
			b.Run(fmt.Sprintf("%s/items=%d", path, n), func(b *testing.B) {
				table := cannedSource(&canned{page: body}, func(c *Config) {
					c.SDKOnly = path == "sdk"
				})
				partitions, err := table.Partitions(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				items, began := 0, cpuTime(b)
				for b.Loop() {
					page, err := table.Page(b.Context(), partitions[0], nil)
					if err != nil || len(page.Items) != n || page.Last {
						b.Fatal(len(page.Items), err)
					}
					items += n
				}
				b.ReportMetric(float64(cpuTime(b)-began)/float64(items), "cpu-ns/item")
			})
		}
	}
}

// cpuTime returns the CPU time of the process, including the garbage collector.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// sumOf returns the checksum that DynamoDB sends with a body.
func sumOf(body []byte) string { return strconv.FormatUint(uint64(crc32.ChecksumIEEE(body)), 10) }
