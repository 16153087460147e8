//go:build unix

package pack

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestOnlyRegularFiles: Check and VERIFY.sh refuse unlisted files with unusual names, symbolic
// links, and named pipes, without opening them.
func TestOnlyRegularFiles(t *testing.T) {
	verify, shells := script(t)
	for name, change := range map[string]func(dir string) error{
		"pattern": func(dir string) error { return os.WriteFile(dir+"/.*", nil, 0o600) },
		"two lines": func(dir string) error {
			return os.WriteFile(dir+"/other\nVERIFY.md", nil, 0o600)
		},
		"dangling link": func(dir string) error {
			return os.Symlink("/nonexistent", filepath.Join(dir, BundleName))
		},
		"link": func(dir string) error {
			target := dir + "-VERIFY.md"
			return errors.Join(os.Rename(dir+"/VERIFY.md", target),
				os.Symlink(target, dir+"/VERIFY.md"))
		},
		"pipe in place of a file": func(dir string) error {
			return errors.Join(os.Remove(dir+"/VERIFY.md"),
				syscall.Mkfifo(dir+"/VERIFY.md", 0o600))
		},
		"pipe": func(dir string) error { return syscall.Mkfifo(dir+"/pipe", 0o600) },
	} {
		dir := filepath.Join(t.TempDir(), "pack")
		write(t, dir, nil)
		if err := change(dir); err != nil {
			t.Fatal(err)
		}
		files, closer, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = Check(files, nil)
		_ = closer.Close()
		if !errors.As(err, new(*BrokenError)) {
			t.Errorf("%s: Check: %v", name, err)
		}
		for _, shell := range shells {
			cmd := exec.CommandContext(t.Context(), shell, verify, "", dir)
			if _ = cmd.Run(); cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("%s: %s VERIFY.sh: %v, want 1", name, shell, cmd.ProcessState)
			}
		}
	}
}
