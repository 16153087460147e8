package main

import (
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/scan/s3scan"
)

// TestS3Requests: a run sends two S3 requests per object without tags and ACLs, in total, and an
// audit sends one.
func TestS3Requests(t *testing.T) {
	t.Parallel()
	const objects, workers = 1000, 4
	for format, w := range map[string]func(blob []byte) written{
		"raw": func(blob []byte) written { return written{body: blob} },
		"s3-encryption-client": func(blob []byte) written {
			return written{
				body: []byte("sealed"),
				metadata: map[string]string{"x-amz-key-v2": std64(blob), "x-amz-iv": "aXY=",
					"x-amz-wrap-alg": "kms", "x-amz-matdesc": "{}"},
			}
		},
	} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			m := newMixed(t, 0)
			for i := range objects {
				v := variety{
					name:  format,
					write: func(blob []byte, _ string) written { return w(blob) },
					put:   func(in *s3.PutObjectInput) { in.Tagging = nil },
				}
				if err := m.put(t.Context(), fmt.Sprintf("%05d", i), v); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(3 * time.Second) // objects are usually older than that
			file := filepath.Join(t.TempDir(), "job.yaml")
			job := fmt.Sprintf("job: requests\ndestination: { key: %q }\n"+
				"source: { keys: [%q] }\nkms: { rate: 100000 }\nworkers: %d\ntargets:\n"+
				"  - s3: { bucket: %s }\n    format: %s\n%s",
				m.keys["new"], m.keys["old"], workers, mixedBucket, format,
				map[string]string{"raw": "    slots: [{}]\n"}[format])
			if err := os.WriteFile(file, []byte(job), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				command string
				exit    int
				most    float64
			}{{"audit", 0, 1.05}, {"run", 0, 2.05}} {
				before, listings := m.s3Requests(), m.server.Faults().Counts()["s3:ListObjectsV2"]
				if code, out, errs := command(t, m.env, c.command, "-f", file); code != c.exit {
					t.Fatalf("%s: exit code %d: %s%s", c.command, code, out, errs)
				}
				if n := m.server.Faults().Counts()["s3:ListObjectsV2"] - listings; n != 1+
					objects/pageItems+workers+1 {
					t.Errorf("%s: %d listings, want one for old probes, one for each page, "+
						"and one for each connection that is opened in advance", c.command, n)
				}
				per := float64(m.s3Requests()-before) / objects
				t.Logf("%s: %.3f S3 requests per object", c.command, per)
				if per > c.most {
					t.Errorf("%s: more than %v requests per object: %v", c.command, c.most,
						m.server.Faults().Counts())
				}
			}
		})
	}
}

func (m *mixed) s3Requests() (n int) {
	for operation, count := range m.server.Faults().Counts() {
		if strings.HasPrefix(operation, "s3:") {
			n += count
		}
	}
	return n
}

// TestDynamoDBRequests: each command calls DescribeTable once for each table. If a table has
// several pages, a run opens connections to it with health checks. An audit writes nothing
// and opens none.
func TestDynamoDBRequests(t *testing.T) {
	t.Parallel()
	const rows, workers, segments, tables = 3 * pageItems, 4, 2, 2
	m := newMixed(t, 0)
	job := fmt.Sprintf("job: requests\ndestination: { key: %q }\nsource: { keys: [%q] }\n"+
		"kms: { rate: 100000 }\nworkers: %d\ntargets:\n", m.keys["new"], m.keys["old"], workers)
	for i := range tables {
		table := fmt.Sprintf("table-%d", i)
		m.fillTable(t, table, rows)
		job += fmt.Sprintf("  - dynamodb: { table: %s, segments: %d }\n    format: raw\n"+
			"    slots: [{ path: blob }]\n", table, segments)
	}
	file := filepath.Join(t.TempDir(), "job.yaml")
	if err := os.WriteFile(file, []byte(job), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		command string
		opening int
	}{{"audit", 0}, {"run", tables * (workers + segments)}, {"run", 0}} {
		before := m.server.Faults().Counts()
		if code, out, errs := command(t, m.env, c.command, "-f", file); code != 0 {
			t.Fatalf("%s: exit code %d: %s%s", c.command, code, out, errs)
		}
		after := m.server.Faults().Counts()
		for operation, want := range map[string]int{
			"dynamodb:DescribeTable": tables,
			"dynamodb:Health":        c.opening,
		} {
			if n := after[operation] - before[operation]; n != want {
				t.Errorf("%s: %d requests %s, want %d", c.command, n, operation, want)
			}
		}
		if n := after["dynamodb:Scan"] - before["dynamodb:Scan"]; n < tables*rows/pageItems {
			t.Errorf("%s: %d pages, want several", c.command, n)
		}
	}
}

