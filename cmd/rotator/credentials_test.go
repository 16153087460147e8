package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rotator/internal/fakeaws/fault"
	"rotator/internal/harness"
)

// credentialCase is an environment without usable credentials.
type credentialCase struct {
	name string
	env  []string
	want []string // in the first line of stderr
	code int      // default: exitAccess
}

// awsFile is a configuration file with profiles that cannot be used.
const awsFile = `[staging]
region = us-east-1
[profile role]
role_arn = arn:aws:iam::111122223333:role/x
[profile sourceless]
role_arn = arn:aws:iam::111122223333:role/x
source_profile = gone
[profile session]
sso_session = gone
sso_account_id = 111122223333
sso_role_name = x
[profile signin]
sso_session = s
sso_account_id = 111122223333
sso_role_name = x
[sso-session s]
sso_start_url = https://example.awsapps.com/start
sso_region = us-east-1
[profile process]
credential_process = exit 7
[profile half]
aws_access_key_id = AKIAHALF
[profile metadata]
role_arn = arn:aws:iam::111122223333:role/x
credential_source = Ec2InstanceMetadata
[profile environment]
role_arn = arn:aws:iam::111122223333:role/x
credential_source = Environment
[profile empty]
region = us-east-1
`

// credentialCases are the cases for a home directory with a configuration file. The SSO
// cache file of the session s is at the standard path there.
func credentialCases(home string) []credentialCase {
	file, gone := filepath.Join(home, ".aws", "config"), filepath.Join(home, "gone")
	token := filepath.Join(home, "no-token")
	profile := func(name string) []string { return []string{"AWS_PROFILE=" + name} }
	return []credentialCase{
		{"unknown profile", profile("absent"), []string{`there is no profile "absent" ` +
			`(AWS_PROFILE) in ` + file + " (no such profile) and ", "credentials (no such file)",
			"[profile absent]"}, 0},
		{"section without the word profile", profile("staging"),
			[]string{`there is no profile "staging"`, "[profile staging]"}, 0},
		{"configuration file that does not exist",
			append(profile("x"), "AWS_CONFIG_FILE="+gone), []string{gone + " (no such file)"}, 0},
		{"role without source", profile("role"), []string{`profile "role" (AWS_PROFILE) has ` +
			`role_arn, but none of source_profile, credential_source`}, 0},
		{"source profile that does not exist", profile("sourceless"),
			[]string{`source_profile "gone" of profile "sourceless"`, file}, 0},
		{"session without section", profile("session"),
			[]string{"sso_session = gone", "[sso-session gone]", file}, 0},
		{"no sign-in", profile("signin"), []string{`the sign-in of profile "signin"`,
			"expired at 2026-01-02T03:04:05Z", "aws sso login --profile signin"}, 0},
		{"credential_process", profile("process"),
			[]string{`credential_process of profile "process" (AWS_PROFILE) failed: exit status 7`},
			0},
		{"half of a key in a file", profile("half"), []string{"half", "partial credentials"}, 0},
		{"half of a key", []string{"AWS_ACCESS_KEY_ID=AKIAHALF"},
			[]string{"AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not"}, 0},
		{"web identity", []string{"AWS_WEB_IDENTITY_TOKEN_FILE=" + token,
			"AWS_ROLE_ARN=arn:aws:iam::111122223333:role/x"},
			[]string{"the web identity token file " + token + " cannot be read: no such file"}, 0},
		{"web identity without role", []string{"AWS_WEB_IDENTITY_TOKEN_FILE=" + token},
			[]string{"AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not"}, 0},
		{"credential_source metadata service", profile("metadata"),
			[]string{`credential_source Ec2InstanceMetadata of profile "metadata"`}, 0},
		{"credential_source environment", profile("environment"),
			[]string{`credential_source Environment ` +
				`of profile "environment" (AWS_PROFILE) gives no credentials: ` +
				`AWS_ACCESS_KEY_ID and`},
			0},
		{"none", profile("empty"), []string{"no credentials found. Looked in the environment",
			`profile "empty" of ` + file, "the container endpoint",
			"metadata service (turned off by AWS_EC2_METADATA_DISABLED)"}, 0},
		{"none, no metadata service", []string{"AWS_EC2_METADATA_DISABLED=false",
			"AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:1"},
			[]string{"no credentials found.", "(no response: dial tcp 127.0.0.1:1"}, 0},
		{"container endpoint does not respond",
			[]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:1/"},
			[]string{"the endpoint of container credentials (AWS_CONTAINER_CREDENTIALS_FULL_URI)",
				"connection refused"}, exitUnavailable},
		{"setting", []string{"AWS_MAX_ATTEMPTS=many"}, []string{"AWS_MAX_ATTEMPTS=many"}, 0},
		{"no Region", []string{"AWS_REGION=", "AWS_ACCESS_KEY_ID=AKIA",
			"AWS_SECRET_ACCESS_KEY=x"}, []string{"no AWS Region is set"}, exitJob},
	}
}

