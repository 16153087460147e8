package outage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"rotator/internal/answerlimit"
	"rotator/internal/awserr"
)

// Cause returns, in a few words, why a request got no usable response.
func Cause(err error) string {
	var (
		cut     *givenUpError
		dns     *net.DNSError
		timeout interface{ Timeout() bool }
		// unreadable is the error of a response that the SDK cannot decode.
		unreadable *smithy.DeserializationError
		tooLong    *answerlimit.TooLongError
		foreign    *ForeignError
	)
	switch {
	case err == nil:
		return "no answer"
	case errors.As(err, &cut) && cut.before != nil:
		return Cause(cut.before)
	case errors.As(err, &tooLong):
		return tooLong.Error()
	case errors.As(err, &foreign):
		return foreign.cause()
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no such host " + dns.Name
	case errors.As(err, &dns):
		return fmt.Sprintf("the lookup of host %s failed: %s", dns.Name, dns.Err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case awserr.Status(err) >= http.StatusMultipleChoices:
		text := fmt.Sprintf("HTTP %d", awserr.Status(err))
		if code := awserr.Code(err); code != "" && code != awserr.UnknownCode {
			text += " " + code
		}
		return text
	case awserr.Code(err) != "":
		return awserr.Code(err)
	case awserr.Status(err) != 0 && errors.As(err, &unreadable):
		return fmt.Sprintf("HTTP %d with a body that is not of this service",
			awserr.Status(err))
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err.Error()
}

// CauseOf is like Cause, and adds the service and its address.
func CauseOf(err error) string {
	var operation *smithy.OperationError
	text := Cause(err)
	if host := hostOf(err); host != "" {
		text = host + ": " + text
	}
	if errors.As(err, &operation) {
		text = operation.ServiceID + " at " + text
	}
	return text
}

// hostOf returns the host to which a request went, or "".
func hostOf(err error) string {
	var sent *url.Error
	var answered *smithyhttp.ResponseError
	switch {
	case errors.As(err, &sent):
		if u, parsed := url.Parse(sent.URL); parsed == nil {
			return u.Host
		}
	case errors.As(err, &answered) && answered.Response != nil &&
		answered.Response.Response != nil && answered.Response.Request != nil:
		return answered.Response.Request.URL.Host
	}
	return ""
}
