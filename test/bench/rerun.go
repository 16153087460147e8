package main

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"
)

// secondPass holds the figures of passes over items that were moved before.
type secondPass struct {
	Items              int
	First, Hint, Exact measured
	// Differ names the fields in which the reports with and without header hints differ.
	// Only the field "how" may differ.
	Differ []string
}

// calls returns the number of ReEncrypt requests for each slot.
func calls(m measured) float64 { return float64(m.Counts.reEncrypts()) / float64(m.Items) }

// rerun moves items, and then runs two more passes over them: with header hints, and with
// --exact. Each pass begins without the checkpoint of the others, so their reports are
// comparable.
func (h *harness) rerun(w io.Writer, items int) (secondPass, error) {
	t := scenario{store: rows, items: items}
	out := secondPass{Items: items}
	s, err := h.serve(t)
	if err != nil {
		return out, err
	}
	defer s.close()
	exactly := t
	exactly.args = []string{"--exact"}
	for _, pass := range []struct {
		into     *measured
		scenario scenario
		moves    int
	}{{&out.First, t, items}, {&out.Hint, t, 0}, {&out.Exact, exactly, 0}} {
		m, err := h.against(s, h.rotatorRun(), pass.scenario)
		if err == nil {
			err = m.wrong(pass.moves)
		}
		if err != nil {
			return out, fmt.Errorf("run rotator over items that were moved before: %w", err)
		}
		*pass.into = m
	}
	if out.Differ, err = differences(out.Hint.Output, out.Exact.Output); err != nil {
		return out, err
	}
	out.print(w)
	return out, nil
}

func (p secondPass) print(w io.Writer) {
	fmt.Fprintf(w, "\n## A pass over current slots\n\n%d items, moved before. With header hints, "+
		"rotator calls KMS for 1%% of the slots, but for at least 1,000.\n\n", p.Items)
	fmt.Fprintf(w, "| | CPU us/item | ReEncrypt/item | items/s |\n|---|---|---|---|\n")
	for _, row := range []struct {
		what string
		m    measured
	}{
		{what: "the pass that moved them", m: p.First},
		{what: "with header hints", m: p.Hint},
		{what: "with `--exact`", m: p.Exact},
	} {
		fmt.Fprintf(w, "| %s | %.1f | %.4f | %.0f |\n", row.what, microseconds(row.m),
			calls(row.m), float64(row.m.Items)/row.m.Wall)
	}
	verdict := "are equal, except for `how`"
	if len(p.Differ) > 0 {
		verdict = "differ in: " + strings.Join(p.Differ, ", ")
	}
	fmt.Fprintf(w, "\nThe reports of the last two %s.\n", verdict)
}

// differences names the fields in which two reports differ, except for those that must: the
// times, the figures of kms, and how.
func differences(one, other []byte) (fields []string, err error) {
	var a, b map[string]any
	for text, into := range map[*map[string]any][]byte{&a: one, &b: other} {
		if err := json.Unmarshal(into, text); err != nil {
			return nil, fmt.Errorf("read rotator's report: %w", err)
		}
	}
	for _, report := range []map[string]any{a, b} {
		withoutTime(report)
		for _, name := range []string{"started", "ended", "as_of", "kms"} {
			delete(report, name)
		}
		withoutHow(report)
	}
	for name := range a {
		if !reflect.DeepEqual(a[name], b[name]) {
			fields = append(fields, name)
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			fields = append(fields, name)
		}
	}
	slices.Sort(fields)
	return fields, nil
}

// withoutTime replaces the time of the report in its sentences on convergence and on keys.
func withoutTime(report map[string]any) {
	text, _ := report["as_of"].(string)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return
	}
	if convergence, ok := report["convergence"].(string); ok {
		report["convergence"] = strings.ReplaceAll(convergence, at.Format(time.RFC3339), "as_of")
	}
	for _, list := range []string{"source_keys", "verdicts"} {
		keys, _ := report[list].([]any)
		for _, key := range keys {
			if key, ok := key.(map[string]any); ok {
				sentence, _ := key["sentence"].(string)
				key["sentence"] = strings.ReplaceAll(sentence, at.Format(time.RFC3339), "as_of")
			}
		}
	}
}

// withoutHow removes what states how keys became known: every "how", every "sample" of headers,
// and every "why" of a verdict.
func withoutHow(value any) {
	switch value := value.(type) {
	case map[string]any:
		for _, name := range []string{"how", "sample", "why"} {
			delete(value, name)
		}
		for _, member := range value {
			withoutHow(member)
		}
	case []any:
		for _, element := range value {
			withoutHow(element)
		}
	}
}
