// Package conformance runs the cases of rotator/internal/fakeaws/awsspec, and
// the rotator binary itself, against servers that other people wrote: moto,
// versitygw, dynoxide and dynalite. It is a module of its own, so that what those
// servers need never enters rotator's.
//
// No such server is AWS. Where one is known to deviate, deviations.json says so
// and what it means for rotator; what the server answers instead is written to
// docs/conformance.md. A deviation that nobody knew of fails the run, and so does
// one that is gone. Everything listens on loopback, and the run stops what it
// started.
//
//	make conformance             compare with what is known
//	make conformance UPDATE=1    write docs/conformance.md anew
package conformance
