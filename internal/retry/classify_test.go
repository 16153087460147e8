package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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

// deaf is a server that gives every request the same answer, with the real SDK in
// front of it.
type deaf struct {
	config aws.Config
	answer http.HandlerFunc
}

func newDeaf(t *testing.T) *deaf {
	t.Helper()
	d := &deaf{}
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

// jsonError is how the services that speak JSON refuse (AWS JSON 1.0 and 1.1).
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

// xmlError is how S3 refuses; to a HEAD it can say nothing but the status.
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

// reencrypt, update, get, head and copy are calls of the SDK that get the answer.
func (d *deaf) reencrypt(ctx context.Context) error {
	_, err := kms.NewFromConfig(d.config).ReEncrypt(ctx, &kms.ReEncryptInput{
		CiphertextBlob:   []byte("blob"),
		DestinationKeyId: aws.String("new"),
	})
	return err
}

func (d *deaf) update(ctx context.Context) error {
	_, err := dynamodb.NewFromConfig(d.config).UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String("t"),
		Key: map[string]dynamotypes.AttributeValue{
			"id": &dynamotypes.AttributeValueMemberS{Value: "1"},
		},
	})
	return err
}

func (d *deaf) s3() *s3.Client {
	return s3.NewFromConfig(d.config, func(o *s3.Options) { o.UsePathStyle = true })
}

func (d *deaf) get(ctx context.Context) error {
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

func (d *deaf) head(ctx context.Context) error {
	_, err := d.s3().HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: aws.String("b"),
		Key:    aws.String("k"),
	})
	return err
}

func (d *deaf) copy(ctx context.Context) error {
	_, err := d.s3().CopyObject(ctx, &s3.CopyObjectInput{
		Bucket:     aws.String("b"),
		Key:        aws.String("k"),
		CopySource: aws.String("b/k"),
	})
	return err
}

// TestClassifyServices gives every error of KMS, DynamoDB and S3 that rotator can
// meet the way through the SDK: typed, generic, and bare of any code.
func TestClassifyServices(t *testing.T) {
	d := newDeaf(t)
	type call func(context.Context) error
	for _, test := range []struct {
		service string
		call    call
		refuse  func(status int, code string) http.HandlerFunc
		status  int
		codes   string
		want    retry.ErrorKind
	}{
		// API_ReEncrypt, Errors, and Common Errors.
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
		// Responses of other servers, such as proxies, have no code.
		{"KMS", d.reencrypt, noBody, 404, "-", retry.KindUnknown},
		{"KMS", d.reencrypt, noBody, 403, "-", retry.KindUnknown},
		{"DynamoDB", d.update, noBody, 405, "-", retry.KindUnknown},
		// Error handling with DynamoDB, and API_UpdateItem.
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
		// Amazon S3 error responses.
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
		// A copy may fail after its 200 has gone out (API_CopyObject).
		{"S3, inside a 200", d.copy, xmlError, 200, "InternalError", retry.KindUnknown},
		{"S3, inside a 200", d.copy, xmlError, 200, "SlowDown", retry.KindThrottled},
		{"S3, inside a 200", d.copy, xmlError, 200, "AccessDenied", retry.KindDenied},
	} {
		for _, code := range strings.Fields(test.codes) {
			d.answer = test.refuse(test.status, code)
			err := test.call(t.Context())
			if got := retry.Classify(err); got != test.want {
				t.Errorf("%s, %d %s: class %d, want %d (%T: %v)", test.service, test.status, code,
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
	d := newDeaf(t)
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
		t.Errorf("502: class %d, want %d (%v)", got, retry.KindUnknown, err)
	}
}

// TestClassifyStatements does the same for statements that fail alone inside the 200
// of a batch (API_BatchStatementError).
func TestClassifyStatements(t *testing.T) {
	for code, want := range map[string]retry.ErrorKind{
		"ConditionalCheckFailed": retry.KindChanged, // without the item, which is to be looked up
		// The error of a statement does not give the cause. The same update in a request of
		// its own would.
		"ThrottlingError": retry.KindBusy, "ProvisionedThroughputExceeded": retry.KindBusy,
		"RequestLimitExceeded": retry.KindBusy, "TransactionConflict": retry.KindBusy,
		"InternalServerError": retry.KindUnknown,
		"ResourceNotFound":    retry.KindMissing,
		"AccessDenied":        retry.KindDenied,
		"ValidationError":     retry.KindInvalidCiphertext, "DuplicateItem": retry.KindUnexpected,
		"ItemCollectionSizeLimitExceeded": retry.KindRefused,
	} {
		d := newDeaf(t)
		d.answer = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/x-amz-json-1.0")
			switch _, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); operation {
			case "DescribeTable":
				_, _ = io.WriteString(w,
					`{"Table":{"TableName":"t","TableStatus":"ACTIVE",`+
						`"KeySchema":[{"AttributeName":"id","KeyType":"HASH"}],`+
						`"AttributeDefinitions":[{"AttributeName":"id","AttributeType":"S"}]}}`)
			case "BatchExecuteStatement":
				if r.ContentLength < 2000 { // a probe, of one statement
					_, _ = io.WriteString(w,
						`{"Responses":[{"Error":{"Code":"ConditionalCheckFailed",`+
							`"Message":"why"}}]}`)
					return
				}
				_, _ = fmt.Fprintf(w,
					`{"Responses":[{"TableName":"t"},{"Error":{"Code":%q,"Message":"why"}}]}`, code)
			default: // the same update alone has the same answer
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
			t.Errorf("%s: the statement beside it: %v", code, results[0].Err)
		}
		if got := retry.Classify(results[1].Err); got != want {
			t.Errorf("%s: class %d, want %d (%v)", code, got, want, results[1].Err)
		}
	}
}

// change replaces one attribute; large enough to tell a batch from a probe.
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

// TestClassifyTransport lets answers get lost in every way.
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
		"half of one": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"CiphertextBlob":"AQ`)
			_ = http.NewResponseController(w).Flush()
			cut(w)
		},
		"of no form": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `<html>`)
		},
		"too late": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		d := newDeaf(t) // an abandoned request may still be running at the server
		d.answer = answer
		for service, call := range map[string]func(context.Context) error{
			"KMS":      d.reencrypt,
			"DynamoDB": d.update,
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			err := call(ctx)
			cancel()
			if got := retry.Classify(err); got != retry.KindUnknown {
				t.Errorf("%s, answer: %s: class %d, want %d (%v)", service, name, got,
					retry.KindUnknown, err)
			}
		}
	}
	refused := newDeaf(t)
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
		t.Errorf("our own context ended: class %d, want %d", got, retry.KindStopped)
	}
}

