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

// The two keys of every run, and the account that has them.
const (
	sourceKey      = "arn:aws:kms:us-east-1:111122223333:key/11111111-1111-1111-1111-111111111111"
	destinationKey = "arn:aws:kms:us-east-1:111122223333:key/22222222-2222-2222-2222-222222222222"
	region         = "us-east-1"
	place          = "bench" // the name of the table, and of the bucket
)

// blobLen is the length of the blob of a data key or a short secret, in bytes;
// itemAt is where the number of its item stands, in what KMS fills at random.
const (
	blobLen = 250
	itemAt  = 5 + 32 + 1
)

// blobOf is the blob of item i under a key. It follows from both alone, so the
// stub can check what is written without keeping what it handed out. It has the
// layout of KMS's own: a header with a token of the key and the length of the rest
// (internal/rotate, token), then what nobody can guess.
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

// itemOf names the item whose blob under key this is.
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

// contextOf is the encryption context of item i.
func contextOf(i int) map[string]string {
	return map[string]string{"tenant": tenantOf(i), "purpose": "pii"}
}

// vault is what the stub knows of each item.
type vault struct {
	state   []atomic.Uint32 // asked, updated
	same    int             // so many items after each other hold one blob; 0 for one
	written atomic.Int64

	mu    sync.Mutex
	wrong []string
	count int
}

// The bits of vault.state.
const (
	asked   = 1 // KMS handed out its new blob
	updated = 2 // the new blob was written
)

// newVault has items under the source key, or under the destination key where they
// were moved before.
func newVault(items int, moved bool) *vault {
	v := &vault{state: make([]atomic.Uint32, items)}
	for i := range v.state {
		if moved {
			v.state[i].Store(updated)
		}
	}
	return v
}

// fault notes that a client did what it must not.
func (v *vault) fault(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.count++
	if len(v.wrong) < 10 {
		v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
	}
}

// faults are how many there were, and the first of them.
func (v *vault) faults() (count int, wrong []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.count, append([]string(nil), v.wrong...)
}

func (v *vault) known(i int) bool { return i >= 0 && i < len(v.state) }

// first is the first of the items that hold one blob and have one context with item i,
// which both are those of: blobOf and contextOf are to be asked about it.
func (v *vault) first(i int) int { return i - i%max(v.same, 1) }

// key is the one under which item i stands now.
func (v *vault) key(i int) string {
	if v.state[i].Load()&updated != 0 {
		return destinationKey
	}
	return sourceKey
}

// replace puts a new blob in the place of an old one, if the item holds that, and
// checks it byte for byte against what KMS handed out for this item, or for its like.
func (v *vault) replace(i int, old, new []byte) bool {
	if !v.known(i) || !bytes.Equal(old, blobOf(v.key(i), v.first(i))) {
		return false
	}
	if first := v.first(i); v.state[first].Load()&asked == 0 || !bytes.Equal(new, blobOf(destinationKey, first)) {
		v.fault("item %d was written with a blob that KMS did not hand out for it", i)
		return true
	}
	if v.state[i].Or(updated)&updated != 0 {
		v.fault("item %d was written twice", i)
		return true
	}
	v.written.Add(1)
	return true
}
