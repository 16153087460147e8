package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/harness"
	"rotator/internal/report"
)

// vault is a directory with a job file and a directory export, whose files hold ciphertexts of a
// fake KMS.
type vault struct {
	t        *testing.T
	server   *fakeaws.Server
	kms      *kms.Client
	dir      string
	old, new string
	secrets  map[string]string // plaintexts of the base64 files by path below export
}

func newVault(t *testing.T, job string) *vault {
	server, err := fakeaws.Start(fakeaws.Config{})
	v := &vault{t: t, server: server, dir: t.TempDir(), secrets: map[string]string{}}
	v.must(err)
	t.Cleanup(func() { _ = server.Close() })
	harness.Watch(t, server)
	v.kms = kms.NewFromConfig(aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(server.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider(harness.ApplicationKey,
			"not-a-secret", ""),
	})
	for alias, arn := range map[string]*string{"alias/old": &v.old, "alias/new": &v.new} {
		*arn, err = server.KMS().CreateKey(fakekms.Symmetric)
		v.must(err)
		v.must(server.KMS().SetAlias(alias, *arn))
	}
	v.file("job.yaml",
		"job: vault\ndestination: {key: alias/new}\nsource: {keys: [alias/old]}\ntargets:\n"+job)
	v.must(os.MkdirAll(filepath.Join(v.dir, "export"), 0o755))
	return v
}

func (v *vault) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

func (v *vault) file(path, text string) {
	path = filepath.Join(v.dir, path)
	v.must(os.MkdirAll(filepath.Dir(path), 0o755))
	v.must(os.WriteFile(path, []byte(text), 0o640))
}

// blob encrypts under the old key.
func (v *vault) blob(plaintext, path string) string {
	blob, err := v.server.KMS().Encrypt(v.old, []byte(plaintext), map[string]string{"path": path})
	v.must(err)
	return base64.StdEncoding.EncodeToString(blob)
}

// seal writes a file that consists of a ciphertext in base64.
func (v *vault) seal(path string) {
	v.secrets[path] = "secret of " + path
	v.file("export/"+path, v.blob(v.secrets[path], path)+"\n")
}

// opens fails the test unless a ciphertext decrypts to want.
func (v *vault) opens(text, path, want string) {
	v.t.Helper()
	blob, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	v.must(err)
	out, err := v.kms.Decrypt(v.t.Context(), &kms.DecryptInput{
		CiphertextBlob:    blob,
		EncryptionContext: map[string]string{"path": path},
	})
	if err != nil || string(out.Plaintext) != want {
		v.t.Errorf("%q: %v", path, err)
	}
}

// allOpen fails the test unless every sealed file decrypts and there are no other files.
func (v *vault) allOpen() {
	v.t.Helper()
	content := v.content()
	for path, want := range v.secrets {
		v.opens(content[path], path, want)
		delete(content, path)
	}
	if len(content) > 0 {
		v.t.Errorf("there are further files: %q", slices.Sorted(maps.Keys(content)))
	}
}

// content returns the content of every file in export.
func (v *vault) content() map[string]string {
	v.t.Helper()
	content := map[string]string{}
	root := filepath.Join(v.dir, "export")
	v.must(filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		key, _ := filepath.Rel(root, path)
		content[key] = string(text)
		return err
	}))
	return content
}

// command returns rotator as a process that is not started.
func (v *vault) command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], append(args, "-f", "job.yaml")...)
	cmd.Dir = v.dir
	cmd.Env = append(os.Environ(), v.server.AWSEnv()...)
	return cmd
}

