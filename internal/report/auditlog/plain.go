package auditlog

import (
	"errors"
	"io"
)

// MeasurePlain verifies the plain lines of a whole log, as Export writes them. It returns the
// number of lines and the hash of the last one.
func MeasurePlain(source io.Reader) (lines int64, head string, err error) {
	r := newReader(newChain(0, genesis), func(int64, []byte) error { return nil })
	rest, err := r.read(source)
	switch {
	case err != nil:
		return 0, "", err
	case len(rest) > 0:
		return 0, "", r.broken("it is cut")
	case r.started && !r.old:
		return 0, "", errors.New("it is not in the plain form")
	}
	return r.seq, string(r.head[:]), nil
}
