package s3scan

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"rotator/internal/awserr"
)

// head reads all properties of an object without its body. A response to HEAD has no body and
// therefore no error code: 403 can mean that access is denied, or that the clock of this
// machine differs from that of S3. The SDK corrects the clock for the next request from each
// response (aws/retry, Attempt.ClientSkew). Therefore head repeats the request once if the
// clocks differ.
func (b *Bucket) head(ctx context.Context, in *s3.HeadObjectInput) (*s3.HeadObjectOutput, error) {
	out, err := b.config.Client.HeadObject(ctx, in)
	if awserr.Status(err) == http.StatusForbidden && isClockSkewed(err) {
		out, err = b.config.Client.HeadObject(ctx, in)
	}
	switch awserr.Status(err) {
	case http.StatusForbidden, http.StatusBadRequest:
		passed, named := b.headErrorCause(ctx, in.Key, err)
		if !passed {
			return nil, named
		}
		return b.config.Client.HeadObject(ctx, in)
	}
	return out, err
}

// headErrorCause finds the cause of a failed HEAD by a GET of one byte, which needs the same
// permission and has a response body. Causes are expired credentials, SSE-C (400), or an
// unknown access key (403). passed is true if the GET succeeds, which usually means that
// credentials were refreshed in between.
func (b *Bucket) headErrorCause(
	ctx context.Context, key *string, head error,
) (passed bool, named error) {
	out, err := b.config.Client.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &b.config.Bucket,
		Key:    key,
		Range:  aws.String("bytes=0-0"),
	})
	if err == nil {
		_ = out.Body.Close()
		return true, nil
	}
	switch awserr.Status(err) {
	case http.StatusForbidden, http.StatusBadRequest:
		return false, err
	case http.StatusRequestedRangeNotSatisfiable: // the object is empty
		return true, nil
	}
	return false, head
}

// maxClockSkew is the clock difference above which the SDK attributes a refused signature to
// the clock (aws/retry, skewThreshold).
const maxClockSkew = 4 * time.Minute

// isClockSkewed reports whether the signing time of the request differs from the Date of its
// response by more than maxClockSkew.
func isClockSkewed(err error) bool {
	var response *smithyhttp.ResponseError
	if !errors.As(err, &response) || response.Response == nil || response.Response.Request == nil {
		return false
	}
	signed, errSigned := time.Parse("20060102T150405Z",
		response.Response.Request.Header.Get("X-Amz-Date"))
	responded, errResponded := http.ParseTime(response.Response.Header.Get("Date"))
	return errSigned == nil && errResponded == nil && responded.Sub(signed).Abs() > maxClockSkew
}
