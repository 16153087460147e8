package rotate_test

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

	"rotator/internal/rotate"
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

// noBody answers with a status alone.
func noBody(status int, _ string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// xmlError is how S3 refuses; to a HEAD it can say nothing but the status.
func xmlError(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>why</Message><RequestId>1</RequestId></Error>", code)
		}
	}
}

// reencrypt, update, get, head and copy are calls of the SDK that get the answer.
func (d *deaf) reencrypt(ctx context.Context) error {
	_, err := rotate.NewKMS(kms.NewFromConfig(d.config).ReEncrypt, rotate.Key{ARN: newKey}, nil).
		ReEncrypt(ctx, rotate.Question{Blob: []byte("blob")})
	return err
}

func (d *deaf) update(ctx context.Context) error {
	_, err := dynamodb.NewFromConfig(d.config).UpdateItem(ctx, &dynamodb.UpdateItemInput{TableName: aws.String("t"), Key: map[string]dynamotypes.AttributeValue{"id": &dynamotypes.AttributeValueMemberS{Value: "1"}}})
	return err
}

func (d *deaf) s3() *s3.Client {
	return s3.NewFromConfig(d.config, func(o *s3.Options) { o.UsePathStyle = true })
}

func (d *deaf) get(ctx context.Context) error {
	out, err := d.s3().GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("k")})
	if err != nil {
		return err
	}
	defer func() { _ = out.Body.Close() }()
	_, err = io.Copy(io.Discard, out.Body)
	return err
}

func (d *deaf) head(ctx context.Context) error {
	_, err := d.s3().HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String("b"), Key: aws.String("k")})
	return err
}

