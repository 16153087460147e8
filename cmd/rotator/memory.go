package main

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

const (
	// groupShare is the share of the memory limit of the control group that becomes the limit
	// of the Go runtime. The rest is for memory that the runtime does not manage.
	groupShare = 0.9
	// machineShare is the share of the memory of the machine, if no control group has a
	// limit. Other processes need memory too.
	machineShare = 0.5
	// gcPercent is GOGC under such a limit. The live heap of a run is small and its rate of
	// allocation is high, so fewer collections cost little memory.
	gcPercent = 200
)

// tuneMemory sets the memory limit of the Go runtime to the one of limit, and GOGC to
// gcPercent. It leaves a setting unchanged if the user has set its environment variable,
// GOMEMLIMIT or GOGC. If there is no limit, it changes neither.
func tuneMemory(lookup func(string) (string, bool), limit memlimit.Provider) {
	if _, set := lookup("GOMEMLIMIT"); !set {
		if bytes, err := limit(); err == nil && bytes > 0 {
			debug.SetMemoryLimit(int64(min(bytes, math.MaxInt64)))
		}
	}
	limited := debug.SetMemoryLimit(-1) < math.MaxInt64 // -1 changes nothing
	if _, set := lookup("GOGC"); !set && limited {
		debug.SetGCPercent(gcPercent)
	}
}

// mostWorkers returns the maximum number of workers of a job file that sets none. Each worker
// needs memory for connections and for the items that it works on.
func mostWorkers() int {
	const most, least, each = 1024, 64, 512 << 10 // each is in bytes
	return int(min(max(debug.SetMemoryLimit(-1)/each, least), most))
}

// systemLimit is the memory limit for this process on this machine.
func systemLimit() (uint64, error) {
	return memoryLimit(memlimit.FromCgroup, os.DirFS("/"), memlimit.FromSystem)()
}

// memoryLimit returns the share of the limit of the control group, or of the memory of the
// machine if there is no limit. root is the root of the file system.
func memoryLimit(group memlimit.Provider, root fs.FS, machine memlimit.Provider) memlimit.Provider {
	mounted := func() (uint64, error) { return mountedLimit(group, root) }
	return memlimit.ApplyFallback(
		memlimit.ApplyRatio(mounted, groupShare),
		memlimit.ApplyRatio(machine, machineShare),
	)
}

// mountedLimit returns the limit of group. If group fails, it returns the limit of the
// control group at the mount point: in a container that entered another control group
// namespace, the path in /proc/self/cgroup is outside of the mount (0::/../../pod).
func mountedLimit(group memlimit.Provider, root fs.FS) (uint64, error) {
	limit, err := group()
	if err == nil || errors.Is(err, memlimit.ErrNoLimit) {
		return limit, err
	}
	for _, file := range []string{
		"sys/fs/cgroup/memory.max",                   // version 2; "max" for no limit
		"sys/fs/cgroup/memory/memory.limit_in_bytes", // version 1; a number near 2^63
	} {
		text, _ := fs.ReadFile(root, file)
		limit, wrong := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		if wrong == nil && limit < 1<<60 {
			return limit, nil
		}
	}
	return 0, err
}
