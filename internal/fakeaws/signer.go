package fakeaws

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"rotator/internal/fakeaws/fault"
)

// signers holds what all services use to check signatures: the expired access keys and the
// time of the server.
type signers struct {
	mu      sync.Mutex
	expired map[string]bool // by access key id
	offset  time.Duration   // of the server's clock relative to the real time
}

// Expire makes all services refuse requests that are signed with the access key, from now on,
// with the error for expired temporary credentials.
func (s *Server) Expire(accessKeyID string) {
	s.signers.mu.Lock()
	defer s.signers.mu.Unlock()
	s.signers.expired[accessKeyID] = true
}

// SetClock sets the difference between the clock of the server and the real time, which may be
// negative. The Date header of each answer has this time, and requests whose signature is too
// old or too new by this time are refused.
func (s *Server) SetClock(offset time.Duration) {
	s.signers.mu.Lock()
	defer s.signers.mu.Unlock()
	s.signers.offset = offset
}

func (s *signers) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.offset)
}

// signed performs the checks in front of a service that the service itself does not do: the
// age of the signature and the expiry of the access key.
type signed struct {
	fault.Service
	signers *signers
	window  time.Duration // maximum difference of the clocks
	skewed  fault.Answer
	expired fault.Answer
}

// The error codes depend on the protocol (Common Errors of KMS, DynamoDB and STS; Error
// responses of S3).
func (s *signers) json(of fault.Service) fault.Service {
	return &signed{
		Service: of,
		signers: s,
		window:  5 * time.Minute,
		skewed: fault.Answer{
			Status:  http.StatusBadRequest,
			Code:    "InvalidSignatureException",
			Message: "Signature expired, or not yet current",
		},
		expired: fault.Answer{
			Status:  http.StatusBadRequest,
			Code:    "ExpiredTokenException",
			Message: "The security token included in the request is expired",
		},
	}
}

func (s *signers) query(of fault.Service) fault.Service {
	return &signed{
		Service: of,
		signers: s,
		window:  5 * time.Minute,
		skewed: fault.Answer{
			Status:  http.StatusForbidden,
			Code:    "SignatureDoesNotMatch",
			Message: "Signature expired, or not yet current",
		},
		expired: fault.Answer{
			Status:  http.StatusForbidden,
			Code:    "ExpiredToken",
			Message: "The security token included in the request is expired",
		},
	}
}

func (s *signers) rest(of fault.Service) fault.Service {
	return &signed{
		Service: of,
		signers: s,
		window:  15 * time.Minute,
		skewed: fault.Answer{
			Status:  http.StatusForbidden,
			Code:    "RequestTimeTooSkewed",
			Message: "The difference between the request time and the current time is too large.",
		},
		expired: fault.Answer{
			Status:  http.StatusBadRequest,
			Code:    "ExpiredToken",
			Message: "The provided token has expired.",
		},
	}
}

func (s *signed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := s.signers.now()
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	id, _, _ := strings.Cut(credential, "/")
	s.signers.mu.Lock()
	expired := s.signers.expired[id]
	s.signers.mu.Unlock()
	signedAt, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	switch difference := now.Sub(signedAt).Abs(); {
	case err == nil && difference > s.window:
		answer := s.skewed
		answer.Message = fmt.Sprintf("%s (%s apart)", answer.Message, difference.Round(time.Second))
		s.Refuse(w, r, answer)
	case expired:
		s.Refuse(w, r, s.expired)
	default:
		s.Service.ServeHTTP(w, r)
	}
}
