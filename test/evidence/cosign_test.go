//go:build evidence

package evidence

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// verifyWithCosign lets cosign verify each file of a pack without a network, and damaged copies of
// the pack, which it must refuse. The path of cosign is in COSIGN, or cosign is installed.
func verifyWithCosign(t *testing.T, pack string) {
	cosign := os.Getenv("COSIGN")
	if cosign == "" {
		cosign = program(t, "cosign")
	}
	key, err := os.ReadFile(filepath.Join(pack, "evidence.pub"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(pack)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if file.Name() == "evidence.sigstore.json" {
			continue
		}
		if out, err := cosignVerifies(t, cosign, pack, file.Name()); err != nil {
			t.Errorf("%s: %v\n%s", file.Name(), err, out)
		}
	}
	other := strings.Replace(string(key), "E", "F", 1)
	for name, damage := range map[string]func(dir string) error{
		"a changed byte": func(dir string) error { return flip(filepath.Join(dir, "report.json")) },
		"a changed statement": func(dir string) error {
			return flip(filepath.Join(dir, "evidence.sigstore.json"))
		},
		"a cut bundle": func(dir string) error {
			return os.Truncate(filepath.Join(dir, "evidence.sigstore.json"), 900)
		},
		"another key": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "evidence.pub"), []byte(other), 0o600)
		},
	} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(pack)); err != nil {
			t.Fatal(err)
		}
		if err := damage(dir); err != nil {
			t.Fatal(err)
		}
		if out, err := cosignVerifies(t, cosign, dir, "report.json"); err == nil {
			t.Errorf("%s: cosign accepts it\n%s", name, out)
		}
	}
}

// cosignVerifies runs the command of VERIFY.md for a file of a pack. Each request to a network
// would go to a port on which nothing listens.
func cosignVerifies(t *testing.T, cosign, pack, file string) (out []byte, err error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), cosign, "verify-blob-attestation",
		"--key", "evidence.pub", "--new-bundle-format", "--bundle", "evidence.sigstore.json",
		"--trusted-root", "trusted_root.json", "--insecure-ignore-tlog",
		"--type", "urn:rotator:evidence:v1", file)
	command.Dir = pack
	command.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"),
		"HTTP_PROXY=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1"}
	return command.CombinedOutput()
}

// flip changes one byte in the middle of a file.
func flip(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text[len(text)/2] ^= 1
	return os.WriteFile(path, text, 0o600)
}
