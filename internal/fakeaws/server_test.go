package fakeaws_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/awsspec"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start starts a server and loads the configuration of its clients from the environment only,
// as a child process does.
func start(t *testing.T) (*fakeaws.Server, aws.Config) {
	t.Helper()
	server, err := fakeaws.Start(fakeaws.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	for _, variable := range server.AWSEnv() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRetryer(func() aws.Retryer {
		return aws.NopRetryer{}
	}))
	if err != nil {
		t.Fatal(err)
	}
	return server, cfg
}

// TestDispatch: each client reaches its service, and every request is counted.
func TestDispatch(t *testing.T) {
	server, cfg := start(t)
	if _, err := kms.NewFromConfig(cfg).CreateKey(t.Context(), &kms.CreateKeyInput{}); err != nil {
		t.Error(err)
	}
	var api smithy.APIError
	_, err := dynamodb.NewFromConfig(cfg).DescribeTable(t.Context(), &dynamodb.DescribeTableInput{
		TableName: aws.String("none"),
	})
	if !errors.As(err, &api) || api.ErrorCode() != "ResourceNotFoundException" {
		t.Errorf("DynamoDB answers %v", err)
	}
	_, err = s3.NewFromConfig(cfg).GetObject(t.Context(), &s3.GetObjectInput{
		Bucket: aws.String("none"),
		Key:    aws.String("none"),
	})
	if !errors.As(err, &api) || api.ErrorCode() != "NoSuchBucket" {
		t.Errorf("S3 answers %v", err)
	}
	if _, err := sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(),
		&sts.GetCallerIdentityInput{}); err != nil {
		t.Error(err)
	}
	quotas := servicequotas.NewFromConfig(cfg)
	_, err = quotas.GetServiceQuota(t.Context(), &servicequotas.GetServiceQuotaInput{
		ServiceCode: aws.String("kms"),
		QuotaCode:   aws.String("L-6E3AF000"),
	})
	if !errors.As(err, &api) || api.ErrorCode() != "NoSuchResourceException" {
		t.Errorf("Service Quotas answers %v", err)
	}
	want := map[string]int{
		"servicequotas:GetServiceQuota": 1,
		"kms:CreateKey":                 1,
		"dynamodb:DescribeTable":        1,
		"s3:GetObject":                  1,
		"sts:GetCallerIdentity":         1,
	}
	if diff := cmp.Diff(want, server.Faults().Counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

// TestCloudTrail runs the cases of the event history, which make requests to KMS.
func TestCloudTrail(t *testing.T) {
	_, cfg := start(t)
	awsspec.CloudTrail(t, cfg, 0)
}

// TestTrailOfRole: the event of a request with a role has the role as the issuer of the session.
// A request to a key that its caller must not use is an event without a resource.
func TestTrailOfRole(t *testing.T) {
	server, cfg := start(t)
	arn, err := server.KMS().CreateKey(fakekms.Symmetric)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := server.KMS().Encrypt(arn, []byte("text"), nil)
	if err != nil {
		t.Fatal(err)
	}
	assumed := cfg.Copy()
	assumed.Credentials = aws.NewCredentialsCache(
		stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), "arn:aws:iam::111122223333:role/app",
			func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = "pod-1" }))
	client := kms.NewFromConfig(assumed)
	if _, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob}); err != nil {
		t.Fatal(err)
	}
	server.KMS().SetPolicy(func(fakekms.Call) bool { return false })
	if _, err := client.Decrypt(t.Context(),
		&kms.DecryptInput{CiphertextBlob: blob}); err == nil {
		t.Fatal("a denied request succeeded")
	}
	out, err := cloudtrail.NewFromConfig(cfg).LookupEvents(t.Context(),
		&cloudtrail.LookupEventsInput{})
	if err != nil || len(out.Events) != 2 {
		t.Fatalf("events: %+v, %v", out, err)
	}
	denied, used := *out.Events[0].CloudTrailEvent, *out.Events[1].CloudTrailEvent
	if !strings.Contains(denied, `"errorCode":"AccessDenied"`) ||
		strings.Contains(denied, `"resources"`) {
		t.Errorf("the event of the denied request is %s", denied)
	}
	if !strings.Contains(used, `"sessionIssuer":{"accountId":"111122223333",`+
		`"arn":"arn:aws:iam::111122223333:role/app"`) || !strings.Contains(used, arn) {
		t.Errorf("the event is %s", used)
	}
}

