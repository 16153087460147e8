package harness

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
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

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fakekms"
)

// intruder is a set of clients that send requests through the proxy of a Watcher. The server has
// a table, a bucket, an item and an object under key a.
type intruder struct {
	*testing.T
	server  *fakeaws.Server
	url     string
	kms     *kms.Client
	ddb     *dynamodb.Client
	s3      *s3.Client
	a, b, c string // keys
	blob    []byte // of the item and the object
}

const secretText = "plaintext-that-must-not-leak"

// clientsOf returns clients of the three services of a server.
func clientsOf(endpoint string) (*kms.Client, *dynamodb.Client, *s3.Client) {
	c := aws.Config{
		Region:       region,
		BaseEndpoint: &endpoint,
		Retryer: func() aws.Retryer {
			return aws.NopRetryer{}
		},
		Credentials: credentials.NewStaticCredentialsProvider(workerKey, "secret",
			"session-token-of-the-worker"),
	}
	return kms.NewFromConfig(c), dynamodb.NewFromConfig(c), s3.NewFromConfig(c, func(
		o *s3.Options,
	) {
		o.UsePathStyle = true
	})
}

func newIntruder(t *testing.T, w *Watcher) *intruder {
	server, err := fakeaws.Start(fakeaws.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	i := &intruder{T: t, server: server}
	for _, key := range []*string{&i.a, &i.b, &i.c} {
		*key, err = server.KMS().CreateKey(fakekms.Symmetric)
		i.must(nil, err)
	}
	i.blob, err = server.KMS().Encrypt(i.a, []byte(secretText), nil)
	i.must(nil, err)
	_, ddb, objects := clientsOf(server.Endpoint()) // not through the proxy
	i.must(ddb.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName:   aws.String("items"),
		BillingMode: types.BillingModePayPerRequest,
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash},
		},
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS},
		},
	}))
	i.must(ddb.PutItem(t.Context(), &dynamodb.PutItemInput{
		TableName: aws.String("items"),
		Item: map[string]types.AttributeValue{
			"id":  &types.AttributeValueMemberS{Value: "1"},
			"ssn": &types.AttributeValueMemberB{Value: i.blob},
		},
	}))
	i.must(objects.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("b")}))
	i.must(objects.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String("b"),
		Key:    aws.String("k"),
		Body:   strings.NewReader(encode(i.blob)),
	}))
	i.url = w.Proxy(t, server.Endpoint())
	i.kms, i.ddb, i.s3 = clientsOf(i.url)
	return i
}

func encode(blob []byte) string { return base64.StdEncoding.EncodeToString(blob) }

func (i *intruder) must(_ any, err error) {
	i.Helper()
	if err != nil {
		i.Fatal(err)
	}
}

func (i *intruder) reEncrypt(blob []byte, to string) []byte {
	out, err := i.kms.ReEncrypt(i.Context(), &kms.ReEncryptInput{
		CiphertextBlob:   blob,
		DestinationKeyId: &to,
	})
	i.must(nil, err)
	return out.CiphertextBlob
}

// move replaces the slot of the item with BatchExecuteStatement.
func (i *intruder) move(before, after []byte) {
	i.must(i.ddb.BatchExecuteStatement(i.Context(), &dynamodb.BatchExecuteStatementInput{
		Statements: []types.BatchStatementRequest{{
			Statement: aws.String(`UPDATE "items" SET "ssn" = ? WHERE ` + compared),
			Parameters: []types.AttributeValue{&types.AttributeValueMemberB{Value: after},
				&types.AttributeValueMemberS{
					Value: "1",
				}, &types.AttributeValueMemberB{Value: before}}}},
	}))
}

// update replaces the slot of the item with UpdateItem.
func (i *intruder) update(before, after []byte) {
	i.must(i.ddb.UpdateItem(i.Context(), &dynamodb.UpdateItemInput{
		TableName: aws.String("items"),
		Key: map[string]types.AttributeValue{
			"id": &types.AttributeValueMemberS{Value: "1"},
		},
		UpdateExpression:         aws.String("SET #n0 = :n0"),
		ConditionExpression:      aws.String("#n0 = :o0"),
		ExpressionAttributeNames: map[string]string{"#n0": "ssn"},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":n0": &types.AttributeValueMemberB{Value: after},
			":o0": &types.AttributeValueMemberB{Value: before},
		},
	}))
}

