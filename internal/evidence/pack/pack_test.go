package pack

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// localKey signs with a key in memory.
type localKey struct {
	*ecdsa.PrivateKey
	err error // of Sign
}

func newLocalKey(t *testing.T) *localKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &localKey{PrivateKey: key}
}

func (k *localKey) Identity() Signing {
	return Signing{
		Key:       "arn:aws:kms:eu-west-1:111122223333:key/evidence",
		Algorithm: "ECDSA_SHA_256",
	}
}

func (k *localKey) PublicKey() []byte {
	text, _ := x509.MarshalPKIXPublicKey(&k.PrivateKey.PublicKey)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: text})
}

func (k *localKey) Sign(_ context.Context, digest []byte) ([]byte, string, error) {
	if k.err != nil {
		return nil, "", k.err
	}
	signed, err := ecdsa.SignASN1(rand.Reader, k.PrivateKey, digest)
	return signed, "request", err
}

// predicate is that of the packs of the tests.
func predicate() Predicate {
	return Predicate{
		Job:     "job",
		Created: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC),
		Version: "test",
		Verdicts: []Verdict{{
			Key:      "arn:aws:kms:eu-west-1:111122223333:key/old",
			Code:     "can-be-disabled",
			Reason:   "can-be-disabled",
			Sentence: "alias/old can be disabled.",
		}},
		Logs:       []Log{},
		Exceptions: &Exceptions{Total: 150, Listed: 6},
	}
}

// write writes a pack with a few files.
func write(t *testing.T, path string, signer Signer) {
	t.Helper()
	w := begin(t, path)
	defer w.Abort()
	if _, err := w.Seal(t.Context(), predicate(), signer); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
}

// begin begins a pack and adds a few files.
func begin(t *testing.T, path string) *Writer {
	t.Helper()
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"report.json", "inventory.csv", "job.audit.jsonl"} {
		if err := w.Add(name, written([]byte("content of "+name+"\n"))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.AddInstructions(); err != nil {
		t.Fatal(err)
	}
	return w
}

// check verifies a pack with Check.
func check(t *testing.T, path string, key []byte) (signed bool, err error) {
	t.Helper()
	files, closer, err := Open(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = closer.Close() }()
	if key == nil {
		_, signed, err = Check(files, nil)
		return signed, err
	}
	public, err := ParseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	_, signed, err = Check(files, public)
	return signed, err
}

// wantBroken fails unless err is a *BrokenError.
func wantBroken(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.As(err, new(*BrokenError)) {
		t.Errorf("%s: %v, want a *BrokenError", what, err)
	}
}

// TestCheck: Check accepts an unchanged directory or archive, signed or not.
func TestCheck(t *testing.T) {
	for _, name := range []string{"pack", "pack.zip"} {
		key, path := newLocalKey(t), filepath.Join(t.TempDir(), name)
		write(t, path, key)
		if signed, err := check(t, path, key.PublicKey()); err != nil || !signed {
			t.Errorf("%s: signed %v, %v", name, signed, err)
		}
		if signed, err := check(t, path, nil); err != nil || !signed {
			t.Errorf("%s, with the key in the pack: signed %v, %v", name, signed, err)
		}
		_, err := check(t, path, newLocalKey(t).PublicKey())
		wantBroken(t, name+", another key", err)
		bare := filepath.Join(t.TempDir(), name)
		write(t, bare, nil)
		for what, public := range map[string][]byte{"no": nil, "a": key.PublicKey()} {
			if signed, err := check(t, bare, public); err != nil || signed {
				t.Errorf("%s without a signature, with %s key: signed %v, %v", name, what, signed,
					err)
			}
		}
	}
}

// change changes a file while try runs.
func change(t *testing.T, path string, edit func([]byte) []byte, try func()) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, edit(bytes.Clone(before)), 0o600); err != nil {
		t.Fatal(err)
	}
	try()
	if err := os.WriteFile(path, before, 0o600); err != nil {
		t.Fatal(err)
	}
}

// flip returns a function that flips a bit of the byte at a position.
func flip(at int, bit byte) func([]byte) []byte {
	return func(text []byte) []byte {
		text[at] ^= bit
		return text
	}
}

// names returns the names of the files in a directory.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		list = append(list, entry.Name())
	}
	return list
}

