package clients

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/fakeaws/fakekms"
)

// safe is a bucket of sops files with the sops program, in the version of go.mod.
type safe struct {
	*Trial
	sops   string
	bucket string
}

func newSafe(t *Trial) *safe {
	// This builds the program in the build cache and prints its path.
	path, err := exec.Command("go", "tool", "-n", "sops").Output()
	t.Must(err)
	s := &safe{Trial: t, sops: strings.TrimSpace(string(path)), bucket: "conf"}
	for _, name := range []string{"SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE", "SOPS_KMS_ARN",
		"SOPS_AGE_RECIPIENTS"} {
		t.Unset(name)
	}
	t.Setenv("XDG_CONFIG_HOME", t.Dir)
	_, err = t.S3().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &s.bucket})
	t.Must(err)
	return s
}

// identity creates an age key and returns its secret key and its recipient.
func (s *safe) identity() (secret, recipient string) {
	s.Helper()
	identity, err := age.GenerateX25519Identity()
	s.Must(err)
	return identity.String(), identity.Recipient().String()
}

// put encrypts plain with sops and stores the file in the bucket.
func (s *safe) put(name, plain string, flags ...string) {
	s.Helper()
	path := filepath.Join(s.Dir, name)
	s.Must(os.WriteFile(path, []byte(plain), 0o600))
	text, err := s.Run(s.sops, append(append([]string{"encrypt"}, flags...), path)...)
	s.Must(err)
	s.Must(os.Remove(path))
	_, err = s.S3().PutObject(s.Context(), &s3.PutObjectInput{
		Bucket: &s.bucket,
		Key:    &name,
		Body:   strings.NewReader(text),
	})
	s.Must(err)
}

// get returns a file as it is stored.
func (s *safe) get(name string) []byte {
	s.Helper()
	out, err := s.S3().GetObject(s.Context(), &s3.GetObjectInput{Bucket: &s.bucket, Key: &name})
	s.Must(err)
	var b bytes.Buffer
	_, err = b.ReadFrom(out.Body)
	s.Must(err)
	return b.Bytes()
}

// reading returns a function that decrypts a file with sops, which also checks its MAC, and
// compares the plaintext with plain.
func (s *safe) reading(name, plain string, flags ...string) func() error {
	return func() error {
		path := filepath.Join(s.Dir, name)
		if err := os.WriteFile(path, s.get(name), 0o600); err != nil {
			return err
		}
		defer func() { _ = os.Remove(path) }()
		text, err := s.Run(s.sops, append(append([]string{"decrypt"}, flags...), path)...)
		if err != nil {
			return err
		}
		return Same(text, plain)
	}
}

// changed returns the names of the fields whose lines differ, without their values.
func changed(before, after []byte) (lines []string) {
	old, now := strings.Split(string(before), "\n"), strings.Split(string(after), "\n")
	if len(old) != len(now) {
		return []string{fmt.Sprintf("%d lines instead of %d", len(now), len(old))}
	}
	for i := range old {
		if old[i] != now[i] {
			name, _, _ := strings.Cut(strings.TrimLeft(strings.ReplaceAll(now[i], `"`, ""),
				" \t-"), ":")
			name, _, _ = strings.Cut(name, "=")
			lines = append(lines, strings.TrimSpace(name))
		}
	}
	return lines
}

const safeTargets = "  - s3: {bucket: conf}\n    format: sops\n"

// sopsFiles returns a plaintext for each of the five file types, in the form in which sops decrypts
// it.
func sopsFiles() map[string]string {
	return map[string]string{
		"app.yaml": "# a comment\ndb:\n    # another\n    password: a secret\n" +
			"    ports:\n        - 5432\n        - 5433\n    enc: a field of the same name\n",
		"app.json": "{\n\t\"db\": {\n\t\t\"password\": \"a \\u003csecret\\u003e\",\n" +
			"\t\t\"enc\": \"a field of the same name\"\n\t},\n\t\"port\": 5432\n}\n",
		"app.env": "# a comment\nPASSWORD=a secret\nenc=x\nPORT=5432\n",
		"app.ini": "; a comment\n[db]\npassword = a secret\nport     = 5432\n",
		"app.bin": "any\x00bytes\xff\n",
	}
}

