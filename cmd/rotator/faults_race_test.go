//go:build race

package main

// raceEnabled says that the race detector, which takes memory, is built in.
const raceEnabled = true
