package ciphertext

import (
	"errors"

	"rotator/internal/scan"
)

// Mask returns the payload of an item with a fixed text in place of the ciphertext of each slot
// that a pass can move. slots is the result of f.Find(item). The siblings of these slots are
// those that Splice writes for the destination key of f. Therefore an item has the same mask
// before and after a move, and another mask after a change of anything else. The value of a
// refused slot stays, because no move changes it. So does an item that Splice cannot rewrite.
func Mask(f Format, item scan.Item, slots []Slot) scan.Payload {
	blobs := make([][]byte, len(slots))
	masked := 0
	for i, s := range slots {
		if s.Refused == nil {
			blobs[i] = []byte(mask)
			masked++
		}
	}
	if masked == 0 {
		return item.Payload
	}
	payload, err := f.Splice(item, blobs)
	var failed *SpliceError
	if errors.As(err, &failed) {
		for _, s := range failed.Failures {
			blobs[s.Index] = nil
		}
		payload, err = f.Splice(item, blobs)
	}
	if err != nil {
		return item.Payload
	}
	return payload
}

// mask takes the place of every ciphertext. Its length is a multiple of three, so its base64 has no
// padding, and it is shorter than every blob, so it fits wherever a blob fits, on one line. Its
// base64 is also base64url, and its hexadecimal digits have no case.
const mask = "PPPPPP"
