package redact

import "io"

// Writer removes the known secrets from its input. Each Write must contain
// complete lines or fields, because a secret that is split is not found.
type Writer struct {
	redactor *Redactor
	w        io.Writer
}

// NewWriter returns a Writer to w.
func NewWriter(r *Redactor, w io.Writer) *Writer { return &Writer{r, w} }

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.w, w.redactor.Known(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
