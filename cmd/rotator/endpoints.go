package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"rotator/internal/config"
)

// noAccessPoint returns the reason why an access point cannot be used with an
// endpoint, or "". An access point has its own host name, so only endpoints of
// AWS PrivateLink reach it.
func noAccessPoint(t *config.S3, endpoint *string) string {
	if t.AccessPointRegion() == "" || endpoint == nil {
		return ""
	}
	u, err := url.Parse(*endpoint)
	if err == nil && strings.Contains(u.Hostname(), ".vpce.amazonaws.com") {
		return ""
	}
	return fmt.Sprintf("an access point has its own host name and cannot be used with the "+
		"endpoint %s; name the bucket, or remove the endpoint (s3.endpoint, AWS_ENDPOINT_URL, "+
		"AWS_ENDPOINT_URL_S3)", *endpoint)
}

// noEndpoint returns the advice for an error of the SDK that found no host for
// a request; ok is false for other errors. Such an error comes from the Region,
// endpoint, FIPS and dual-stack settings, never from a service. The SDK has no
// error type for it.
func noEndpoint(err error) (detail string, ok bool) {
	const mark = "endpoint rule error, "
	const unknownRegion = "failed to bind endpoint params, invalid input region "
	const malformed = "Failed to parse uri: "
	const check = "check region, endpoint, and AWS_REGION, AWS_ENDPOINT_URL, " +
		"AWS_USE_FIPS_ENDPOINT and AWS_USE_DUALSTACK_ENDPOINT"
	for ; err != nil; err = errors.Unwrap(err) {
		if rule, ok := strings.CutPrefix(err.Error(), mark); ok {
			return fmt.Sprintf("the AWS SDK has no endpoint for it: %s; %s",
				strings.TrimSuffix(rule, "."), check), true
		}
		if region, ok := strings.CutPrefix(err.Error(), unknownRegion); ok {
			return fmt.Sprintf("%q is not a Region; %s", region, check), true
		}
		if strings.HasPrefix(err.Error(), malformed) { // what follows may hold a password
			return "the endpoint that the AWS SDK found is not a URL; " + check, true
		}
	}
	return "", false
}

// bareEndpoint returns an endpoint without parts that could be secret. An
// endpoint from the environment or a profile may have credentials or a query.
func bareEndpoint(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}
