// Package awsclient makes the requests of the AWS SDK cheaper on the way out: the
// same requests, but for the order of headers, for less work. What it does stands beside the SDK
// and can be left out; nothing depends on it but the processor's time.
package awsclient

import (
	"bytes"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// mostBuffered is the largest body that is copied in order to be sent in one
// write, in bytes; it is what one TLS record holds, twice.
const mostBuffered = 32 << 10

// mostHead is what the headers of a request may take besides, in bytes.
const mostHead = 4 << 10

// OneWrite sends small requests in one write. The SDK hides the body of a request
// behind a type that net/http does not know to be in memory, so headers and body
// go out in a write, and a TLS record, each.
type OneWrite struct{ Client aws.HTTPClient }

var _ aws.HTTPClient = OneWrite{}

// NewOneWrite has a client send small requests in one write. A client of the SDK's own
// making gets a transport with buffers that take such a request whole.
func NewOneWrite(client aws.HTTPClient) OneWrite {
	if sdk, ok := client.(*awshttp.BuildableClient); ok {
		client = sdk.WithTransportOptions(func(t *http.Transport) { t.WriteBufferSize = mostBuffered + mostHead })
	}
	return OneWrite{Client: client}
}

// Do implements aws.HTTPClient.
func (o OneWrite) Do(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.ContentLength <= 0 || r.ContentLength > mostBuffered {
		return o.Client.Do(r)
	}
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		return nil, err
	}
	again := *r // the SDK closes the body of its own request
	again.Body = io.NopCloser(bytes.NewReader(body))
	return o.Client.Do(&again)
}
