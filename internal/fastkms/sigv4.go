package fastkms

import (
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

// The names that the signing of a request fills in, as SigV4 spells them.
const (
	dateHeader   = "X-Amz-Date"
	tokenHeader  = "X-Amz-Security-Token"
	authHeader   = "Authorization"
	timeFormat   = "20060102T150405Z"
	lengthSigned = "content-length"
	hostSigned   = "host"
)

// signing is how one kind of request is signed: "Create a signed AWS API request"
// (AWS Signature Version 4), for a POST to "/" without a query.
type signing struct {
	host, region, service string
	headers               []string // what is signed, in lower case and in order
	list                  string   // the same, joined
	names                 []string // the same, as http.Header spells them
	key                   atomic.Pointer[signingKey]
}

// signingKey is a derived key, which holds for one day.
type signingKey struct {
	id, secret, day string
	key             [sha256.Size]byte
}

// newSigning learns from a request that the SDK has signed. It is false for what
// sign does not do.
func newSigning(r *http.Request) (*signing, bool) {
	scope, list, ok := parseAuthorization(r.Header.Get(authHeader))
	if !ok || r.Method != http.MethodPost || r.URL.RawQuery != "" || r.URL.Path != "/" && r.URL.Path != "" {
		return nil, false
	}
	s := &signing{host: r.URL.Host, region: scope[2], service: scope[3], list: list, headers: strings.Split(list, ";")}
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

// plain says that a value stands in the canonical request as it is.
func plain(value string) bool {
	return value != "" && value == strings.TrimSpace(value) && !strings.Contains(value, "  ")
}

// sign sets the date and the signature of a request that has all its headers.
// Token is the one that the headers must sign, "" for none.
func (s *signing) sign(header http.Header, body []byte, credentials aws.Credentials, now time.Time) {
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
	key := s.derive(credentials, date[:8])
	sum = hmac(key[:], buffer)

	buffer = append(append(append(buffer[:0], "AWS4-HMAC-SHA256 Credential="...), credentials.AccessKeyID...), '/')
	buffer = append(append(append(buffer, scope...), ", SignedHeaders="...), s.list...)
	buffer = hex.AppendEncode(append(buffer, ", Signature="...), sum[:])
	header[authHeader] = []string{string(buffer)}
}

// derive returns the key of a day, which is remembered.
func (s *signing) derive(credentials aws.Credentials, day string) [sha256.Size]byte {
	if k := s.key.Load(); k != nil && k.day == day && k.id == credentials.AccessKeyID && k.secret == credentials.SecretAccessKey {
		return k.key
	}
	key := hmac([]byte("AWS4"+credentials.SecretAccessKey), []byte(day))
	for _, part := range []string{s.region, s.service, "aws4_request"} {
		key = hmac(key[:], []byte(part))
	}
	s.key.Store(&signingKey{id: credentials.AccessKeyID, secret: credentials.SecretAccessKey, day: day, key: key})
	return key
}

// hmac is HMAC-SHA256 (RFC 2104) over a short message, without an allocation for
// its state.
func hmac(key, message []byte) [sha256.Size]byte {
	const block = sha256.BlockSize
	if len(key) > block {
		sum := sha256.Sum256(key)
		key = sum[:]
	}
	inner := make([]byte, block, 512)
	var outer [block + sha256.Size]byte
	copy(inner, key)
	copy(outer[:], key)
	for i := range block {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	sum := sha256.Sum256(append(inner, message...))
	copy(outer[block:], sum[:])
	return sha256.Sum256(outer[:])
}
