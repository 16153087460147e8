package rotate_test

import (
	"testing"

	"rotator/internal/checkpoint"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/reencrypt"
)

// TestRetiredSource: a read-only pass works while a source key is disabled or
// pending deletion. Slots under the destination key are current because KMS
// confirms them. Slots under the source key are never current, and the pass
// does not wait for them.
func TestRetiredSource(t *testing.T) {
	for _, state := range []fakekms.KeyState{fakekms.Disabled, fakekms.PendingDeletion} {
		for _, test := range []struct {
			name     string
			from, to fakekms.KeySpec
		}{
			{"symmetric", fakekms.Symmetric, fakekms.Symmetric},
			{"from RSA", fakekms.RSA2048, fakekms.Symmetric},
			{"to RSA", fakekms.Symmetric, fakekms.RSA2048},
			{"from SM2", fakekms.SM2, fakekms.Symmetric},
			{"to SM2", fakekms.Symmetric, fakekms.SM2},
		} {
			t.Run(string(state)+" "+test.name, func(t *testing.T) {
				cloud := newCloud(t)
				request := reencrypt.KeyRequest{
					Destination:          cloud.key(t, test.to),
					DestinationAlgorithm: algorithmOf(test.to),
					Sources:              []string{cloud.key(t, test.from)},
					SourceAlgorithm:      algorithmOf(test.from),
					ReadOnly:             true,
				}
				old, third := request.Sources[0], cloud.key(t, fakekms.Symmetric)
				target := newMemory()
				target.put("current", cloud.encrypt(t, request.Destination, "x", nil))
				target.put("foreign", cloud.encrypt(t, third, "x", nil))
				target.put("old-1", cloud.encrypt(t, old, "x", nil))
				target.put("old-2", cloud.encrypt(t, old, "x", nil))
				if err := cloud.fake.SetState(old, state); err != nil {
					t.Fatal(err)
				}
				b := &testPass{cloud: cloud, keys: cloud.resolve(t, request), inspect: true,
					format: format(t, nil, nil), target: target}
				counts, err := b.run(t)
				want := checkpoint.SlotCounts{Seen: 4, Current: 1, Foreign: 1, Failed: 2}
				disabled := counts.Reasons["failed/key-disabled"]
				if err != nil || counts.Slots != want || disabled != 2 {
					t.Errorf("%v: %+v, %v, want %+v", err, counts.Slots, counts.Reasons, want)
				}
				request.ReadOnly = false
				if _, err := reencrypt.ResolveKeys(t.Context(), cloud.client, request); err == nil {
					t.Error("a pass that writes accepts a source key that cannot be used")
				}
			})
		}
	}
}
