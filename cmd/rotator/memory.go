package main

import (
	"bufio"
	"bytes"
	"io/fs"
	"math"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// How much memory the garbage collector may use up.
const (
	// groupShare of the limit of our control group is the limit of the heap; the rest
	// is for what is not heap.
	groupShare = 0.9
	// machineShare is taken of the machine where there is no control group with a
	// limit: others work there too.
	machineShare = 0.5
	// gcPercent is GOGC under such a limit: a run keeps little and throws much away,
	// so that collecting less often costs little memory.
	gcPercent = 200
)

// tuneMemory sets the limit of the heap from the limit of the control group or the
// memory of the machine, and lets garbage gather below it. GOMEMLIMIT and GOGC, where
// the user has set them, stand. root is the file system.
func tuneMemory(lookup func(string) (string, bool), root fs.FS) {
	if _, set := lookup("GOMEMLIMIT"); !set {
		if limit := memoryLimit(root); limit > 0 {
			debug.SetMemoryLimit(limit)
		}
	}
	limited := debug.SetMemoryLimit(-1) < math.MaxInt64 // -1 only asks
	if _, set := lookup("GOGC"); !set && limited {
		debug.SetGCPercent(gcPercent)
	}
}

// mostWorkers is how many chunks may be worked on at once where the job file does not
// say: they take memory, for connections and for what is under way.
func mostWorkers() int {
	const most, least, each = 1024, 64, 512 << 10                    // bytes
	return int(min(max(debug.SetMemoryLimit(-1)/each, least), most)) // -1 only asks
}

// memoryLimit is the most bytes that the heap should take; 0 when nobody says.
func memoryLimit(root fs.FS) int64 {
	if group := groupLimit(root); group > 0 {
		return int64(float64(group) * groupShare)
	}
	return int64(float64(machineMemory(root)) * machineShare)
}

// groupLimit is the lowest memory limit of our control group and those above it, 0
// without one: memory.max (Control Group v2 in the documentation of the kernel), or
// memory.limit_in_bytes (Memory Resource Controller, v1).
func groupLimit(root fs.FS) (least int64) {
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		fields := strings.SplitN(lines.Text(), ":", 3) // number:controllers:path
		if len(fields) != 3 {
			continue
		}
		mount, file := "sys/fs/cgroup", "memory.max"
		if fields[1] != "" {
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		if fields[1] != "" && !strings.Contains(","+fields[1]+",", ",memory,") {
			continue
		}
		// In a container the path may be that of the host, while the mount shows the
		// group itself: so the mount is looked at in any case.
		for group := path.Clean("/" + fields[2]); ; group = path.Dir(group) {
			if limit := readLimit(root, mount+path.Join("/", group, file)); limit > 0 && (least == 0 || limit < least) {
				least = limit
			}
			if group == "/" {
				break
			}
		}
	}
	return least
}

// readLimit reads one limit. Version 2 says "max" for none, version 1 a number close
// to the largest that there is.
func readLimit(root fs.FS, file string) int64 {
	text, err := fs.ReadFile(root, file)
	if err != nil {
		return 0
	}
	limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || limit >= 1<<60 {
		return 0
	}
	return limit
}

// machineMemory is MemTotal of /proc/meminfo, in bytes; 0 where there is none.
func machineMemory(root fs.FS) int64 {
	text, _ := fs.ReadFile(root, "proc/meminfo")
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "MemTotal:" && fields[2] == "kB" {
			kilobytes, _ := strconv.ParseInt(fields[1], 10, 64)
			return kilobytes * 1024
		}
	}
	return 0
}
