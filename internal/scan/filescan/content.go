package filescan

import (
	"context"
	"fmt"
	"strconv"

	"rotator/internal/scan"
)

// Properties returns the properties of a file that a replacement keeps: owner, mode and extended
// attributes. It leaves out the times. It returns a *scan.RefusedError if the file changed after
// it was read.
func (f *Files) Properties(_ context.Context, item scan.Item) (map[string]string, error) {
	key, err := item.Ref.Key()
	if err != nil {
		return nil, err
	}
	read, ok := item.Token.(*snapshot)
	if !ok {
		return nil, fmt.Errorf("item %q was not read from this directory", item.Ref)
	}
	folder, name, err := f.openParent(key)
	if err != nil {
		return nil, readError(err)
	}
	defer func() { _ = folder.Close() }()
	file, err := openAt(folder, name)
	if err != nil {
		return nil, readError(err)
	}
	defer func() { _ = file.Close() }()
	attributes, err := attributesOf(file)
	if err != nil {
		return nil, readError(err)
	}
	now, err := stateOf(file)
	switch {
	case err != nil:
		return nil, readError(err)
	case now != read.state:
		return nil, &scan.RefusedError{
			Reason: "in-use",
			Detail: "it was changed while its properties were read",
		}
	}
	found := map[string]string{
		"mode": strconv.FormatUint(uint64(now.mode), 8),
		"uid":  strconv.FormatUint(uint64(now.uid), 10),
		"gid":  strconv.FormatUint(uint64(now.gid), 10),
	}
	for name, value := range attributes {
		found["xattr "+name] = value
	}
	return found, nil
}