// put replaces the current version of the object.
func (i *intruder) put(body string) {
	out, err := i.s3.GetObject(i.Context(), &s3.GetObjectInput{
		Bucket: aws.String("b"),
		Key:    aws.String("k"),
	})
	i.must(nil, err)
	i.must(nil, out.Body.Close())
	i.must(i.s3.PutObject(i.Context(), &s3.PutObjectInput{
		Bucket:  aws.String("b"),
		Key:     aws.String("k"),
		Body:    strings.NewReader(body),
		IfMatch: out.ETag,
	}))
}

// copy replaces the metadata of the object.
func (i *intruder) copy(blob []byte) {
	out, err := i.s3.HeadObject(i.Context(), &s3.HeadObjectInput{
		Bucket: aws.String("b"),
		Key:    aws.String("k"),
	})
	i.must(nil, err)
	i.must(i.s3.CopyObject(i.Context(), &s3.CopyObjectInput{
		Bucket:            aws.String("b"),
		Key:               aws.String("k"),
		CopySource:        aws.String("b/k"),
		CopySourceIfMatch: out.ETag,
		IfMatch:           out.ETag,
		MetadataDirective: "REPLACE",
		Metadata:          map[string]string{"x-amz-key-v2": encode(blob), "other": "text"},
	}))
}

// proxyCase is a case of TestProxy.
type proxyCase struct {
	name string
	do   func(*intruder)
	want string // "" for no violation
}

func proxyCasesOfWrites() []proxyCase {
	return []proxyCase{
		{"a moved item and object", func(i *intruder) {
			i.move(i.blob, i.reEncrypt(i.blob, i.b))
			i.put(encode(i.reEncrypt(i.blob, i.b)) + "\n")
		}, ""},
		{"the next job", func(i *intruder) {
			first := i.reEncrypt(i.blob, i.b)
			i.move(i.blob, first)
			i.put(encode(first))
			i.copy(first)
			second := i.reEncrypt(first, i.c)
			i.update(first, second)
			i.put(encode(second))
			i.copy(second)
		}, ""},
		{"an item twice, by two calls", func(i *intruder) {
			first := i.reEncrypt(i.blob, i.b)
			i.move(i.blob, first)
			i.update(first, i.reEncrypt(i.blob, i.b))
		}, "replaced a value that it had written itself"},
		{"an object twice", func(i *intruder) {
			i.put(encode(i.reEncrypt(i.blob, i.b)))
			i.put(encode(i.reEncrypt(i.blob, i.b)))
		}, "replaced a value that it had written itself"},
		{"metadata twice", func(i *intruder) {
			i.copy(i.reEncrypt(i.blob, i.b))
			i.copy(i.reEncrypt(i.blob, i.b))
		}, "metadata of /b/k: the worker replaced a value that it had written itself"},
		{"the same bytes twice", func(i *intruder) {
			first := i.reEncrypt(i.blob, i.b)
			i.move(i.blob, first)
			i.move(first, first)
		}, "wrote the same bytes twice"},
		{"a blob under the same key", func(i *intruder) {
			i.move(i.blob, i.reEncrypt(i.blob, i.a))
		}, "with unchanged key"},
		{"a PUT without condition", func(i *intruder) {
			i.must(i.s3.PutObject(i.Context(), &s3.PutObjectInput{
				Bucket: aws.String("b"),
				Key:    aws.String("k"),
				Body:   strings.NewReader("x"),
			}))
		}, "s3:PutObject of k has no precondition"},
		{"an item without condition", func(i *intruder) {
			i.must(i.ddb.PutItem(i.Context(), &dynamodb.PutItemInput{
				TableName: aws.String("items"),
				Item: map[string]types.AttributeValue{
					"id": &types.AttributeValueMemberS{Value: "2"},
				},
			}))
		}, "dynamodb:PutItem on table items has no condition"},
	}
}

