package pack

import (
	"embed"
	"fmt"
	"io/fs"
)

// files are the files with which a reader checks a pack.
//
//go:embed VERIFY.sh VERIFY.md chain.py trusted_root.json
var files embed.FS

// AddInstructions adds the files with which a reader checks the pack without rotator.
func (w *Writer) AddInstructions() error {
	list, err := fs.ReadDir(files, ".")
	if err != nil {
		return fmt.Errorf("read the instructions: %w", err)
	}
	for _, entry := range list {
		text, err := files.ReadFile(entry.Name())
		if err != nil {
			return fmt.Errorf("read the instructions: %w", err)
		}
		if err := w.Add(entry.Name(), written(text)); err != nil {
			return err
		}
	}
	return nil
}
