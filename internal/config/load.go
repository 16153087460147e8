package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"

	"golang.org/x/sys/unix"
)

// The limits of a job file. They ensure that a wrong file (a dump, a binary) is refused
// without needing minutes and gigabytes.
const (
	MaxSize    = 1 << 20 // bytes
	maxValues  = 50_000  // names, values, lists and maps; a slot needs about ten
	maxNesting = 64      // levels
)

// Load reads a job file and sets defaults. Relative paths are replaced by paths of this
// process. lookupEnv returns the value for ${env:NAME}, like os.LookupEnv. All errors are
// *Problems.
func Load(path string, lookupEnv func(string) (string, bool)) (*Job, error) {
	data, err := readAtMost(path, MaxSize+1)
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err // without the path, which Problems prints
	}
	if err != nil {
		return nil, &Problems{File: path, List: []Problem{{
			Detail: fmt.Sprintf("cannot read the job file: %v; set another path with -f", err),
		}}}
	}
	return Parse(path, data, lookupEnv)
}

// readAtMost reads at most a number of bytes of a regular file. It does not open other files
// for reading, because a pipe may block and a device may have no end.
func readAtMost(path string, bytes int64) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	switch info, err := file.Stat(); {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, errors.New("is a directory")
	case !info.Mode().IsRegular():
		return nil, errors.New("is a " + fileKind(info.Mode()) + ", not a regular file")
	}
	return io.ReadAll(io.LimitReader(file, bytes))
}

// fileKind returns the name of the kind of a file that is not regular.
func fileKind(mode os.FileMode) string {
	switch {
	case mode&os.ModeNamedPipe != 0:
		return "pipe"
	case mode&os.ModeSocket != 0:
		return "socket"
	}
	return "device"
}

// Parse is like Load for data that was already read from path.
func Parse(path string, data []byte, lookupEnv func(string) (string, bool)) (*Job, error) {
	body, problem := parse(data)
	if problem != nil {
		return nil, &Problems{File: path, List: []Problem{*problem}}
	}
	job := &Job{source: source{file: path, positions: map[string]position{}}}
	b := &binder{
		lookupEnv: lookupEnv,
		positions: job.source.positions,
		left:      maxValues,
	}
	b.bind(body, reflect.ValueOf(job).Elem(), "")
	job.setDefaults(filepath.Dir(path))
	problems := &Problems{File: path, List: b.problems}
	problems.List = append(problems.List, job.validate(b.refused)...)
	if len(problems.List) > 0 {
		problems.sort()
		return nil, problems
	}
	return job, nil
}