// TestClassifyOurs sorts the errors of our own packages, wrapped as callers wrap them.
func TestClassifyOurs(t *testing.T) {
	d := newDeaf(t)
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
			t.Errorf("%v: class %d, want %d", test.err, got, test.want)
		}
	}
}

// TestDecide holds each decision to the words of the design.
func TestDecide(t *testing.T) {
	const s = time.Second
	stop := func(kind retry.StopKind) retry.Decision {
		return retry.Decision{Do: retry.Stop, Stop: kind}
	}
	do := func(a retry.Action) retry.Decision { return retry.Decision{Do: a} }
	everywhere := []retry.Operation{retry.Listing, retry.Reading, retry.Asking, retry.Writing}
	items := everywhere[1:]
	for _, test := range []struct {
		name  string
		doing []retry.Operation
		event retry.Event
		want  retry.Decision
	}{
		{"success", everywhere, retry.Event{}, do(retry.Accept)},
		{
			"our own end",
			everywhere,
			retry.Event{Kind: retry.KindStopped},
			stop(retry.StopInterrupted),
		},
		{
			"throttled, however often",
			everywhere,
			retry.Event{Kind: retry.KindThrottled, Failures: 1000, MaxOutage: s},
			do(retry.Slower),
		},
		{
			"throttled for too long",
			everywhere,
			retry.Event{Kind: retry.KindThrottled, Unanswered: 2 * s, MaxOutage: s},
			stop(retry.StopUnavailable),
		},
		{
			"a busy place",
			everywhere,
			retry.Event{Kind: retry.KindBusy, Failures: 1000, MaxOutage: s},
			do(retry.Again),
		},
		{
			"a place that stays busy",
			items,
			retry.Event{Kind: retry.KindBusy, Unanswered: 2 * s, MaxOutage: s},
			do(retry.FailSlot),
		},
		{
			"a range that stays too busy to be listed",
			[]retry.Operation{retry.Listing},
			retry.Event{Kind: retry.KindBusy, Unanswered: 2 * s, MaxOutage: s},
			stop(retry.StopUnavailable),
		},
		{
			"no answer, at first",
			[]retry.Operation{retry.Listing, retry.Reading, retry.Asking},
			retry.Event{Kind: retry.KindUnknown, Failures: 1, MaxOutage: s},
			do(retry.Again),
		},
		{
			"a write without an answer",
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
			"no answer to this one alone",
			[]retry.Operation{retry.Reading, retry.Asking},
			retry.Event{Kind: retry.KindUnknown, Failures: 8, MaxOutage: s},
			do(retry.FailSlot),
		},
		{
			"no answer to any request for too long",
			everywhere,
			retry.Event{Kind: retry.KindUnknown, Unanswered: 2 * s, MaxOutage: s},
			stop(retry.StopUnavailable),
		},
		{"a key not usable, for now", []retry.Operation{retry.Listing, retry.Asking},
			retry.Event{Kind: retry.KindKeyState, UnusableFor: s, Settle: 30 * s}, do(retry.Again)},
		{"a key not usable", []retry.Operation{retry.Listing, retry.Asking},
			retry.Event{Kind: retry.KindKeyState, UnusableFor: 31 * s, Settle: 30 * s},
			stop(retry.StopAccess)},
		{"the key of one item not usable", []retry.Operation{retry.Reading, retry.Writing},
			retry.Event{Kind: retry.KindKeyState, Denials: 7}, do(retry.FailSlot)},
		{"the keys of all items not usable", []retry.Operation{retry.Reading, retry.Writing},
			retry.Event{Kind: retry.KindKeyState, Denials: 8}, stop(retry.StopAccess)},
		{
			"credentials refused, for now",
			everywhere,
			retry.Event{Kind: retry.KindCredentials, UnusableFor: s, Settle: 30 * s},
			do(retry.Again),
		},
		{
			"credentials refused",
			everywhere,
			retry.Event{Kind: retry.KindCredentials, UnusableFor: 31 * s, Settle: 30 * s},
			stop(retry.StopAccess),
		},
		{"no such place", everywhere, retry.Event{Kind: retry.KindMissing}, stop(retry.StopJob)},
		{
			"a disk that takes no more",
			everywhere,
			retry.Event{Kind: retry.KindStorage},
			stop(retry.StopStorage),
		},
		{
			"a list is denied",
			[]retry.Operation{retry.Listing},
			retry.Event{Kind: retry.KindDenied, Denials: 1, Allowed: true},
			stop(retry.StopAccess),
		},
		{
			"KMS denies one",
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
			"all are denied from the start",
			items,
			retry.Event{Kind: retry.KindDenied, Denials: 8},
			stop(retry.StopAccess),
		},
		{
			"some in a row are denied, after others were not",
			[]retry.Operation{retry.Reading, retry.Writing},
			retry.Event{Kind: retry.KindDenied, Denials: 49, Allowed: true},
			do(retry.FailSlot),
		},
		{
			"all are denied from here on",
			items,
			retry.Event{Kind: retry.KindDenied, Denials: 50, Allowed: true},
			stop(retry.StopAccess),
		},
		{
			"changed meanwhile",
			[]retry.Operation{retry.Writing},
			retry.Event{Kind: retry.KindChanged},
			do(retry.ReadAgain),
		},
		{
			"deleted meanwhile",
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
			"corrupt, or of another context",
			[]retry.Operation{retry.Asking},
			retry.Event{Kind: retry.KindInvalidCiphertext},
			do(retry.AskOpposite),
		},
		{
			"a write called invalid",
			[]retry.Operation{retry.Writing},
			retry.Event{Kind: retry.KindInvalidCiphertext},
			do(retry.FailSlot),
		},
		{
			"a list called invalid",
			[]retry.Operation{retry.Listing},
			retry.Event{Kind: retry.KindInvalidCiphertext},
			stop(retry.StopJob),
		},
		{"unexpected", items, retry.Event{Kind: retry.KindUnexpected}, do(retry.FailSlot)},
		{
			"unexpected, of a list",
			[]retry.Operation{retry.Listing},
			retry.Event{Kind: retry.KindUnexpected},
			stop(retry.StopInternal),
		},
	} {
		for _, doing := range test.doing {
			e := test.event
			e.Operation = doing
			if got := retry.Decide(e); got != test.want {
				t.Errorf("%s, doing %d: %+v, want %+v", test.name, doing, got, test.want)
			}
		}
	}
}