func (d *deaf) copy(ctx context.Context) error {
	_, err := d.s3().CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String("b"), Key: aws.String("k"), CopySource: aws.String("b/k")})
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
		want    rotate.Class
	}{
		// API_ReEncrypt, Errors, and Common Errors.
		{"KMS", d.reencrypt, jsonError, 400, "ThrottlingException LimitExceededException", rotate.ClassThrottled},
		{"KMS", d.reencrypt, jsonError, 500, "KMSInternalException DependencyTimeoutException", rotate.ClassUnknown},
		{"KMS", d.reencrypt, jsonError, 503, "ServiceUnavailable UnknownError", rotate.ClassUnknown},
		{"KMS", d.reencrypt, jsonError, 500, "KeyUnavailableException", rotate.ClassTransient},
		{"KMS", d.reencrypt, jsonError, 400, "IncorrectKeyException", rotate.ClassIncorrectKey},
		{"KMS", d.reencrypt, jsonError, 400, "InvalidCiphertextException ValidationException", rotate.ClassInvalidCiphertext},
		{"KMS", d.reencrypt, jsonError, 400, "AccessDeniedException", rotate.ClassDenied},
		{"KMS", d.reencrypt, jsonError, 400, "DisabledException NotFoundException KMSInvalidStateException InvalidKeyUsageException InvalidGrantTokenException", rotate.ClassKeyState},
		{"KMS", d.reencrypt, jsonError, 400, "ExpiredTokenException UnrecognizedClientException InvalidSignatureException IncompleteSignature", rotate.ClassCredentials},
		{"KMS", d.reencrypt, jsonError, 400, "SomethingNewException", rotate.ClassUnexpected},
		// Responses of other servers, such as proxies, have no code.
		{"KMS", d.reencrypt, noBody, 404, "-", rotate.ClassUnknown},
		{"KMS", d.reencrypt, noBody, 403, "-", rotate.ClassUnknown},
		{"DynamoDB", d.update, noBody, 405, "-", rotate.ClassUnknown},
		// Error handling with DynamoDB, and API_UpdateItem.
		{"DynamoDB", d.update, jsonError, 400, "ProvisionedThroughputExceededException ThrottlingException RequestLimitExceeded", rotate.ClassThrottled},
		{"DynamoDB", d.update, jsonError, 400, "TransactionConflictException ReplicatedWriteConflictException", rotate.ClassBusy},
		{"DynamoDB", d.update, jsonError, 500, "InternalServerError", rotate.ClassUnknown},
		{"DynamoDB", d.update, jsonError, 503, "ServiceUnavailable", rotate.ClassUnknown},
		{"DynamoDB", d.update, jsonError, 400, "ResourceNotFoundException", rotate.ClassMissing},
		{"DynamoDB", d.update, jsonError, 400, "AccessDeniedException", rotate.ClassDenied},
		{"DynamoDB", d.update, jsonError, 400, "ExpiredTokenException UnrecognizedClientException MissingAuthenticationTokenException", rotate.ClassCredentials},
		{"DynamoDB", d.update, jsonError, 400, "ItemCollectionSizeLimitExceededException", rotate.ClassUnexpected},
		// Amazon S3 error responses.
		{"S3", d.get, xmlError, 503, "SlowDown", rotate.ClassThrottled},
		{"S3", d.get, xmlError, 429, "UnknownError", rotate.ClassThrottled},
		{"S3", d.get, xmlError, 500, "InternalError", rotate.ClassUnknown},
		{"S3", d.get, xmlError, 503, "ServiceUnavailable", rotate.ClassUnknown},
		{"S3", d.get, xmlError, 400, "RequestTimeout", rotate.ClassUnknown},
		{"S3", d.get, xmlError, 409, "OperationAborted ConditionalRequestConflict", rotate.ClassTransient},
		{"S3", d.get, xmlError, 403, "AccessDenied AllAccessDisabled", rotate.ClassDenied},
		{"S3", d.get, xmlError, 403, "InvalidAccessKeyId SignatureDoesNotMatch RequestTimeTooSkewed", rotate.ClassCredentials},
		{"S3", d.get, xmlError, 400, "ExpiredToken InvalidToken", rotate.ClassCredentials},
		{"S3", d.get, xmlError, 404, "NoSuchBucket", rotate.ClassMissing},
		{"S3", d.get, xmlError, 301, "PermanentRedirect", rotate.ClassMissing},
		{"S3", d.get, xmlError, 400, "KMS.DisabledException", rotate.ClassKeyState},
		{"S3", d.get, xmlError, 400, "KMS.ThrottlingException", rotate.ClassThrottled},
		{"S3, HEAD", d.head, xmlError, 403, "-", rotate.ClassDenied},
		{"S3, HEAD", d.head, xmlError, 503, "-", rotate.ClassUnknown},
		{"S3, HEAD", d.head, xmlError, 301, "-", rotate.ClassMissing},
		// A copy may fail after its 200 has gone out (API_CopyObject).
		{"S3, inside a 200", d.copy, xmlError, 200, "InternalError", rotate.ClassUnknown},
		{"S3, inside a 200", d.copy, xmlError, 200, "SlowDown", rotate.ClassThrottled},
		{"S3, inside a 200", d.copy, xmlError, 200, "AccessDenied", rotate.ClassDenied},
	} {
		for _, code := range strings.Fields(test.codes) {
			d.answer = test.refuse(test.status, code)
			err := test.call(t.Context())
			if got := rotate.Classify(err); got != test.want {
				t.Errorf("%s, %d %s: class %d, want %d (%T: %v)", test.service, test.status, code, got, test.want, err, err)
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
			_, err := rotate.KeyARN(t.Context(), kms.NewFromConfig(d.config), "alias/new", nil)
			var key *rotate.KeyError
			if !errors.As(err, &key) || key.Field != "kms.endpoint" || key.Wrong != wrong ||
				!strings.Contains(key.Detail, fmt.Sprintf("HTTP %d", status)) {
				t.Errorf("%d, %s: %v", status, name, err)
			}
		}
	}
	d.answer = html(http.StatusBadGateway)
	_, err := rotate.KeyARN(t.Context(), kms.NewFromConfig(d.config), "alias/new", nil)
	if got := rotate.Classify(err); got != rotate.ClassUnknown {
		t.Errorf("502: class %d, want %d (%v)", got, rotate.ClassUnknown, err)
	}
}

