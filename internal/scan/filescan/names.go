package filescan

import (
	"context"
	"errors"
	"io"
)

// listedNames is the number of entries of the root that Names reads.
const listedNames = 1000

// Names returns entries of the root, for a message about a target without files.
func (f *Files) Names(context.Context) ([]string, error) {
	root, err := f.open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	top, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer func() { _ = top.Close() }()
	names, err := top.Readdirnames(listedNames)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}
