package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"rotator/internal/report"
)

// TestLargeObject moves an object of 6 GiB, which is too large for one copy, with the data key in
// its metadata. No byte of its body passes through rotator.
func TestLargeObject(t *testing.T) {
	t.Parallel()
	const key, size = "backup.tar", 6 << 30
	m := newMixed(t, 0)
	v := varieties()[0]
	if err := m.put(t.Context(), key, v); err != nil {
		t.Fatal(err)
	}
	if err := m.server.S3().Zeros(mixedBucket, key, size, 512<<20); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "job.yaml")
	job := fmt.Sprintf("job: large\ndestination: { key: %q }\nsource: { keys: [%q] }\ntargets:\n"+
		"  - s3: { bucket: %s }\n    format: s3-encryption-client\n",
		m.keys["new"], m.keys["old"], mixedBucket)
	if err := os.WriteFile(file, []byte(job), 0o600); err != nil {
		t.Fatal(err)
	}
	received, sent := m.server.S3().Traffic()
	code, out, errs := command(t, m.env, "run", "-f", file, "-o", "json")
	var summary report.Summary
	if err := json.Unmarshal([]byte(out), &summary); err != nil || code != exitDone ||
		summary.Slots.Rotated != 1 {
		t.Fatalf("exit code %d, %v: %s%s", code, err, out, errs)
	}
	nowReceived, nowSent := m.server.S3().Traffic()
	passed := nowReceived - received + nowSent - sent
	t.Logf("%d bytes of requests and responses for an object of %d bytes", passed, int64(size))
	if passed > 1<<20 {
		t.Errorf("%d bytes passed through rotator", passed)
	}
	after := m.server.S3().Versions(mixedBucket)[key]
	if len(after) != 1 || after[0].Size != size {
		t.Fatalf("the object has %d versions, the first of %d bytes", len(after), after[0].Size)
	}
	blob, err := base64.StdEncoding.DecodeString(after[0].Headers.Get("X-Amz-Meta-X-Amz-Key-V2"))
	if err != nil {
		t.Fatal(err)
	}
	plaintext, _, err := m.server.KMS().Decrypt(m.keys["new"], blob, v.context)
	if err != nil || string(plaintext) != "secret of "+key {
		t.Errorf("the data key is %q, %v", plaintext, err)
	}
}
