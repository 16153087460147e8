package auditlog

import (
	"bytes"
	"path/filepath"
	"testing"
)

// TestMeasurePlain: an exported log has the last line that the log had, and each damage is found.
func TestMeasurePlain(t *testing.T) {
	t.Parallel()
	s := newSession(t, filepath.Join(fastDir(t), "job.audit.jsonl"), 3)
	_ = s.log.Close()
	var plain bytes.Buffer
	if err := Export(s.path, &plain); err != nil {
		t.Fatal(err)
	}
	count, head, err := MeasurePlain(bytes.NewReader(plain.Bytes()))
	if err != nil || count != s.mark.Lines || head != s.mark.Hash {
		t.Errorf("%d lines, %s, %v, want %+v", count, head, err, s.mark)
	}
	lines := bytes.SplitAfter(plain.Bytes(), []byte("\n"))
	for name, text := range map[string][]byte{
		"a changed line":  bytes.Replace(plain.Bytes(), []byte("orders"), []byte("Orders"), 1),
		"a line less":     bytes.Join(append(lines[:5:5], lines[6:]...), nil),
		"no first line":   bytes.Join(lines[1:], nil),
		"a changed order": bytes.Join(append([][]byte{lines[1], lines[0]}, lines[2:]...), nil),
		"a cut line":      plain.Bytes()[:plain.Len()-3],
	} {
		if _, _, err := MeasurePlain(bytes.NewReader(text)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
