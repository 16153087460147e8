package config

import (
	"cmp"
	"strings"
	"testing"
)

// fingerprintCase is a job and the fingerprint that released versions store for it.
type fingerprintCase struct {
	name, text string
	want       string
	// before is the fingerprint of the same job in earlier versions, if it differs.
	before string
}

func fingerprintCases() []fingerprintCase {
	return []fingerprintCase{
		{
			name: "table",
			text: `
destination: { key: alias/new }
source: { keys: [alias/old, alias/older] }
targets:
  - name: customers
    dynamodb: { table: t, region: eu-west-1, endpoint: "http://127.0.0.1:1" }
    format: base64
    instruction_suffix: .x
    slots:
      - { path: ssn, context: { id: "${id}" }, destination_context: {} }
      - { path: pin, pattern: "a(.)", padding: always, stop_after: 3, may_be_empty: true }
`,
			want: "8be311f844721a6426b5ef3e05afc314e6378b48848817f207c2df7f061b5f05",
		},
		{
			name: "bucket and directory",
			text: `
destination: { key: alias/new }
source: { any: true }
kms: { rate: 5 }
workers: 3
targets:
  - s3:
      bucket: bucket
      prefix: p/
      key_pattern: "(?P<a>.)"
      include: ["*.a"]
      exclude: [b]
      complete: r
    format: sops
  - s3: { bucket: whole }
    format: auto
    context: { a: b }
  - files: { root: /data, include: ["**"], exclude: ["c/**"], key_pattern: x }
    format: credstash
    destination_context: {}
    context_file: { path: contexts.json, name: "${name}" }
`,
			want: "403c217d5195309f1531fad9906b22e3e2295723f10792ef37247885f6dba6c5",
		},
		{
			name: "asymmetric destination",
			text: `
destination: { key: alias/rsa, algorithm: RSAES_OAEP_SHA_256 }
source: { keys: [alias/old] }
targets:
  - dynamodb: { table: t }
    format: raw
    slots: [{ path: p, context: { a: b }, destination_context: {} }]
`,
			want:   "2d0e5355e7d5e9a1f5db333c698c5f5dcb8d7ec48db9e46c5019ffdf24961cfd",
			before: "f96158d1c9811cda652aec22c60f9dbcf2cd3cee9413e6137ddea6dd9880254f",
		},
	}
}

// TestFingerprints: the fingerprint of a job does not change, because rotator
// stores it with a pass and resumes the pass only if it is the same.
func TestFingerprints(t *testing.T) {
	for _, test := range fingerprintCases() {
		t.Run(test.name, func(t *testing.T) {
			job := load(t, "job: j\n"+strings.TrimPrefix(test.text, "\n"))
			got, err := job.Fingerprint()
			if err != nil || got != test.want {
				t.Errorf("fingerprint %s, %v, want %s", got, err, test.want)
			}
			before, err := job.FingerprintBefore()
			if want := cmp.Or(test.before, test.want); err != nil || before != want {
				t.Errorf("fingerprint of earlier versions %s, %v, want %s", before, err, want)
			}
		})
	}
}

// upgradeCase is the job of a stored pass and the job of the same file after an upgrade.
type upgradeCase struct {
	name        string
	before, now *Job
	want        bool
}

func upgradeCases(t *testing.T) []upgradeCase {
	const text = `job: j
destination: {key: alias/a, algorithm: ALGORITHM}
source: {keys: [alias/a]}
targets:
  - dynamodb: {table: t}
    format: raw
    slots: [{path: p, context: {c: d}, MORE}]
`
	const symmetric, rsa = "SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_256"
	const empty = ", destination_context: {}"
	job := func(algorithm, more, mode string) *Job {
		t.Helper()
		fields := strings.NewReplacer("ALGORITHM", algorithm, ", MORE", more)
		return load(t, mode+fields.Replace(text))
	}
	return []upgradeCase{
		{
			"mode added",
			job(symmetric, "", ""),
			job(symmetric, "", "mode: refresh\n"),
			true,
		},
		{
			"mode context added",
			job(symmetric, empty, ""),
			job(symmetric, empty, "mode: context\n"),
			true,
		},
		{
			"empty context under an asymmetric key added",
			job(rsa, "", ""),
			job(rsa, empty, ""),
			true,
		},
		{
			"unchanged",
			job(rsa, empty, ""),
			job(rsa, empty, ""),
			true,
		},
		{
			"context removed",
			job(symmetric, "", ""),
			job(symmetric, empty, ""),
			false,
		},
		{
			"context changed",
			job(symmetric, "", ""),
			job(symmetric, ", destination_context: {x: y}", ""),
			false,
		},
	}
}

// TestHasFingerprint: a pass can be resumed after an upgrade that requires the user to add a
// field which does not change the work.
func TestHasFingerprint(t *testing.T) {
	for _, test := range upgradeCases(t) {
		stored, err := test.before.Fingerprint()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := test.now.HasFingerprint(stored); err != nil || got != test.want {
			t.Errorf("%s: HasFingerprint returns %v, %v, want %v", test.name, got, err, test.want)
		}
	}
}