func proxyCasesOfRequests() []proxyCase {
	return []proxyCase{
		{"kms:Decrypt", func(i *intruder) {
			i.must(i.kms.Decrypt(i.Context(), &kms.DecryptInput{CiphertextBlob: i.blob}))
		}, "the worker called kms:Decrypt"},
		{"kms:GenerateDataKey", func(i *intruder) {
			i.must(i.kms.GenerateDataKey(i.Context(), &kms.GenerateDataKeyInput{
				KeyId:   &i.a,
				KeySpec: "AES_256",
			}))
		}, "the worker called kms:GenerateDataKey"},
		{"a plaintext in a body", func(i *intruder) { i.put("and " + secretText) }, "in its body"},
		{"a plaintext in metadata", func(i *intruder) {
			i.must(i.s3.PutObject(i.Context(), &s3.PutObjectInput{
				Bucket:      aws.String("b"),
				Key:         aws.String("new"),
				Metadata:    map[string]string{"x": encode([]byte(secretText))},
				IfNoneMatch: aws.String("*"),
			}))
		}, "in its header"},
		{"a plaintext in a key", func(i *intruder) {
			i.must(i.s3.PutObject(i.Context(), &s3.PutObjectInput{
				Bucket:      aws.String("b"),
				Key:         aws.String(secretText),
				IfNoneMatch: aws.String("*"),
			}))
		}, "in its address"},
		{"an operation that only AWS has", func(i *intruder) {
			r, err := http.NewRequestWithContext(i.Context(), http.MethodPut,
				i.url+"/b/k?encryption", strings.NewReader("<x/>"))
			i.must(nil, err)
			r.Header.Set("If-Match", `"x"`)
			answer, err := http.DefaultClient.Do(r)
			i.must(nil, err)
			i.must(nil, answer.Body.Close())
		}, "the worker called s3:UpdateObjectEncryption"},
	}
}

// TestProxy: requests through the proxy are violations if a worker must not send them. The proxy
// forwards all of them.
func TestProxy(t *testing.T) {
	for _, test := range slices.Concat(proxyCasesOfWrites(), proxyCasesOfRequests()) {
		t.Run(test.name, func(t *testing.T) {
			w := newWatcher()
			w.AddSecret("a plaintext", secretText)
			w.AddSecret("the session token", "session-token-of-the-worker")
			i := newIntruder(t, w)
			if found := w.violationList(); len(found) > 0 || w.Seen("s3:PutObject") > 0 {
				t.Fatalf("requests of the application count as requests of a worker: %q", found)
			}
			test.do(i)
			found := w.violationList()
			if got := strings.Join(found, "\n"); (test.want == "") != (len(found) == 0) ||
				!strings.Contains(got, test.want) {
				t.Errorf("violations %q, want %q", got, test.want)
			}
			if w.Seen("kms:ReEncrypt") != i.server.Faults().Counts()["kms:ReEncrypt"] {
				t.Error("the server did not receive every request that the Watcher observed")
			}
		})
	}
}

// sendHalf sends an incomplete PUT request and closes the connection.
func sendHalf(t *testing.T, host string) {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintf(conn,
		"PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf of it")
	_ = conn.Close()
}

// TestProxyForwards: the proxy forwards a request as it was signed, and never an incomplete one.
// It does not forward an incomplete response.
func TestProxyForwards(t *testing.T) {
	var got atomic.Pointer[http.Request]
	var body atomic.Value
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got.Store(r)
		body.Store(string(text))
		requests.Add(1)
		rw.Header().Set("Content-Length", "10")
		whole := r.Method != http.MethodDelete
		_, _ = io.WriteString(rw, map[bool]string{true: "whole text", false: "broken"}[whole])
	}))
	defer server.Close()
	w := newWatcher()
	proxy, err := url.Parse(w.Proxy(t, server.URL))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true} // so that it sends no Accept-Encoding
	defer transport.CloseIdleConnections()
	send := func(method string) (status int) {
		r, err := http.NewRequestWithContext(t.Context(), method,
			proxy.String()+"/b/a//../odd%20key%2B%C3%BC.txt?b=1&a=%2F", strings.NewReader("a body"))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		if text, err := io.ReadAll(answer.Body); err != nil ||
			answer.StatusCode == http.StatusOK && string(text) != "whole text" {
			t.Errorf("the response to %s is %q, %v", method, text, err)
		}
		return answer.StatusCode
	}
	if status := send(http.MethodPut); status != http.StatusOK {
		t.Errorf("the status of the response is %d", status)
	}
	r := got.Load()
	if r.Host != proxy.Host || r.URL.EscapedPath() != "/b/a//../odd%20key%2B%C3%BC.txt" ||
		r.URL.RawQuery != "b=1&a=%2F" || body.Load() != "a body" ||
		r.Header.Get("X-Forwarded-For")+r.Header.Get("Accept-Encoding") != "" {
		t.Errorf("the server received %s %s %q with %v", r.Host, r.URL, body.Load(), r.Header)
	}
	if status := send(http.MethodDelete); status != http.StatusBadGateway {
		t.Errorf("an incomplete response has the status %d", status)
	}

	before := requests.Load()
	sendHalf(t, proxy.Host)
	send(http.MethodPut)
	if n := requests.Load() - before; n != 1 || w.Seen("s3:PutObject") != 2 {
		t.Errorf("the server received %d of 1 complete and 1 incomplete request; the Watcher "+
			"observed %d in all, want 2", n, w.Seen("s3:PutObject"))
	}
}

