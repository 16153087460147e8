package reencrypt

import (
	"context"
	"sync"

	"rotator/internal/awserr"
	"rotator/internal/flowcontrol"
	"rotator/internal/kmsblob"
	"rotator/internal/retry"
)

// Searcher determines which of the ciphertexts that no slot names are under a
// source key. All workers share it. It asks KMS about candidates of a token
// until KMS names the key of one, and about none if KMS has already named the
// key of the token for a slot.
type Searcher struct {
	asker *asker
	exact bool // KMS is asked about every candidate

	mu    sync.Mutex
	known map[kmsblob.Token]Finding
	calls map[kmsblob.Token]chan struct{} // closed when KMS has answered
}

// Candidate is a ciphertext that no slot names.
type Candidate struct {
	Blob  []byte
	Token kmsblob.Token // of its header
	Whole bool          // it is not cut off
}

// Standing classifies the key of a ciphertext that no slot names.
type Standing int

const (
	// UnknownKey: the key is unknown and must be treated as a source key.
	UnknownKey Standing = iota
	UnderSource
	// UnderOtherKey: under the destination key, or one that the job does not name.
	UnderOtherKey
	// Undecryptable: KMS decrypts it under no key of the job and does not name its key.
	Undecryptable
)

// Finding is what is known about the ciphertexts of one token.
type Finding struct {
	Standing Standing
	Key      string // ARN; "" when it is not known
	Whole    bool   // KMS was asked about a candidate that was not truncated
	Header   bool   // KMS was asked about another ciphertext with this token
}

func newSearcher(d *asker, exact bool) *Searcher {
	if d.keys.SourceAlgorithm != Symmetric {
		return nil // ciphertexts under asymmetric keys have no header
	}
	return &Searcher{asker: d, exact: exact, known: map[kmsblob.Token]Finding{},
		calls: map[kmsblob.Token]chan struct{}{}}
}

// Find classifies a ciphertext that no slot names. An error ends the run.
func (s *Searcher) Find(ctx context.Context, c Candidate) (Finding, error) {
	if key := s.asker.keyOfToken(c.Token); s.asker.keys.retired() &&
		s.asker.keys.IsSource(key) {
		return Finding{Standing: UnderSource, Key: key, Whole: true, Header: true}, nil
	}
	if s.exact || s.asker.hints.distrusted() {
		return s.ask(ctx, c)
	}
	if f, ok := s.asker.hints.factOf(c.Token); ok {
		return Finding{Standing: s.standing(f), Key: f.key, Whole: true, Header: true}, nil
	}
	for {
		s.mu.Lock()
		f, ok := s.known[c.Token]
		if ok && (f.Standing != UnknownKey || f.Whole || !c.Whole) {
			s.mu.Unlock()
			f.Header = true
			return f, nil
		}
		call, asking := s.calls[c.Token]
		if !asking {
			s.calls[c.Token] = make(chan struct{})
		}
		s.mu.Unlock()
		if !asking {
			return s.askOnce(ctx, c)
		}
		select {
		case <-call:
		case <-ctx.Done():
			return Finding{}, ctx.Err()
		}
	}
}

// askOnce asks KMS once for all concurrent callers with a candidate of the same token.
func (s *Searcher) askOnce(ctx context.Context, c Candidate) (Finding, error) {
	f, err := s.ask(ctx, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.calls[c.Token])
	delete(s.calls, c.Token)
	// The reason why one ciphertext is unusable does not apply to others with the same token.
	if err == nil && f.Standing != Undecryptable && len(s.known) < maxClasses {
		s.known[c.Token] = f
	}
	return f, err
}

// standing returns the standing of ciphertexts of a token whose key KMS has
// named.
func (s *Searcher) standing(f fact) Standing {
	keys := s.asker.keys
	switch {
	case f.key != keys.Destination.ARN && keys.IsSource(f.key):
		return UnderSource
	case f.key != keys.Destination.ARN || keys.Mode == ModeMove || keys.Mode == "":
		return UnderOtherKey
	case keys.Mode == ModeContext: // the candidate can have either context
		return UnderSource
	case f.material != "" && f.material == keys.Destination.Material:
		return UnderOtherKey
	}
	return UnderSource
}

