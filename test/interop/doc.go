// Package clients checks that the software that wrote a ciphertext can read it after a move by
// rotator. Each test stores data with a real client under key A of the embedded fake AWS, and
// checks that nothing can be read while A is disabled. It enables A, runs the rotator binary,
// disables A again, and reads with the real client. The plaintext must not have changed.
//
// The package is a separate module, so that the dependencies of these clients are not
// dependencies of rotator. All servers listen on loopback. If this machine cannot run a client,
// the output has a line that begins with SKIPPED.
//
//	make clients
package clients
