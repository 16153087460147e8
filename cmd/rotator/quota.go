package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas/types"

	"rotator/internal/awserr"
	"rotator/internal/flowcontrol"
	"rotator/internal/reencrypt"
	"rotator/internal/retry"
)

// quotaTimeout limits each request to Service Quotas. The response is optional, and in a private
// network there may be none.
const quotaTimeout = 10 * time.Second

// The quotas of KMS that ReEncrypt uses ("Request quotas" in the developer guide
// of KMS; codes as Service Quotas lists them).
const (
	symmetricQuota = "L-6E3AF000" // Cryptographic operations (symmetric) request rate
	rsaQuota       = "L-2AC98190" // Cryptographic operations (RSA) request rate
	sm2Quota       = "L-DC14942D" // Cryptographic operations (ECC and SM2) request rate
)

// publishedQuota returns the default quota from the developer guide of KMS, for use when Service
// Quotas is unavailable.
func publishedQuota(code, region string) float64 {
	switch {
	case code == rsaQuota, code == sm2Quota:
		return 1000
	case slices.Contains([]string{"us-east-1", "us-west-2", "eu-west-1"}, region):
		return 100_000
	case slices.Contains([]string{"us-east-2", "ap-southeast-1", "ap-southeast-2",
		"ap-northeast-1", "eu-central-1", "eu-west-2"}, region):
		return 20_000
	}
	return 10_000
}

// wireRate sets the rate to the one of the job file, or to its share of the quota. note states
// the quota, and whether it was read or is the published default. It is "" without a quota.
func (w *wiring) wireRate(ctx context.Context, base aws.Config) (note string) {
	share := w.job.KMS.QuotaShare()
	if w.rate = w.job.KMS.Rate; share == 0 {
		return ""
	}
	// The quota belongs to the account that calls KMS. The endpoint of KMS has no quotas.
	cfg := withTarget(base, w.job.KMS.Region, "", w.job.KMS.RoleARN)
	client := quotaClient(cfg)
	var quota float64
	for _, code := range quotasOf(w.keys) {
		read, from := readQuota(ctx, client, code, cfg.Region)
		if quota == 0 || read < quota {
			quota = read
			w.rate = quota * share
			note = fmt.Sprintf("kms.quota: %s of %s (quota %s in %s: %s) is a rate of %s",
				w.job.KMS.Quota, requestRate(quota), code, cfg.Region, from, number(w.rate))
		}
	}
	return note
}

// wireLimiter sets the rate and the limiter of all ReEncrypt requests.
func (w *wiring) wireLimiter(ctx context.Context, base aws.Config) {
	w.rateNote = w.wireRate(ctx, base)
	w.limiter = flowcontrol.NewLimiter(w.rate)
	w.permits.Valid, w.permits.Renew = w.limiter.Valid(), w.limiter.Renew
}

func quotaClient(cfg aws.Config) *servicequotas.Client {
	return servicequotas.NewFromConfig(cfg, func(o *servicequotas.Options) {
		o.Retryer = fewAttempts()
	})
}

func number(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

// requestRate returns a rate with its unit.
func requestRate(rate float64) string {
	if rate == 1 {
		return "1 request per second"
	}
	return number(rate) + " requests per second"
}

// quotasOf returns the codes of the quotas that ReEncrypt with the keys uses.
func quotasOf(keys reencrypt.Keys) (codes []string) {
	drawn := map[string]bool{symmetricQuota: keys.Any}
	drawn[quotaOf(keys.Destination)] = true
	for _, key := range keys.Sources {
		drawn[quotaOf(key)] = true
	}
	for _, code := range []string{symmetricQuota, rsaQuota, sm2Quota} {
		if drawn[code] {
			codes = append(codes, code)
		}
	}
	return codes
}

// quotaOf returns the quota of the operations with a key.
func quotaOf(key reencrypt.Key) string {
	switch {
	case key.Symmetric():
		return symmetricQuota
	case key.Algorithm == string(kmstypes.EncryptionAlgorithmSpecSm2pke):
		return sm2Quota
	}
	return rsaQuota
}

// readQuota returns the applied quota, or the default from Service Quotas, or the published
// default (API_GetServiceQuota, API_GetAWSDefaultServiceQuota). from states which one it is.
func readQuota(
	ctx context.Context, client *servicequotas.Client, code, region string,
) (perSecond float64, from string) {
	service := aws.String("kms")
	bounded := func(ask func(context.Context) (*types.ServiceQuota, error)) (float64, error) {
		ctx, cancel := context.WithTimeout(ctx, quotaTimeout)
		defer cancel()
		quota, err := ask(ctx)
		if err != nil {
			return 0, err
		}
		return ratePerSecond(quota)
	}
	applied, err := bounded(func(ctx context.Context) (*types.ServiceQuota, error) {
		out, err := client.GetServiceQuota(ctx, &servicequotas.GetServiceQuotaInput{
			ServiceCode: service,
			QuotaCode:   &code,
		})
		if err != nil {
			return nil, err
		}
		return out.Quota, nil
	})
	if err == nil {
		return applied, "applied, from Service Quotas"
	}
	preset, again := bounded(func(ctx context.Context) (*types.ServiceQuota, error) {
		in := &servicequotas.GetAWSDefaultServiceQuotaInput{ServiceCode: service, QuotaCode: &code}
		out, err := client.GetAWSDefaultServiceQuota(ctx, in)
		if err != nil {
			return nil, err
		}
		return out.Quota, nil
	})
	if again == nil {
		return preset, "the default, from Service Quotas; the applied one cannot be read: " +
			quotaTrouble(err)
	}
	return publishedQuota(code, region), "the published default; Service Quotas cannot be read: " +
		quotaTrouble(err)
}

// ratePerSecond returns the value of a quota. It returns an error if the quota is not per second.
func ratePerSecond(q *types.ServiceQuota) (float64, error) {
	switch {
	case q == nil || aws.ToFloat64(q.Value) <= 0:
		return 0, errors.New("it has no value")
	case q.Period != nil && (q.Period.PeriodUnit != types.PeriodUnitSecond ||
		aws.ToInt32(q.Period.PeriodValue) != 1):
		return 0, errors.New("it does not count by the second")
	}
	return *q.Value, nil
}

// quotaTrouble describes in a few words why a quota could not be read.
func quotaTrouble(err error) string {
	switch {
	case retry.Classify(err) == retry.KindDenied:
		return "access denied (allow servicequotas:GetServiceQuota and " +
			"servicequotas:GetAWSDefaultServiceQuota)"
	case awserr.Code(err) != "":
		return "the service answered " + awserr.Code(err)
	case retry.Classify(err) == retry.KindUnexpected:
		return err.Error()
	}
	return "no answer"
}
