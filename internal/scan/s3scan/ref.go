package s3scan

import "rotator/internal/scan"

// refOf is the address of the object with a key.
func refOf(key string) scan.Ref { return scan.KeyRef(key) }

// keyOf reads what refOf wrote.
func keyOf(ref scan.Ref) (string, error) { return ref.Key() }
