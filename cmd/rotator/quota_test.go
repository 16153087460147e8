package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/google/go-cmp/cmp"

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/reencrypt"
)

// quotaCase is a response of Service Quotas, and the result.
type quotaCase struct {
	name  string
	quota fakeaws.Quota
	fault fault.Fault // of every request
	code  string
	want  float64
	from  string
}

func quotaCases() []quotaCase {
	refuse := func(code string) fault.Fault {
		return fault.Fault{
			Kind:   fault.Refusal,
			Answer: fault.Answer{Status: http.StatusBadRequest, Code: code},
		}
	}
	return []quotaCase{
		{
			"applied",
			fakeaws.Quota{Applied: 30000, Default: 20000},
			fault.Fault{},
			symmetricQuota,
			30000,
			"applied, from Service Quotas",
		},
		{
			"default",
			fakeaws.Quota{Default: 21000},
			fault.Fault{},
			symmetricQuota,
			21000,
			"the default, from Service Quotas; the applied one cannot be read: the service " +
				"answered NoSuchResourceException",
		},
		{
			"neither",
			fakeaws.Quota{},
			fault.Fault{},
			symmetricQuota,
			20000,
			"the published default; Service Quotas cannot be read: the service answered " +
				"NoSuchResourceException",
		},
		{
			"denied",
			fakeaws.Quota{Applied: 5},
			refuse("AccessDeniedException"),
			symmetricQuota,
			20000,
			"access denied (allow servicequotas:GetServiceQuota",
		},
		{
			"no answer",
			fakeaws.Quota{Applied: 5},
			fault.Fault{Kind: fault.Reset},
			rsaQuota,
			1000,
			"no answer",
		},
	}
}

// TestReadQuota: for each response of Service Quotas, readQuota returns a quota and states its
// source.
func TestReadQuota(t *testing.T) {
	t.Parallel()
	server, err := fakeaws.Start(fakeaws.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	client := servicequotas.NewFromConfig(aws.Config{
		Region:       "eu-west-2",
		BaseEndpoint: aws.String(server.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider("AKIAFAKEAWSFAKEAWS00",
			"not-a-secret", ""),
		Retryer: func() aws.Retryer { return aws.NopRetryer{} },
	})
	for _, test := range quotaCases() {
		server.SetQuota("kms", test.code, test.quota)
		server.Faults().Set("*", test.fault)
		got, from := readQuota(t.Context(), client, test.code, "eu-west-2")
		if got != test.want || !strings.Contains(from, test.from) {
			t.Errorf("%s: %v, %s; want %v, %s", test.name, got, from, test.want, test.from)
		}
	}
}

// TestQuotasOf: a move from or to an asymmetric key also uses the quota for its kind of key.
func TestQuotasOf(t *testing.T) {
	t.Parallel()
	symmetric, rsa := reencrypt.Key{Algorithm: reencrypt.Symmetric}, reencrypt.Key{
		Algorithm: "RSAES_OAEP_SHA_256",
	}
	sm2 := reencrypt.Key{Algorithm: "SM2PKE"}
	for _, test := range []struct {
		keys reencrypt.Keys
		want []string
	}{
		{
			reencrypt.Keys{Destination: symmetric, Sources: []reencrypt.Key{symmetric}},
			[]string{symmetricQuota},
		},
		{reencrypt.Keys{Destination: symmetric, Any: true}, []string{symmetricQuota}},
		{
			reencrypt.Keys{Destination: symmetric, Sources: []reencrypt.Key{rsa}},
			[]string{symmetricQuota, rsaQuota},
		},
		{reencrypt.Keys{Destination: rsa, Sources: []reencrypt.Key{rsa}}, []string{rsaQuota}},
		{reencrypt.Keys{Destination: sm2, Sources: []reencrypt.Key{sm2}}, []string{sm2Quota}},
		{
			reencrypt.Keys{Destination: sm2, Sources: []reencrypt.Key{rsa}},
			[]string{rsaQuota, sm2Quota},
		},
		{reencrypt.Keys{Destination: sm2, Any: true}, []string{symmetricQuota, sm2Quota}},
	} {
		if diff := cmp.Diff(test.want, quotasOf(test.keys)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", test.keys, diff)
		}
	}
}
