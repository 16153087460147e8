package rotate

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// crowd keeps count of who has begun and who has a place, by target.
type crowd struct {
	mu    sync.Mutex
	begun map[string]int
	here  map[string]int
}

func (c *crowd) count(target string, begun, here int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun[target] += begun
	c.here[target] += here
}

func (c *crowd) look(target string) (begun, here int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.begun[target], c.here[target]
}

func newCrowd() *crowd { return &crowd{begun: map[string]int{}, here: map[string]int{}} }

// feed offers n jobs of a target, one after the other, as a scanner does.
func (c *crowd) feed(p *pool, target string, n int, job func(place)) {
	for range n {
		p.run(target, nil, false, func(at place) {
			c.count(target, 1, 1)
			defer c.count(target, 0, -1)
			job(at)
		})
	}
}

// A target whose jobs take for ever has all places while nobody else wants any. Then each
// that comes free goes to the target that has fewer, until all have as many.
func TestPlacesAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c, end := newPool(8), newCrowd(), make(chan struct{})
		var feeds sync.WaitGroup
		feeds.Go(func() { c.feed(p, "slow", 20, func(place) { <-end }) })
		synctest.Wait()
		if _, here := c.look("slow"); here != 8 {
			t.Errorf("alone it has %d of 8 places", here)
		}
		feeds.Go(func() { c.feed(p, "other", 20, func(place) { <-end }) })
		for range 4 {
			synctest.Wait()
			end <- struct{}{}
		}
		synctest.Wait()
		_, slow := c.look("slow")
		if _, other := c.look("other"); slow != 4 || other != 4 {
			t.Errorf("the slow one has %d places and the other %d, want 4 each", slow, other)
		}
		close(end)
		feeds.Wait()
		p.wait()
	})
}

// Jobs that wait for their whole target hold no place, and no more of them are begun than
// there are places: what is begun and not written is asked again after a crash.
func TestPlacesOfThoseAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c, open := newPool(4), newCrowd(), make(chan struct{})
		var feeds sync.WaitGroup
		feeds.Go(func() { c.feed(p, "slow", 20, func(at place) { _ = at.aside(func() error { <-open; return nil }) }) })
		synctest.Wait()
		if begun, _ := c.look("slow"); begun != 4 {
			t.Errorf("%d jobs were begun at 4 places", begun)
		}
		feeds.Go(func() { c.feed(p, "other", 40, func(place) { time.Sleep(time.Second) }) })
		time.Sleep(10*time.Second + time.Millisecond)
		if begun, here := c.look("other"); begun != 40 || here != 0 {
			t.Errorf("in 10 s the other target got through %d jobs of a second each at 4 places, want 40", begun-here)
		}
		close(open)
		feeds.Wait()
		p.wait()
		if begun, _ := c.look("slow"); begun != 20 {
			t.Errorf("%d of 20 jobs were begun in the end", begun)
		}
	})
}

// Who comes back from aside may hold what all wait for who have the places.
func TestPlacesWithoutDeadlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, room := newPool(2), make(chan struct{}, 2)
		var feeds sync.WaitGroup
		for _, target := range []string{"first", "second"} {
			feeds.Go(func() {
				newCrowd().feed(p, target, 10, func(at place) {
					room <- struct{}{}
					_ = at.aside(func() error { time.Sleep(time.Second); return nil })
					<-room
				})
			})
		}
		feeds.Wait()
		p.wait()
		if _, places, _ := p.look(); p.busy.now != 0 || places != 2 {
			t.Errorf("%d jobs still have a place", p.busy.now)
		}
	})
}

// A job that rests for one item's sake makes room for others of its own target.
func TestPlacesOfThoseAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, c := newPool(2), newCrowd()
		var feeds sync.WaitGroup
		feeds.Go(func() { c.feed(p, "one", 10, func(at place) { _ = at.rest(t.Context(), time.Hour) }) })
		synctest.Wait()
		if begun, _ := c.look("one"); begun != 10 {
			t.Errorf("%d of 10 jobs were begun", begun)
		}
		time.Sleep(2 * time.Hour)
		feeds.Wait()
		p.wait()
	})
}
