package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rotator/internal/config"
	"rotator/internal/rotate"
)

// TestTinkEnvelopesStaySymmetric: Tink asks for a data key as under a symmetric key,
// so its envelopes are refused beside an RSA key, wherever a slot has them.
func TestTinkEnvelopesStaySymmetric(t *testing.T) {
	t.Parallel()
	for target, refused := range map[string]bool{
		"dynamodb: {table: t}\n    format: tink-envelope\n    slots: [{path: a}]":                                 true,
		"dynamodb: {table: t}\n    format: raw\n    slots: [{path: a}, {path: b, format: tink-envelope}]":         true,
		"s3: {bucket: b}\n    format: tink-envelope":                                                              true,
		"dynamodb: {table: t}\n    format: length-prefixed-u32be\n    slots: [{path: a}, {path: b, format: raw}]": false,
	} {
		file := filepath.Join(t.TempDir(), "job.yaml")
		text := "job: j\ndestination: {key: alias/new, algorithm: RSAES_OAEP_SHA_256}\nsource: {keys: [alias/old]}\ntargets:\n  - " + target + "\n"
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
		err = symmetric(job, bindFormats(templates, rotate.Keys{}), rotate.Keys{SourceAlgorithm: "RSAES_OAEP_SHA_256"})
		if (err != nil) != refused || err != nil && !strings.Contains(err.Error(), "readers of format tink-envelope support only symmetric keys") {
			t.Errorf("%s: %v", target, err)
		}
	}
}
