package fastkms

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Names and formats of SigV4.
const (
	dateHeader   = "X-Amz-Date"
	tokenHeader  = "X-Amz-Security-Token"
	authHeader   = "Authorization"
	timeFormat   = "20060102T150405Z"
	lengthSigned = "content-length"
	hostSigned   = "host"
)

// signing signs requests that have the same headers: "Create a signed AWS API request" (AWS
// Signature Version 4), for a POST to "/" without a query.
type signing struct {
	host, region, service string
	headers               []string // signed headers, in lower case and in order
	list                  string   // the same, joined
	names                 []string // the same, in the spelling of http.Header
	key                   atomic.Pointer[signingKey]
}

// signingKey is a derived key, which is valid for one day.
type signingKey struct {
	id, secret, day string
	key             []byte
}

// newSigning returns the signing of a request that the SDK has signed. ok is false if sign does
// not support it.
func newSigning(r *http.Request) (*signing, bool) {
	scope, list, ok := parseAuthorization(r.Header.Get(authHeader))
	if !ok || r.Method != http.MethodPost || r.URL.RawQuery != "" ||
		r.URL.Path != "/" && r.URL.Path != "" {
		return nil, false
	}
	s := &signing{
		host:    r.URL.Host,
		region:  scope[2],
		service: scope[3],
		list:    list,
		headers: strings.Split(list, ";"),
	}
	if r.Host != "" {
		s.host = r.Host
	}
	for _, name := range s.headers {
		canonical := http.CanonicalHeaderKey(name)
		values := r.Header[canonical]
		if name != hostSigned && name != lengthSigned && (len(values) != 1 || !plain(values[0])) {
			return nil, false
		}
		s.names = append(s.names, canonical)
	}
	return s, plain(s.host) && slices.Contains(s.headers, "x-amz-date")
}

// parseAuthorization returns the credential scope, beginning with the access key,
// and the list of signed headers.
func parseAuthorization(text string) (scope []string, list string, ok bool) {
	rest, ok := strings.CutPrefix(text, "AWS4-HMAC-SHA256 Credential=")
	credential, rest, cut := strings.Cut(rest, ", SignedHeaders=")
	list, _, also := strings.Cut(rest, ", Signature=")
	scope = strings.Split(credential, "/")
	return scope, list, ok && cut && also && len(scope) == 5
}

// plain reports whether the canonical request contains a value unchanged.
func plain(value string) bool {
	return value != "" && value == strings.TrimSpace(value) && !strings.Contains(value, "  ")
}

// sign sets the date and the signature of a request that has all other headers.
func (s *signing) sign(
	header http.Header, body []byte, credentials aws.Credentials, now time.Time,
) {
	date := now.UTC().Format(timeFormat)
	header[dateHeader] = []string{date}
	buffer := append(make([]byte, 0, 1536), "POST\n/\n\n"...)
	for i, name := range s.headers {
		buffer = append(append(buffer, name...), ':')
		switch name {
		case hostSigned:
			buffer = append(buffer, s.host...)
		case lengthSigned:
			buffer = strconv.AppendInt(buffer, int64(len(body)), 10)
		default:
			buffer = append(buffer, header[s.names[i]][0]...)
		}
		buffer = append(buffer, '\n')
	}
	buffer = append(append(append(buffer, '\n'), s.list...), '\n')
	sum := sha256.Sum256(body)
	buffer = hex.AppendEncode(buffer, sum[:])
	sum = sha256.Sum256(buffer)

	scope := date[:8] + "/" + s.region + "/" + s.service + "/aws4_request"
	buffer = append(buffer[:0], "AWS4-HMAC-SHA256\n"...)
	buffer = append(append(append(append(buffer, date...), '\n'), scope...), '\n')
	buffer = hex.AppendEncode(buffer, sum[:])
	signature := mac(s.derive(credentials, date[:8]), buffer)

	buffer = append(buffer[:0], "AWS4-HMAC-SHA256 Credential="...)
	buffer = append(append(buffer, credentials.AccessKeyID...), '/')
	buffer = append(append(buffer, scope...), ", SignedHeaders="...)
	buffer = append(append(buffer, s.list...), ", Signature="...)
	buffer = hex.AppendEncode(buffer, signature)
	header[authHeader] = []string{string(buffer)}
}

// derive returns the key of a day. It keeps the last key.
func (s *signing) derive(credentials aws.Credentials, day string) []byte {
	if k := s.key.Load(); k != nil && k.day == day && k.id == credentials.AccessKeyID &&
		k.secret == credentials.SecretAccessKey {
		return k.key
	}
	key := mac([]byte("AWS4"+credentials.SecretAccessKey), []byte(day))
	for _, part := range []string{s.region, s.service, "aws4_request"} {
		key = mac(key, []byte(part))
	}
	s.key.Store(&signingKey{
		id:     credentials.AccessKeyID,
		secret: credentials.SecretAccessKey,
		day:    day,
		key:    key,
	})
	return key
}

// mac returns the HMAC-SHA256 of a message.
func mac(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)
}