// TestMissingCredentials: without usable credentials commands exit with 77. The first line on
// stderr is the cause, and the chain of errors is printed only with -v.
func TestMissingCredentials(t *testing.T) {
	t.Parallel()
	w := newTrial(t, harness.Config{
		MaxOutage: "4s",
		Items:     map[harness.Kind]int{harness.Ordinary: 1},
		Objects:   map[harness.Kind]int{},
	})
	home := t.TempDir()
	for path, text := range map[string]string{
		".aws/config": awsFile,
		// The name is the SHA-1 of "s".
		".aws/sso/cache/a0f1490a20d0211c997b44bc357e1972deab8ae3.json": `{"accessToken": "x",
			"expiresAt": "2026-01-02T03:04:05Z"}`,
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(home, path)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(home, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range credentialCases(home) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.code == 0 {
				c.code = exitAccess
			}
			for _, verbose := range []bool{false, true} {
				args := []string{"audit"}
				if verbose {
					args = append(args, "-v")
				}
				p := w.Command(args...)
				p.Unset("AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_SESSION_TOKEN=",
					"AWS_CONFIG_FILE=", "AWS_SHARED_CREDENTIALS_FILE=")
				p.Env = append(append(p.Env, "HOME="+home), c.env...)
				checkCause(t, p.Begin(t).End(t), c.code, verbose, c.want...)
			}
		})
	}
}

// checkCause checks that the error of a command is its cause, and that the chain of the SDK
// is printed only with -v.
func checkCause(t *testing.T, r harness.Result, code int, verbose bool, want ...string) {
	t.Helper()
	_, errors, _ := strings.Cut("\n"+r.Log, "\nrotator: ")
	first, rest, _ := strings.Cut(errors, "\n")
	if r.Code != code {
		t.Errorf("want exit code %d: %s", code, r)
	}
	for _, part := range want {
		if !strings.Contains(first, part) {
			t.Errorf("the first line is %q, want %q: %s", first, part, r)
		}
	}
	for _, chain := range []string{"operation error", "get identity", "failed to refresh"} {
		if strings.Contains(first, chain) {
			t.Errorf("the first line contains %q of the error chain: %s", chain, first)
		}
	}
	if full := strings.Contains(rest, "rotator: in full: "); full != verbose && code == exitAccess {
		t.Errorf("-v is %v, but the chain is printed: %v: %s", verbose, full, r)
	}
}

// refusedCase is an operation that refuses the credentials, and the expected message.
type refusedCase struct {
	name, checkpoint, operation string
	fault                       fault.Fault
	command                     string
	env                         []string
	want                        []string
}

func refusedCases() []refusedCase {
	const key = "access key AKIAWORKERWORKER0000 of the environment"
	refusal := func(code, message string) fault.Fault {
		return fault.Fault{Kind: fault.Refusal,
			Answer: fault.Answer{Status: 403, Code: code, Message: message}}
	}
	expired := refusal("ExpiredTokenException", "The security token included in the request is "+
		"expired")
	s3Expired := refusal("ExpiredToken", "The provided token has expired.")
	unknown := []string{"the credentials have expired, it is unknown when: " + key,
		"Set AWS_ACCESS_KEY_ID"}
	return []refusedCase{
		{"KMS", "", "kms:DescribeKey", expired, "audit", nil, append(unknown, "KMS DescribeKey")},
		{"with a time", "", "kms:DescribeKey", expired, "run",
			[]string{"AWS_CREDENTIAL_EXPIRATION=2026-01-02T03:04:05Z"},
			[]string{"the credentials have expired at 2026-01-02T03:04:05Z: " + key}},
		{"table", "", "dynamodb:DescribeTable", expired, "run", nil,
			append(unknown, "DynamoDB DescribeTable: ExpiredTokenException")},
		{"bucket", "", "s3:ListObjectsV2", s3Expired, "run", nil,
			append(unknown, "S3 ListObjectsV2: ExpiredToken")},
		{"checkpoint in a table", harness.InTable, "dynamodb:GetItem", expired, "run", nil,
			append(unknown, "DynamoDB GetItem: ExpiredTokenException")},
		{"status", harness.InTable, "dynamodb:GetItem", expired, "status", nil, unknown},
		{"checkpoint in a bucket", harness.InBucket, "s3:GetObject", s3Expired, "run", nil,
			append(unknown, "S3 GetObject: ExpiredToken")},
		{"unknown key", "", "kms:DescribeKey", refusal("UnrecognizedClientException",
			"The security token included in the request is invalid."), "run", nil,
			[]string{"the credentials were refused: " + key}},
		{"interchanged", "", "kms:DescribeKey", refusal("UnrecognizedClientException",
			"The security token included in the request is invalid."), "run",
			[]string{"AWS_ACCESS_KEY_ID=" + secretOfExample}, []string{
				"the credentials were refused: access key (not printed, because it has the " +
					"form of a secret access key; check that AWS_ACCESS_KEY_ID and " +
					"AWS_SECRET_ACCESS_KEY are not interchanged)"}},
		{"clock", "", "kms:DescribeKey", refusal("InvalidSignatureException",
			"Signature expired: 20260102T030405Z is now earlier than 20260102T040405Z"), "run", nil,
			[]string{"the clock of this machine differs from the clock of KMS", "set the clock",
				"is now earlier than"}},
		{"clock of S3", "", "s3:ListObjectsV2", refusal("RequestTimeTooSkewed",
			"The difference between the request time and the current time is too large."), "run",
			nil, []string{"the clock of this machine differs from the clock of S3"}},
	}
}