// ask asks KMS about a candidate, with each source key pinned in turn, and
// discards the new blob. The encryption context is unknown. If KMS cannot
// decrypt the candidate but does not report an incorrect key, the key has
// matched.
func (s *Searcher) ask(ctx context.Context, c Candidate) (Finding, error) {
	keys := s.asker.keys
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
		response, err := s.send(ctx, c, source)
		switch class := retry.Classify(err); {
		case err == nil:
			f := fact{response.Source, response.SourceMaterial}
			return Finding{Standing: s.standing(f), Key: f.key, Whole: c.Whole}, nil
		case fatal(err):
			return Finding{}, s.stop(err)
		case class == retry.KindDenied:
			if s.allowed(ctx, source) {
				a.comparesKeys = true
			} else {
				a.unclear = true
			}
		case class == retry.KindIncorrectKey:
			a.comparesKeys = true
		case class == retry.KindInvalidCiphertext &&
			awserr.Code(err) == "InvalidCiphertextException":
			a.matched = append(a.matched, source.ARN)
		default:
			a.unclear = true
		}
	}
	return s.conclude(ctx, c, a)
}

// pinned holds the responses of KMS to the requests with each source key pinned.
type pinned struct {
	matched      []string // keys for which KMS reports no incorrect key
	comparesKeys bool     // KMS reports an incorrect key for some, so it compares keys
	unclear      bool     // there was no usable response
}

// conclude sends a request with the destination key pinned if the other responses
// do not show whether KMS compares the key of this candidate at all.
func (s *Searcher) conclude(ctx context.Context, c Candidate, a pinned) (Finding, error) {
	keys := s.asker.keys
	f := Finding{Whole: c.Whole}
	switch {
	case len(a.matched) == 0 && a.unclear:
		return f, nil
	case len(a.matched) == 0:
		f.Standing = UnderOtherKey
		return f, nil
	case len(a.matched) > 1:
		f.Standing = s.undecided(c)
		return f, nil
	case a.comparesKeys || keys.Refresh() || keys.Mode == ModeContext:
		f.Standing, f.Key = UnderSource, a.matched[0]
		return f, nil
	}
	response, err := s.send(ctx, c, keys.Destination)
	switch class := retry.Classify(err); {
	case err == nil:
		f.Standing, f.Key = UnderOtherKey, response.Source
	case fatal(err):
		return Finding{}, s.stop(err)
	case class == retry.KindInvalidCiphertext && keys.Any && c.Whole:
		f.Standing = UnderOtherKey // KMS reports no incorrect key for the destination key
	case class == retry.KindInvalidCiphertext:
		f.Standing = s.undecided(c)
	default:
		f.Standing, f.Key = UnderSource, a.matched[0]
	}
	return f, nil
}

// undecided returns the standing of a candidate whose key KMS does not name. A complete candidate
// cannot be decrypted at all. A truncated candidate may have a complete copy elsewhere.
func (s *Searcher) undecided(c Candidate) Standing {
	if c.Whole {
		return Undecryptable
	}
	return UnknownKey
}

// send sends one request. A denial does not count as a denial of the run,
// because a policy may require an encryption context and none is sent.
func (s *Searcher) send(
	ctx context.Context, c Candidate, source Key,
) (response Response, err error) {
	d, q := s.asker, Request{Blob: c.Blob, Source: source}
	err = d.retry.Do(ctx, flowcontrol.Permit{}, retry.Asking, "KMS", func(
		ctx context.Context,
	) (err error) {
		response, err = d.once(ctx, q)
		if err != nil {
			if slotErr := d.slotError(ctx, q, err); slotErr != nil {
				return slotErr
			}
		}
		return err
	})
	if err == nil {
		err = d.check(q, response)
	}
	if err == nil {
		err = d.hints.fact(c.Blob, response)
	}
	return response, err
}

// allowed reports whether the caller may use a source key. If so, a denial is
// about the key of the candidate.
func (s *Searcher) allowed(ctx context.Context, source Key) bool {
	if source.ARN == "" {
		return true
	}
	known, err := s.asker.mayUse(ctx, source)
	return known && err == nil
}

// stop returns the error with which a failed request ends the run.
func (s *Searcher) stop(err error) error {
	switch retry.Classify(err) {
	case retry.KindKeyState, retry.KindCredentials:
		return &retry.StopError{Kind: retry.StopAccess, Err: err,
			What: "a key or the credentials of this job cannot be used"}
	}
	return err
}
