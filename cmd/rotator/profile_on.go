//go:build profile

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
)

// profiled writes a CPU and an allocation profile of the whole run into the
// directory ROTATOR_PROFILE, and the number of allocations to stderr. Only builds
// with the tag "profile" have it, for bench.
func profiled() (done func()) {
	dir := os.Getenv("ROTATOR_PROFILE")
	if dir == "" {
		return func() {}
	}
	file, err := os.Create(filepath.Join(dir, "cpu.prof"))
	if err == nil {
		err = pprof.StartCPUProfile(file)
	}
	if err != nil {
		panic(err)
	}
	return func() {
		pprof.StopCPUProfile()
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		fmt.Fprintf(os.Stderr, "allocations: %d\n", memory.Mallocs)
		allocs, err := os.Create(filepath.Join(dir, "allocs.prof"))
		if err == nil {
			err = pprof.Lookup("allocs").WriteTo(allocs, 0)
		}
		if err != nil {
			panic(err)
		}
	}
}
