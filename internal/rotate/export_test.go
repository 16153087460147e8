package rotate

import "rotator/internal/ciphertext"

// Bind binds a record to a pass as a worker does.
func Bind(identity string, r Record, context map[string]string) string {
	w := &worker{identity: identity, decider: &decider{keys: Keys{
		Destination:     Key{ARN: r.To, Algorithm: Symmetric},
		SourceAlgorithm: Symmetric,
	}}}
	return w.bind(r, ciphertext.Slot{DestinationContext: context})
}
