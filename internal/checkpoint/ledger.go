package checkpoint

import (
	"context"
	"errors"
	"iter"
	"time"
)

// LedgerEntry is one slot that could not be moved.
type LedgerEntry struct {
	Target string `json:"target"`
	Ref    string `json:"ref"`  // address of the item
	Path   string `json:"path"` // of the slot in the item; "" is its body
	// Blob is the SHA-256 of the ciphertext in hexadecimal, or "" if no ciphertext was
	// read. It identifies the slot where paths may change, as in sets.
	Blob     string    `json:"blob_sha256,omitempty"`
	Outcome  string    `json:"outcome"`
	Reason   string    `json:"reason"`
	Detail   string    `json:"detail"`
	Key      string    `json:"key,omitempty"` // ARN of its key, if known
	Attempts int       `json:"attempts"`
	At       time.Time `json:"at"`
	// Origin is what is known about the key of a slot that failed or is in
	// conflict. Unread is true if the item could not be read; the entry then
	// represents all its slots. Entries of earlier versions have neither.
	Origin Origin `json:"origin,omitempty"`
	Unread bool   `json:"unread,omitempty"`
	// HeaderKey is the key that the header of the ciphertext names: its ARN, HeaderUnknown
	// or HeaderNone. It is empty if no ciphertext was read, and in entries of earlier
	// versions.
	HeaderKey string `json:"header_key,omitempty"`
	// ByHeader is true if Key was decided by the header alone, as in KeyCount.Header. It is false
	// in entries of earlier versions.
	ByHeader bool `json:"by_header,omitempty"`
	// Accepted is the number of the accept rule that covers the entry, from 1. It
	// is set when the ledger is printed and never stored, because rules may
	// change.
	Accepted int `json:"accepted,omitempty"`
}

// The values of LedgerEntry.HeaderKey that are no ARN.
const (
	// HeaderUnknown: there is, or may be, a header, and the key of its token is unknown.
	HeaderUnknown = "unknown"
	// HeaderNone: there is no header of a ciphertext under a symmetric key.
	HeaderNone = "none"
)

// LedgerChunk is a part of the entries of one partition. Adjust is the change of the
// counts of the partition by retries, and Retried is when the last of them was saved; it is zero
// in records of earlier versions.
type LedgerChunk struct {
	Entries []LedgerEntry `json:"entries"`
	Adjust  Counts        `json:"adjust"`
	Retried time.Time     `json:"retried,omitzero"`
}

// Chunk is a stored LedgerChunk.
type Chunk struct {
	LedgerChunk
	target string
	entry  Entry
}

// Ledger iterates over the ledger of a pass. The iteration ends after an error.
func (p *Passes) Ledger(ctx context.Context, pass Pass) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		records, err := p.Records(ctx, pass)
		if err != nil {
			yield(Chunk{}, err)
			return
		}
		records.Ledger(ctx)(yield)
	}
}

// ledgerOf iterates over the ledger of a pass whose partitions have been read.
func (p *Passes) ledgerOf(
	ctx context.Context, pass Pass, all []progressRecord,
) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		for _, r := range all {
			name := pass.Targets[r.target].Name
			for _, n := range r.chunkNames() {
				chunk, err := p.chunk(ctx, name, p.chunkID(pass.Number, r.target, r.index, n))
				if !yield(chunk, err) || err != nil {
					return
				}
			}
		}
	}
}

// chunk reads a chunk that must exist.
func (p *Passes) chunk(ctx context.Context, target, id string) (chunk Chunk, err error) {
	chunk.target = target
	chunk.entry, err = p.fetch(ctx, id, "ledger", &chunk.LedgerChunk)
	if errors.Is(err, ErrNotFound) {
		err = &CorruptError{ID: id, Detail: "it is missing"}
	}
	return chunk, err
}

// Reread reads the current version of a chunk.
func (p *Passes) Reread(ctx context.Context, chunk Chunk) (Chunk, error) {
	return p.chunk(ctx, chunk.target, chunk.entry.ID)
}

// ReplaceChunk saves a changed chunk. Its entries and its adjustment become durable
// together. The error is ErrFenced if another process has changed the chunk.
func (p *Passes) ReplaceChunk(ctx context.Context, chunk Chunk) error {
	chunk.Retried = time.Now().UTC()
	_, err := p.save(ctx, chunk.entry, chunk.entry.ID, "ledger", chunk.LedgerChunk)
	return err
}
