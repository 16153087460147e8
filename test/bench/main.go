// Command bench measures what rotator costs its client machine, against what one
// would write instead: a bare loop over the tuned AWS SDK (A), a naive loop over
// the SDK as it comes (B), a boto3 script (C). All do the same job on the same
// stub of AWS, a process of its own, over TLS, which answers after 1 ms, counts
// what it is asked, and checks every byte that is written.
//
// The runs are interleaved, the first two one after the other, and compared within
// their round: what a machine does besides meets all of them, so the ratios hold
// where absolute figures do not. See `make bench`.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return compete(environment())
	}
	switch args[0] {
	case "stub":
		return runStub(args[1:])
	case "bare", "naive":
		return runClient(args[0], args[1:])
	}
	return fmt.Errorf("%q is none of stub, bare, naive", args[0])
}
