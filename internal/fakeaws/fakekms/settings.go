package fakekms

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Call is what a policy decides about.
type Call struct {
	// Action is as IAM writes it: "kms:DescribeKey". ReEncrypt is asked about
	// twice, as "kms:ReEncryptFrom" and "kms:ReEncryptTo".
	Action    string
	KeyARN    string // "*" for CreateKey and ListAliases
	Principal string // ARN of the caller
	// EncryptionContext is that of the side which is asked about.
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
	return fail("AccessDeniedException", "User: %s is not authorized to perform: %s on resource: %s because no policy allows it",
		c.Principal, c.Action, c.KeyARN)
}

// SetHeaders makes the headers of blobs lie, which those of KMS never do: a blob that
// is made from now on under a symmetric key carries the token of the current material
// of the key that as names for it; "" means its own. Nil ends that. KMS itself is not
// fooled: it decrypts each blob with the key that made it. as must not call the Service.
func (s *Service) SetHeaders(as func(keyARN string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.posing = as
}

// header returns the token that a blob of the material carries, and whether that is
// another's.
func (s *Service) header(m *material) (named token, lies bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.posing == nil {
		return m.token, false
	}
	as := s.posing(m.key.arn)
	for _, k := range s.keys {
		if k.arn == as && len(k.materials) > 0 {
			return k.current().token, k != m.key
		}
	}
	return m.token, false
}

// SetNoBlobCode makes the service refuse what is no ciphertext under a symmetric key with an
// error code of its own, before it compares keys, as some other servers do. "" restores the
// behavior of KMS.
func (s *Service) SetNoBlobCode(code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noBlob = code
}

// checkBlob returns the error of SetNoBlobCode, or nil.
func (s *Service) checkBlob(d side, blob []byte) error {
	s.mu.RLock()
	code := s.noBlob
	s.mu.RUnlock()
	if code == "" || d.algorithm != symmetricDefault || len(blob) == 0 {
		return nil
	}
	if m, ok := s.maker(blob); ok && m != nil {
		return nil
	}
	return fail(code, "the server does not know the key of the ciphertext")
}

// SetReEncryptQuota sets how many ReEncrypt requests an account may make within
// any second, dry runs and failing ones included; the caller's account counts,
// not the key's. What is above gets ThrottlingException and does not count.
// 0 means no limit.
func (s *Service) SetReEncryptQuota(perSecond int) { s.quota.set(perSecond) }

// quota counts requests by account over a sliding second.
type quota struct {
	mu    sync.Mutex
	limit int
	taken map[string]*window
}

// window holds the times of the last limit requests, as a ring.
type window struct {
	times []time.Time
	next  int // the oldest
}

func (q *quota) set(limit int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limit = max(limit, 0)
	q.taken = map[string]*window{}
}

// take is false when the account has had its requests of the second before now.
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