// TestClassifyStatements does the same for statements that fail alone inside the 200
// of a batch (API_BatchStatementError).
func TestClassifyStatements(t *testing.T) {
	for code, want := range map[string]rotate.Class{
		"ConditionalCheckFailed": rotate.ClassChanged, // without the item, which is to be looked up
		// Why, they do not say: alone, the same update would be told.
		"ThrottlingError": rotate.ClassBusy, "ProvisionedThroughputExceeded": rotate.ClassBusy,
		"RequestLimitExceeded": rotate.ClassBusy, "TransactionConflict": rotate.ClassBusy,
		"InternalServerError": rotate.ClassUnknown, "ResourceNotFound": rotate.ClassMissing, "AccessDenied": rotate.ClassDenied,
		"ValidationError": rotate.ClassInvalidCiphertext, "DuplicateItem": rotate.ClassUnexpected,
		"ItemCollectionSizeLimitExceeded": rotate.ClassRefused,
	} {
		d := newDeaf(t)
		d.answer = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/x-amz-json-1.0")
			switch _, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); operation {
			case "DescribeTable":
				_, _ = io.WriteString(w, `{"Table":{"TableName":"t","TableStatus":"ACTIVE","KeySchema":[{"AttributeName":"id","KeyType":"HASH"}],"AttributeDefinitions":[{"AttributeName":"id","AttributeType":"S"}]}}`)
			case "BatchExecuteStatement":
				if r.ContentLength < 2000 { // a probe, of one statement
					_, _ = io.WriteString(w, `{"Responses":[{"Error":{"Code":"ConditionalCheckFailed","Message":"why"}}]}`)
					return
				}
				_, _ = fmt.Fprintf(w, `{"Responses":[{"TableName":"t"},{"Error":{"Code":%q,"Message":"why"}}]}`, code)
			default: // the same update alone has the same answer
				alone := map[string]string{
					"ValidationError":        "ValidationException",
					"ConditionalCheckFailed": "ConditionalCheckFailedException",
				}[code]
				w.WriteHeader(http.StatusBadRequest)
				_, _ = fmt.Fprintf(w, `{"__type":%q,"message":"why"}`, alone)
			}
		}
		table := dynamoscan.New(dynamoscan.Config{Client: dynamodb.NewFromConfig(d.config), Table: "t", Segments: 1,
			Attributes: []string{"ssn"}, Writes: []string{"ssn"}})
		results := table.Replace(t.Context(), []scan.Change{change("1"), change("2")})
		if results[0].Err != nil {
			t.Errorf("%s: the statement beside it: %v", code, results[0].Err)
		}
		if got := rotate.Classify(results[1].Err); got != want {
			t.Errorf("%s: class %d, want %d (%v)", code, got, want, results[1].Err)
		}
	}
}

