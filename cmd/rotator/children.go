package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// childGrace is the time for which child processes may continue after SIGTERM.
const childGrace = 500 * time.Millisecond

// child is a process that this process, or a child of it, has started.
type child struct {
	pid     int
	started string // in clock ticks after the boot; distinguishes processes with the same pid
}

// endChildren ends the child processes of this process and their own children. The only child
// process is the credential_process of a profile. The SDK gives it up to a minute and does not
// end it when this process ends. Children are found in /proc, so none are ended on systems
// without it.
func endChildren() {
	// Most commands have no child process, and a machine can have many processes.
	if _, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); errors.Is(err, syscall.ECHILD) {
		return
	}
	left := descendants(os.Getpid())
	signalAll(left, syscall.SIGTERM)
	for deadline := time.Now().Add(childGrace); len(left) > 0; left = running(left) {
		if time.Now().After(deadline) {
			signalAll(left, syscall.SIGKILL)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func signalAll(children []child, s syscall.Signal) {
	for _, c := range children {
		if process, err := os.FindProcess(c.pid); err == nil {
			_ = process.Signal(s) // the process may have ended
		}
	}
}

// descendants returns the children of a process, their children, and so on.
func descendants(pid int) (found []child) {
	paths, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is valid
	children := map[int][]child{}
	for _, path := range paths {
		if c, parent, ok := readStat(path); ok {
			children[parent] = append(children[parent], c)
		}
	}
	found = slices.Clone(children[pid])
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i].pid]...)
	}
	return found
}

// running returns the children that have not ended.
func running(children []child) (left []child) {
	for _, c := range children {
		now, _, ok := readStat(filepath.Join("/proc", strconv.Itoa(c.pid), "stat"))
		if ok && now == c {
			left = append(left, c)
		}
	}
	return left
}

// readStat reads a process and its parent from a stat file (proc_pid_stat(5)). ok is false if
// there is no such process, or if it has ended.
func readStat(path string) (c child, parent int, ok bool) {
	text, err := os.ReadFile(path)
	pid, _, _ := strings.Cut(string(text), " ")
	end := strings.LastIndexByte(string(text), ')') // of the name, which may contain spaces
	if err != nil || end < 0 {
		return child{}, 0, false
	}
	const state, parentPID, started = 0, 1, 19 // after the name
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) <= started || fields[state] == "Z" {
		return child{}, 0, false
	}
	c.started = fields[started]
	if c.pid, err = strconv.Atoi(pid); err != nil {
		return child{}, 0, false
	}
	parent, err = strconv.Atoi(fields[parentPID])
	return c, parent, err == nil
}
