package report

import "fmt"

// Mode is the mode of a job, as in its job file.
type Mode string

// The modes; "" is ModeMove.
const (
	ModeMove    Mode = "move"
	ModeRefresh Mode = "refresh"
	ModeContext Mode = "context"
)

// Where describes the slots that the job has not moved, as in "3 slots are
// WHERE".
func (m Mode) Where() string {
	switch m {
	case ModeRefresh:
		return "on older material of this key"
	case ModeContext:
		return "still under the old context"
	}
	return "under a source key"
}

// Writes describes the writer that still stores such slots.
func (m Mode) Writes() string {
	switch m {
	case ModeRefresh:
		return "a writer still stores ciphertexts of older material, for example from a copy"
	case ModeContext:
		return "a writer still uses the old context"
	}
	return "a writer still uses the old key"
}

// stays returns the reason why the destination key of a job stays in use.
func (m Mode) stays() string {
	switch m {
	case ModeRefresh:
		return "this job moves its ciphertexts to its newest material."
	case ModeContext:
		return "this job changes the encryption context of its ciphertexts."
	}
	return "it is the destination key of this job as well."
}

// settled returns what a converged pass proves.
func (s *Summary) settled() string {
	switch s.Mode {
	case ModeRefresh:
		return fmt.Sprintf("every ciphertext that was found is on the newest "+
			"material of this key (%s)",
			s.DestinationMaterial)
	case ModeContext:
		return "every ciphertext that was found is under its new context"
	}
	return "nothing depends on a source key"
}

// Doubt adds a reason why the figures are not evidence. It must be called
// before Conclude.
func (s *Summary) Doubt(why string) {
	s.doubtful = true
	s.doubts = append(s.doubts, why)
	s.Notes = append(s.Notes, why)
}

// Doubts returns the reasons that were added by Doubt.
func (s *Summary) Doubts() []string { return s.doubts }
