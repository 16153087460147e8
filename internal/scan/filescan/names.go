package filescan

import (
	"context"
	"errors"
	"io"
)

// listedNames is the maximum number of entries that Names returns.
const listedNames = 1000

// Names returns entries of the root directory, for a message about a target without files.
func (f *Files) Names(context.Context) ([]string, error) {
	root, err := f.open()
	if err != nil {
		return nil, err
	}
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
