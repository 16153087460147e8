// Package conformance runs the cases of rotator/internal/fakeaws/awsspec, and the rotator binary
// itself, against third-party servers: moto, versitygw, dynoxide and dynalite. It is a separate
// module, so that the dependencies of these servers are not dependencies of rotator.
//
// These servers deviate from AWS. deviations.json lists the known deviations and their
// consequences for rotator, and docs/conformance.md also has the responses. The run fails if a
// deviation is new or gone. All servers listen on loopback, and the run stops them.
//
//	make conformance             compare with the known deviations
//	make conformance UPDATE=1    write deviations.json and docs/conformance.md
package conformance
