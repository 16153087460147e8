package rotate

// smallMap is a map that mostly has one entry, and then allocates nothing. The zero value is
// empty.
type smallMap[K comparable, V any] struct {
	key   K
	value V
	any   bool    // key and value are an entry
	more  map[K]V // all others
}

func (m *smallMap[K, V]) get(key K) (value V, ok bool) {
	if m.any && m.key == key {
		return m.value, true
	}
	value, ok = m.more[key]
	return value, ok
}

func (m *smallMap[K, V]) set(key K, value V) {
	switch {
	case !m.any || m.key == key:
		m.key, m.value, m.any = key, value, true
	case m.more == nil:
		m.more = map[K]V{key: value}
	default:
		m.more[key] = value
	}
}
