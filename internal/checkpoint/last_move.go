package checkpoint

import (
	"context"
	"errors"
	"time"
)

// LastMove returns a time after which no run or retry of the job moved a ciphertext, or zero if
// none moved one. It is exact to the interval between two saves. now is the result if the time of
// a retry is not known and no later pass began.
func (p *Passes) LastMove(ctx context.Context, now time.Time) (time.Time, error) {
	number, err := p.LastNumber(ctx)
	if err != nil {
		return time.Time{}, err
	}
	for next := now; number > 0; number-- {
		pass, err := p.Pass(ctx, number)
		pruned := (*PrunedError)(nil)
		switch {
		case errors.As(err, &pruned):
			if pruned.Ended.IsZero() {
				return next, nil
			}
			return pruned.Ended, nil // it may have moved ciphertexts
		case errors.Is(err, ErrNotFound):
			continue
		case err != nil:
			return time.Time{}, err
		}
		if last, err := p.lastMoveOf(ctx, pass, next); err != nil || !last.IsZero() {
			return last, err
		}
		next = pass.Started
	}
	return time.Time{}, nil
}

// lastMoveOf returns a time after which a pass moved no ciphertext, or zero if it moved none. next
// is when the following pass began: no retry of this pass moved a ciphertext later.
func (p *Passes) lastMoveOf(
	ctx context.Context, pass Pass, next time.Time,
) (last time.Time, err error) {
	all, err := p.readAll(ctx, pass)
	if err != nil {
		return last, err
	}
	moved := false
	last = pass.Started
	raise := func(t time.Time) {
		if t.After(last) {
			last = t
		}
	}
	raise(pass.Ended)
	for _, r := range all {
		moved = moved || r.Counts.Slots.Rotated > 0
		raise(r.Saved)
	}
	for chunk, err := range p.ledgerOf(ctx, pass, all) {
		switch {
		case err != nil:
			return last, err
		case chunk.Adjust.Slots.Rotated == 0:
		case chunk.Retried.IsZero():
			moved = true
			raise(next)
		default:
			moved = true
			raise(chunk.Retried)
		}
	}
	if !moved {
		return time.Time{}, nil
	}
	return last, nil
}
