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

// measured skips a test that only measures rates or times in real time. make timing runs it.
func measured(t *testing.T) {
	t.Helper()
	if !timed() {
		t.Skip("make timing runs it: it needs a machine without other load")
	}
}

// margin returns the factor by which a measured rate or time may exceed its limit: 1 in make
// timing, otherwise busy. With this factor, a test must still fail if the property that it
// checks is missing.
func margin(busy float64) float64 {
	if timed() {
		return 1
	}
	return busy
}

// slack is how much longer than promised something may take. It is less than the time after
// which a request that the tests delay gets its response, so it hides no wait for a response.
func slack() time.Duration {
	if timed() {
		return 0
	}
	return 20 * time.Second
}
