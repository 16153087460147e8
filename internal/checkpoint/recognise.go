package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
)

// DataAttribute is the attribute of an item that holds a record.
const DataAttribute = dataAttribute

// IsAttribute reports whether the items of a checkpoint table have an attribute.
func IsAttribute(name string) bool {
	return name == idAttribute || name == versionAttribute || name == dataAttribute
}

// RecordOf reports whether data is exactly a record of any version, and returns
// it.
func RecordOf(data []byte) ([]byte, bool) {
	if !bytes.HasPrefix(data, []byte(`{"kind":"`)) {
		return nil, false
	}
	var e envelope
	if json.Unmarshal(data, &e) != nil || e.Schema < 1 {
		return nil, false
	}
	sum := sha256.Sum256(e.Content)
	again, err := json.Marshal(e)
	if err != nil || e.SHA256 != hex.EncodeToString(sum[:]) || !bytes.Equal(again, data) {
		return nil, false
	}
	return data, true
}

// ObjectData returns the record that an object of a bucket holds, and reports whether the
// object begins as such objects do.
func ObjectData(body []byte) ([]byte, bool) {
	if len(body) <= tokenLength || body[tokenLength] != '\n' {
		return nil, false
	}
	return body[tokenLength+1:], true
}

// The beginning of a bbolt file: a page header, then the magic number and the version of
// its metadata.
const (
	boltMagicAt = 16
	boltMagic   = 0xED0CDAED
	boltVersion = 2
)

// IsFile reports whether body is a checkpoint file: a bbolt database with
// rotator's bucket and its index.
func IsFile(body []byte) bool {
	return len(body) > boltMagicAt+8 &&
		binary.NativeEndian.Uint32(body[boltMagicAt:]) == boltMagic &&
		binary.NativeEndian.Uint32(body[boltMagicAt+4:]) == boltVersion &&
		bytes.Contains(body, []byte(records)) && bytes.Contains(body, []byte(indexKey))
}

// IsLock reports whether body is the content of the lock of a checkpoint file.
func IsLock(body []byte) bool { return len(body) <= maxHolder && holder.Match(body) }