// TestCheckFindsChanges: Check refuses each change of one bit in the signed statement, of one bit
// in any other file, and a missing or additional file.
func TestCheckFindsChanges(t *testing.T) {
	t.Parallel()
	key, dir := newLocalKey(t), filepath.Join(t.TempDir(), "pack")
	write(t, dir, key)
	for _, name := range names(t, dir) {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		step := int(info.Size())/3 + 1
		if name == BundleName {
			step = 5
		}
		for at := 0; at < int(info.Size()); at += step {
			for _, bit := range []byte{1, 1 << 5} {
				change(t, path, flip(at, bit), func() {
					_, err := check(t, dir, key.PublicKey())
					wantBroken(t, fmt.Sprintf("byte %d of %s", at, name), err)
				})
			}
		}
	}
	wantBrokenFiles(t, dir, key.PublicKey())
}

// wantBrokenFiles removes each file, and adds one.
func wantBrokenFiles(t *testing.T, dir string, key []byte) {
	t.Helper()
	aside := filepath.Join(t.TempDir(), "aside")
	for _, name := range names(t, dir) {
		if err := os.Rename(filepath.Join(dir, name), aside); err != nil {
			t.Fatal(err)
		}
		_, err := check(t, dir, key)
		wantBroken(t, "without "+name, err)
		if err := os.Rename(aside, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"more.csv", StatementName} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := check(t, dir, key)
		wantBroken(t, "with "+name, err)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoHalfPack: until Commit, nothing has the name of the pack, also if the process ends. Abort
// removes everything. A name that is in use is never replaced.
func TestNoHalfPack(t *testing.T) {
	for _, name := range []string{"pack", "pack.zip"} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		w := begin(t, path)
		failed := errors.New("disk full")
		err := w.Add("report.html", func(io.Writer) error { return failed })
		if !errors.Is(err, failed) {
			t.Errorf("%s: Add: %v", name, err)
		}
		if slices.Contains(names(t, dir), name) {
			t.Errorf("%s exists before Commit", name)
		}
		w.Abort()
		if left := names(t, dir); len(left) > 0 {
			t.Errorf("%s: Abort leaves %v", name, left)
		}
		w = begin(t, path)
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(); !errors.As(err, new(*ExistsError)) {
			t.Errorf("%s: Commit over a file: %v", name, err)
		}
		w.Abort()
		if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
			t.Errorf("%s was replaced by %q, %v", name, text, err)
		}
		if _, err := Create(path); !errors.As(err, new(*ExistsError)) {
			t.Errorf("%s: Create over a file: %v", name, err)
		}
	}
}

// TestNotSigned: without a signature, nothing is committed.
func TestNotSigned(t *testing.T) {
	dir, key := t.TempDir(), newLocalKey(t)
	key.err = errors.New("the key is disabled")
	w := begin(t, filepath.Join(dir, "pack"))
	if _, err := w.Seal(t.Context(), predicate(), key); !errors.Is(err, key.err) {
		t.Errorf("Seal: %v", err)
	}
	w.Abort()
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("it leaves %v", left)
	}
}

// script returns a copy of VERIFY.sh outside the pack, and the shells to try. It skips the test if
// a tool that the script needs is missing.
func script(t *testing.T) (path string, shells []string) {
	t.Helper()
	for _, tool := range []string{"openssl", "jq", "sha256sum", "sh"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: VERIFY.sh needs %s, which is not installed", tool)
		}
	}
	text, err := files.ReadFile("VERIFY.sh")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "VERIFY.sh")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, shell := range []string{"sh", "dash"} {
		found, err := exec.LookPath(shell)
		if err == nil {
			found, err = filepath.EvalSymlinks(found)
		}
		if err != nil {
			t.Logf("SKIPPED: VERIFY.sh is not tried with %s: %v", shell, err)
		} else if !slices.Contains(shells, found) { // sh can be dash
			shells = append(shells, found)
		}
	}
	return path, shells
}

// runScript runs VERIFY.sh and returns its output and its exit code.
func runScript(t *testing.T, shell string, args ...string) (string, int) {
	t.Helper()
	out, err := exec.Command(shell, args...).CombinedOutput()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	return string(out), code
}

