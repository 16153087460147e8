package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// lever is something that makes a client cheaper and can be turned off.
type lever struct {
	what, off string
	client    contestant
	trial     trial             // with it
	without   func(trial) trial // what turning it off changes
}

// pull are the levers. That of header hints shows over slots that are current, all
// others over slots that have to be moved. Two that rotator has for good are shown by
// the bare loop, which has them too. The collector has much to do in long runs alone.
func (l *lab) pull(items int) []lever {
	moving := trial{store: rows, items: items}
	objects := trial{store: bodies, items: items}
	long := trial{store: rows, items: 5 * items}
	current, seen := moving, long
	current.stub, seen.stub = []string{"-moved"}, []string{"-moved"}
	alike := moving
	alike.stub = []string{"-same", "10"}
	flags := func(flags ...string) func(trial) trial {
		return func(t trial) trial { t.args = flags; return t }
	}
	return []lever{
		{"ReEncrypt written, signed and read without most of the SDK's middlewares and its serializers, and sent without net/http; pages read without its serializers", "`--sdk`", l.us(), moving, flags("--sdk")},
		{"GOGC and GOMEMLIMIT set from the memory there is", "`GOGC=100 GOMEMLIMIT=off`", l.us(), long,
			func(t trial) trial { t.env = []string{"GOGC=100", "GOMEMLIMIT=off"}; return t }},
		{"25 rows in one conditional write", "a stub without BatchExecuteStatement", l.us(), moving,
			func(t trial) trial { t.stub = []string{"-unbatched"}; return t }},
		{"header hints, over slots that are current", "`--exact`", l.us(), current, flags("--exact")},
		{"the first of these, over slots that are current: what is left is to read pages", "`--sdk`", l.us(), seen, flags("--sdk")},
		{"one answer for all slots with the same ciphertext and contexts, over slots of which ten each are alike", "`--exact`", l.us(), alike, flags("--exact")},
		{"as many idle connections as workers, in the bare loop", "the SDK's 10", l.bare(), moving, flags("-idle", "10")},
		{"checksums of objects only where they are required, in the bare loop", "the SDK's \"when supported\"", l.bare(), objects, flags("-checksums")},
	}
}

// levers runs a client with everything on against the same with one lever off, in
// pairs, and shows what the profiles of both say, and what benchmarks say of the rest.
func (l *lab) levers(w io.Writer, items, rounds int) error {
	fmt.Fprintf(w, "\n## Levers, one turned off at a time\n\n%d pairs, interleaved; medians, and the least and the most of the paired ratios.\n\n", rounds)
	fmt.Fprintf(w, "| lever | off by | items | CPU us/item with it | without it | without/with | peak RSS, MiB, with it | without it | requests/item with it | without it |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, lever := range l.pull(items) {
		with, without, err := l.pairs(lever, rounds)
		if err != nil {
			return err
		}
		each := ratios(without, with)
		figures := func(figure func(measured) float64) (float64, float64) {
			return medianOf(with, figure), medianOf(without, figure)
		}
		cpuWith, cpuWithout := figures(microseconds)
		rssWith, rssWithout := figures(measured.mebibytes)
		requestsWith, requestsWithout := figures(measured.requests)
		fmt.Fprintf(w, "| %s | %s | %d | %.1f | %.1f | %.2f (%.2f to %.2f) | %.0f | %.0f | %.3f | %.3f |\n", lever.what, lever.off,
			lever.trial.items, cpuWith, cpuWithout, middle(each), slices.Min(each), slices.Max(each), rssWith, rssWithout, requestsWith, requestsWithout)
	}
	if err := l.leverProfiles(w, items); err != nil {
		return err
	}
	return benchmarks(w)
}

// benchmarks prints what the benchmarks of single pieces say, beside what those pieces
// took the place of.
func benchmarks(w io.Writer) error {
	fmt.Fprintf(w, "\n## Pieces by themselves\n")
	for _, one := range []struct{ what, where, name string }{
		{"One ReEncrypt, by the SDK, in our form through net/http, and in our form sent without it, against a server on this machine", "internal/fastkms", "ReEncrypt"},
		{"A page of a Scan from bytes to rows, by the SDK and by our own decoder", "internal/scan/dynamoscan", "Page"},
		{"The slots of a body of JSON lines", "internal/ciphertext", "Lines"},
		{
			"The search for ciphertexts that no slot names, in bytes without any",
			"internal/kmsblob", "Search",
		},
		{"The same in items whose one ciphertext is a slot's", "internal/rotate", "SearchItem"},
		{"The collector's settings over a stream of ReEncrypt", "cmd/rotator", "Collector"},
	} {
		command := []string{"test", "./" + one.where, "-run", "^$", "-bench", one.name}
		out, err := exec.Command("go", command...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("run the benchmarks of %s: %w\n%s", one.where, err, out)
		}
		fmt.Fprintf(w, "\n%s (`go %s`):\n\n```\n%s```\n", one.what, strings.ReplaceAll(strings.Join(command, " "), "^$", "'^$'"), results(out))
	}
	return nil
}

// results are the lines of a benchmark's output that say what was measured.
func results(out []byte) (lines string) {
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Benchmark") {
			lines += line
		}
	}
	return lines
}

// pairs runs rotator with a lever and without it in turn.
func (l *lab) pairs(lever lever, rounds int) (with, without []measured, err error) {
	off := lever.without(lever.trial)
	for round := range rounds {
		for n := range 2 {
			t, into := lever.trial, &with
			if (n+round)%2 == 1 {
				t, into = off, &without
			}
			m, err := l.run(lever.client, t)
			if err != nil {
				return nil, nil, err
			}
			*into = append(*into, m)
		}
		fmt.Fprintf(os.Stderr, "%s, round %d: %.1f us/item with, %.1f without\n", lever.what, round+1, microseconds(with[round]), microseconds(without[round]))
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

// leverProfiles shows what the profiles with each lever and without it say.
func (l *lab) leverProfiles(w io.Writer, items int) error {
	p, err := l.profiled()
	if err != nil {
		return err
	}
	for _, lever := range p.pull(items) {
		binary := p.rotator
		if lever.client.letter != ours {
			binary = p.self
		}
		fmt.Fprintf(w, "\n### %s\n", lever.what)
		for _, side := range []struct {
			name  string
			trial trial
		}{{"With it", lever.trial}, {"Without (" + lever.off + ")", lever.without(lever.trial)}} {
			found, err := p.profile(lever.client, binary, side.trial, 8)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "\n%s, CPU:\n\n```\n%s```\n\n%.0f allocations per item:\n\n```\n%s```\n", side.name, found.cpu, found.allocs, found.allocations)
		}
	}
	return nil
}
