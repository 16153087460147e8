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

// secondPass is what rotator makes of items that it has moved before.
type secondPass struct {
	Items              int
	First, Hint, Exact measured
	// Differ names what the reports with and without hints say differently; nothing
	// should but how a figure was established.
	Differ []string
}

// calls is the share of the slots that cost a ReEncrypt.
func calls(m measured) float64 { return float64(m.Counts.reEncrypts()) / float64(m.Items) }

// again moves items, and passes over them twice more: with hints, and with --exact.
// Each pass begins with no memory of the others, so their reports can be compared.
func (l *lab) again(w io.Writer, items int) (secondPass, error) {
	t := trial{store: rows, items: items}
	out := secondPass{Items: items}
	s, err := l.serve(t)
	if err != nil {
		return out, err
	}
	defer s.close()
	exactly := t
	exactly.args = []string{"--exact"}
	for _, pass := range []struct {
		into  *measured
		trial trial
		moves int
	}{{&out.First, t, items}, {&out.Hint, t, 0}, {&out.Exact, exactly, 0}} {
		m, err := l.against(s, l.us(), pass.trial)
		if err == nil {
			err = m.wrong(pass.moves)
		}
		if err != nil {
			return out, fmt.Errorf("rotator over items that it moved before: %w", err)
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
	fmt.Fprintf(w, "\n## A pass over slots that are current\n\n%d items, moved before. KMS is asked about at least 1,000 slots, or 1%% of them.\n\n", p.Items)
	fmt.Fprintf(w, "| | CPU us/item | ReEncrypt/item | items/s |\n|---|---|---|---|\n")
	for _, row := range []struct {
		what string
		m    measured
	}{{"the pass that moved them", p.First}, {"with hints", p.Hint}, {"with `--exact`", p.Exact}} {
		fmt.Fprintf(w, "| %s | %.1f | %.4f | %.0f |\n", row.what, microseconds(row.m), calls(row.m), float64(row.m.Items)/row.m.Wall)
	}
	said := "the same, but for how it is known"
	if len(p.Differ) > 0 {
		said = "not the same: " + strings.Join(p.Differ, ", ")
	}
	fmt.Fprintf(w, "\nThe reports of the last two say %s.\n", said)
}

// differences names the fields in which two reports differ, but for those that have
// to: when the pass was, what it asked KMS, and how a figure is known.
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

// withoutTime takes the time of the report out of its sentences on keys.
func withoutTime(report map[string]any) {
	text, _ := report["as_of"].(string)
	at, err := time.Parse(time.RFC3339, text)
	keys, ok := report["source_keys"].([]any)
	if err != nil || !ok {
		return
	}
	for _, key := range keys {
		if key, ok := key.(map[string]any); ok {
			sentence, _ := key["sentence"].(string)
			key["sentence"] = strings.ReplaceAll(sentence, at.Format(time.RFC3339), "as_of")
		}
	}
}

// withoutHow takes every "how" out of a document.
func withoutHow(value any) {
	switch value := value.(type) {
	case map[string]any:
		delete(value, "how")
		for _, member := range value {
			withoutHow(member)
		}
	case []any:
		for _, element := range value {
			withoutHow(element)
		}
	}
}