// fillTable creates a table whose rows hold the same ciphertext.
func (m *mixed) fillTable(t *testing.T, table string, rows int) {
	t.Helper()
	options := m.client.Options()
	cfg := aws.Config{
		Region:       options.Region,
		BaseEndpoint: options.BaseEndpoint,
		Credentials:  options.Credentials,
	}
	sealed, err := kms.NewFromConfig(cfg).Encrypt(t.Context(), &kms.EncryptInput{
		KeyId:     aws.String(m.keys["old"]),
		Plaintext: []byte("a data key"),
	})
	if err != nil {
		t.Fatal(err)
	}
	client := dynamodb.NewFromConfig(cfg)
	key := []types.AttributeDefinition{{
		AttributeName: aws.String("id"),
		AttributeType: types.ScalarAttributeTypeS,
	}}
	if _, err := client.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName:            &table,
		BillingMode:          types.BillingModePayPerRequest,
		AttributeDefinitions: key,
		KeySchema: []types.KeySchemaElement{{
			AttributeName: aws.String("id"),
			KeyType:       types.KeyTypeHash,
		}},
	}); err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		row := map[string]types.AttributeValue{
			"id":   textOf(fmt.Sprint(i)),
			"blob": binaryOf(sealed.CiphertextBlob),
		}
		if _, err := client.PutItem(t.Context(),
			&dynamodb.PutItemInput{TableName: &table, Item: row}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHTTPClient: the client keeps its connections, and detects lost ones.
func TestHTTPClient(t *testing.T) {
	t.Parallel()
	const workers = 100
	client := newHTTPClient(workers, time.Minute)
	transport, dialer := client.GetTransport(), client.GetDialer()
	if transport.IdleConnTimeout != 0 || transport.MaxIdleConns != 0 ||
		transport.MaxConnsPerHost != 0 || transport.MaxIdleConnsPerHost < 2*workers {
		t.Errorf("the client does not keep connections: %+v", transport)
	}
	alive := dialer.KeepAliveConfig
	if found := alive.Idle + time.Duration(alive.Count)*alive.Interval; !alive.Enable ||
		found > requestTimeout {
		t.Errorf("a lost connection is detected after %v: %+v", found, alive)
	}
	if pings := transport.HTTP2; pings == nil ||
		pings.SendPingTimeout+pings.PingTimeout > requestTimeout || pings.SendPingTimeout == 0 {
		t.Errorf("with HTTP/2: %+v", pings)
	}
	if client.GetTimeout() != time.Minute {
		t.Errorf("requests time out after %v", client.GetTimeout())
	}
}

// TestConnectionIsKept: consecutive requests use the same connection, however fast the responses
// are.
func TestConnectionIsKept(t *testing.T) {
	const requests = 2000
	setCredentials(t)
	var connections atomic.Int64
	bodies := make(chan string, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(
		w http.ResponseWriter,
		r *http.Request,
	) {
		body, _ := io.ReadAll(r.Body)
		bodies <- string(body)
		w.Header().Set("X-Amz-Crc32", fmt.Sprint(crc32.ChecksumIEEE([]byte("{}"))))
		_, _ = io.WriteString(w, "{}")
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	base, err := newStreams(nil, io.Discard, io.Discard).loadAWS(t.Context(), 1, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	tables := dynamodb.NewFromConfig(withTarget(base, "eu-central-1", server.URL, ""))
	objects := objectClient(withTarget(base, "eu-central-1", server.URL, ""), "vault")
	for i := range requests {
		table := fmt.Sprintf("table-%d", i)
		want := fmt.Sprintf(`{"TableName":%q}`, table)
		if i%2 == 0 {
			_, err = tables.DescribeTable(t.Context(),
				&dynamodb.DescribeTableInput{TableName: &table})
		} else {
			_, err = objects.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: aws.String("bucket"),
				Key:    aws.String("key"),
				Body:   strings.NewReader(want),
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := <-bodies; got != want {
			t.Fatalf("body %q, want %q", got, want)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections for %d requests", n, requests)
	}
}

// TestBodiesAreChecked: a damaged body is an error. Package s3scan tests that a PUT has a checksum.
func TestBodiesAreChecked(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("the body of an object"))
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"e"`)
		w.Header().Set("X-Amz-Checksum-Sha256", std64(sum[:]))
		_, _ = io.WriteString(w, "the b0dy of an object")
	}))
	defer server.Close()
	client := objectClient(aws.Config{
		Region:       "eu-west-1",
		BaseEndpoint: &server.URL,
		HTTPClient:   server.Client(),
		Credentials:  credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "not-a-secret", ""),
		Retryer:      func() aws.Retryer { return aws.NopRetryer{} },
	}, "b")
	source := s3scan.New(s3scan.Config{Client: client, Bucket: "b"})
	if item, err := source.Load(t.Context(), "k"); err == nil ||
		!strings.Contains(err.Error(), "checksum") {
		t.Errorf("a damaged body was read: %+v, %v", item.Payload, err)
	}
}
