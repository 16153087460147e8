package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"rotator/internal/config"
)

// noAccessPoint says why the access point that stands for a bucket cannot be reached: it
// has a host name of its own, which no endpoint has but those of AWS PrivateLink. It is
// "" for the name of a bucket.
func noAccessPoint(t *config.S3, endpoint *string) string {
	if t.AccessPointRegion() == "" || endpoint == nil {
		return ""
	}
	if u, err := url.Parse(*endpoint); err == nil && strings.Contains(u.Hostname(), ".vpce.amazonaws.com") {
		return ""
	}
	return fmt.Sprintf("an access point has its own host name and cannot be used with the "+
		"endpoint %s; name the bucket, or remove the endpoint (s3.endpoint, AWS_ENDPOINT_URL, "+
		"AWS_ENDPOINT_URL_S3)", *endpoint)
}

// noEndpoint is what to do about an error of the SDK that finds no host to send a request
// to. It comes from the Region, the endpoint and the modes that are set, never from a
// service, and has no type of its own.
func noEndpoint(err error) (detail string, ok bool) {
	const mark = "endpoint rule error, "
	for ; err != nil; err = errors.Unwrap(err) {
		if rule, ok := strings.CutPrefix(err.Error(), mark); ok {
			return fmt.Sprintf("the AWS SDK has no endpoint for it: %s; check region, endpoint, and "+
				"AWS_REGION, AWS_ENDPOINT_URL, AWS_USE_FIPS_ENDPOINT and AWS_USE_DUALSTACK_ENDPOINT",
				strings.TrimSuffix(rule, ".")), true
		}
	}
	return "", false
}
