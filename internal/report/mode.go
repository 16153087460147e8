package report

import "fmt"

// Mode is the mode of a job in its job file.
type Mode string

// The modes. "" means ModeMove.
const (
	ModeMove    Mode = "move"
	ModeRefresh Mode = "refresh"
	ModeContext Mode = "context"
)

// Where describes slots that the job did not move, as in "3 slots are WHERE".
func (m Mode) Where() string {
	switch m {
	case ModeRefresh:
		return "on older key material of this key"
	case ModeContext:
		return "still under the old encryption context"
	}
	return "under a source key"
}

// Writes states that a writer still stores such slots.
func (m Mode) Writes() string {
	switch m {
	case ModeRefresh:
		return "a writer still stores ciphertexts on older key material, such as copies"
	case ModeContext:
		return "a writer still uses the old encryption context"
	}
	return "a writer still uses the old key"
}

// stays returns the reason why the destination key of a job stays in use.
func (m Mode) stays() string {
	switch m {
	case ModeRefresh:
		return "this job moves its ciphertexts to its newest key material."
	case ModeContext:
		return "this job changes the encryption context of its ciphertexts."
	}
	return "it is also the destination key of this job."
}

// settled states what a converged pass proves.
func (s *Summary) settled() string {
	switch s.Mode {
	case ModeRefresh:
		return fmt.Sprintf("all ciphertexts that were found are on the newest key material (%s)",
			s.DestinationMaterial)
	case ModeContext:
		return "all ciphertexts that were found are under their new encryption context"
	}
	return "no ciphertext depends on a source key"
}

// Doubt adds a reason why the figures are not evidence. It must be called before Conclude.
func (s *Summary) Doubt(why string) {
	s.doubtful = true
	s.doubts = append(s.doubts, why)
	s.Notes = append(s.Notes, why)
}

// Doubts returns the reasons that Doubt added.
func (s *Summary) Doubts() []string { return s.doubts }
