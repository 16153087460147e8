// Command rotator moves stored KMS ciphertexts to another key. See README.md.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	tuneMemory(os.LookupEnv, os.DirFS("/"))
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel() // drain, save, exit 75
		<-signals
		os.Exit(exitInterrupted) // at once; whatever was not saved is done again
	}()
	done := profiled()
	code := run(ctx, os.Args[1:], newStreams(os.Stdin, os.Stdout, os.Stderr))
	done()
	os.Exit(code)
}
