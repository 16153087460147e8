package fakekms

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Call is the input of a policy.
type Call struct {
	// Action is the IAM name, such as "kms:DescribeKey". The policy is called twice for
	// ReEncrypt, with "kms:ReEncryptFrom" and "kms:ReEncryptTo".
	Action    string
	KeyARN    string // "*" for CreateKey and ListAliases
	Principal string // ARN of the caller
	// EncryptionContext is the context of this side of the call.
	EncryptionContext map[string]string
	GrantTokens       []string
}

// SetPolicy sets the permissions: allow is called before every use of a key. If it returns
// false and no grant allows the call, the call fails with AccessDeniedException. A nil allow
// permits everything. allow may run concurrently and may call the Service.
func (s *Service) SetPolicy(allow func(Call) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policy = allow
}

// authorize checks a call against the grants and the policy.
func (s *Service) authorize(r request, c Call) error {
	c.Principal = r.principal
	r.trace.touch(c.KeyARN)
	granted, err := s.granted(c)
	if err != nil {
		return err
	}
	s.mu.RLock()
	allow := s.policy
	s.mu.RUnlock()
	if allow == nil {
		return nil
	}
	c.EncryptionContext = maps.Clone(c.EncryptionContext)
	c.GrantTokens = slices.Clone(c.GrantTokens)
	if allow(c) || granted {
		return nil
	}
	return fail("AccessDeniedException",
		"User: %s is not authorized to perform: %s on resource: %s because no policy allows it",
		c.Principal, c.Action, c.KeyARN)
}

// SetHeaders makes the service write false key tokens into headers, which KMS never does. New
// blobs under a symmetric key carry the token of the current material of the key whose ARN
// headerKey returns; "" means the key itself. Nil ends this. The service still decrypts each blob
// with the key that made it. headerKey must not call the Service.
func (s *Service) SetHeaders(headerKey func(keyARN string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.headerKey = headerKey
}

// header returns the token for a new blob of the material. falseHeader reports whether it is the
// token of another key.
func (s *Service) header(m *material) (named token, falseHeader bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.headerKey == nil {
		return m.token, false
	}
	headerKey := s.headerKey(m.key.arn)
	for _, k := range s.keys {
		if k.arn == headerKey && len(k.materials) > 0 {
			return k.current().token, k != m.key
		}
	}
	return m.token, false
}

// SetNoBlobCode makes the service refuse bytes that are not a ciphertext under a symmetric
// key with the given error code, before it compares keys, as some other servers do. ""
// restores the behavior of KMS.
func (s *Service) SetNoBlobCode(code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noBlob = code
}

// checkBlob returns the error that SetNoBlobCode configured, or nil.
func (s *Service) checkBlob(d side, blob []byte) error {
	s.mu.RLock()
	code := s.noBlob
	s.mu.RUnlock()
	if code == "" || d.algorithm != symmetricDefault || len(blob) == 0 {
		return nil
	}
	if m, ok := s.materialOf(blob); ok && m != nil {
		return nil
	}
	return fail(code, "the server does not know the key of the ciphertext")
}

// SetReEncryptQuota sets the maximum number of ReEncrypt requests of an account within any
// second, including dry runs and failed requests. The account is that of the caller. Requests
// above the quota fail with ThrottlingException and do not count. 0 means no limit.
func (s *Service) SetReEncryptQuota(perSecond int) { s.quota.set(perSecond) }

// quota counts the requests of each account over a sliding second.
type quota struct {
	mu    sync.Mutex
	limit int
	taken map[string]*window
}

// window is a ring of the times of the last limit requests.
type window struct {
	times []time.Time
	next  int // index of the oldest time
}

func (q *quota) set(limit int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limit = max(limit, 0)
	q.taken = map[string]*window{}
}

// take counts a request. It returns false, and does not count it, if the account has used its
// quota in the second before now.
func (q *quota) take(account string, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.limit == 0 {
		return true
	}
	w := q.taken[account]
	if w == nil {
		w = &window{times: make([]time.Time, q.limit)}
		q.taken[account] = w
	}
	if oldest := w.times[w.next]; !oldest.IsZero() && now.Sub(oldest) < time.Second {
		return false
	}
	w.times[w.next] = now
	w.next = (w.next + 1) % len(w.times)
	return true
}