// TestRefusedCredentials: if a service refuses the credentials, commands exit with 77 and
// name the access key, its source and its expiry time.
func TestRefusedCredentials(t *testing.T) {
	t.Parallel()
	for _, c := range refusedCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newTrial(t, harness.Config{MaxOutage: "4s", Checkpoint: c.checkpoint,
				Items:   map[harness.Kind]int{harness.Ordinary: 3},
				Objects: map[harness.Kind]int{harness.Ordinary: 3}})
			w.Fault(c.operation, c.fault)
			p := w.Command(c.command)
			p.Env = append(p.Env, c.env...)
			r := p.Begin(t).End(t)
			checkCause(t, r, exitAccess, false, c.want...)
			if strings.Contains(r.Log, secretOfExample) {
				t.Errorf("the output contains the secret: %s", r)
			}
		})
	}
}

// secretOfExample has the form of a secret access key.
const secretOfExample = "wJalrXUtnFEMIaK7MDENGabPxRfiCYEXAMPLEKEY"

// TestClockOff: if the clock is wrong and the SDK does not correct it, the message states the
// difference.
func TestClockOff(t *testing.T) {
	t.Parallel()
	w := newTrial(t, harness.Config{MaxOutage: "4s"})
	w.Server.SetClock(20 * time.Minute)
	p := w.Command("run")
	p.Env = append(p.Env, "AWS_DISABLE_CLOCK_SKEW_CORRECTION=true")
	checkCause(t, p.Begin(t).End(t), exitAccess, false,
		"the clock of this machine is about 20m0s behind "+
			"the clock of KMS", "set the clock")
}

// TestRefusedTemporaryCredentials: the message names the source of temporary credentials, and
// for a role also the source of the credentials with which it was assumed.
func TestRefusedTemporaryCredentials(t *testing.T) {
	t.Parallel()
	w := newTrial(t, harness.Config{MaxOutage: "4s", Checkpoint: harness.InTable,
		Items:   map[harness.Kind]int{harness.Ordinary: 3},
		Objects: map[harness.Kind]int{}})
	expired := fault.Fault{Kind: fault.Refusal, Answer: fault.Answer{Status: 400,
		Code: "ExpiredTokenException"}}
	w.Fault("kms:DescribeKey", expired)
	p := w.Command("audit")
	w.CredentialServer(t, time.Hour).Env(p)
	checkCause(t, p.Begin(t).End(t), exitAccess, false, "the credentials have expired before 20",
		"access key ASIAWORKER000000 of the container endpoint")
	w.Server.Faults().Clear("")

	const role = "arn:aws:iam::111122223333:role/state"
	replaceInJob(t, w, "dynamodb://state", "dynamodb://state?role_arn="+role)
	w.Fault("dynamodb:GetItem", expired)
	checkCause(t, w.Run(t, "status"), exitAccess, false,
		"the credentials have expired", " of role "+role)
	w.Fault("sts:AssumeRole", expired)
	checkCause(t, w.Run(t, "status"), exitAccess, false, "the role "+role+" cannot be assumed",
		"the credentials to assume it with have expired")
	w.Fault("sts:AssumeRole", fault.Fault{Kind: fault.Refusal, Answer: fault.Answer{Status: 403,
		Code: "AccessDenied", Message: "not authorized to perform sts:AssumeRole"}})
	checkCause(t, w.Run(t, "status"), exitAccess, false, "the role "+role+" cannot be assumed",
		"not authorized to perform sts:AssumeRole")
}
