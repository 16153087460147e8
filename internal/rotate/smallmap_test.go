package rotate

import (
	"testing"

	"pgregory.net/rapid"
)

// TestSmallMap: a smallMap behaves like a map.
func TestSmallMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f smallMap[int, int]
		m := map[int]int{}
		for n := range rapid.IntRange(0, 20).Draw(t, "entries") {
			key := rapid.IntRange(0, 4).Draw(t, "key")
			f.set(key, n)
			m[key] = n
			for k := range 5 {
				got, ok := f.get(k)
				if want, there := m[k]; ok != there || got != want {
					t.Fatalf("%d: %d, %v, want %d, %v", k, got, ok, want, there)
				}
			}
		}
	})
}
