package s3scan

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// head asks for all that belongs to an object but its body. An answer to HEAD has
// no body that could name an error, so a 403 may mean that the clocks have drifted
// apart as well as that we may not ask. Of every answer the SDK takes the time of
// the service for the next signature (aws/retry, Attempt.ClientSkew): so it is
// asked once more where the clocks differ, and what it says then is meant.
func (b *Bucket) head(ctx context.Context, in *s3.HeadObjectInput) (*s3.HeadObjectOutput, error) {
	out, err := b.config.Client.HeadObject(ctx, in)
	if status(err) == http.StatusForbidden && isClockSkewed(err) {
		out, err = b.config.Client.HeadObject(ctx, in)
	}
	switch status(err) {
	case http.StatusForbidden, http.StatusBadRequest:
		passed, named := b.headErrorCause(ctx, in.Key, err)
		if !passed {
			return nil, named
		}
		return b.config.Client.HeadObject(ctx, in)
	}
	return out, err
}

// named asks what an error of a HEAD was, by a GET of one byte, which has the same
// permission and an answer with a body: expired credentials, a customer key (400),
// an access key that is not known (403). A GET that is served says that what it was has
// passed: other credentials were fetched meanwhile, as a rule.
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
	switch status(err) {
	case http.StatusForbidden, http.StatusBadRequest:
		return false, err
	case http.StatusRequestedRangeNotSatisfiable: // of an empty object
		return true, nil
	}
	return false, head
}

// skewAllowed is how far a signature may be from the time of the service before
// the SDK blames the clock for a refusal (aws/retry, skewThreshold).
const maxClockSkew = 4 * time.Minute

// offTime says that a request was signed at another time than the one at which
// the service says that it answered.
func isClockSkewed(err error) bool {
	var answer *smithyhttp.ResponseError
	if !errors.As(err, &answer) || answer.Response == nil || answer.Response.Request == nil {
		return false
	}
	signed, errSigned := time.Parse("20060102T150405Z",
		answer.Response.Request.Header.Get("X-Amz-Date"))
	answered, errAnswered := http.ParseTime(answer.Response.Header.Get("Date"))
	return errSigned == nil && errAnswered == nil && answered.Sub(signed).Abs() > maxClockSkew
}
