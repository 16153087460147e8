package clients

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// node installs the clients of node/package.json in the versions of its lock file, and returns the
// command line that runs a script. It skips the test if Node.js is not installed.
func node(t *testing.T, script string) []string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			skipped(t, program+" is not installed")
		}
	}
	dir, err := filepath.Abs("node")
	if err != nil {
		t.Fatal(err)
	}
	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	// npm ci deletes it together with node_modules
	done := filepath.Join(dir, "node_modules", ".lock-installed")
	if have, err := os.ReadFile(done); err != nil || !bytes.Equal(have, lock) {
		install := exec.Command("npm", "ci")
		install.Dir = dir
		if out, err := install.CombinedOutput(); err != nil {
			t.Fatalf("npm ci: %v\n%s", err, out)
		}
		if err := os.WriteFile(done, lock, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"node", filepath.Join(dir, script)}
}

// python returns the command line that runs a script of this directory. It skips the test if
// Python or one of the modules is not installed.
func python(t *testing.T, script string, modules ...string) []string {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		skipped(t, "python3 is not installed")
	}
	for _, module := range modules {
		if err := exec.Command("python3", "-c", "import "+module).Run(); err != nil {
			skipped(t, "python3 has no module "+module)
		}
	}
	path, err := filepath.Abs(script)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"python3", path}
}

// skipped prints a line with the reason and skips the test.
func skipped(t *testing.T, why string) {
	t.Helper()
	fmt.Printf("SKIPPED: %s: %s\n", t.Name(), why)
	t.SkipNow()
}