func TestSops(t *testing.T) {
	s := newSafe(NewTrial(t))
	read, before := map[string]func() error{}, map[string][]byte{}
	for name, plain := range sopsFiles() {
		s.put(name, plain, "--kms", s.A, "--encryption-context", "tenant:t-1,purpose:conf")
		read[name], before[name] = s.reading(name, plain), s.get(name)
	}
	s.Judge(Subject{Targets: safeTargets, Slots: len(read), Read: read})
	want := map[string]string{
		"app.yaml": "arn enc",
		"app.json": "arn enc",
		"app.bin":  "arn enc",
		"app.env":  "sops_kms__list_0__map_arn sops_kms__list_0__map_enc",
		"app.ini":  "kms__list_0__map_arn kms__list_0__map_enc",
	}
	for name, lines := range want {
		if got := strings.Join(slices.Sorted(slices.Values(changed(before[name], s.get(name)))),
			" "); got != lines {
			t.Errorf("%s: lines %q changed, want %q", name, got, lines)
		}
	}
}

// TestSopsDirectory: the same files in a directory, where sops files usually are. A file that sops
// did not write does not change.
func TestSopsDirectory(t *testing.T) {
	s := newSafe(NewTrial(t))
	s.Must(os.MkdirAll(filepath.Join(s.Dir, "conf", "prod"), 0o700))
	read := map[string]func() error{}
	for name, plain := range sopsFiles() {
		path := filepath.Join(s.Dir, "conf", "prod", name)
		s.Must(os.WriteFile(path, []byte(plain), 0o640))
		_, err := s.Run(s.sops, "encrypt", "--in-place", "--kms", s.A, path)
		s.Must(err)
		read[name] = func() error {
			text, err := s.Run(s.sops, "decrypt", path)
			return errors.Join(err, Same(text, plain))
		}
	}
	s.Must(os.WriteFile(filepath.Join(s.Dir, "conf", "README.yaml"), []byte("kms: no\n"), 0o640))
	s.Judge(Subject{
		Targets: "  - files: {root: conf, include: [\"**/*\"]}\n    format: sops\n",
		Slots:   len(read),
		Read:    read,
	})
}

// TestSopsShamir: the data key is split into shares for three groups, of which a reader needs two.
// A encrypts the shares of two groups, with different contexts, and age the share of the third.
func TestSopsShamir(t *testing.T) {
	s := newSafe(NewTrial(t))
	secret, recipient := s.identity()
	_, stranger := s.identity()
	rules := fmt.Sprintf(`creation_rules:
  - path_regex: two-of-three
    shamir_threshold: 2
    key_groups:
      - kms: [{arn: %[1]q, context: {share: "1"}}]
        age: [%[3]q]
      - kms: [{arn: %[1]q, context: {share: "2"}}]
      - age: [%[3]q]
  - path_regex: two-of-two
    shamir_threshold: 2
    key_groups:
      - kms: [{arn: %[1]q}]
      - age: [%[2]q]
`, s.A, recipient, stranger)
	s.Must(os.WriteFile(filepath.Join(s.Dir, ".sops.yaml"), []byte(rules), 0o600))
	yaml, json := sopsFiles()["app.yaml"], sopsFiles()["app.json"]
	s.put("two-of-three.yaml", yaml)
	s.put("two-of-three.json", json)
	s.put("two-of-two.yaml", yaml)
	s.Setenv("SOPS_AGE_KEY", secret)
	s.Judge(Subject{Targets: safeTargets, Slots: 5, Read: map[string]func() error{
		"two-of-three.yaml": s.reading("two-of-three.yaml", yaml),
		"two-of-three.json": s.reading("two-of-three.json", json),
		"two-of-two.yaml":   s.reading("two-of-two.yaml", yaml),
	}})
}

// TestSopsRecipients: a file has several recipients, of which only one uses key A. The entries of
// the other recipients do not change, in any order, and the other KMS key is foreign in the ledger.
func TestSopsRecipients(t *testing.T) {
	s := newSafe(NewTrial(t))
	other := s.NewKey()
	secret, recipient := s.identity()
	read := map[string]func() error{}
	orders := []string{s.A + "," + other, other + "," + s.A}
	for i, name := range slices.Sorted(maps.Keys(sopsFiles())) {
		plain := sopsFiles()[name]
		s.put(name, plain, "--kms", orders[i%2], "--age", recipient,
			"--encryption-context", "tenant:t-1")
		read[name] = s.reading(name, plain)
	}
	s.Must(s.AWS.KMS().SetState(other, fakekms.Disabled)) // the reader must not use it
	s.Judge(Subject{Targets: safeTargets, Slots: len(read), Exit: 3, Read: read})

	s.Setenv("SOPS_AGE_KEY", secret)
	s.Must(s.AWS.KMS().SetState(s.B, fakekms.Disabled))
	for name, one := range read {
		if err := one(); err != nil {
			t.Errorf("%s, as the recipient of age: %v", name, err)
		}
	}
	file := s.get("app.yaml")
	if !bytes.Contains(file, []byte(other)) || bytes.Contains(file, []byte(s.A)) {
		t.Error("the file must name the other key, and must not name A")
	}
}