// TestTrailDelayAndRate: an event appears after the delay, and requests above the rate are
// throttled.
func TestTrailDelayAndRate(t *testing.T) {
	server, cfg := start(t)
	if _, err := kms.NewFromConfig(cfg).CreateKey(t.Context(), &kms.CreateKeyInput{}); err != nil {
		t.Fatal(err)
	}
	client := cloudtrail.NewFromConfig(cfg)
	events := func() int {
		t.Helper()
		out, err := client.LookupEvents(t.Context(), &cloudtrail.LookupEventsInput{})
		if err != nil {
			t.Fatal(err)
		}
		return len(out.Events)
	}
	server.CloudTrail().SetDelay(15 * time.Minute)
	if n := events(); n != 0 {
		t.Errorf("%d events appear before the delay", n)
	}
	server.CloudTrail().SetDelay(0)
	if n := events(); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	server.CloudTrail().SetRate(2)
	events()
	events()
	_, err := client.LookupEvents(t.Context(), &cloudtrail.LookupEventsInput{})
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "ThrottlingException" {
		t.Errorf("the third request in a second: %v, want ThrottlingException", err)
	}
}

// TestUsageDelay: GetKeyLastUsage reports a use after the delay, and until then the one before.
func TestUsageDelay(t *testing.T) {
	server, cfg := start(t)
	arn, err := server.KMS().CreateKey(fakekms.Symmetric)
	if err != nil {
		t.Fatal(err)
	}
	client := kms.NewFromConfig(cfg)
	last := func() string {
		t.Helper()
		out, err := client.GetKeyLastUsage(t.Context(), &kms.GetKeyLastUsageInput{KeyId: &arn})
		if err != nil {
			t.Fatal(err)
		}
		return string(out.KeyLastUsage.Operation)
	}
	if _, err := client.Encrypt(t.Context(),
		&kms.EncryptInput{KeyId: &arn, Plaintext: []byte("text")}); err != nil {
		t.Fatal(err)
	}
	server.KMS().SetUsageDelay(time.Hour)
	if _, err := client.GenerateDataKey(t.Context(),
		&kms.GenerateDataKeyInput{KeyId: &arn, KeySpec: types.DataKeySpecAes256}); err != nil {
		t.Fatal(err)
	}
	if got := last(); got != "Encrypt" {
		t.Errorf("before the delay the last use is %q, want Encrypt", got)
	}
	server.KMS().SetUsageDelay(0)
	if got := last(); got != "GenerateDataKey" {
		t.Errorf("after the delay the last use is %q, want GenerateDataKey", got)
	}
}

// TestAssumeRole: the policy of KMS receives the assumed role as the principal.
func TestAssumeRole(t *testing.T) {
	server, cfg := start(t)
	arn, err := server.KMS().CreateKey(fakekms.Symmetric)
	if err != nil {
		t.Fatal(err)
	}
	const role = "arn:aws:sts::444455556666:assumed-role/rotator/case"
	server.KMS().SetPolicy(func(c fakekms.Call) bool { return c.Principal == role })
	describe := func(cfg aws.Config) error {
		_, err := kms.NewFromConfig(cfg).DescribeKey(t.Context(),
			&kms.DescribeKeyInput{KeyId: &arn})
		return err
	}
	var api smithy.APIError
	if err := describe(cfg); !errors.As(err, &api) || api.ErrorCode() != "AccessDeniedException" {
		t.Errorf("without the role: %v, want AccessDeniedException", err)
	}
	assumed := cfg.Copy()
	assumed.Credentials = aws.NewCredentialsCache(
		stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg),
			"arn:aws:iam::444455556666:role/teams/rotator",
			func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = "case" }))
	if err := describe(assumed); err != nil {
		t.Errorf("with the role: %v", err)
	}
	identity, err := sts.NewFromConfig(assumed).GetCallerIdentity(t.Context(),
		&sts.GetCallerIdentityInput{})
	if err != nil || *identity.Arn != role || *identity.Account != "444455556666" {
		t.Errorf("GetCallerIdentity: %+v, %v", identity, err)
	}
	if n := server.Faults().Counts()["sts:AssumeRole"]; n != 1 {
		t.Errorf("%d calls of AssumeRole, want 1", n)
	}
	_, err = sts.NewFromConfig(cfg).AssumeRole(t.Context(), &sts.AssumeRoleInput{
		RoleArn:         aws.String("arn:aws:iam::444455556666:user/rotator"),
		RoleSessionName: aws.String("case"),
	})
	if !errors.As(err, &api) || api.ErrorCode() != "ValidationError" {
		t.Errorf("AssumeRole with the ARN of a user: %v, want ValidationError", err)
	}
}

