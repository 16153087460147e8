package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// TestAlgorithmsOfKMS: the job file and its schema accept every algorithm of ReEncrypt, for
// source and destination keys. The test fails if a new version of the SDK has other
// algorithms.
func TestAlgorithmsOfKMS(t *testing.T) {
	algorithms := types.EncryptionAlgorithmSpec("").Values()
	if len(algorithms) < 4 {
		t.Fatalf("the SDK has only the algorithms %v", algorithms)
	}
	for _, algorithm := range algorithms {
		text := fmt.Sprintf("job: j\nsource: { keys: [alias/old], algorithm: %[1]s }\n"+
			"destination: { key: alias/new, algorithm: %[1]s }\n"+
			"targets: [{ dynamodb: { table: t }, format: raw, slots: [{ path: p }] }]\n", algorithm)
		job, err := Parse("job.yaml", []byte(text), func(string) (string, bool) {
			return "", false
		})
		if err != nil {
			t.Errorf("%s: %v", algorithm, err)
			continue
		}
		if job.Source.Algorithm != string(algorithm) ||
			job.Destination.Algorithm != string(algorithm) {
			t.Errorf("%s: %+v, %+v", algorithm, job.Source, job.Destination)
		}
		if asymmetric(string(algorithm)) ==
			(algorithm == types.EncryptionAlgorithmSpecSymmetricDefault) {
			t.Errorf("%s: asymmetric is %v", algorithm, asymmetric(string(algorithm)))
		}
	}
	for _, algorithm := range asymmetricAlgorithms() {
		if !slices.Contains(algorithms, types.EncryptionAlgorithmSpec(algorithm)) {
			t.Errorf("KMS has no algorithm %s", algorithm)
		}
	}
}

// TestKeyForms: a key is a key ID or an alias, each also as an ARN. The name of an alias has at
// most 250 bytes.
func TestKeyForms(t *testing.T) {
	const arn = "arn:aws:kms:eu-west-1:111122223333:"
	id, multi := "12345678-1234-1234-1234-123456789012", "mrk-"+strings.Repeat("a", 32)
	longest := strings.Repeat("a", 250)
	for key, want := range map[string]bool{
		id: true, multi: true, arn + "key/" + id: true, arn + "key/" + multi: true,
		"alias/a": true, arn + "alias/a": true, "alias/" + longest: true,
		arn + "alias/" + longest: true,

		"": false, "a": false, longest + "a": false, "alias/": false, arn + id: false,
		arn + "key/alias/a": false, "key/" + id: false, "alias/" + longest + "a": false,
		arn + "alias/" + longest + "a": false, "alias/a b": false, " alias/a": false,
	} {
		c := &checker{job: &Job{}}
		if c.key("key", key); (len(c.list) == 0) != want {
			t.Errorf("%q is accepted: %v, want %v", key, !want, want)
		}
	}
}
