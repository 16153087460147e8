package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"rotator/internal/fakeaws/fault"
)

// signingKey creates a key that signs and returns its ARN.
func (b *crashBench) signingKey(t *testing.T) string {
	t.Helper()
	out, err := kms.NewFromConfig(b.aws).CreateKey(t.Context(), &kms.CreateKeyInput{
		KeySpec:  types.KeySpecEccNistP256,
		KeyUsage: types.KeyUsageTypeSignVerify,
	})
	if err != nil {
		t.Fatal(err)
	}
	return *out.KeyMetadata.Arn
}

// checks runs evidence --check, which must end with an exit code, and returns its stderr.
func (b *crashBench) checks(t *testing.T, code int, args ...string) (log string) {
	t.Helper()
	cmd, stdout, stderr := b.command(t.Context(),
		append([]string{"evidence", "--check"}, args...)...)
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("%v ended with %d, want %d\n%s%s", cmd.Args, got, code, stdout, stderr)
	}
	return stderr.String()
}

// packsIn returns the names in the directory of a bench that belong to packs.
func (b *crashBench) packsIn(t *testing.T) (found []string) {
	t.Helper()
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.Contains(entry.Name(), "pack") {
			found = append(found, entry.Name())
		}
	}
	return found
}

// TestEvidencePack: a pack is written once, and is verified by --check and by its own script. Each
// changed file is found.
func TestEvidencePack(t *testing.T) {
	t.Parallel()
	b := proven(t, "")
	key := b.signingKey(t)
	_, out, _ := b.rotator(t, exitDone, "evidence", "--out", "pack", "--sign", key)
	var result packResult
	if err := json.Unmarshal([]byte(out), &result); err != nil || result.Key != key ||
		result.RequestID == "" {
		t.Errorf("%v: %s", err, out)
	}
	b.checks(t, exitDone, "pack", "--key", "pack/evidence.pub")
	if script := filepath.Join(b.dir, "pack", "VERIFY.sh"); hasTools(t) {
		if text, err := exec.Command("sh", script).CombinedOutput(); err != nil {
			t.Errorf("VERIFY.sh: %v: %s", err, text)
		}
	}
	b.rotator(t, exitUsage, "evidence", "--out", "pack", "--sign", key)
	path := filepath.Join(b.dir, "pack", "crash.audit.jsonl")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if log := b.checks(t, exitInternal, "pack"); !strings.Contains(log,
		"crash.audit.jsonl was changed") {
		t.Error(log)
	}
	b.rotator(t, exitDone, "evidence", "--out", "pack.zip", "--no-logs", "--read-pass",
		"1")
	if log := b.checks(t, exitExceptions, "pack.zip"); !strings.Contains(log, "not signed") {
		t.Error(log)
	}
	if log := b.checks(t, exitExceptions, "pack.zip", "--key", "pack/evidence.pub"); !strings.
		Contains(log, "intact, but not signed, so the key of --key cannot be checked") {
		t.Error(log)
	}
}

// hasTools reports whether VERIFY.sh can run here.
func hasTools(t *testing.T) bool {
	t.Helper()
	for _, tool := range []string{"sh", "openssl", "jq", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Logf("SKIPPED: VERIFY.sh needs %s, which is not installed", tool)
			return false
		}
	}
	return true
}

// TestEvidenceKeys: a key that cannot or must not sign ends the command before anything is written.
func TestEvidenceKeys(t *testing.T) {
	t.Parallel()
	b := proven(t, "")
	key := b.signingKey(t)
	for name, c := range map[string]struct {
		key, want string
		code      int
	}{
		"the source key":           {b.old, "is a source key", exitJob},
		"a key that does not sign": {b.new, "symmetric", exitJob},
		"no key":                   {key[:len(key)-4] + "0000", "no such key", exitJob},
	} {
		_, _, log := b.rotator(t, c.code, "evidence", "--out", "pack", "--sign", c.key)
		if !strings.Contains(log, c.want) {
			t.Errorf("%s: %s", name, log)
		}
	}
	denied := fault.Fault{Kind: fault.Refusal, Answer: fault.Answer{
		Status: http.StatusBadRequest,
		Code:   "AccessDeniedException",
	}}
	b.server.Faults().Set("kms:Sign", denied)
	b.rotator(t, exitAccess, "evidence", "--out", "pack", "--sign", key)
	b.server.Faults().Set("kms:Sign", fault.Fault{})
	if _, err := kms.NewFromConfig(b.aws).DisableKey(t.Context(),
		&kms.DisableKeyInput{KeyId: &key}); err != nil {
		t.Fatal(err)
	}
	b.rotator(t, exitAccess, "evidence", "--out", "pack", "--sign", key)
	if left := b.packsIn(t); len(left) > 0 {
		t.Errorf("%v exist", left)
	}
}