// TestProxyCompletesRequests: a request that a client has sent arrives and is observed, even if the
// client is killed before it receives the response.
func TestProxyCompletesRequests(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	var cancelled atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		// otherwise r.Context is not cancelled when the connection ends
		_, _ = io.Copy(io.Discard, r.Body)
		close(arrived)
		select {
		case <-r.Context().Done():
			cancelled.Store(true)
		case <-release:
		}
	}))
	defer server.Close()
	w := newWatcher()
	t.Run("a killed client", func(t *testing.T) {
		ctx, kill := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodPut, w.Proxy(t, server.URL)+"/b/k",
			bytes.NewReader([]byte("body")))
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if answer, err := http.DefaultClient.Do(r); err == nil {
				_ = answer.Body.Close()
			}
		}()
		<-arrived
		kill()
		<-ended
		time.Sleep(300 * time.Millisecond) // long enough for the proxy to cancel the request
		close(release)
	})
	if got := w.violationList(); cancelled.Load() || len(got) != 1 ||
		!strings.Contains(got[0], "s3:PutObject of k has no precondition") {
		t.Errorf("the request was cancelled: %v; violations %q", cancelled.Load(), got)
	}
}

// recorder records the errors of a test instead of failing it.
type recorder struct {
	testing.TB
	errors []string
}

func (e *recorder) Errorf(format string, args ...any) {
	e.errors = append(e.errors, fmt.Sprintf(format, args...))
}
func (e *recorder) Error(args ...any) { e.errors = append(e.errors, fmt.Sprint(args...)) }

// TestOutputs: Outputs finds secrets, including blobs of observed requests, in printed text and
// in files. It is an error if there is nothing to search.
func TestOutputs(t *testing.T) {
	w := newWatcher()
	w.AddSecret("a plaintext", secretText)
	i := newIntruder(t, w)
	blob := i.reEncrypt(i.blob, i.b)
	outputs := func(printed string, files map[string]string) string {
		dir, e := t.TempDir(), &recorder{TB: t}
		for name, text := range files {
			i.must(nil, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
		w.printed = nil
		w.Printed(printed)
		w.Outputs(e, dir)
		return strings.Join(e.errors, "\n")
	}
	for _, test := range []struct {
		name, printed string
		files         map[string]string
		want          string
	}{
		{
			"nothing secret",
			"rotated " + i.b,
			map[string]string{"state.db": "x", "job.yaml": secretText},
			"",
		},
		{
			"a plaintext printed",
			"it is " + secretText,
			map[string]string{"state.db": "x"},
			"output 1 contains a plaintext",
		},
		{
			"a blob printed",
			fmt.Sprintf("%q", blob),
			map[string]string{"state.db": "x"},
			"output 1 contains a blob of ReEncrypt",
		},
		{
			"the blob before, in a file",
			"ok",
			map[string]string{"audit.jsonl": `{"x":"` + encode(i.blob) + `"}`},
			"audit.jsonl contains a blob of ReEncrypt",
		},
		{"no output", "", map[string]string{"state.db": "x"}, "nothing to search"},
		{"no files", "ok", map[string]string{"job.yaml": "x"}, "nothing to search"},
	} {
		got := outputs(test.printed, test.files)
		if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: errors are %q, want %q", test.name, got, test.want)
		}
	}
}
