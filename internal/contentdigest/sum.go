package contentdigest

import (
	"crypto/sha256"
	"crypto/sha3"
	"encoding/binary"
	"encoding/hex"
)

// lanes is the number of 16-bit integers of a Sum.
const lanes = 1024

// Sum is the digest of a multiset of items: LtHash with 1,024 lanes of 16 bits (Bellare and
// Micciancio, "A New Paradigm for Collision-Free Hashing", 1997; Lewi, Kim, Maykov and Weis,
// "Securing Update Propagation with Homomorphic Hashing", IACR ePrint 2019/227). Each item digest
// is expanded with SHAKE128 to 2,048 bytes, and the lanes are added modulo 2^16. The order of the
// items has no influence, and an item that is added twice counts twice.
//
// To find two multisets with the same sum, an attacker must break SHA-256 or solve a lattice
// problem (short integer solution) of this size, for which the authors estimate more than 2^200
// operations. An XOR of the digests, or a sum modulo 2^256, would be weaker: with the choice
// among many items, a collision of these can be computed (Wagner, "A Generalized Birthday
// Problem", 2002).
//
// The zero Sum is the sum of no items. A Sum is not safe for concurrent use.
type Sum struct {
	lanes [lanes]uint16
	items int64
}

// Add adds an item.
func (s *Sum) Add(d Digest) {
	var expanded [2 * lanes]byte
	shake := sha3.NewSHAKE128()
	_, _ = shake.Write(d[:])
	_, _ = shake.Read(expanded[:])
	for i := range s.lanes {
		s.lanes[i] += binary.LittleEndian.Uint16(expanded[2*i:])
	}
	s.items++
}

// Merge adds the items of other.
func (s *Sum) Merge(other *Sum) {
	for i := range s.lanes {
		s.lanes[i] += other.lanes[i]
	}
	s.items += other.items
}

// Items returns the number of items.
func (s *Sum) Items() int64 { return s.items }

// Text returns the hexadecimal SHA-256 of the sum and the number of items.
func (s *Sum) Text() string {
	hash := sha256.New()
	e := &encoder{w: hash}
	e.text(Scheme)
	e.number(int(s.items))
	var lane [2]byte
	for _, n := range s.lanes {
		binary.LittleEndian.PutUint16(lane[:], n)
		_, _ = hash.Write(lane[:])
	}
	return hex.EncodeToString(hash.Sum(nil))
}
