package awsspec

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTry: Try returns all messages up to the point where a test would have ended.
func TestTry(t *testing.T) {
	for name, c := range map[string]struct {
		run  func(context.Context, T)
		want []string
	}{
		"holds": {func(context.Context, T) {}, nil},
		"goes on after an error": {
			func(_ context.Context, t T) { t.Errorf("one %d", 1); t.Error("two") },
			[]string{"one 1", "two"},
		},
		"ends when it is fatal": {
			func(_ context.Context, t T) { t.Error("one"); t.Fatalf("two"); t.Error("three") },
			[]string{"one", "two"},
		},
		"panics": {
			func(_ context.Context, t T) { t.Error("one"); panic("no answer") },
			[]string{"one", "the case panicked: no answer"},
		},
	} {
		if diff := cmp.Diff(c.want, Case{Name: name, run: c.run}.Try(t.Context())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
