package checkpoint

// SearchCounts counts the search for ciphertexts under symmetric keys outside of slots: what was
// searched, what was not searched, and what was found.
type SearchCounts struct {
	Items int64 `json:"items,omitempty"` // searched completely or in part
	Bytes int64 `json:"bytes,omitempty"` // searched
	// Bodies counts objects whose body was not read, and BodyBytes their length.
	// Partial counts rows of which some attributes were not read.
	Bodies    int64 `json:"bodies,omitempty"`
	BodyBytes int64 `json:"body_bytes,omitempty"`
	Partial   int64 `json:"partial,omitempty"`
	// OtherKeys counts ciphertexts under keys other than the source keys. Unusable
	// counts those that KMS decrypts under no key of the job.
	OtherKeys int64 `json:"other_keys,omitempty"`
	Unusable  int64 `json:"unusable,omitempty"`
}

// Add adds more to s.
func (s *SearchCounts) Add(more SearchCounts) { s.combine(more, 1) }

func (s *SearchCounts) combine(other SearchCounts, sign int64) {
	s.Items += sign * other.Items
	s.Bytes += sign * other.Bytes
	s.Bodies += sign * other.Bodies
	s.BodyBytes += sign * other.BodyBytes
	s.Partial += sign * other.Partial
	s.OtherKeys += sign * other.OtherKeys
	s.Unusable += sign * other.Unusable
}
