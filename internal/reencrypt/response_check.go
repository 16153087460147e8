package reencrypt

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"sync"

	"rotator/internal/kmsblob"
	"rotator/internal/retry"
)

// rememberedResponses is the number of recent responses of KMS with which a new one
// is compared.
const rememberedResponses = 100_000

// responseHistory stores digests of the last responses of KMS to detect a response
// that was already given to another request, for example by a caching server or
// by a proxy that mixes up connections. It is safe for concurrent use. A full
// history takes 3.4 MB.
type responseHistory struct {
	seed maphash.Seed

	mu   sync.Mutex
	ring []responseMarks // in order of arrival, from next on once it is full
	next int             // the index in ring of the response that is removed next
	// table is a hash table with linear probing over the digests of the responses in ring. An
	// entry is 2 × index + kind + 1; 0 is a free one.
	table []uint32
}

// responseMarks identifies one response: the digests of its blob, its request id and its request.
type responseMarks struct {
	marks   [2]uint64 // of the new blob and of the request id; 0 for none
	request uint64
}

// responseTable is the length of the table: a power of two, with room for two marks of each
// response.
const responseTable = 1 << 18

func newResponseHistory() *responseHistory { return &responseHistory{seed: maphash.MakeSeed()} }

// add stores a response. It reports whether its blob or its request id was
// already part of a response to another request. The same response to the same
// request is not reported.
func (a *responseHistory) add(q Request, response Response) (blob, request bool) {
	one := a.digest(q, response)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.table == nil {
		a.table = make([]uint32, responseTable)
	}
	blob, request = a.inOtherResponse(one, 0), a.inOtherResponse(one, 1)
	a.remember(one)
	return blob, request
}

func (a *responseHistory) digest(q Request, response Response) responseMarks {
	one := responseMarks{request: a.digestRequest(q)}
	one.marks[0] = maphash.Bytes(a.seed, response.Blob) | 1
	if response.RequestID != "" {
		one.marks[1] = maphash.String(a.seed, response.RequestID) | 1
	}
	return one
}

// digestRequest returns the digest of a request. It does not depend on the order
// of the pairs of a context.
func (a *responseHistory) digestRequest(q Request) uint64 {
	digest := maphash.Bytes(a.seed, q.Blob) ^ maphash.String(a.seed, q.Source.ARN)
	for i, pairs := range []map[string]string{q.Context, q.DestinationContext} {
		for name, value := range pairs {
			pair := scramble(maphash.String(a.seed, name)) + maphash.String(a.seed, value)
			digest += scramble(pair + uint64(i))
		}
	}
	return digest
}

// inOtherResponse reports whether a mark belongs to a response to another request. It must be
// called with mu held.
func (a *responseHistory) inOtherResponse(one responseMarks, kind int) bool {
	mark := one.marks[kind]
	if mark == 0 {
		return false
	}
	for at := firstIndex(mark); a.table[at] != 0; at = (at + 1) % responseTable {
		if a.mark(at) == mark && a.ring[(a.table[at]-1)/2].request != one.request {
			return true
		}
	}
	return false
}

// remember replaces the oldest response. It must be called with mu held.
func (a *responseHistory) remember(one responseMarks) {
	if len(a.ring) < rememberedResponses {
		a.ring = append(a.ring, one)
		a.insert(len(a.ring) - 1)
		return
	}
	a.forget(a.next)
	a.ring[a.next] = one
	a.insert(a.next)
	a.next = (a.next + 1) % rememberedResponses
}

// firstIndex returns the first index at which a mark is looked up.
func firstIndex(mark uint64) uint64 { return mark >> 1 % responseTable }

// mark returns the mark of a table entry, which must not be free.
func (a *responseHistory) mark(at uint64) uint64 {
	entry := a.table[at] - 1
	return a.ring[entry/2].marks[entry%2]
}

// insert enters the marks of ring[index].
func (a *responseHistory) insert(index int) {
	for kind, mark := range a.ring[index].marks {
		if mark == 0 {
			continue
		}
		at := firstIndex(mark)
		for a.table[at] != 0 {
			at = (at + 1) % responseTable
		}
		a.table[at] = uint32(2*index + kind + 1)
	}
}

