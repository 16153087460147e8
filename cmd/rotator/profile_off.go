//go:build !profile

package main

// profiled does nothing in a normal build; see profile_on.go.
func profiled() (done func()) { return func() {} }
