package rotate

// handful is a map that mostly has one entry, and then allocates nothing. The zero value is
// empty.
type handful[K comparable, V any] struct {
	key   K
	value V
	any   bool    // key and value are an entry
	more  map[K]V // all others
}

func (f *handful[K, V]) get(key K) (value V, ok bool) {
	if f.any && f.key == key {
		return f.value, true
	}
	value, ok = f.more[key]
	return value, ok
}

func (f *handful[K, V]) set(key K, value V) {
	switch {
	case !f.any || f.key == key:
		f.key, f.value, f.any = key, value, true
	case f.more == nil:
		f.more = map[K]V{key: value}
	default:
		f.more[key] = value
	}
}
