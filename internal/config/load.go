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

// The bounds of a job file. They keep a wrong file (a dump, a binary) from
// taking minutes and gigabytes before it is refused.
const (
	MaxSize    = 1 << 20 // bytes
	maxValues  = 50_000  // names, values, lists and maps; a slot takes about ten
	maxNesting = 64      // levels
)

// Load reads a job file. Its fields have their defaults, and its checkpoint and
// audit log the paths that they have for this process. lookupEnv answers
// ${env:NAME}, as os.LookupEnv does. Every error is a *Problems.
func Load(path string, lookupEnv func(string) (string, bool)) (*Job, error) {
	data, err := readAtMost(path, MaxSize+1)
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err // the path itself is printed anyway
	}
	if err != nil {
		return nil, &Problems{File: path, List: []Problem{{
			Detail: fmt.Sprintf("cannot read the job file: %v; name another with -f", err),
		}}}
	}
	return Parse(path, data, lookupEnv)
}

// readAtMost reads up to a number of bytes of a regular file. It refuses other
// files before it reads them, because a pipe may block and a device may never
// end.
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

// fileKind names what is not a regular file.
func fileKind(mode os.FileMode) string {
	switch {
	case mode&os.ModeNamedPipe != 0:
		return "pipe"
	case mode&os.ModeSocket != 0:
		return "socket"
	}
	return "device"
}

// Parse is Load for the text of a job file that was already read from path.
func Parse(path string, data []byte, lookupEnv func(string) (string, bool)) (*Job, error) {
	body, problem := parse(data)
	if problem != nil {
		return nil, &Problems{File: path, List: []Problem{*problem}}
	}
	job := &Job{source: source{file: path, places: map[string]place{}}}
	b := &binder{
		lookupEnv: lookupEnv,
		places:    job.source.places,
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
