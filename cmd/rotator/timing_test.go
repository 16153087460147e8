package main

import (
	"os"
	"testing"
	"time"
)

// timed reports whether the tests check how long things take. make timing sets the variable; it
// needs a machine without other load. Other tests share the processors with make test, so the
// times measured there are not those of rotator.
func timed() bool { return os.Getenv("ROTATOR_TIMING") != "" }

// needsQuiet skips a test that does nothing but measure times, except in make timing.
func needsQuiet(t *testing.T) {
	t.Helper()
	if !timed() {
		t.Skip("it measures times: run make timing")
	}
}

// slack is how much longer than promised something may take. It is less than the time after
// which a request that the tests delay gets its response, so it hides no wait for a response.
func slack() time.Duration {
	if timed() {
		return 0
	}
	return 20 * time.Second
}
