package rotate

import (
	"context"
	"sync"

	"rotator/internal/flowcontrol"
	"rotator/internal/kmsblob"
)

// reasonUnrecognised is the reason of a failed slot for a ciphertext that no
// slot names.
const reasonUnrecognised = "unrecognised-ciphertext"

// searcher determines which of the ciphertexts that no slot names are under a
// source key. All workers share it. It asks KMS about candidates of a token
// until KMS names the key of one, and about none if KMS has already named the
// key of the token for a slot.
type searcher struct {
	decider *decider
	exact   bool // KMS is asked about every candidate

	mu      sync.Mutex
	known   map[kmsblob.Token]finding
	flights map[kmsblob.Token]chan struct{} // closed when KMS has answered
}

// standing classifies the key of a ciphertext that no slot names.
type standing int

const (
	// unknownKey: the key is unknown and must be treated as a source key.
	unknownKey standing = iota
	underSource
	// elsewhereKey: under the destination key, or one that the job does not name.
	elsewhereKey
	// unusable: KMS decrypts it under no key of the job and does not name its key.
	unusable
)

// finding is what is known about the ciphertexts of one token.
type finding struct {
	standing standing
	key      string // ARN; "" when it is not known
	whole    bool   // KMS has seen a candidate that was not cut off
	header   bool   // KMS was asked about another ciphertext with this token
}

func newSearcher(d *decider, exact bool) *searcher {
	if d.keys.SourceAlgorithm != Symmetric {
		return nil // ciphertexts under asymmetric keys have no header
	}
	return &searcher{decider: d, exact: exact, known: map[kmsblob.Token]finding{},
		flights: map[kmsblob.Token]chan struct{}{}}
}

// find classifies a candidate. An error ends the run.
func (s *searcher) find(ctx context.Context, c candidate) (finding, error) {
	if key := s.decider.keyOfToken(c.token); s.decider.keys.retired() &&
		s.decider.keys.isSource(key) {
		return finding{standing: underSource, key: key, whole: true, header: true}, nil
	}
	if s.exact || s.decider.headers.distrusted() {
		return s.ask(ctx, c)
	}
	if f, ok := s.decider.headers.factOf(c.token); ok {
		return finding{standing: s.standing(f), key: f.key, whole: true, header: true}, nil
	}
	for {
		s.mu.Lock()
		f, ok := s.known[c.token]
		if ok && (f.standing != unknownKey || f.whole || !c.whole) {
			s.mu.Unlock()
			f.header = true
			return f, nil
		}
		flight, asking := s.flights[c.token]
		if !asking {
			s.flights[c.token] = make(chan struct{})
		}
		s.mu.Unlock()
		if !asking {
			return s.fly(ctx, c)
		}
		select {
		case <-flight:
		case <-ctx.Done():
			return finding{}, ctx.Err()
		}
	}
}

// fly asks KMS once for all concurrent callers with a candidate of the same
// token.
func (s *searcher) fly(ctx context.Context, c candidate) (finding, error) {
	f, err := s.ask(ctx, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.flights[c.token])
	delete(s.flights, c.token)
	// What makes one ciphertext unusable says nothing of others with its token.
	if err == nil && f.standing != unusable && len(s.known) < maxClasses {
		s.known[c.token] = f
	}
	return f, err
}

// standing returns the standing of ciphertexts of a token whose key KMS has
// named.
func (s *searcher) standing(f fact) standing {
	keys := s.decider.keys
	switch {
	case f.key != keys.Destination.ARN && keys.isSource(f.key):
		return underSource
	case f.key != keys.Destination.ARN || keys.Mode == ModeMove || keys.Mode == "":
		return elsewhereKey
	case keys.Mode == ModeContext: // it may have either context
		return underSource
	case f.material != "" && f.material == keys.Destination.Material:
		return elsewhereKey
	}
	return underSource
}