// rotator runs a command that prints JSON and must exit with the given code.
func (v *vault) rotator(code int, args ...string) report.Summary {
	v.t.Helper()
	cmd := v.command(append(args, "-o", "json")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if got := exitOf(v.t, err); got != code {
		v.t.Fatalf("rotator %q exited with %d, want %d\n%s%s", args, got, code, out, stderr.Bytes())
	}
	var summary report.Summary
	v.must(json.Unmarshal(out, &summary))
	return summary
}

func exitOf(t *testing.T, err error) int {
	exit := (*exec.ExitError)(nil)
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit == nil {
		return 0
	}
	return exit.ExitCode()
}

const sealedFiles = `  - name: vault
    files: {root: export, exclude: ["skip"]}
    format: base64
    slots: [{context: {path: "${key}"}}]
`

// TestFiles migrates files with unusual names, from audit to verify. One file is refused.
func TestFiles(t *testing.T) {
	t.Parallel()
	v := newVault(t, sealedFiles)
	for n := range 260 { // several pages
		v.seal(fmt.Sprintf("%c/%d/é\n\"<%d>.enc", 'a'+n%3, n%7, n))
	}
	v.seal(`"quoted"`)
	v.seal(".rotator-new-short")
	before := v.content()
	n := len(before)
	v.file("outside", "not to be read")
	v.must(os.Symlink("../outside", filepath.Join(v.dir, "export", "link")))
	v.file("export/skip/garbage", "garbage")

	if s := v.rotator(exitRemaining, "audit",
		"--fail-on-remaining"); s.Slots.Remaining != int64(n) || s.Slots.Seen != int64(n) {
		t.Errorf("audit: %+v", s.Slots)
	}
	after := v.content()
	delete(after, "skip/garbage")
	if !maps.Equal(before, after) {
		t.Error("audit changed files")
	}
	v.must(os.Link(filepath.Join(v.dir, "export", `"quoted"`), filepath.Join(v.dir, "second name")))
	if s := v.rotator(exitExceptions, "run"); s.Slots.Rotated != int64(n-1) ||
		s.Slots.Failed != 1 || s.Items.Written != int64(n-1) || s.Reasons[0].Reason != "hard-link" {
		t.Errorf("run: %+v %+v %+v", s.Slots, s.Items, s.Reasons)
	}
	v.must(os.Remove(filepath.Join(v.dir, "second name")))
	if s := v.rotator(exitDone, "retry"); s.Slots.Rotated != int64(n) || s.Slots.Failed != 0 {
		t.Errorf("retry: %+v", s.Slots)
	}
	if s := v.rotator(exitDone, "verify"); !s.Converged || s.Slots.Current != int64(n) {
		t.Errorf("verify: %+v", s.Slots)
	}
	v.must(exec.Command("rm", "-r", filepath.Join(v.dir, "export", "skip")).Run())
	v.must(v.server.KMS().SetState(v.old, fakekms.Disabled))
	v.allOpen()
}

// TestFilesBesideTheirJob: rotator's own files in a target are not items. A file whose name is not
// UTF-8 is moved.
func TestFilesBesideTheirJob(t *testing.T) {
	t.Parallel()
	v := newVault(t, `  - files: {root: .}
    format: base64
    slots: [{context: {path: fixed}}]
`)
	v.file("export/bad\xff\"name", v.blob("secret", "fixed"))
	for pass := 1; pass <= 2; pass++ {
		if s := v.rotator(exitDone, "run"); s.Items.Seen != 1 || s.Slots.Rotated != int64(2-pass) {
			t.Errorf("pass %d: %+v %+v %q", pass, s.Items, s.Slots, s.Notes)
		}
	}
	v.must(v.server.KMS().SetState(v.old, fakekms.Disabled))
	v.opens(v.content()["bad\xff\"name"], "fixed", "secret")
}

// TestFilesOfAnExport rewrites a DynamoDB export in JSON Lines as in
// deploy/examples/files-jsonl.yaml. Only the ciphertexts change.
func TestFilesOfAnExport(t *testing.T) {
	t.Parallel()
	v := newVault(t, `  - files: {root: export, include: ["data/**/*.json"]}
    format: jsonl
    slots: [{path: Item.ssn.B, context: {path: "${body.Item.id.S}"}}]
`)
	const files, lines = 3, 100
	line := func(id, blob string) string {
		return fmt.Sprintf(
			"{ \"Item\":{\"id\":{\"S\":%q},\"n\":{\"N\":\"1e0\"},\"ssn\":{\"B\":%q}} }", id, blob)
	}
	for f := range files {
		var text strings.Builder
		for n := range lines {
			id := fmt.Sprintf("id-%d-%d", f, n)
			text.WriteString(line(id, v.blob(id, id)) + "\r\n")
		}
		// no line break at the end
		v.file(fmt.Sprintf("export/data/%d.json", f), text.String()+"\n{\"Item\":{}}")
	}
	v.file("export/manifest.json", "{}")
	if s := v.rotator(exitDone, "run"); s.Slots.Rotated != files*lines || s.Items.Written != files {
		t.Errorf("run: %+v %+v", s.Slots, s.Items)
	}
	if s := v.rotator(exitDone, "verify"); !s.Converged {
		t.Errorf("verify: %+v", s.Slots)
	}
	v.must(v.server.KMS().SetState(v.old, fakekms.Disabled))
	for f := range files {
		text := strings.Split(v.content()[fmt.Sprintf("data/%d.json", f)], "\r\n")
		if len(text) != lines+1 || text[lines] != "\n{\"Item\":{}}" {
			t.Fatalf("file %d has %d lines and ends with %q", f, len(text), text[len(text)-1])
		}
		for n, got := range text[:lines] {
			id := fmt.Sprintf("id-%d-%d", f, n)
			var parsed struct {
				Item struct{ SSN struct{ B string } }
			}
			v.must(json.Unmarshal([]byte(got), &parsed))
			v.opens(parsed.Item.SSN.B, id, id)
			if want := line(id, parsed.Item.SSN.B); got != want {
				t.Errorf("line %q, want %q", got, want)
			}
		}
	}
}

// TestFilesSurviveKills kills the run repeatedly while another program replaces files by new ones
// under the old key. In the end every file has the content that was written last.
func TestFilesSurviveKills(t *testing.T) {
	t.Parallel()
	v := newVault(t, sealedFiles+"kms: {rate: 400}\n")
	for n := range 120 {
		v.seal(fmt.Sprintf("%d/%d", n%5, n))
	}
	paths := slices.Sorted(maps.Keys(v.secrets))
	kills, writes := 0, 0
	for finished := false; !finished; {
		cmd := v.command("run")
		v.must(cmd.Start())
		over := make(chan error, 1)
		go func() { over <- cmd.Wait() }()
		kill := time.After(time.Duration(rand.IntN(400*(kills+1))) * time.Millisecond)
		for dead := false; !dead; {
			select {
			case err := <-over:
				finished = exitOf(t, err) == exitDone
				if !finished && cmd.ProcessState.Exited() {
					t.Fatalf("run ended with %d", exitOf(t, err))
				}
				dead = true
			case <-kill:
				v.must(cmd.Process.Kill())
				kills++
			case <-time.After(10 * time.Millisecond):
				writes++
				path := paths[rand.IntN(len(paths))]
				v.secrets[path] = fmt.Sprintf("new secret %d of %s", writes, path)
				v.file("new", v.blob(v.secrets[path], path))
				v.must(os.Rename(filepath.Join(v.dir, "new"), filepath.Join(v.dir, "export", path)))
			}
		}
	}
	if kills == 0 || writes == 0 {
		t.Errorf("%d kills and %d replaced files, want more", kills, writes)
	}
	for range 3 { // for files that were created before the cursor, and then for the proof
		if v.rotator(exitDone, "run").Converged {
			break
		}
	}
	v.must(v.server.KMS().SetState(v.old, fakekms.Disabled))
	v.allOpen()
	t.Logf("killed %d times, %d files replaced", kills, writes)
}

// onSmallDisk runs a command twice with export on a small file system. The lines of shell before
// and between prepare the file system. It returns both exit codes.
func (v *vault) onSmallDisk(before, between string) string {
	v.t.Helper()
	if out, err := exec.Command("unshare", "-m", "sh", "-c",
		"mount -t tmpfs tmpfs "+v.t.TempDir()).CombinedOutput(); err != nil {
		v.t.Skipf("SKIPPED: no file system can be mounted here (%v: %s)", err, bytes.TrimSpace(out))
	}
	export := filepath.Join(v.dir, "export")
	script := fmt.Sprintf(`set -e
cp -a %[1]s %[1]s.in; mount -t tmpfs -o size=1m tmpfs %[1]s; cp -a %[1]s.in/. %[1]s/; %[2]s
set +e; "$0" "$@"; first=$?; set -e; find %[1]s -name '.rotator-*' >&2; %[3]s
set +e; "$0" "$@"; echo $first $?
cp -a %[1]s/. %[1]s.in/; umount %[1]s; rm -r %[1]s; mv %[1]s.in %[1]s`,
		export, before, between)
	p := v.command("run")
	cmd := exec.Command("unshare", append([]string{"-m", "sh", "-c", script}, p.Args...)...)
	cmd.Dir, cmd.Env = p.Dir, p.Env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		v.t.Fatalf("%v\n%s%s", err, out, stderr.Bytes())
	}
	if strings.Contains(stderr.String(), "/.rotator-") {
		v.t.Errorf("a temporary file is left: %s", stderr.Bytes())
	}
	codes := strings.Split(strings.TrimSpace(string(out)), "\n")
	return codes[len(codes)-1]
}

// TestFilesOnAFullDisk: a full disk stops the run with 73, and no slot counts as failed. With free
// space the next run completes.
func TestFilesOnAFullDisk(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][2]string{
		"full":      {"head -c 2m /dev/zero >export/fill || true", "rm export/fill"},
		"read-only": {"mount -o remount,ro export", "mount -o remount,rw export"},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, strings.Replace(sealedFiles, "skip", "fill", 1))
			for n := range 40 {
				v.seal(fmt.Sprintf("%d/%d", n%4, n))
			}
			if got := v.onSmallDisk(lines[0], lines[1]); got != "73 0" {
				t.Errorf("exit codes %s, want 73 0", got)
			}
			v.must(v.server.KMS().SetState(v.old, fakekms.Disabled))
			v.allOpen()
		})
	}
}
