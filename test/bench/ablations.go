package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// ablation is an optimisation of a client that can be turned off.
type ablation struct {
	what, off string
	client    candidate
	scenario  scenario                // with the optimisation
	without   func(scenario) scenario // turns it off
}

// withFlags returns a function that sets the flags of the client.
func withFlags(flags ...string) func(scenario) scenario {
	return func(t scenario) scenario {
		t.args = flags
		return t
	}
}

// withEnv returns a function that sets the environment of rotator.
func withEnv(env ...string) func(scenario) scenario {
	return func(t scenario) scenario {
		t.env = env
		return t
	}
}

// withStub returns a function that sets the flags of the stub.
func withStub(flags ...string) func(scenario) scenario {
	return func(t scenario) scenario {
		t.stub = flags
		return t
	}
}

// ablations returns all of them. Header hints are measured over slots that are current, all
// others over slots that have to be moved. Two optimisations that cannot be turned off in
// rotator are measured in the minimal loop, which has them too. Those of the garbage
// collector need longer runs.
func (h *harness) ablations(items int) []ablation {
	moving := scenario{store: rows, items: items}
	long := scenario{store: rows, items: 5 * items}
	return append(h.loopAblations(items), []ablation{
		{
			what:     "garbage collector limits set from the memory of the machine",
			off:      "`GOGC=100 GOMEMLIMIT=off`",
			client:   h.rotatorRun(),
			scenario: long,
			without:  withEnv("GOGC=100", "GOMEMLIMIT=off"),
		},
		{
			what:     "25 rows in one conditional write",
			off:      "a stub without BatchExecuteStatement",
			client:   h.rotatorRun(),
			scenario: moving,
			without:  withStub("-unbatched"),
		},
		{
			what:     "header hints, over current slots",
			off:      "`--exact`",
			client:   h.rotatorRun(),
			scenario: withStub("-moved")(moving),
			without:  withFlags("--exact"),
		},
		{
			what:     "own ReEncrypt and Scan parser, over current slots (mostly page reads)",
			off:      "`--sdk`",
			client:   h.rotatorRun(),
			scenario: withStub("-moved")(long),
			without:  withFlags("--sdk"),
		},
		{
			what:     "one response for equal slots, ten of each",
			off:      "`--exact`",
			client:   h.rotatorRun(),
			scenario: withStub("-same", "10")(moving),
			without:  withFlags("--exact"),
		},
	}...)
}

// loopAblations returns the ablation of the SDK replacements, and those of the minimal loop.
func (h *harness) loopAblations(items int) []ablation {
	return []ablation{
		{
			what:     "own ReEncrypt request and Scan parser instead of those of the SDK",
			off:      "`--sdk`",
			client:   h.rotatorRun(),
			scenario: scenario{store: rows, items: items},
			without:  withFlags("--sdk"),
		},
		{
			what:     "as many idle connections as workers, in the minimal loop",
			off:      "the SDK's default: 10",
			client:   h.minimalLoop(),
			scenario: scenario{store: rows, items: items},
			without:  withFlags("-idle", "10"),
		},
		{
			what:     "checksums of objects only if they are required, in the minimal loop",
			off:      "the SDK's default",
			client:   h.minimalLoop(),
			scenario: scenario{store: bodies, items: items},
			without:  withFlags("-checksums"),
		},
	}
}

// ablate runs a client with and without each optimisation, in pairs. It prints one table;
// profiles and the output of benchmarks go to h.raw.
func (h *harness) ablate(w io.Writer, items, rounds int) error {
	fmt.Fprintf(w, "\n## Optimisations, one turned off at a time\n\n"+
		"%d pairs, interleaved; medians, and the minimum and maximum of the ratios.\n\n", rounds)
	fmt.Fprintf(w, "| optimisation | turned off by | items | CPU us/item with | without | ratio "+
		"| peak RSS, MiB, with | without | requests/item with | without |\n"+
		"|---|---|---|---|---|---|---|---|---|---|\n")
	for _, one := range h.ablations(items) {
		with, without, err := h.pairs(one, rounds)
		if err != nil {
			return err
		}
		printAblation(w, one, with, without)
	}
	if err := h.ablationProfiles(items); err != nil {
		return err
	}
	return benchmarks(h.raw)
}

