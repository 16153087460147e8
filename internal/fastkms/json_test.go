package fastkms

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// FuzzInput: the bodies of requests are those that the SDK writes. Contexts have at most one
// pair, because the order of pairs is undefined.
func FuzzInput(f *testing.F) {
	f.Fuzz(func(
		t *testing.T, blob []byte, key, source, algorithm, name, value, token string, which uint8,
	) {
		in := &kms.ReEncryptInput{
			CiphertextBlob:                 blob,
			DestinationKeyId:               &key,
			DestinationEncryptionAlgorithm: types.EncryptionAlgorithmSpec(algorithm),
		}
		if which&1 != 0 {
			in.SourceKeyId = &source
			in.SourceEncryptionAlgorithm = in.DestinationEncryptionAlgorithm
		}
		if which&2 != 0 {
			in.SourceEncryptionContext = map[string]string{name: value}
		}
		if which&4 != 0 {
			in.DestinationEncryptionContext = map[string]string{value: name}
		}
		if which&8 != 0 {
			in.GrantTokens = []string{token, key}
		}
		if which&16 != 0 {
			in.SourceEncryptionContext, in.GrantTokens = map[string]string{}, []string{}
		}
		if which&32 != 0 {
			in.DryRun = aws.Bool(which&64 != 0)
		}
		l := newFastSender(&kms.Options{}, nil, 0)
		request := smithyhttp.NewStackRequest().(*smithyhttp.Request)
		if err := l.protocol.SerializeRequest(t.Context(), l.schema, in, request); err != nil {
			t.Skip() // the request cannot be sent
		}
		want, err := io.ReadAll(request.GetStream())
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := appendInput(nil, in); ok && !bytes.Equal(got, want) {
			t.Fatalf("%s\nbut the SDK writes\n%s", got, want)
		}
	})
}

// FuzzOutput: if parseOutput parses a response, the SDK has the same result.
func FuzzOutput(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		got, want := &kms.ReEncryptOutput{}, &kms.ReEncryptOutput{}
		if !parseOutput(text, got) {
			return
		}
		l := newFastSender(&kms.Options{}, nil, 0)
		answer := &smithyhttp.Response{
			Response: &http.Response{
				StatusCode: http.StatusOK,
				Body:       io.NopCloser(bytes.NewReader(text)),
			},
		}
		if err := l.protocol.DeserializeResponse(t.Context(), l.schema, kms.TypeRegistry, answer,
			want); err != nil {
			t.Fatalf("%s: the SDK returns %v", text, err)
		}
		if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(kms.ReEncryptOutput{}),
			cmpopts.IgnoreFields(kms.ReEncryptOutput{}, "ResultMetadata")); d != "" {
			t.Fatalf("%s: %s", text, d)
		}
	})
}

// TestUsualIsFast: usual requests and responses need no code of the SDK.
func TestUsualIsFast(t *testing.T) {
	in := &kms.ReEncryptInput{
		CiphertextBlob: []byte{1, 2},
		DestinationKeyId: aws.String(
			"arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		),
		SourceEncryptionContext: map[string]string{"tenant": "a", "purpose": "pii"},
		GrantTokens:             []string{"t"},
	}
	if _, ok := appendInput(nil, in); !ok {
		t.Error("appendInput does not support a usual request")
	}
	text := `{"CiphertextBlob":"AQID","DestinationEncryptionAlgorithm":"SYMMETRIC_DEFAULT",` +
		`"DestinationKeyMaterialId":"m","KeyId":"arn:to",` +
		`"SourceEncryptionAlgorithm":"RSAES_OAEP_SHA_1","SourceKeyId":"arn:from",` +
		`"SourceKeyMaterialId":"n"}`
	if out := (&kms.ReEncryptOutput{}); !parseOutput([]byte(text), out) ||
		aws.ToString(out.SourceKeyId) != "arn:from" {
		t.Errorf("parseOutput does not support a usual response, or its result is wrong: %+v", out)
	}
}
