package redact

import "io"

// Writer takes the known secrets out of what is written to it. Each Write must hold whole
// lines or fields: a secret that is cut is not found.
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
