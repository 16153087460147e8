package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamotypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/reencrypt"
	"rotator/internal/retry"
	"rotator/internal/scan"
	"rotator/internal/scan/dynamoscan"
)

// fixedServer is a server that sends the same response to every request. Requests are sent with
// the SDK.
type fixedServer struct {
	config aws.Config
	answer http.HandlerFunc
}

func newFixedServer(t *testing.T) *fixedServer {
	t.Helper()
	d := &fixedServer{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		d.answer(w, r)
	}))
	t.Cleanup(server.Close)
	d.config = aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(server.URL),
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} }}
	return d
}

// jsonError returns an error response of the services with JSON protocols (AWS JSON 1.0 and 1.1).
func jsonError(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"__type":"com.amazonaws#%s","message":"why"}`, code)
	}
}

// Some proxies send a status without a body.
func noBody(status int, _ string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// xmlError returns an error response of S3. The response to HEAD has no body.
func xmlError(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = fmt.Fprintf(w,
				"<?xml version=\"1.0\" "+
					"encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>why</Message>"+
					"<RequestId>1</RequestId></Error>", code)
		}
	}
}

// reencrypt, update, get, head and copy send a request with the SDK.
func (d *fixedServer) reencrypt(ctx context.Context) error {
	_, err := kms.NewFromConfig(d.config).ReEncrypt(ctx, &kms.ReEncryptInput{
		CiphertextBlob:   []byte("blob"),
		DestinationKeyId: aws.String("new"),
	})
	return err
}

func (d *fixedServer) update(ctx context.Context) error {
	_, err := dynamodb.NewFromConfig(d.config).UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String("t"),
		Key: map[string]dynamotypes.AttributeValue{
			"id": &dynamotypes.AttributeValueMemberS{Value: "1"},
		},
	})
	return err
}

func (d *fixedServer) s3() *s3.Client {
	return s3.NewFromConfig(d.config, func(o *s3.Options) { o.UsePathStyle = true })
}

func (d *fixedServer) get(ctx context.Context) error {
	out, err := d.s3().GetObject(ctx, &s3.GetObjectInput{
		Bucket: aws.String("b"),
		Key:    aws.String("k"),
	})
	if err != nil {
		return err
	}
	defer func() { _ = out.Body.Close() }()
	_, err = io.Copy(io.Discard, out.Body)
	return err
}

func (d *fixedServer) head(ctx context.Context) error {
	_, err := d.s3().HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: aws.String("b"),
		Key:    aws.String("k"),
	})
	return err
}

func (d *fixedServer) copy(ctx context.Context) error {
	_, err := d.s3().CopyObject(ctx, &s3.CopyObjectInput{
		Bucket:     aws.String("b"),
		Key:        aws.String("k"),
		CopySource: aws.String("b/k"),
	})
	return err
}

// classifyCase is one status of a service, with one or more error codes.
type classifyCase struct {
	service string
	call    func(context.Context) error
	refuse  func(status int, code string) http.HandlerFunc
	status  int
	codes   string // separated by spaces
	want    retry.ErrorKind
}

// classifyCasesOfKMS returns the errors in API_ReEncrypt, Errors, and Common Errors.
func classifyCasesOfKMS(d *fixedServer) []classifyCase {
	return []classifyCase{
		{
			"KMS",
			d.reencrypt,
			jsonError,
			400,
			"ThrottlingException LimitExceededException",
			retry.KindThrottled,
		},
		{
			"KMS",
			d.reencrypt,
			jsonError,
			500,
			"KMSInternalException DependencyTimeoutException",
			retry.KindUnknown,
		},
		{"KMS", d.reencrypt, jsonError, 503, "ServiceUnavailable UnknownError", retry.KindUnknown},
		{"KMS", d.reencrypt, jsonError, 500, "KeyUnavailableException", retry.KindTransient},
		{"KMS", d.reencrypt, jsonError, 400, "IncorrectKeyException", retry.KindIncorrectKey},
		{
			"KMS",
			d.reencrypt,
			jsonError,
			400,
			"InvalidCiphertextException ValidationException",
			retry.KindInvalidCiphertext,
		},
		{"KMS", d.reencrypt, jsonError, 400, "AccessDeniedException", retry.KindDenied},
		{
			"KMS",
			d.reencrypt,
			jsonError,
			400,
			"DisabledException NotFoundException KMSInvalidStateException " +
				"InvalidKeyUsageException InvalidGrantTokenException",
			retry.KindKeyState,
		},
		{
			"KMS",
			d.reencrypt,
			jsonError,
			400,
			"ExpiredTokenException UnrecognizedClientException InvalidSignatureException " +
				"IncompleteSignature",
			retry.KindCredentials,
		},
		{"KMS", d.reencrypt, jsonError, 400, "SomethingNewException", retry.KindUnexpected},
	}
}

// classifyCasesOfOtherServers returns responses without a code, as proxies send them.
func classifyCasesOfOtherServers(d *fixedServer) []classifyCase {
	return []classifyCase{
		{"KMS", d.reencrypt, noBody, 404, "-", retry.KindUnknown},
		{"KMS", d.reencrypt, noBody, 403, "-", retry.KindUnknown},
		{"DynamoDB", d.update, noBody, 405, "-", retry.KindUnknown},
	}
}

// classifyCasesOfDynamoDB returns the errors in Error handling with DynamoDB, and API_UpdateItem.
func classifyCasesOfDynamoDB(d *fixedServer) []classifyCase {
	return []classifyCase{
		{
			"DynamoDB",
			d.update,
			jsonError,
			400,
			"ProvisionedThroughputExceededException ThrottlingException RequestLimitExceeded",
			retry.KindThrottled,
		},
		{
			"DynamoDB",
			d.update,
			jsonError,
			400,
			"TransactionConflictException ReplicatedWriteConflictException",
			retry.KindBusy,
		},
		{"DynamoDB", d.update, jsonError, 500, "InternalServerError", retry.KindUnknown},
		{"DynamoDB", d.update, jsonError, 503, "ServiceUnavailable", retry.KindUnknown},
		{"DynamoDB", d.update, jsonError, 400, "ResourceNotFoundException", retry.KindMissing},
		{"DynamoDB", d.update, jsonError, 400, "AccessDeniedException", retry.KindDenied},
		{
			"DynamoDB",
			d.update,
			jsonError,
			400,
			"ExpiredTokenException UnrecognizedClientException MissingAuthenticationTokenException",
			retry.KindCredentials,
		},
		{
			"DynamoDB",
			d.update,
			jsonError,
			400,
			"ItemCollectionSizeLimitExceededException",
			retry.KindUnexpected,
		},
	}
}

// classifyCasesOfS3 returns the errors in Amazon S3 error responses.
func classifyCasesOfS3(d *fixedServer) []classifyCase {
	return []classifyCase{
		{"S3", d.get, xmlError, 503, "SlowDown", retry.KindThrottled},
		{"S3", d.get, xmlError, 429, "UnknownError", retry.KindThrottled},
		{"S3", d.get, xmlError, 500, "InternalError", retry.KindUnknown},
		{"S3", d.get, xmlError, 503, "ServiceUnavailable", retry.KindUnknown},
		{"S3", d.get, xmlError, 400, "RequestTimeout", retry.KindUnknown},
		{
			"S3",
			d.get,
			xmlError,
			409,
			"OperationAborted ConditionalRequestConflict",
			retry.KindTransient,
		},
		{"S3", d.get, xmlError, 403, "AccessDenied AllAccessDisabled", retry.KindDenied},
		{
			"S3",
			d.get,
			xmlError,
			403,
			"InvalidAccessKeyId SignatureDoesNotMatch RequestTimeTooSkewed",
			retry.KindCredentials,
		},
		{"S3", d.get, xmlError, 400, "ExpiredToken InvalidToken", retry.KindCredentials},
		{"S3", d.get, xmlError, 404, "NoSuchBucket", retry.KindMissing},
		{"S3", d.get, xmlError, 301, "PermanentRedirect", retry.KindMissing},
		{"S3", d.get, xmlError, 400, "KMS.DisabledException", retry.KindKeyState},
		{"S3", d.get, xmlError, 400, "KMS.ThrottlingException", retry.KindThrottled},
		{"S3, HEAD", d.head, xmlError, 403, "-", retry.KindDenied},
		{"S3, HEAD", d.head, xmlError, 503, "-", retry.KindUnknown},
		{"S3, HEAD", d.head, xmlError, 301, "-", retry.KindMissing},
		// A copy can fail after the status 200 was sent (API_CopyObject).
		{"S3, inside a 200", d.copy, xmlError, 200, "InternalError", retry.KindUnknown},
		{"S3, inside a 200", d.copy, xmlError, 200, "SlowDown", retry.KindThrottled},
		{"S3, inside a 200", d.copy, xmlError, 200, "AccessDenied", retry.KindDenied},
	}
}

// TestClassifyServices classifies the errors of KMS, DynamoDB and S3 as the SDK returns them:
// typed, generic, and without a code.
func TestClassifyServices(t *testing.T) {
	d := newFixedServer(t)
	for _, test := range slices.Concat(
		classifyCasesOfKMS(d),
		classifyCasesOfOtherServers(d),
		classifyCasesOfDynamoDB(d),
		classifyCasesOfS3(d),
	) {
		for _, code := range strings.Fields(test.codes) {
			d.answer = test.refuse(test.status, code)
			err := test.call(t.Context())
			if got := retry.Classify(err); got != test.want {
				t.Errorf("%s, %d %s: kind %d, want %d (%T: %v)", test.service, test.status, code,
					got, test.want, err, err)
			}
		}
	}
}

// TestKeyOfAnotherServer resolves a key at a server that is not KMS: a wrong endpoint, or a
// proxy.
func TestKeyOfAnotherServer(t *testing.T) {
	html := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<html></html>")
		}
	}
	d := newFixedServer(t)
	for status, wrong := range map[int]bool{301: true, 404: true, 405: true, 403: false} {
		for name, answer := range map[string]http.HandlerFunc{
			"empty": noBody(status, ""),
			"HTML":  html(status),
		} {
			d.answer = answer
			_, err := reencrypt.KeyARN(t.Context(), kms.NewFromConfig(d.config), "alias/new", nil)
			var key *reencrypt.KeyError
			if !errors.As(err, &key) || key.Field != "kms.endpoint" || key.Wrong != wrong ||
				!strings.Contains(key.Detail, fmt.Sprintf("HTTP %d", status)) {
				t.Errorf("%d, %s: %v", status, name, err)
			}
		}
	}
	d.answer = html(http.StatusBadGateway)
	_, err := reencrypt.KeyARN(t.Context(), kms.NewFromConfig(d.config), "alias/new", nil)
	if got := retry.Classify(err); got != retry.KindUnknown {
		t.Errorf("502: kind %d, want %d (%v)", got, retry.KindUnknown, err)
	}
}

// TestClassifyStatements classifies errors of single statements in a batch with status 200
// (API_BatchStatementError).
func TestClassifyStatements(t *testing.T) {
	for code, want := range map[string]retry.ErrorKind{
		"ConditionalCheckFailed": retry.KindChanged, // without the item, which must be read
		// The error of a statement does not contain the cause. The error of the same update in a
		// separate request does.
		"ThrottlingError": retry.KindBusy, "ProvisionedThroughputExceeded": retry.KindBusy,
		"RequestLimitExceeded": retry.KindBusy, "TransactionConflict": retry.KindBusy,
		"InternalServerError": retry.KindUnknown,
		"ResourceNotFound":    retry.KindMissing,
		"AccessDenied":        retry.KindDenied,
		"ValidationError":     retry.KindInvalidCiphertext, "DuplicateItem": retry.KindUnexpected,
		"ItemCollectionSizeLimitExceeded": retry.KindRefused,
	} {
		d := newFixedServer(t)
		d.answer = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/x-amz-json-1.0")
			switch _, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); operation {
			case "DescribeTable":
				_, _ = io.WriteString(w,
					`{"Table":{"TableName":"t","TableStatus":"ACTIVE",`+
						`"KeySchema":[{"AttributeName":"id","KeyType":"HASH"}],`+
						`"AttributeDefinitions":[{"AttributeName":"id","AttributeType":"S"}]}}`)
			case "BatchExecuteStatement":
				if r.ContentLength < 2000 { // a probe with one statement
					_, _ = io.WriteString(w,
						`{"Responses":[{"Error":{"Code":"ConditionalCheckFailed",`+
							`"Message":"why"}}]}`)
					return
				}
				_, _ = fmt.Fprintf(w,
					`{"Responses":[{"TableName":"t"},{"Error":{"Code":%q,"Message":"why"}}]}`, code)
			default: // the same update in a separate request has the same response
				alone := map[string]string{
					"ValidationError":        "ValidationException",
					"ConditionalCheckFailed": "ConditionalCheckFailedException",
				}[code]
				w.WriteHeader(http.StatusBadRequest)
				_, _ = fmt.Fprintf(w, `{"__type":%q,"message":"why"}`, alone)
			}
		}
		table := dynamoscan.New(dynamoscan.Config{
			Client:     dynamodb.NewFromConfig(d.config),
			Table:      "t",
			Segments:   1,
			Attributes: []string{"ssn"},
			Writes:     []string{"ssn"},
		})
		results := table.Replace(t.Context(), []scan.Change{change("1"), change("2")})
		if results[0].Err != nil {
			t.Errorf("%s: the other statement: %v", code, results[0].Err)
		}
		if got := retry.Classify(results[1].Err); got != want {
			t.Errorf("%s: kind %d, want %d (%v)", code, got, want, results[1].Err)
		}
	}
}

// change replaces one attribute. Its value is large, so that the server can distinguish a batch
// from a probe.
func change(id string) scan.Change {
	row := func(blob string) *scan.Row {
		return &scan.Row{
			Attributes: map[string]scan.Value{
				"ssn": {Kind: scan.KindB, Bytes: []byte(strings.Repeat(blob, 200))},
			},
		}
	}
	return scan.Change{
		Item: scan.Item{Ref: scan.Ref(fmt.Sprintf(`{"id":{"S":%q}}`, id)), Payload: row("old")},
		New:  row("new"),
	}
}

// TestClassifyTransport classifies the errors of lost, incomplete and late responses.
func TestClassifyTransport(t *testing.T) {
	cut := func(w http.ResponseWriter) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			err = connection.Close()
		}
		if err != nil {
			t.Error(err)
		}
	}
	for name, answer := range map[string]http.HandlerFunc{
		"none": func(w http.ResponseWriter, _ *http.Request) { cut(w) },
		"incomplete": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"CiphertextBlob":"AQ`)
			_ = http.NewResponseController(w).Flush()
			cut(w)
		},
		"malformed": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `<html>`)
		},
		"too late": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		d := newFixedServer(t) // an abandoned request may still be running at the server
		d.answer = answer
		for service, call := range map[string]func(context.Context) error{
			"KMS":      d.reencrypt,
			"DynamoDB": d.update,
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			err := call(ctx)
			cancel()
			if got := retry.Classify(err); got != retry.KindUnknown {
				t.Errorf("%s, response: %s: kind %d, want %d (%v)", service, name, got,
					retry.KindUnknown, err)
			}
		}
	}
	refused := newFixedServer(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused.config.BaseEndpoint = aws.String("http://" + listener.Addr().String())
	_ = listener.Close() // the port refuses connections from here on
	if got := retry.Classify(refused.reencrypt(t.Context())); got != retry.KindTransient {
		t.Errorf("connection refused: kind %d, want %d: the request was not sent", got,
			retry.KindTransient)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := retry.Classify(refused.reencrypt(ended)); got != retry.KindStopped {
		t.Errorf("the context of the run ended: kind %d, want %d", got, retry.KindStopped)
	}
}

// TestClassifyOwnErrors classifies the errors of rotator's packages, wrapped as by their callers.
func TestClassifyOwnErrors(t *testing.T) {
	d := newFixedServer(t)
	d.answer = xmlError(403, "AccessDenied")
	for _, test := range []struct {
		err  error
		want retry.ErrorKind
	}{
		{nil, retry.KindNone},
		{scan.ErrChanged, retry.KindChanged},
		{scan.ErrGone, retry.KindGone},
		{scan.ErrContended, retry.KindBusy},
		{&scan.RefusedError{Reason: "archived"}, retry.KindRefused},
		{&scan.MissingError{Field: "s3.bucket"}, retry.KindMissing},
		{&scan.StorageError{Err: syscall.ENOSPC}, retry.KindStorage},
		{&retry.CredentialsError{Err: d.get(t.Context())}, retry.KindCredentials},
		{&retry.CredentialsError{Err: io.ErrUnexpectedEOF}, retry.KindTransient},
		{&retry.CredentialsError{Err: context.Canceled}, retry.KindStopped},
		{context.DeadlineExceeded, retry.KindUnknown},
		{
			&net.DNSError{Err: "no such host", Name: "kms.us-east-1.amazonaws.com"},
			retry.KindTransient,
		},
		{errors.New("anything else"), retry.KindUnexpected},
	} {
		err := test.err
		if err != nil {
			err = fmt.Errorf("load an item: %w", err)
		}
		if got := retry.Classify(err); got != test.want {
			t.Errorf("%v: kind %d, want %d", test.err, got, test.want)
		}
	}
}

// decideCase is one event, with the decision for it in some operations.
type decideCase struct {
	name  string
	doing []retry.Operation
	event retry.Event
	want  retry.Decision
}

func everywhere() []retry.Operation {
	return []retry.Operation{retry.Listing, retry.Reading, retry.Asking, retry.Writing}
}

// ofItems returns the operations that concern one item.
func ofItems() []retry.Operation { return everywhere()[1:] }

func do(a retry.Action) retry.Decision { return retry.Decision{Do: a} }

func stop(kind retry.StopKind) retry.Decision {
	return retry.Decision{Do: retry.Stop, Stop: kind}
}

func decideCasesOfThrottling() []decideCase {
	const s = time.Second
	return []decideCase{
		{
			"throttled, any number of times",
			everywhere(),
			retry.Event{Kind: retry.KindThrottled, Failures: 1000, MaxOutage: s},
			do(retry.Slower),
		},
		{
			"throttled for too long",
			everywhere(),
			retry.Event{Kind: retry.KindThrottled, Unanswered: 2 * s, MaxOutage: s},
			stop(retry.StopUnavailable),
		},
		{
			"contention at an item",
			everywhere(),
			retry.Event{Kind: retry.KindBusy, Failures: 1000, MaxOutage: s},
			do(retry.Again),
		},
		{
			"contention at an item for too long",
			ofItems(),
			retry.Event{Kind: retry.KindBusy, Unanswered: 2 * s, MaxOutage: s},
			do(retry.FailSlot),
		},
		{
			"contention while listing for too long",
			[]retry.Operation{retry.Listing},
			retry.Event{Kind: retry.KindBusy, Unanswered: 2 * s, MaxOutage: s},
			stop(retry.StopUnavailable),
		},
	}
}

func decideCasesOfMissingResponses() []decideCase {
	const s = time.Second
	return []decideCase{
		{
			"no response",
			[]retry.Operation{retry.Listing, retry.Reading, retry.Asking},
			retry.Event{Kind: retry.KindUnknown, Failures: 1, MaxOutage: s},
			do(retry.Again),
		},
		{
			"a write without a response",
			[]retry.Operation{retry.Writing},
			retry.Event{Kind: retry.KindUnknown, Failures: 1, MaxOutage: s},
			do(retry.ReadAgain),
		},
		{
			"a write that was not applied",
			[]retry.Operation{retry.Writing},
			retry.Event{Kind: retry.KindTransient, Failures: 1, MaxOutage: s},
			do(retry.Again),
		},
		{
			"no response to this request, but to others",
			[]retry.Operation{retry.Reading, retry.Asking},
			retry.Event{Kind: retry.KindUnknown, Failures: 8, MaxOutage: s},
			do(retry.FailSlot),
		},
		{
			"no response to any request for too long",
			everywhere(),
			retry.Event{Kind: retry.KindUnknown, Unanswered: 2 * s, MaxOutage: s},
			stop(retry.StopUnavailable),
		},
	}
}

func decideCasesOfKeysAndCredentials() []decideCase {
	const s = time.Second
	return []decideCase{
		{"a key not usable, within Settle", []retry.Operation{retry.Listing, retry.Asking},
			retry.Event{Kind: retry.KindKeyState, UnusableFor: s, Settle: 30 * s}, do(retry.Again)},
		{"a key not usable, after Settle", []retry.Operation{retry.Listing, retry.Asking},
			retry.Event{Kind: retry.KindKeyState, UnusableFor: 31 * s, Settle: 30 * s},
			stop(retry.StopAccess)},
		{"the key of one item not usable", []retry.Operation{retry.Reading, retry.Writing},
			retry.Event{Kind: retry.KindKeyState, Denials: 7}, do(retry.FailSlot)},
		{"the keys of all items not usable", []retry.Operation{retry.Reading, retry.Writing},
			retry.Event{Kind: retry.KindKeyState, Denials: 8}, stop(retry.StopAccess)},
		{
			"credentials refused, within Settle",
			everywhere(),
			retry.Event{Kind: retry.KindCredentials, UnusableFor: s, Settle: 30 * s},
			do(retry.Again),
		},
		{
			"credentials refused, after Settle",
			everywhere(),
			retry.Event{Kind: retry.KindCredentials, UnusableFor: 31 * s, Settle: 30 * s},
			stop(retry.StopAccess),
		},
	}
}

func decideCasesOfDenials() []decideCase {
	return []decideCase{
		{
			"a list is denied",
			[]retry.Operation{retry.Listing},
			retry.Event{Kind: retry.KindDenied, Denials: 1, Allowed: true},
			stop(retry.StopAccess),
		},
		{
			"KMS denies one request",
			[]retry.Operation{retry.Asking},
			retry.Event{Kind: retry.KindDenied, Denials: 1},
			do(retry.AskOpposite),
		},
		{
			"one item is denied",
			[]retry.Operation{retry.Reading, retry.Writing},
			retry.Event{Kind: retry.KindDenied, Denials: 7},
			do(retry.FailSlot),
		},
		{
			"all requests are denied from the start",
			ofItems(),
			retry.Event{Kind: retry.KindDenied, Denials: 8},
			stop(retry.StopAccess),
		},
		{
			"some consecutive denials after a success",
			[]retry.Operation{retry.Reading, retry.Writing},
			retry.Event{Kind: retry.KindDenied, Denials: 49, Allowed: true},
			do(retry.FailSlot),
		},
		{
			"many consecutive denials after a success",
			ofItems(),
			retry.Event{Kind: retry.KindDenied, Denials: 50, Allowed: true},
			stop(retry.StopAccess),
		},
	}
}

func decideCasesOfItems() []decideCase {
	return []decideCase{
		{
			"changed by another writer",
			[]retry.Operation{retry.Writing},
			retry.Event{Kind: retry.KindChanged},
			do(retry.ReadAgain),
		},
		{
			"deleted by another writer",
			[]retry.Operation{retry.Reading, retry.Writing},
			retry.Event{Kind: retry.KindGone},
			do(retry.ItemGone),
		},
		{
			"refused by the source",
			[]retry.Operation{retry.Reading, retry.Writing},
			retry.Event{Kind: retry.KindRefused},
			do(retry.FailSlot),
		},
		{
			"under another key",
			[]retry.Operation{retry.Asking},
			retry.Event{Kind: retry.KindIncorrectKey},
			do(retry.AskOpposite),
		},
		{
			"corrupt, or with another context",
			[]retry.Operation{retry.Asking},
			retry.Event{Kind: retry.KindInvalidCiphertext},
			do(retry.AskOpposite),
		},
	}
}

func decideCasesOfOtherEvents() []decideCase {
	return []decideCase{
		{"success", everywhere(), retry.Event{}, do(retry.Accept)},
		{
			"the context of the run ended",
			everywhere(),
			retry.Event{Kind: retry.KindStopped},
			stop(retry.StopInterrupted),
		},
		{
			"no such table or bucket",
			everywhere(),
			retry.Event{Kind: retry.KindMissing},
			stop(retry.StopJob),
		},
		{
			"a full disk",
			everywhere(),
			retry.Event{Kind: retry.KindStorage},
			stop(retry.StopStorage),
		},
		{
			"an invalid write request",
			[]retry.Operation{retry.Writing},
			retry.Event{Kind: retry.KindInvalidCiphertext},
			do(retry.FailSlot),
		},
		{
			"an invalid list request",
			[]retry.Operation{retry.Listing},
			retry.Event{Kind: retry.KindInvalidCiphertext},
			stop(retry.StopJob),
		},
		{"unexpected", ofItems(), retry.Event{Kind: retry.KindUnexpected}, do(retry.FailSlot)},
		{
			"unexpected error while listing",
			[]retry.Operation{retry.Listing},
			retry.Event{Kind: retry.KindUnexpected},
			stop(retry.StopInternal),
		},
	}
}

// TestDecide checks the decision for each kind of event.
func TestDecide(t *testing.T) {
	for _, test := range slices.Concat(
		decideCasesOfThrottling(),
		decideCasesOfMissingResponses(),
		decideCasesOfKeysAndCredentials(),
		decideCasesOfDenials(),
		decideCasesOfItems(),
		decideCasesOfOtherEvents(),
	) {
		for _, doing := range test.doing {
			e := test.event
			e.Operation = doing
			if got := retry.Decide(e); got != test.want {
				t.Errorf("%s, doing %d: %+v, want %+v", test.name, doing, got, test.want)
			}
		}
	}
}