// TestScript: VERIFY.sh accepts an unchanged pack, and refuses one changed byte in each file, a
// missing or additional file, another key, and a cut envelope.
func TestScript(t *testing.T) {
	t.Parallel()
	verify, shells := script(t)
	key, base := newLocalKey(t), t.TempDir()
	dir := filepath.Join(base, "a pack")
	write(t, dir, key)
	public, other := filepath.Join(base, "key.pem"), filepath.Join(base, "other.pem")
	for path, text := range map[string][]byte{
		public: key.PublicKey(),
		other:  newLocalKey(t).PublicKey(),
	} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, shell := range shells {
		want := func(what string, code int, args ...string) {
			t.Helper()
			out, got := runScript(t, shell, args...)
			if got != code || code == 1 && !strings.Contains(out, "REFUSED") {
				t.Errorf("%s, %s: exit code %d, want %d: %s", shell, what, got, code, out)
			}
		}
		want("intact", 0, verify, public, dir)
		if out, _ := runScript(t, shell, verify, public, dir); !strings.Contains(out,
			"exceptions.csv lists 6 of 150 exceptions.") {
			t.Errorf("%s: the exceptions are not stated: %s", shell, out)
		}
		want("the script in the pack", 0, filepath.Join(dir, "VERIFY.sh"))
		want("another key", 1, verify, other, dir)
		want("no key", 1, verify, filepath.Join(base, "none"), dir)
		refuse := func(what string) {
			t.Helper()
			want(what, 1, verify, public, dir)
		}
		for _, name := range names(t, dir) {
			path := filepath.Join(dir, name)
			change(t, path, func(text []byte) []byte { return flip(len(text)/2, 1)(text) },
				func() { refuse("a changed byte in " + name) })
		}
		report := filepath.Join(dir, "report.json")
		if err := os.Rename(report, report+".away"); err != nil {
			t.Fatal(err)
		}
		refuse("a missing file")
		if err := os.Rename(report+".away", report); err != nil {
			t.Fatal(err)
		}
		bundleChanges(t, dir, refuse)
		more := filepath.Join(dir, ".more")
		if err := os.WriteFile(more, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		refuse("an additional file")
		if err := os.Remove(more); err != nil {
			t.Fatal(err)
		}
		want("intact again", 0, verify, public, dir)
	}
}

// bundleChanges calls refuse with a bundle that was changed.
func bundleChanges(t *testing.T, dir string, refuse func(what string)) {
	t.Helper()
	path := filepath.Join(dir, BundleName)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 3; at < len(text); at += len(text)/5 + 1 {
		change(t, path, flip(at, 1), func() { refuse(fmt.Sprintf("byte %d of the bundle", at)) })
	}
	for what, edit := range map[string]func([]byte) []byte{
		"a cut envelope": func(text []byte) []byte { return text[:len(text)*2/3] },
		"an empty file":  func([]byte) []byte { return nil },
		"no signature": func(text []byte) []byte {
			at := bytes.Index(text, []byte(`"sig": "`)) + len(`"sig": "`)
			return append(text[:at], []byte("\"\n}]}}\n")...)
		},
		"another hint": func(text []byte) []byte {
			return bytes.Replace(text, []byte("key/evidence"), []byte("key/evidencf"), 1)
		},
	} {
		change(t, path, edit, func() { refuse(what) })
	}
}

// TestScriptNotSigned: VERIFY.sh exits with 2 if a pack has no signature, and with 1 if it has none
// and a key was given.
func TestScriptNotSigned(t *testing.T) {
	verify, shells := script(t)
	base := t.TempDir()
	dir, public := filepath.Join(base, "pack"), filepath.Join(base, "key.pem")
	write(t, dir, nil)
	if err := os.WriteFile(public, newLocalKey(t).PublicKey(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, shell := range shells {
		if out, code := runScript(t, shell, verify, "", dir); code != 2 {
			t.Errorf("%s: exit code %d, want 2: %s", shell, code, out)
		}
		if out, code := runScript(t, shell, verify, public, dir); code != 1 {
			t.Errorf("%s, with a key: exit code %d, want 1: %s", shell, code, out)
		}
		path := filepath.Join(dir, "report.json")
		change(t, path, flip(0, 1), func() {
			if out, code := runScript(t, shell, verify, "", dir); code != 1 {
				t.Errorf("%s, changed: exit code %d, want 1: %s", shell, code, out)
			}
		})
	}
}
