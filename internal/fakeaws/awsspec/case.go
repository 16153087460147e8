package awsspec

import (
	"context"
	"fmt"
	"runtime"
	"testing"
)

// T has the methods of testing.TB that cases use.
type T interface {
	Helper()
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// Case is one behaviour of a service at one endpoint. It may run more than once: every run
// creates its own keys, tables and buckets.
type Case struct {
	Name string
	run  func(context.Context, T)
}

// runAll runs cases as subtests.
func runAll(t *testing.T, cases []Case) {
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { c.run(t.Context(), t) })
	}
}

// Try runs the case outside of a test and returns its failure messages, for a server that is
// known to deviate from AWS. The result is empty if the case holds. If the case panics,
// because an answer lacks an element that every answer of AWS has, the last message reports
// the panic.
func (c Case) Try(ctx context.Context) []string {
	attempt := &attempt{}
	done := make(chan struct{})
	go func() { // a separate goroutine, because Fatal ends it
		defer close(done)
		defer func() {
			if reason := recover(); reason != nil {
				attempt.Errorf("the case panicked: %v", reason)
			}
		}()
		c.run(ctx, attempt)
	}()
	<-done
	return attempt.messages
}

// attempt is a T that collects failure messages. A case must use it in one goroutine only.
type attempt struct{ messages []string }

func (a *attempt) Helper() {}

func (a *attempt) Logf(string, ...any) {}

func (a *attempt) Error(args ...any) { a.messages = append(a.messages, fmt.Sprint(args...)) }

func (a *attempt) Errorf(format string, args ...any) { a.Error(fmt.Sprintf(format, args...)) }

func (a *attempt) Fatal(args ...any) {
	a.Error(args...)
	runtime.Goexit()
}

func (a *attempt) Fatalf(format string, args ...any) { a.Fatal(fmt.Sprintf(format, args...)) }
