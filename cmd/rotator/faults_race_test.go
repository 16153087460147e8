//go:build race

package main

// raceEnabled reports whether the race detector, which needs memory, is built in.
const raceEnabled = true
