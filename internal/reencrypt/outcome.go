package reencrypt

// Outcome is the outcome of a slot.
type Outcome string

// The outcomes. Every slot seen ends in exactly one of them.
const (
	// Rotated: moved to the destination by this pass.
	Rotated Outcome = "rotated"
	// Current: it was already under the destination key and context of the job.
	Current Outcome = "current"
	// Remaining: under a source key and not moved, because the pass is read-only.
	Remaining Outcome = "remaining"
	// Foreign: under a key that the job does not name, or with another context.
	Foreign Outcome = "foreign"
	// Failed: KMS, the format or the store refused it. The reason states why.
	Failed Outcome = "failed"
	// Conflict: it kept changing while it was being moved.
	Conflict Outcome = "conflict"
	// Gone: its item was deleted meanwhile.
	Gone Outcome = "gone"
)

// Reasons in the ledger that this package gives. Formats and sources
// add their own words.
const (
	ReasonInvalidCiphertext = "invalid-ciphertext"
	ReasonForeignKey        = "foreign-key"
	ReasonOtherContext      = "other-context"
	// KMS matched the key of the blob but could not decrypt it with the context of
	// the job for that key.
	ReasonSourceContext      = "source-other-context"
	ReasonDestinationContext = "destination-other-context"
	// A source key cannot be used, and it is unknown whether the blob is under it.
	reasonKeyDisabled = "key-disabled"
	reasonKeyUnusable = "key-unusable"
	// KMS refused the request, and the plaintext can be longer than an asymmetric
	// destination key encrypts.
	ReasonPlaintextTooLong = "plaintext-too-long"
	// The server does not know the key of the blob.
	reasonKeyUnknown = "key-unknown"
	ReasonKept       = "kept-changing"
)
