package main

import (
	"bytes"
	"testing"

	"rotator/internal/fakeaws/fault"
	"rotator/internal/trial"
)

// editedContext: an application edits attributes that a new context is made from, and
// nothing else, after the item was read and before it is written. The write is refused,
// and the item is read and decided again: each item can be read with what it states.
func editedContext(t *testing.T) {
	bound := trial.Config{
		Items:   map[trial.Kind]int{trial.Bound: 60, trial.Ordinary: 20},
		Objects: map[trial.Kind]int{},
	}
	isBound := func(e *trial.Entry) bool { return e.Kind == trial.Bound }
	denied := fault.Answer{Code: "AccessDeniedException"}
	t.Run("in batches", func(t *testing.T) {
		w := newTrial(t, bound)
		beforeWrites(t, w, isBound, false, func(e *trial.Entry) error {
			return w.Relocate(t.Context(), e)
		})
		toTheEnd(t, w)
	})
	t.Run("one by one", func(t *testing.T) {
		w := newTrial(t, bound)
		beforeWrites(t, w, isBound, false, func(e *trial.Entry) error {
			return w.Relocate(t.Context(), e)
		})
		w.Fault("dynamodb:BatchExecuteStatement", fault.Fault{Kind: fault.Refusal, Answer: denied})
		toTheEnd(t, w)
		if w.Requests("dynamodb:UpdateItem") < 2*60 {
			t.Error("the items were not updated one by one, twice each")
		}
	})
	t.Run("always", func(t *testing.T) {
		w := newTrial(t, bound)
		hot := w.Entries(isBound)[7]
		beforeWrites(t, w, func(e *trial.Entry) bool { return e == hot }, true,
			func(e *trial.Entry) error { return w.Relocate(t.Context(), e) })
		r := w.Must(t, []int{exitExceptions}, "run", "-o", "json")
		if n := r.Summary.Slots.Conflict; n != 1 {
			t.Errorf("%d conflicts, want the one item that never rests: %s", n, r)
		}
		w.CheckPartial(t, r.Summary)
		w.Server.Faults().Clear("")
		w.Must(t, []int{exitDone}, "retry", "-o", "json")
		w.Check(t, nil)
	})
	t.Run("while answers are lost", func(t *testing.T) {
		w := newTrial(t, bound)
		entries := w.Entries(isBound)
		w.Fault("dynamodb:BatchExecuteStatement", fault.Fault{Kind: fault.LostResponse, Skip: 2,
			Times: 2, Before: func(_ requestOf, body []byte) {
				for i, e := range entries {
					if i%2 > 0 || !bytes.Contains(body, []byte(`"`+e.ID+`"`)) {
						continue
					}
					if err := w.Relocate(t.Context(), e); err != nil {
						t.Errorf("the application: %v", err)
					}
				}
			}})
		toTheEnd(t, w)
	})
}
