package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rotator/internal/config"
	"rotator/internal/reencrypt"
)

// TestTinkEnvelopesStaySymmetric: Tink decrypts a data key as under a symmetric key, so a job with
// an RSA key must refuse its envelopes, for each place of the format in the job file.
func TestTinkEnvelopesStaySymmetric(t *testing.T) {
	t.Parallel()
	const table, bucket = "dynamodb: {table: t}\n    format: ", "s3: {bucket: b}\n    format: "
	for target, refused := range map[string]bool{
		table + "tink-envelope\n    slots: [{path: a}]":                                 true,
		table + "raw\n    slots: [{path: a}, {path: b, format: tink-envelope}]":         true,
		bucket + "tink-envelope":                                                        true,
		table + "length-prefixed-u32be\n    slots: [{path: a}, {path: b, format: raw}]": false,
	} {
		err := symmetricError(t, target)
		const want = "readers of format tink-envelope support only symmetric keys"
		if (err != nil) != refused || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// symmetricError calls symmetric for a job with one target and RSA keys.
func symmetricError(t *testing.T, target string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "job.yaml")
	text := "job: j\ndestination: {key: alias/new, algorithm: RSAES_OAEP_SHA_256}\n" +
		"source: {keys: [alias/old]}\ntargets:\n  - " + target + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	job, err := config.Load(file, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	templates, err := compileFormats(job)
	if err != nil {
		t.Fatal(err)
	}
	keys := reencrypt.Keys{SourceAlgorithm: "RSAES_OAEP_SHA_256"}
	return symmetric(job, bindFormats(templates, reencrypt.Keys{}), keys)
}
