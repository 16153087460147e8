package scan

import "testing"

// FuzzRef checks that Key returns the key that was given to KeyRef, and that no two keys have
// the same Ref.
func FuzzRef(f *testing.F) {
	for _, path := range []string{"a/b", "\n", "\xff", `"`, `"\xff"`, "é\u2028"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if got, err := KeyRef(path).Key(); err != nil || got != path {
			t.Errorf("%q came back as %q, %v", path, got, err)
		}
		if key, err := Ref(path).Key(); err == nil && KeyRef(key) != Ref(path) {
			t.Errorf("%q and %q are both addresses of %q", path, KeyRef(key), key)
		}
	})
}
