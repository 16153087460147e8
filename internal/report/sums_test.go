package report

import (
	"errors"
	"reflect"
	"testing"

	"rotator/internal/checkpoint"
)

// addingUp returns a result with two targets whose figures add up.
func addingUp() *Summary {
	counts := func(n int64) checkpoint.Counts {
		return checkpoint.Counts{
			Slots: checkpoint.SlotCounts{Seen: 5 * n, Rotated: n, Current: n, Remaining: n,
				Failed: n, Foreign: n},
			Items: checkpoint.ItemCounts{Seen: 5 * n, Written: n, WithoutSlot: 1, Excluded: 2,
				Own: 3},
			Keys: map[string]checkpoint.KeyCount{
				oldKey: {Slots: 3 * n, Rotated: n, Unreadable: n},
				newKey: {Slots: n, Header: n},
			},
			Reasons: map[string]int64{"failed/context": n, "foreign/foreign-key": n},
			Origins: map[checkpoint.Origin]int64{oldKey: n},
		}
	}
	s := &Summary{Status: Complete}
	s.SetSamples([]checkpoint.Sample{
		{Population: 10, Checked: 4},
		{Population: 20, Checked: 20, Disagreed: 1},
	})
	s.SetTargets([]TargetInfo{{Name: "customers"}, {Name: "vault"}},
		map[string]checkpoint.Counts{"customers": counts(2), "vault": counts(7)})
	return s
}

// TestSumsOfResults: a result is refused if any one of its figures is greater or less than it was.
func TestSumsOfResults(t *testing.T) {
	if err := addingUp().Check(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for i := 0; ; i++ {
		s := addingUp()
		figures := figuresIn(s)
		if i == len(figures) {
			break
		}
		for _, change := range []int64{1, -1} {
			n++
			figures[i].set(figures[i].n + change)
			if err := s.Check(); !errors.As(err, new(*SumError)) {
				t.Errorf("%s is %d instead of %d: %v", figures[i].name, figures[i].n+change,
					figures[i].n, err)
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d figures were changed", n)
	}
}

// figure is a number in a result.
type figure struct {
	name string
	n    int64
	set  func(int64)
}

// figuresIn returns the figures of a result that are part of a sum.
func figuresIn(s *Summary) (list []figure) {
	add := func(name string, v any) {
		value := reflect.ValueOf(v).Elem()
		for i := range value.NumField() {
			if field := value.Field(i); field.Kind() == reflect.Int64 && field.CanSet() {
				list = append(list, figure{name + "." + value.Type().Field(i).Name, field.Int(),
					field.SetInt})
			}
		}
	}
	of := func(name string, slots *Slots, items *Items, keys []Key, reasons []Reason) {
		add(name+" slots", slots)
		add(name+" items", items)
		for i := range keys {
			add(name+" key "+keys[i].Key, &keys[i])
		}
		for i := range reasons {
			add(name+" reason "+reasons[i].Reason, &reasons[i])
		}
	}
	of("all", &s.Slots, &s.Items, s.Keys, s.Reasons)
	for i := range s.Targets {
		t := &s.Targets[i]
		of(t.Name, &t.Slots, &t.Items, t.Keys, t.Reasons)
	}
	sample := &s.Sample.Sample
	return append(list,
		figure{"sample population", sample.Population, func(n int64) { sample.Population = n }},
		figure{"sample checked", sample.Checked, func(n int64) { sample.Checked = n }})
}

// TestCountsOfVerdicts: a result is refused if the counts behind its verdict contradict each other.
func TestCountsOfVerdicts(t *testing.T) {
	for name, change := range map[string]func(c *checkpoint.Counts){
		"more moved than under the key": func(c *checkpoint.Counts) {
			c.Keys[oldKey] = checkpoint.KeyCount{Slots: 6, Rotated: 7}
		},
		"more origins than failed slots": func(c *checkpoint.Counts) { c.Origins[oldKey]++ },
	} {
		s := addingUp()
		change(&s.Targets[0].counts)
		if err := s.Check(); !errors.As(err, new(*SumError)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHeaderCountsOfEarlierVersions: a retry of an earlier version left too many slots by header.
// They are limited to the slots under the key, so the result is not refused.
func TestHeaderCountsOfEarlierVersions(t *testing.T) {
	s := addingUp()
	s.Targets[0].counts.Keys[newKey] = checkpoint.KeyCount{Slots: 2, Header: 3}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}