// TestSTSFaults: STS returns throttling and server errors in its own protocol.
func TestSTSFaults(t *testing.T) {
	server, cfg := start(t)
	client := sts.NewFromConfig(cfg)
	for kind, want := range map[fault.Kind]string{
		fault.Throttle:      "Throttling",
		fault.InternalError: "InternalFailure",
	} {
		server.Faults().Set("sts:GetCallerIdentity", fault.Fault{Kind: kind})
		_, err := client.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != want {
			t.Errorf("the error is %v, want %s", err, want)
		}
	}
}

// TestCloseCutsRequests: Close ends a request that a fault delays, may be called twice, and
// leaves no goroutine running (checked by TestMain).
func TestCloseCutsRequests(t *testing.T) {
	server, cfg := start(t)
	arrived := make(chan struct{})
	server.Faults().Set("kms:ListAliases", fault.Fault{
		Delay:  time.Hour,
		Before: func(*http.Request, []byte) { close(arrived) },
	})
	answer := make(chan error, 1)
	go func() {
		_, err := kms.NewFromConfig(cfg).ListAliases(context.Background(), &kms.ListAliasesInput{})
		answer <- err
	}()
	<-arrived
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := server.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := <-answer; err == nil {
		t.Error("a request succeeded although Close ended it")
	}
	if response, err := http.Get(server.Endpoint()); err == nil {
		_ = response.Body.Close()
		t.Error("the server answers after Close")
	}
}

func TestStartOnTakenAddress(t *testing.T) {
	server, _ := start(t)
	address := strings.TrimPrefix(server.Endpoint(), "http://")
	if again, err := fakeaws.Start(fakeaws.Config{Address: address}); err == nil {
		_ = again.Close()
		t.Error("two servers listen on the same address")
	} else if !strings.Contains(err.Error(), address) {
		t.Errorf("the error does not name the address: %v", err)
	}
}

// TestSigners: every service refuses expired keys and signatures with a wrong time, with the
// error codes that the SDK handles. The SDK corrects its clock by the Date header.
func TestSigners(t *testing.T) {
	server, cfg := start(t)
	calls := map[string]func() error{
		"ExpiredTokenException InvalidSignatureException": func() error {
			_, err := kms.NewFromConfig(cfg).ListAliases(t.Context(), &kms.ListAliasesInput{})
			return err
		},
		"ExpiredToken RequestTimeTooSkewed": func() error {
			_, err := s3.NewFromConfig(cfg).ListBuckets(t.Context(), &s3.ListBucketsInput{})
			return err
		},
		"ExpiredToken SignatureDoesNotMatch": func() error {
			_, err := sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(),
				&sts.GetCallerIdentityInput{})
			return err
		},
	}
	expect := func(when string, which int, refused bool) {
		t.Helper()
		for codes, call := range calls {
			want, code := strings.Fields(codes)[which], ""
			if api := smithy.APIError(nil); errors.As(call(), &api) {
				code = api.ErrorCode()
			}
			if (code == want) != refused || !refused && code != "" {
				t.Errorf("%s: error code %q; refused with %s: want %v", when, code, want, refused)
			}
		}
	}
	expect("initially", 0, false)
	server.SetClock(20 * time.Minute)
	expect("clock ahead", 1, true)
	server.SetClock(-20 * time.Minute)
	expect("clock behind", 1, true)
	server.SetClock(0)
	expect("clock reset", 1, false)
	client := kms.NewFromConfig(cfg, func(o *kms.Options) { o.Retryer = retry.NewStandard() })
	server.SetClock(time.Hour)
	if _, err := client.ListAliases(t.Context(), &kms.ListAliasesInput{}); err != nil {
		t.Errorf("a client with retries did not correct its clock: %v", err)
	}
	server.SetClock(0)
	credentials, err := cfg.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server.Expire(credentials.AccessKeyID)
	expect("expired", 0, true)
}
