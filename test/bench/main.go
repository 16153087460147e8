// Command bench measures what rotator costs its client machine, compared with programs that a
// user could write instead: a minimal loop over the tuned AWS SDK (A), a simple loop over the
// SDK with default settings (B), and a boto3 script (C). All do the same job against the same
// stub of AWS. The stub is a separate process. It uses TLS, responds after 1 ms, counts the
// requests, and checks every byte that is written.
//
// The runs are interleaved, A and D directly after each other, and compared within their round.
// Other work on the machine affects all of them, so the ratios hold where absolute figures do
// not. See `make bench`.
package main

import (
	"fmt"
	"os"
)

// The processes that the bench starts from its own binary.
const (
	kindStub    = "stub"
	kindMinimal = "minimal"
	kindSimple  = "simple"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return runBench(environment())
	}
	switch args[0] {
	case kindStub:
		return runStub(args[1:])
	case kindMinimal, kindSimple:
		return runClient(args[0], args[1:])
	}
	return fmt.Errorf("%q is not one of %s, %s, %s", args[0], kindStub, kindMinimal, kindSimple)
}
