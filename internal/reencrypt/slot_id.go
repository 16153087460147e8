package reencrypt

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"rotator/internal/ciphertext"
)

// SlotID is a digest of everything on which the verdict on a slot depends in one run: the blob
// and the encryption contexts. Slots with the same SlotID have the same verdict.
type SlotID [sha256.Size]byte

// IDOf returns the SlotID of a slot.
func IDOf(slot ciphertext.Slot) SlotID {
	var buffer [1024]byte // usually enough, so that nothing is allocated
	text := AppendPart(buffer[:0], slot.Blob)
	for _, context := range []map[string]string{slot.Context, slot.DestinationContext} {
		text = AppendContext(text, context)
	}
	return sha256.Sum256(text)
}

// AppendContext appends an encryption context. The text of equal contexts is equal.
func AppendContext(text []byte, context map[string]string) []byte {
	var few [8]string
	names := few[:0]
	for name := range context {
		names = append(names, name)
	}
	slices.Sort(names)
	text = binary.BigEndian.AppendUint32(text, uint32(len(context)))
	for _, name := range names {
		text = AppendPart(AppendPart(text, name), context[name])
	}
	return text
}

// AppendPart appends a part of a text to digest, after its length.
func AppendPart[T string | []byte](text []byte, part T) []byte {
	return append(binary.BigEndian.AppendUint32(text, uint32(len(part))), part...)
}
