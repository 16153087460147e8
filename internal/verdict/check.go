package verdict

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Basis is what the sentence of a verdict with the exit code 0 rests on.
type Basis struct {
	Slots  int64     // that the pass has read
	Places int64     // of the pass
	AsOf   time.Time // to the second
	Pass   string    // Pass.Name
}

// Check returns an error that names the member if members of the verdict contradict each other. It
// recomputes what follows from the code: the exit code and the beginning of the sentence.
func (v Verdict) Check() error {
	of := func(r row) bool { return r.code == v.Code && r.reason == v.Reason }
	switch {
	case v.Exit != v.Code.Exit():
		return fmt.Errorf("exit: %d, but the exit code of %s is %d", v.Exit, v.Code, v.Code.Exit())
	case !slices.ContainsFunc(table(), of):
		return fmt.Errorf("reason: a verdict with the code %q has no reason %q", v.Code,
			v.Reason)
	case !slices.ContainsFunc(v.begins(), func(b string) bool {
		return strings.HasPrefix(v.Sentence, b)
	}):
		return fmt.Errorf("sentence: with the code %s it must begin with %q", v.Code, v.begins()[0])
	}
	if v.Exit == 0 {
		_, err := v.Basis()
		return err
	}
	return nil
}

// begins returns the possible beginnings of the sentence.
func (v Verdict) begins() (list []string) {
	name := v.Alias
	if name == "" {
		name = Key{ARN: v.Key}.name()
	}
	for _, text := range map[Code][]string{
		Cannot: {"cannot be disabled.", "stays in use.", "is scheduled for deletion",
			"is disabled, and a caller still needs it.",
			"is disabled, but ciphertexts still depend on it."},
		NotProven:     {"is not yet proven to be unused."},
		CanBeDisabled: {"can be disabled. None of the ", "is disabled. None of the ", scheduled},
		DisabledQuiet: {"is disabled. No call has been refused for ", scheduled},
	}[v.Code] {
		list = append(list, name+" "+text)
	}
	return list
}

const scheduled = "is scheduled for deletion"

// Basis returns what the sentence of a verdict with the exit code 0 states about its basis.
func (v Verdict) Basis() (b Basis, err error) {
	none := regexp.MustCompile(`None of the ([0-9,]+) ciphertexts? in ([0-9,]+) places? ` +
		`depends on it, as of (\S+), when ([a-z0-9 -]+) began[.,]`)
	parts := none.FindStringSubmatch(v.Sentence)
	if parts == nil {
		return b, fmt.Errorf("sentence: it does not state on which pass it rests")
	}
	if b.AsOf, err = time.Parse(time.RFC3339, parts[3]); err != nil {
		return b, fmt.Errorf("sentence: %q is not a time", parts[3])
	}
	b.Slots, b.Places, b.Pass = number(parts[1]), number(parts[2]), parts[4]
	return b, nil
}

// number returns the value of a number with commas, or -1.
func number(text string) (n int64) {
	if _, err := fmt.Sscan(strings.ReplaceAll(text, ",", ""), &n); err != nil {
		return -1
	}
	return n
}
