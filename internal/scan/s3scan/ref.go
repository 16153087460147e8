package s3scan

import "rotator/internal/scan"

// refOf returns the Ref of the object with a key.
func refOf(key string) scan.Ref { return scan.KeyRef(key) }

// keyOf returns the key of a Ref that refOf returned.
func keyOf(ref scan.Ref) (string, error) { return ref.Key() }