// forget removes the marks of ring[index] from the table.
func (a *responseHistory) forget(index int) {
	for kind, mark := range a.ring[index].marks {
		if mark == 0 {
			continue
		}
		at := firstIndex(mark)
		for a.table[at] != uint32(2*index+kind+1) {
			at = (at + 1) % responseTable
		}
		a.free(at)
	}
}

// free empties an entry and moves up the following entries that are found
// through it.
func (a *responseHistory) free(at uint64) {
	for next := (at + 1) % responseTable; a.table[next] != 0; next = (next + 1) % responseTable {
		fromHome := (next - firstIndex(a.mark(next))) % responseTable
		if fromHome >= (next-at)%responseTable {
			a.table[at] = a.table[next]
			at = next
		}
	}
	a.table[at] = 0
}

// The lengths, in bytes, that ciphertexts and plaintexts of KMS can have (API_ReEncrypt,
// API_Encrypt).
const (
	// minBlob is shorter than any ciphertext: AES-GCM has a nonce of 12 and a tag of 16.
	minBlob = 12 + 16 + 1
	// layoutSlack is the maximum difference in length between ciphertexts of one
	// plaintext in the known layouts, which are 135 to 190 bytes longer than the
	// plaintext.
	layoutSlack = 64
	// maxRSAPlaintext is the maximum length of a plaintext under an RSA key (RSA_4096,
	// RSAES_OAEP_SHA_1). maxOverhead is the maximum overhead of a symmetric
	// ciphertext.
	maxRSAPlaintext = 470
	maxOverhead     = 256
)

// check returns the error that ends the run if a response cannot belong to its
// request. Such a response must be neither written nor counted.
func (a *asker) check(q Request, response Response) error {
	if err := a.validateResponse(response); err != nil {
		return err
	}
	what := a.wrongBlob(q, response.Blob)
	if what == "" {
		switch blob, request := a.history.add(q, response); {
		case blob:
			what = "returned a ciphertext that it had already returned for another request"
		case request:
			what = "returned the request id of the response to another request"
		}
	}
	if what == "" {
		return nil
	}
	return a.wrongResponse(what, response, nil)
}

// wrongResponse returns the error that ends a run because of a wrong response of
// KMS.
func (a *asker) wrongResponse(what string, response Response, err error) error {
	request := ""
	if response.RequestID != "" {
		request = fmt.Sprintf(" (request id %q)", response.RequestID)
	}
	stop := &retry.StopError{Kind: retry.StopAnswer, Err: err, What: fmt.Sprintf(
		"KMS, re-encrypting to %s, %s%s; nothing of this response was written",
		a.keys.Destination.ARN, what, request)}
	a.broken.CompareAndSwap(nil, stop)
	return stop
}

// wrongBlob describes why a new blob is impossible; "" if it is possible.
func (a *asker) wrongBlob(q Request, blob []byte) string {
	switch {
	case bytes.Equal(blob, q.Blob):
		return "returned the ciphertext that was sent"
	case a.keys.Destination.sm2() && !kmsblob.IsSM2(blob):
		return "returned bytes that are not a ciphertext under an SM2 key"
	case a.wrongLength(q, blob):
		return fmt.Sprintf("returned %d bytes, an impossible length for the "+
			"re-encryption of %d bytes",
			len(blob), len(q.Blob))
	}
	return ""
}

// wrongLength reports whether a new blob has a length that no ciphertext of the same
// plaintext under the destination key has.
func (a *asker) wrongLength(q Request, blob []byte) bool {
	to := a.keys.Destination
	_, before := kmsblob.ReadToken(q.Blob)
	_, after := kmsblob.ReadToken(blob)
	delta := len(blob) - len(q.Blob)
	if len(blob) > kmsblob.MaxSize || len(blob) < minBlob ||
		to.Size > 0 && len(blob) != to.Size ||
		!to.Symmetric() && !to.sm2() && !rsaSize(len(blob)) ||
		before && after && (delta > layoutSlack || delta < -layoutSlack) {
		return true
	}
	shortest, longest := plaintextBounds(q)
	switch plaintext, sm2 := kmsblob.SM2Plaintext(blob); {
	case to.sm2() && sm2:
		return plaintext < shortest || plaintext > longest
	case after:
		return len(blob) < shortest || len(blob) > longest+maxOverhead
	}
	return false
}

