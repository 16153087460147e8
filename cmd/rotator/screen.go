package main

import (
	"io"
	"sync"
)

// screen is stderr. While a progress bar is shown, it writes lines above the bar, which would
// overwrite them otherwise. Each Write must be complete lines.
type screen struct {
	mu     sync.Mutex
	direct io.Writer
	above  io.Writer // of the bar; nil without one
}

// Write implements io.Writer.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.above != nil {
		if n, err := s.above.Write(p); err == nil {
			return n, nil
		}
	}
	return s.direct.Write(p)
}

// show makes lines go through the writer of a bar; nil ends this.
func (s *screen) show(above io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.above = above
}
