package rotate

import (
	"rotator/internal/ciphertext"
	"rotator/internal/reencrypt"
)

// Bind returns the binding of a record to a pass, as worker.bind does.
func Bind(identity string, r Record, context map[string]string) string {
	w := &worker{identity: identity, keys: reencrypt.Keys{
		Destination:     reencrypt.Key{ARN: r.To, Algorithm: reencrypt.Symmetric},
		SourceAlgorithm: reencrypt.Symmetric,
	}}
	return w.bind(r, ciphertext.Slot{DestinationContext: context})
}
