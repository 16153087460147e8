package rotate

import (
	"context"
	"sync"

	"rotator/internal/kmsblob"
)

// reasonUnrecognised is why a ciphertext that no slot names is a failed slot.
const reasonUnrecognised = "unrecognised-ciphertext"

// searcher finds out which of the ciphertexts that no slot names are under a source key.
// It is shared by all workers. KMS is asked about one candidate of each token; what it
// has said of the token of a slot saves that request too.
type searcher struct {
	decider *decider
	exact   bool // KMS is asked about every candidate

	mu      sync.Mutex
	known   map[kmsblob.Token]finding
	flights map[kmsblob.Token]chan struct{} // closed when KMS has been asked
}

// standing is where a ciphertext that no slot names stands, as far as the job cares.
type standing int

const (
	// unknownKey: nothing tells the key. It has to be taken for a source key.
	unknownKey standing = iota
	underSource
	// elsewhereKey: under the destination key, or one that the job does not name.
	elsewhereKey
	// unusable: KMS decrypts it under none of the job's keys, and cannot tell its key.
	unusable
)

// finding is what is known of the ciphertexts of one token.
type finding struct {
	standing standing
	key      string // ARN; "" when it is not known
	whole    bool   // KMS has seen a candidate that was not cut off
	header   bool   // KMS was asked about another ciphertext with this token
}

func newSearcher(d *decider, exact bool) *searcher {
	if d.keys.SourceAlgorithm != Symmetric {
		return nil // blobs under RSA keys have no header
	}
	return &searcher{decider: d, exact: exact, known: map[kmsblob.Token]finding{},
		flights: map[kmsblob.Token]chan struct{}{}}
}

// find returns where a candidate stands. An error ends the run.
func (s *searcher) find(ctx context.Context, c candidate) (finding, error) {
	if key := s.decider.keyOfToken(c.token); s.decider.keys.retired() && s.decider.keys.isSource(key) {
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

// fly asks KMS for all who have a candidate of the same token.
func (s *searcher) fly(ctx context.Context, c candidate) (finding, error) {
	f, err := s.ask(ctx, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.flights[c.token])
	delete(s.flights, c.token)
	if err == nil && len(s.known) < maxClasses {
		s.known[c.token] = f
	}
	return f, err
}

// standing is where KMS has said that the ciphertexts of a token stand.
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

// ask asks KMS about a candidate, with each source key pinned in turn. The encryption
// context is not known: that KMS cannot decrypt it, and does not name another key, means
// that the key matched. The new blob is dropped.
func (s *searcher) ask(ctx context.Context, c candidate) (finding, error) {
	keys := s.decider.keys
	sources := keys.Sources
	if keys.Any {
		sources = []Key{{}}
	}
	var a pinned
	for _, source := range sources {
		if source.Unusable != "" {
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

// pinned is what KMS said to the questions with each source key.
type pinned struct {
	matched []string // keys that it does not call the wrong one
	others  bool     // some that it does, so that it tells keys apart
	unclear bool     // no answer that says anything
}

// conclude asks with the destination key pinned where that tells what the other answers
// do not: whether KMS tells the key of this candidate at all.
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
		f.standing = elsewhereKey // as far as KMS tells, it is under the destination key
	case class == ClassInvalidCiphertext:
		f.standing = s.undecided(c)
	default:
		f.standing, f.key = underSource, a.matched[0]
	}
	return f, nil
}

// undecided is the standing of a candidate whose key KMS does not tell. One that is whole
// cannot be decrypted by anyone; of one that was cut off, another may be whole.
func (s *searcher) undecided(c candidate) standing {
	if c.whole {
		return unusable
	}
	return unknownKey
}

// question sends one request. Its denials do not count as those of the run: a policy may
// ask for an encryption context, and none is sent.
func (s *searcher) question(
	ctx context.Context, c candidate, source Key,
) (answer Answer, err error) {
	d, q := s.decider, Question{Blob: c.blob, Source: source}
	err = d.retry.do(ctx, place{}, Asking, "KMS", func(ctx context.Context) (err error) {
		answer, err = d.once(ctx, q)
		if Classify(err) == ClassKeyState && source.ARN == "" && d.usable(ctx) {
			return &unusableKeyError{err} // the candidate's own key
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

// allowed reports whether the caller may use a source key, so that a denial is about the
// key of the candidate.
func (s *searcher) allowed(ctx context.Context, source Key) bool {
	if source.ARN == "" {
		return true
	}
	known, err := s.decider.mayUse(ctx, source)
	return known && err == nil
}

// stop is the error of a question that ends the run.
func (s *searcher) stop(err error) error {
	switch Classify(err) {
	case ClassKeyState, ClassCredentials:
		return &StopError{Kind: StopAccess, Err: err,
			What: "a key or the credentials of this job cannot be used"}
	}
	return err
}
