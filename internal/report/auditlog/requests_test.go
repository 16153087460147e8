package auditlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"rotator/internal/rotate"
)

// requestNumbers returns the numbers of the ids of requests that typical makes.
func requestNumbers(t *testing.T, list []Request) map[int]bool {
	t.Helper()
	numbers := map[int]bool{}
	for _, r := range list {
		var n int
		if _, err := fmt.Sscanf(r.ID, "request-%d", &n); err != nil {
			t.Fatalf("id %q: %v", r.ID, err)
		}
		if want := typical(n).At; !r.At.Equal(want) {
			t.Errorf("request %d is of %s, want %s", n, r.At, want)
		}
		numbers[n] = true
	}
	return numbers
}

// TestLastRequests: the last requests are those of the newest intents, over the open and the
// closed segments, whatever refs contain. Older segments are not read.
func TestLastRequests(t *testing.T) {
	dir := fastDir(t)
	s := &session{path: filepath.Join(dir, "log")}
	s.reopen(t)
	const all = 60
	for range all {
		if err := errors.Join(s.add(eventIntent, 1), s.add(eventRotated, 1)); err != nil {
			t.Fatal(err)
		}
	}
	numbers, err := closedSegments(s.path)
	if err != nil || len(numbers) < 3 {
		t.Fatalf("closed segments %v, %v, want several", numbers, err)
	}
	check := func(n, want int) {
		t.Helper()
		list, more, err := LastRequests(s.path, n)
		if err != nil || more != (n < all) || len(list) != want {
			t.Fatalf("%d of at most %d requests, more %v, %v, want %d", len(list), n, more, err,
				want)
		}
		got := requestNumbers(t, list)
		for i := all - want + 1; i <= all; i++ {
			if !got[i] {
				t.Errorf("of the last %d requests, %d is missing", n, i)
			}
		}
	}
	for _, n := range []int{0, 1, 7, 25, all} {
		check(n, n)
	}
	check(1000, all)
	if err := os.WriteFile(segmentPath(s.path, 1), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	check(5, 5) // they are in newer segments
	if list, _, err := LastRequests(s.path, 1000); err == nil || len(list) == 0 {
		t.Errorf("with a damaged segment: %d requests, %v", len(list), err)
	}
	if _, _, err := LastRequests(filepath.Join(dir, "none"), 5); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a log: %v", err)
	}
}

// TestRequestsWithoutID: an intent of an older version is a request without an id. A ref that
// looks like the member is none.
func TestRequestsWithoutID(t *testing.T) {
	path := filepath.Join(fastDir(t), "log")
	log, err := Open(path, "job")
	if err != nil {
		t.Fatal(err)
	}
	log.Believe(nil)
	r := typical(1)
	r.Ref, r.Origin.RequestID = `,"request_id":"forged"`, ""
	if err := errors.Join(log.Intend([]rotate.Record{r}), log.Close()); err != nil {
		t.Fatal(err)
	}
	list, more, err := LastRequests(path, 5)
	if err != nil || more || len(list) != 1 || list[0].ID != "" {
		t.Errorf("%+v, %v, %v", list, more, err)
	}
}
