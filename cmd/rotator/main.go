// Command rotator moves stored KMS ciphertexts to another key. See README.md.
package main

import (
	"context"
	"os"
)

func main() {
	tuneMemory(os.LookupEnv, systemLimit)
	ctx, cancel := context.WithCancel(context.Background())
	std := newStreams(os.Stdin, os.Stdout, os.Stderr)
	survivePipes()
	std.stop.cancel, std.stop.exit = cancel, exit
	go std.stop.watch(stopSignals())
	done := profiled()
	code := run(ctx, os.Args[1:], std)
	done()
	exit(code)
}

// exit ends the process and its children.
func exit(code int) {
	endChildren()
	os.Exit(code)
}
