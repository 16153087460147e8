package config

import (
	"fmt"
	"slices"
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
