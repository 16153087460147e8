package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// The two keys of every run, and their Region.
const (
	sourceKey      = "arn:aws:kms:us-east-1:111122223333:key/11111111-1111-1111-1111-111111111111"
	destinationKey = "arn:aws:kms:us-east-1:111122223333:key/22222222-2222-2222-2222-222222222222"
	region         = "us-east-1"
	resourceName   = "bench" // the name of the table, and of the bucket
)

// blobLen is the length in bytes of the ciphertext of a data key or a short secret. itemAt is the
// offset of the number of its item, in bytes that KMS fills at random.
const (
	blobLen = 250
	itemAt  = 5 + 32 + 1
)

// blobOf returns the ciphertext of item i under a key. It depends only on both, so the stub can
// check what is written without storing its responses. It has the layout of KMS ciphertexts
// (internal/kmsblob): a header with a token of the key and the length of the rest, then bytes
// that look random.
func blobOf(key string, i int) []byte {
	name := key[len(key)-1]
	blob := append(make([]byte, 0, blobLen+8), 1, 2, 2, 0, 0x78)
	for len(blob) < itemAt-1 {
		blob = append(blob, name)
	}
	blob = binary.BigEndian.AppendUint64(append(blob, 1), uint64(i))
	state := uint64(i)<<8 | uint64(name)
	for len(blob) < blobLen { // SplitMix64
		state += 0x9e3779b97f4a7c15
		z := (state ^ state>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		blob = binary.BigEndian.AppendUint64(blob, z^z>>31)
	}
	blob = blob[:blobLen]
	binary.BigEndian.PutUint32(blob[itemAt+16:], blobLen-itemAt-16-4)
	return blob
}

// itemOf returns the item of a ciphertext under key. ok is false if it is of no item.
func itemOf(key string, blob []byte) (i int, ok bool) {
	if len(blob) != blobLen {
		return 0, false
	}
	i = int(binary.BigEndian.Uint64(blob[itemAt:]))
	return i, i >= 0 && bytes.Equal(blob, blobOf(key, i))
}

func idOf(i int) string { return fmt.Sprintf("item-%09d", i) }

func indexOf(id string) (int, bool) {
	digits, ok := strings.CutPrefix(id, "item-")
	i, err := strconv.Atoi(digits)
	return i, ok && err == nil && idOf(i) == id
}

func tenantOf(i int) string { return "tenant-" + strconv.Itoa(i%100) }

// contextOf returns the encryption context of item i.
func contextOf(i int) map[string]string {
	return map[string]string{"tenant": tenantOf(i), "purpose": "pii"}
}

// stubItems holds the state of each item of the stub.
type stubItems struct {
	state   []atomic.Uint32 // the bits reEncrypted and updated
	same    int             // number of consecutive items with the same ciphertext; 0 means 1
	written atomic.Int64

	mu    sync.Mutex
	wrong []string
	count int
}

// The bits of stubItems.state.
const (
	reEncrypted = 1 // KMS returned the new ciphertext
	updated     = 2 // the new ciphertext was written
)

// newStubItems returns items under the source key, or under the destination key if moved.
func newStubItems(items int, moved bool) *stubItems {
	v := &stubItems{state: make([]atomic.Uint32, items)}
	for i := range v.state {
		if moved {
			v.state[i].Store(updated)
		}
	}
	return v
}

// fault records that a client did something that it must not do.
func (v *stubItems) fault(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.count++
	if len(v.wrong) < 10 {
		v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
	}
}

// faults returns the number of faults and the text of the first ten.
func (v *stubItems) faults() (count int, wrong []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.count, append([]string(nil), v.wrong...)
}

func (v *stubItems) known(i int) bool { return i >= 0 && i < len(v.state) }

// first returns the first of the items that have the same ciphertext and context as item i.
// blobOf and contextOf must be called with it.
func (v *stubItems) first(i int) int { return i - i%max(v.same, 1) }

// key returns the key of item i.
func (v *stubItems) key(i int) string {
	if v.state[i].Load()&updated != 0 {
		return destinationKey
	}
	return sourceKey
}

// replace replaces the ciphertext of item i, if it is old. It reports whether it is, and records
// a fault unless the new ciphertext is the one that KMS returned for this item, or for the items
// that are equal to it.
func (v *stubItems) replace(i int, old, new []byte) bool {
	if !v.known(i) || !bytes.Equal(old, blobOf(v.key(i), v.first(i))) {
		return false
	}
	first := v.first(i)
	if v.state[first].Load()&reEncrypted == 0 || !bytes.Equal(new, blobOf(destinationKey, first)) {
		v.fault("item %d was written with a ciphertext that KMS did not return for it", i)
		return true
	}
	if v.state[i].Or(updated)&updated != 0 {
		v.fault("item %d was written twice", i)
		return true
	}
	v.written.Add(1)
	return true
}