func printAblation(w io.Writer, one ablation, with, without []measured) {
	each := ratios(without, with)
	fmt.Fprintf(w, "| %s | %s | %d | %.1f | %.1f | %.2f (%.2f to %.2f) "+
		"| %.0f | %.0f | %.3f | %.3f |\n",
		one.what, one.off, one.scenario.items,
		medianOf(with, microseconds), medianOf(without, microseconds),
		middle(each), slices.Min(each), slices.Max(each),
		medianOf(with, measured.mebibytes), medianOf(without, measured.mebibytes),
		medianOf(with, measured.requests), medianOf(without, measured.requests))
}

// benchmarks prints the results of benchmarks of single functions, most of them beside the
// code that the function replaces.
func benchmarks(w io.Writer) error {
	for _, one := range []struct{ what, where, name string }{
		{
			what: "One ReEncrypt: by the SDK, in rotator's form through net/http, and without " +
				"net/http",
			where: "internal/fastkms",
			name:  "ReEncrypt",
		},
		{
			what:  "A page of Scan from bytes to rows: by the SDK, and by rotator's parser",
			where: "internal/scan/dynamoscan",
			name:  "Page",
		},
		{
			what:  "The slots of a body of JSON Lines",
			where: "internal/ciphertext",
			name:  "Lines",
		},
		{
			what:  "The search for ciphertexts that no slot names, in bytes without any",
			where: "internal/kmsblob",
			name:  "Search",
		},
		{
			what:  "The same search in items with one ciphertext, in a slot",
			where: "internal/rotate",
			name:  "SearchItem",
		},
		{
			what:  "Settings of the garbage collector, over many ReEncrypt requests",
			where: "cmd/rotator",
			name:  "Collector",
		},
	} {
		command := []string{"test", "./" + one.where, "-run", "^$", "-bench", one.name}
		out, err := exec.Command("go", command...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("run the benchmarks of %s: %w\n%s", one.where, err, out)
		}
		fmt.Fprintf(w, "\n%s (go %s):\n\n%s", one.what, strings.Join(command, " "), results(out))
	}
	return nil
}

// results returns the lines with results from the output of a benchmark.
func results(out []byte) (lines string) {
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Benchmark") {
			lines += line
		}
	}
	return lines
}

// pairs runs a client with an optimisation and without it, in turn.
func (h *harness) pairs(one ablation, rounds int) (with, without []measured, err error) {
	off := one.without(one.scenario)
	for round := range rounds {
		for n := range 2 {
			t, into := one.scenario, &with
			if (n+round)%2 == 1 {
				t, into = off, &without
			}
			m, err := h.run(one.client, t)
			if err != nil {
				return nil, nil, err
			}
			*into = append(*into, m)
		}
		fmt.Fprintf(os.Stderr, "%s, round %d: %.1f us/item with, %.1f without\n",
			one.what, round+1, microseconds(with[round]), microseconds(without[round]))
	}
	return with, without, nil
}

func medianOf(runs []measured, figure func(measured) float64) float64 {
	var all []float64
	for _, m := range runs {
		all = append(all, figure(m))
	}
	return middle(all)
}

// ablationProfiles writes profiles with and without each optimisation to h.raw.
func (h *harness) ablationProfiles(items int) error {
	p, err := h.profiled()
	if err != nil {
		return err
	}
	for _, one := range p.ablations(items) {
		binary := p.rotator
		if one.client.letter != letterRotator {
			binary = p.self
		}
		for _, side := range []struct {
			name     string
			scenario scenario
		}{
			{name: "with it", scenario: one.scenario},
			{name: "without it (" + one.off + ")", scenario: one.without(one.scenario)},
		} {
			found, err := p.profile(one.client, binary, side.scenario, 8)
			if err != nil {
				return err
			}
			found.print(h.raw, one.what+": "+side.name)
		}
	}
	return nil
}