// TestEvidenceKilled: after SIGKILL while a pack is written, or on a full disk, nothing exists
// under its name, and the next command writes it.
func TestEvidenceKilled(t *testing.T) {
	t.Parallel()
	b := proven(t, "")
	key := b.signingKey(t)
	b.server.Faults().Set("kms:Sign", fault.Fault{Delay: 5 * time.Second})
	cmd, _, log := b.command(t.Context(), "evidence", "--out", "pack", "--sign", key)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "a Sign request", func() bool { return b.server.Faults().Counts()["kms:Sign"] > 0 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if found := b.packsIn(t); slices.Contains(found, "pack") || len(found) != 1 {
		t.Errorf("SIGKILL leaves %v: %s", found, log)
	}
	b.server.Faults().Set("kms:Sign", fault.Fault{})
	full, _, log := b.command(t.Context(), "evidence", "--out", "pack", "--sign", key)
	full.Path = "/bin/sh"
	full.Args = append([]string{"sh", "-c", `ulimit -f 8 && exec "$0" "$@"`, os.Args[0]},
		full.Args[1:]...)
	_ = full.Run()
	if code := full.ProcessState.ExitCode(); code != exitStorage ||
		!strings.Contains(log.String(), "file too large") || slices.Contains(b.packsIn(t), "pack") {
		t.Errorf("the disk is full: exit code %d, %v: %s", code, b.packsIn(t), log)
	}
	b.rotator(t, exitDone, "evidence", "--out", "pack", "--sign", key)
	b.checks(t, exitDone, "pack")
}

// TestEvidenceHashWords: --hash-refs makes a valid pack also if addresses are words or numbers that
// occur in times, keys and sentences.
func TestEvidenceHashWords(t *testing.T) {
	t.Parallel()
	b := newCrashBench(t, 0, 1000)
	b.files(t, "raw")
	b.edit(t, "root: .", "root: data")
	b.put(t, "data/whole", b.blob(t, 0))
	names := []string{"2026", "is", "None", "a", "arn", "ada@example.com"}
	for _, name := range names {
		b.put(t, "data/"+name, "not a ciphertext")
	}
	b.rotator(t, exitExceptions, "run")
	b.rotator(t, exitExceptions, "evidence", "--out", "pack", "--hash-refs")
	b.checks(t, exitExceptions, "pack")
	rows, err := csv.NewReader(strings.NewReader(b.read(t, "pack/exceptions.csv"))).ReadAll()
	if err != nil || len(rows) != len(names)+1 {
		t.Fatalf("exceptions.csv: %v, %v", err, rows)
	}
	for _, row := range rows[1:] {
		if !strings.HasPrefix(row[1], "hmac-sha256:") {
			t.Errorf("exceptions.csv has the address %q", row[1])
		}
	}
	files, err := os.ReadDir(filepath.Join(b.dir, "pack"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text := b.read(t, "pack/"+file.Name())
		if strings.Contains(text, "ada@example.com") ||
			strings.Contains(text, `"ref": "`) && !strings.Contains(text, `"ref": "hmac-sha256:`) {
			t.Errorf("%s contains an address", file.Name())
		}
	}
}

// TestEvidenceHashRefs: with --hash-refs, no file of a pack contains an address of an item, and the
// salt is beside the pack. The same salt gives the same digests.
func TestEvidenceHashRefs(t *testing.T) {
	t.Parallel()
	b := newCrashBench(t, 5, 1000)
	b.edit(t, "context: {purpose: pii}", "context: {purpose: other}")
	b.rotator(t, exitExceptions, "run")
	for _, name := range []string{"pack1", "pack2"} {
		b.rotator(t, exitExceptions, "evidence", "--out", name, "--hash-refs", "--salt", "salt")
	}
	b.checks(t, exitExceptions, "pack1")
	if text := b.read(t, "pack1/evidence.statement.json"); !strings.Contains(
		strings.Join(strings.Fields(text), ""), `"exceptions":{"total":5,"listed":5}`) {
		t.Errorf("the statement does not count the exceptions: %s", text)
	}
	one := b.read(t, "pack1/exceptions.csv")
	if one != b.read(t, "pack2/exceptions.csv") || strings.Count(one, "hmac-sha256:") != 5 {
		t.Errorf("exceptions.csv: %s", one)
	}
	salt := bytes.TrimSpace([]byte(b.read(t, "salt")))
	info, err := os.Stat(filepath.Join(b.dir, "salt"))
	if err != nil || info.Mode().Perm() != 0o600 || len(salt) != 64 {
		t.Errorf("the salt: %v, %s", err, info.Mode())
	}
	err = filepath.WalkDir(filepath.Join(b.dir, "pack1"), func(
		path string, entry fs.DirEntry, err error,
	) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte("item-0000")) || bytes.Contains(text, salt) {
			t.Errorf("%s contains an address or the salt", entry.Name())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
