// Package clients lets the software that wrote a ciphertext judge what rotator made
// of it. Each test stores data with a real client under key A of the embedded fake
// AWS, disables A (nothing can be read any more), enables it, runs the rotator
// binary, disables A again, and reads with the real client: the plaintext must be
// the one that was stored.
//
// It is a module of its own, so that what those clients need never enters
// rotator's. Everything listens on loopback. A client that this machine cannot run
// says so on a line that begins with SKIPPED.
//
//	make clients
package clients
