package main

import (
	"io"
	"sync"
)

// screen is stderr. While a progress bar is shown, it writes lines above the bar, because the
// bar would overwrite them. Each Write must consist of complete lines.
type screen struct {
	mu     sync.Mutex
	direct io.Writer
	above  io.Writer // writes above the bar; nil without a bar
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

// show sets the writer above a progress bar; nil means that there is no bar.
func (s *screen) show(above io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.above = above
}