// ask asks KMS about a candidate, with each source key pinned in turn, and
// discards the new blob. The encryption context is unknown. If KMS cannot
// decrypt the candidate but does not report an incorrect key, the key has
// matched.
func (s *searcher) ask(ctx context.Context, c candidate) (finding, error) {
	keys := s.decider.keys
	sources := keys.Sources
	if keys.Any {
		sources = []Key{{}}
	}
	var a pinned
	for _, source := range sources {
		if source.Unusable.State != "" {
			a.unclear = true
			continue
		}
		answer, err := s.question(ctx, c, source)
		switch class := Classify(err); {
		case err == nil:
			f := fact{answer.Source, answer.SourceMaterial}
			return finding{standing: s.standing(f), key: f.key, whole: c.whole}, nil
		case fatal(err):
			return finding{}, s.stop(err)
		case class == ClassDenied:
			if s.allowed(ctx, source) {
				a.others = true
			} else {
				a.unclear = true
			}
		case class == ClassIncorrectKey:
			a.others = true
		case class == ClassInvalidCiphertext && code(err) == "InvalidCiphertextException":
			a.matched = append(a.matched, source.ARN)
		default:
			a.unclear = true
		}
	}
	return s.conclude(ctx, c, a)
}

// pinned holds the answers of KMS to the requests with each source key pinned.
type pinned struct {
	matched []string // keys for which KMS reports no incorrect key
	others  bool     // KMS reports an incorrect key for some, so it compares keys
	unclear bool     // there was no usable answer
}

// conclude sends a request with the destination key pinned if the other answers
// do not show whether KMS compares the key of this candidate at all.
func (s *searcher) conclude(ctx context.Context, c candidate, a pinned) (finding, error) {
	keys := s.decider.keys
	f := finding{whole: c.whole}
	switch {
	case len(a.matched) == 0 && a.unclear:
		return f, nil
	case len(a.matched) == 0:
		f.standing = elsewhereKey
		return f, nil
	case len(a.matched) > 1:
		f.standing = s.undecided(c)
		return f, nil
	case a.others || keys.refresh() || keys.Mode == ModeContext:
		f.standing, f.key = underSource, a.matched[0]
		return f, nil
	}
	answer, err := s.question(ctx, c, keys.Destination)
	switch class := Classify(err); {
	case err == nil:
		f.standing, f.key = elsewhereKey, answer.Source
	case fatal(err):
		return finding{}, s.stop(err)
	case class == ClassInvalidCiphertext && keys.Any && c.whole:
		f.standing = elsewhereKey // KMS reports no incorrect key for the destination key
	case class == ClassInvalidCiphertext:
		f.standing = s.undecided(c)
	default:
		f.standing, f.key = underSource, a.matched[0]
	}
	return f, nil
}

// undecided returns the standing of a candidate whose key KMS does not name. A
// complete one cannot be decrypted at all. Of one that was cut off, a complete
// copy may exist.
func (s *searcher) undecided(c candidate) standing {
	if c.whole {
		return unusable
	}
	return unknownKey
}

// question sends one request. A denial does not count as a denial of the run,
// because a policy may require an encryption context and none is sent.
func (s *searcher) question(
	ctx context.Context, c candidate, source Key,
) (answer Answer, err error) {
	d, q := s.decider, Question{Blob: c.blob, Source: source}
	err = d.retry.do(ctx, flowcontrol.Permit{}, Asking, "KMS", func(ctx context.Context) (err error) {
		answer, err = d.once(ctx, q)
		if err != nil {
			if own := d.ofSlot(ctx, q, err); own != nil {
				return own
			}
		}
		return err
	})
	if err == nil {
		err = d.check(q, answer)
	}
	if err == nil {
		err = d.headers.fact(c.blob, answer)
	}
	return answer, err
}

// allowed reports whether the caller may use a source key. If so, a denial is
// about the key of the candidate.
func (s *searcher) allowed(ctx context.Context, source Key) bool {
	if source.ARN == "" {
		return true
	}
	known, err := s.decider.mayUse(ctx, source)
	return known && err == nil
}

// stop returns the error with which a failed request ends the run.
func (s *searcher) stop(err error) error {
	switch Classify(err) {
	case ClassKeyState, ClassCredentials:
		return &StopError{Kind: StopAccess, Err: err,
			What: "a key or the credentials of this job cannot be used"}
	}
	return err
}