// change replaces one attribute; large enough to tell a batch from a probe.
func change(id string) scan.Change {
	row := func(blob string) *scan.Row {
		return &scan.Row{Attributes: map[string]scan.Value{"ssn": {Kind: scan.KindB, Bytes: []byte(strings.Repeat(blob, 200))}}}
	}
	return scan.Change{Item: scan.Item{Ref: scan.Ref(fmt.Sprintf(`{"id":{"S":%q}}`, id)), Payload: row("old")}, New: row("new")}
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
		"of no form": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `<html>`) },
		"too late":   func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		d := newDeaf(t) // a request that nobody waits for any more may still be under way there
		d.answer = answer
		for service, call := range map[string]func(context.Context) error{"KMS": d.reencrypt, "DynamoDB": d.update} {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			err := call(ctx)
			cancel()
			if got := rotate.Classify(err); got != rotate.ClassUnknown {
				t.Errorf("%s, answer: %s: class %d, want %d (%v)", service, name, got, rotate.ClassUnknown, err)
			}
		}
	}
	refused := newDeaf(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused.config.BaseEndpoint = aws.String("http://" + listener.Addr().String())
	_ = listener.Close() // nobody listens there any more
	if got := rotate.Classify(refused.reencrypt(t.Context())); got != rotate.ClassTransient {
		t.Errorf("nobody listens: class %d, want %d: nothing was sent", got, rotate.ClassTransient)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := rotate.Classify(refused.reencrypt(ended)); got != rotate.ClassStopped {
		t.Errorf("our own context ended: class %d, want %d", got, rotate.ClassStopped)
	}
}

// TestClassifyOurs sorts the errors of our own packages, wrapped as callers wrap them.
func TestClassifyOurs(t *testing.T) {
	d := newDeaf(t)
	d.answer = xmlError(403, "AccessDenied")
	for _, test := range []struct {
		err  error
		want rotate.Class
	}{
		{nil, rotate.ClassNone},
		{scan.ErrChanged, rotate.ClassChanged},
		{scan.ErrGone, rotate.ClassGone},
		{scan.ErrContended, rotate.ClassBusy},
		{&scan.RefusedError{Reason: "archived"}, rotate.ClassRefused},
		{&scan.MissingError{Field: "s3.bucket"}, rotate.ClassMissing},
		{&scan.StorageError{Err: syscall.ENOSPC}, rotate.ClassStorage},
		{&rotate.CredentialsError{Err: d.get(t.Context())}, rotate.ClassCredentials},
		{&rotate.CredentialsError{Err: io.ErrUnexpectedEOF}, rotate.ClassTransient},
		{&rotate.CredentialsError{Err: context.Canceled}, rotate.ClassStopped},
		{context.DeadlineExceeded, rotate.ClassUnknown},
		{&net.DNSError{Err: "no such host", Name: "kms.us-east-1.amazonaws.com"}, rotate.ClassTransient},
		{errors.New("anything else"), rotate.ClassUnexpected},
	} {
		err := test.err
		if err != nil {
			err = fmt.Errorf("load an item: %w", err)
		}
		if got := rotate.Classify(err); got != test.want {
			t.Errorf("%v: class %d, want %d", test.err, got, test.want)
		}
	}
}

// TestDecide holds each decision to the words of the design.
func TestDecide(t *testing.T) {
	const s = time.Second
	stop := func(kind rotate.StopKind) rotate.Decision { return rotate.Decision{Do: rotate.Stop, Stop: kind} }
	do := func(a rotate.Action) rotate.Decision { return rotate.Decision{Do: a} }
	everywhere := []rotate.Doing{rotate.Listing, rotate.Reading, rotate.Asking, rotate.Writing}
	items := everywhere[1:]
	for _, test := range []struct {
		name  string
		doing []rotate.Doing
		event rotate.Event
		want  rotate.Decision
	}{
		{"success", everywhere, rotate.Event{}, do(rotate.Accept)},
		{"our own end", everywhere, rotate.Event{Class: rotate.ClassStopped}, stop(rotate.StopInterrupted)},
		{"throttled, however often", everywhere, rotate.Event{Class: rotate.ClassThrottled, Failures: 1000, MaxOutage: s}, do(rotate.Slower)},
		{"throttled for too long", everywhere, rotate.Event{Class: rotate.ClassThrottled, Silence: 2 * s, MaxOutage: s}, stop(rotate.StopUnavailable)},
		{"a busy place", everywhere, rotate.Event{Class: rotate.ClassBusy, Failures: 1000, MaxOutage: s}, do(rotate.Again)},
		{"a place that stays busy", items, rotate.Event{Class: rotate.ClassBusy, Silence: 2 * s, MaxOutage: s}, do(rotate.FailSlot)},
		{"a range that stays too busy to be listed", []rotate.Doing{rotate.Listing}, rotate.Event{Class: rotate.ClassBusy, Silence: 2 * s, MaxOutage: s}, stop(rotate.StopUnavailable)},
		{"no answer, at first", []rotate.Doing{rotate.Listing, rotate.Reading, rotate.Asking}, rotate.Event{Class: rotate.ClassUnknown, Failures: 1, MaxOutage: s}, do(rotate.Again)},
		{"a write without an answer", []rotate.Doing{rotate.Writing}, rotate.Event{Class: rotate.ClassUnknown, Failures: 1, MaxOutage: s}, do(rotate.ReadAgain)},
		{"a write that was not applied", []rotate.Doing{rotate.Writing}, rotate.Event{Class: rotate.ClassTransient, Failures: 1, MaxOutage: s}, do(rotate.Again)},
		{"no answer to this one alone", []rotate.Doing{rotate.Reading, rotate.Asking}, rotate.Event{Class: rotate.ClassUnknown, Failures: 8, MaxOutage: s}, do(rotate.FailSlot)},
		{"no answer to anybody for too long", everywhere, rotate.Event{Class: rotate.ClassUnknown, Silence: 2 * s, MaxOutage: s}, stop(rotate.StopUnavailable)},
		{"a key not usable, for now", []rotate.Doing{rotate.Listing, rotate.Asking},
			rotate.Event{Class: rotate.ClassKeyState, Trouble: s, Settle: 30 * s}, do(rotate.Again)},
		{"a key not usable", []rotate.Doing{rotate.Listing, rotate.Asking},
			rotate.Event{Class: rotate.ClassKeyState, Trouble: 31 * s, Settle: 30 * s},
			stop(rotate.StopAccess)},
		{"the key of one item not usable", []rotate.Doing{rotate.Reading, rotate.Writing},
			rotate.Event{Class: rotate.ClassKeyState, Denials: 7}, do(rotate.FailSlot)},
		{"the keys of all items not usable", []rotate.Doing{rotate.Reading, rotate.Writing},
			rotate.Event{Class: rotate.ClassKeyState, Denials: 8}, stop(rotate.StopAccess)},
		{"credentials refused, for now", everywhere, rotate.Event{Class: rotate.ClassCredentials, Trouble: s, Settle: 30 * s}, do(rotate.Again)},
		{"credentials refused", everywhere, rotate.Event{Class: rotate.ClassCredentials, Trouble: 31 * s, Settle: 30 * s}, stop(rotate.StopAccess)},
		{"no such place", everywhere, rotate.Event{Class: rotate.ClassMissing}, stop(rotate.StopJob)},
		{"a disk that takes no more", everywhere, rotate.Event{Class: rotate.ClassStorage}, stop(rotate.StopStorage)},
		{"a list is denied", []rotate.Doing{rotate.Listing}, rotate.Event{Class: rotate.ClassDenied, Denials: 1, Allowed: true}, stop(rotate.StopAccess)},
		{"KMS denies one", []rotate.Doing{rotate.Asking}, rotate.Event{Class: rotate.ClassDenied, Denials: 1}, do(rotate.AskOpposite)},
		{"one item is denied", []rotate.Doing{rotate.Reading, rotate.Writing}, rotate.Event{Class: rotate.ClassDenied, Denials: 7}, do(rotate.FailSlot)},
		{"all are denied from the start", items, rotate.Event{Class: rotate.ClassDenied, Denials: 8}, stop(rotate.StopAccess)},
		{"some in a row are denied, after others were not", []rotate.Doing{rotate.Reading, rotate.Writing}, rotate.Event{Class: rotate.ClassDenied, Denials: 49, Allowed: true}, do(rotate.FailSlot)},
		{"all are denied from here on", items, rotate.Event{Class: rotate.ClassDenied, Denials: 50, Allowed: true}, stop(rotate.StopAccess)},
		{"changed meanwhile", []rotate.Doing{rotate.Writing}, rotate.Event{Class: rotate.ClassChanged}, do(rotate.ReadAgain)},
		{"deleted meanwhile", []rotate.Doing{rotate.Reading, rotate.Writing}, rotate.Event{Class: rotate.ClassGone}, do(rotate.LetGo)},
		{"refused by the source", []rotate.Doing{rotate.Reading, rotate.Writing}, rotate.Event{Class: rotate.ClassRefused}, do(rotate.FailSlot)},
		{"under another key", []rotate.Doing{rotate.Asking}, rotate.Event{Class: rotate.ClassIncorrectKey}, do(rotate.AskOpposite)},
		{"corrupt, or of another context", []rotate.Doing{rotate.Asking}, rotate.Event{Class: rotate.ClassInvalidCiphertext}, do(rotate.AskOpposite)},
		{"a write called invalid", []rotate.Doing{rotate.Writing}, rotate.Event{Class: rotate.ClassInvalidCiphertext}, do(rotate.FailSlot)},
		{"a list called invalid", []rotate.Doing{rotate.Listing}, rotate.Event{Class: rotate.ClassInvalidCiphertext}, stop(rotate.StopJob)},
		{"what nobody foresaw", items, rotate.Event{Class: rotate.ClassUnexpected}, do(rotate.FailSlot)},
		{"what nobody foresaw, of a list", []rotate.Doing{rotate.Listing}, rotate.Event{Class: rotate.ClassUnexpected}, stop(rotate.StopInternal)},
	} {
		for _, doing := range test.doing {
			e := test.event
			e.Doing = doing
			if got := rotate.Decide(e); got != test.want {
				t.Errorf("%s, doing %d: %+v, want %+v", test.name, doing, got, test.want)
			}
		}
	}
}
