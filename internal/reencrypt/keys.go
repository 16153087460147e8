package reencrypt

import (
	"slices"

	"rotator/internal/ciphertext"
)

// Keys are the keys of a job, resolved.
type Keys struct {
	Destination Key
	// Sources are the keys whose slots move. They are empty with Any.
	Sources []Key
	// SourceAlgorithm is the algorithm of all sources.
	SourceAlgorithm string
	// Any moves slots under every key.
	Any bool
	// Mode is what the job does; "" is ModeMove.
	Mode Mode
	// ChangesContext reports whether slots get another encryption context.
	ChangesContext bool
}

// Mode is what a job does.
type Mode string

// The modes. In all modes except ModeMove, one key is both source and
// destination.
const (
	ModeMove    Mode = "move"    // from the source keys to the destination key
	ModeRefresh Mode = "refresh" // to the newest material of the key
	ModeContext Mode = "context" // to another encryption context under the key
)

// Refresh reports whether slots under the destination key are moved to its
// newest material.
func (k Keys) Refresh() bool { return k.Mode == ModeRefresh }

// IsSource reports whether slots under a key move.
func (k Keys) IsSource(arn string) bool {
	return k.Any || slices.ContainsFunc(k.Sources, func(s Key) bool { return s.ARN == arn })
}

// candidates returns the keys to name in the requests for a slot, one after the other: the
// source keys if there is only one, or if blobs do not name their key. Otherwise it is one
// request without a key, and the response names the key.
func (k Keys) candidates() []Key {
	if k.SourceAlgorithm == Symmetric && (k.Any || len(k.Sources) > 1) {
		return []Key{{}}
	}
	return k.Sources
}

// SourceContext returns the encryption context of a slot. Ciphertexts under asymmetric keys
// have none.
func (k Keys) SourceContext(slot ciphertext.Slot) map[string]string {
	if k.SourceAlgorithm != Symmetric {
		return nil
	}
	return slot.Context
}

// DestinationContext returns the encryption context of a slot under the destination key.
func (k Keys) DestinationContext(slot ciphertext.Slot) map[string]string {
	if !k.Destination.Symmetric() {
		return nil
	}
	return slot.DestinationContext
}