// plaintextBounds returns the minimum and maximum length that the plaintext of a request can have.
func plaintextBounds(q Request) (shortest, longest int) {
	_, hasToken := kmsblob.ReadToken(q.Blob)
	plaintext, sm2 := kmsblob.SM2Plaintext(q.Blob)
	switch {
	case q.Source.sm2() && sm2:
		return plaintext, plaintext
	case q.Source.ARN != "" && !q.Source.Symmetric() && !q.Source.sm2():
		return 1, maxRSAPlaintext
	case hasToken:
		return max(1, len(q.Blob)-maxOverhead), len(q.Blob)
	}
	return 1, kmsblob.MaxSize
}

// rsaSize reports whether a ciphertext under some RSA key has n bytes.
func rsaSize(n int) bool { return n == 256 || n == 384 || n == 512 }

// provenTokens holds the header tokens that are proven to belong to the
// destination key.
type provenTokens struct {
	requestTurn chan struct{} // held while KMS is asked

	mu           sync.Mutex
	tokens       map[kmsblob.Token]bool
	withoutToken bool // a ciphertext without a token was under the destination key
}

func newProvenTokens() *provenTokens {
	return &provenTokens{requestTurn: make(chan struct{}, 1), tokens: map[kmsblob.Token]bool{}}
}

func (p *provenTokens) has(token kmsblob.Token, readable bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return readable && p.tokens[token] || !readable && p.withoutToken
}

func (p *provenTokens) add(token kmsblob.Token, readable bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !readable {
		p.withoutToken = true
	} else if len(p.tokens) < maxClasses {
		p.tokens[token] = true
	}
}

// prove asks KMS, once for each header token, whether a new ciphertext is under
// the destination key and context. Nothing with that token is written before. A
// new token is not a fault, because the key may have been rotated. Ciphertexts
// without a header, such as those under asymmetric keys, are checked once per run. An
// error other than a *StopError means that KMS gave no usable response.
func (a *asker) prove(ctx context.Context, response Response, to map[string]string) error {
	token, readable := kmsblob.ReadToken(response.Blob)
	if a.hints.readOnly || a.proven.has(token, readable) {
		return nil
	}
	if readable && a.hints.keyOf(response.Blob) == a.keys.Destination.ARN {
		a.proven.add(token, readable)
		return nil
	}
	select {
	case a.proven.requestTurn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-a.proven.requestTurn }()
	if a.proven.has(token, readable) {
		return nil
	}
	second, err := a.ask(ctx, Request{Blob: response.Blob, Source: a.keys.Destination,
		Context: to, DestinationContext: to})
	if err == nil && second.Source != a.keys.Destination.ARN {
		return a.wrongResponse("returned a ciphertext under "+second.Source, response, nil)
	}
	if slotErr := slotKeyOf(err); slotErr != nil && slotErr.unknown {
		return a.wrongResponse("returned a ciphertext whose key it does not know", response, err)
	}
	if err != nil && !retry.Stopped(err) {
		switch retry.Classify(err) {
		case retry.KindIncorrectKey, retry.KindInvalidCiphertext:
			const refused = "returned a ciphertext that it refuses to decrypt"
			return a.wrongResponse(refused, response, err)
		case retry.KindDenied:
			return &retry.StopError{
				Kind: retry.StopAccess,
				Err:  err,
				What: "KMS denies the check of the " +
					"first new ciphertext; allow kms:ReEncryptFrom on " + a.keys.Destination.ARN,
			}
		}
	}
	if err != nil {
		return err
	}
	a.proven.add(token, readable)
	return nil
}
