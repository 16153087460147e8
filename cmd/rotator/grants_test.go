package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"rotator/internal/fakeaws/fakedynamodb"
	"rotator/internal/fakeaws/fakekms"
)

const moverRole = "arn:aws:iam::111122223333:role/mover"

// grantBench is a crashBench whose keys a role can use through grants only.
type grantBench struct {
	*crashBench
	kms      *kms.Client
	grants   map[string]string // ids by key
	tokens   []string
	stranger atomic.Bool // the table received a request without the role
}

// newGrantBench creates the grants. They have no effect without their tokens until
// HoldGrants is turned off.
func newGrantBench(t *testing.T) *grantBench {
	t.Helper()
	b := &grantBench{crashBench: newCrashBench(t, 20, 1000), grants: map[string]string{}}
	b.kms = kms.NewFromConfig(b.aws)
	b.server.KMS().HoldGrants(true)
	for _, key := range []string{b.old, b.new} {
		out, err := b.kms.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: &key,
			GranteePrincipal: aws.String(moverRole),
			Operations: []types.GrantOperation{types.GrantOperationDescribeKey,
				types.GrantOperationReEncryptFrom, types.GrantOperationReEncryptTo}})
		must(t, err)
		b.grants[key] = *out.GrantId
		b.tokens = append(b.tokens, *out.GrantToken)
	}
	b.server.KMS().SetPolicy(func(c fakekms.Call) bool {
		return c.Action == "kms:RevokeGrant"
	})
	b.server.DynamoDB().SetPolicy(func(c fakedynamodb.Call) bool {
		if c.AccessKey == "AKIAFAKEAWSFAKEAWS00" { // the credentials of the caller, not of the role
			b.stranger.Store(true)
		}
		return true
	})
	return b
}

// job writes the job file with a value of kms.
func (b *grantBench) job(t *testing.T, kms string) {
	t.Helper()
	path := filepath.Join(b.dir, "job.yaml")
	text, err := os.ReadFile(path)
	must(t, err)
	changed := regexp.MustCompile(`(?m)^kms: .*$`).ReplaceAllLiteral(text, []byte("kms: "+kms))
	changed = regexp.MustCompile(`dynamodb: \{(role_arn: "[^"]*", )?table`).ReplaceAllLiteral(
		changed,
		[]byte(`dynamodb: {role_arn: "arn:aws:iam::111122223333:role/reader", table`))
	must(t, os.WriteFile(path, changed, 0o600))
}

// run runs a command, which must exit with the given code and print text. It returns the output.
func (b *grantBench) run(t *testing.T, code int, text string, args ...string) string {
	t.Helper()
	cmd, out, log := b.command(t.Context(), append(args, "-f", "job.yaml", "-v")...)
	cmd.Env = append(cmd.Env, "GRANT_A="+b.tokens[0], "GRANT_B="+b.tokens[1])
	err := cmd.Run()
	printed := out.String() + log.String()
	if cmd.ProcessState.ExitCode() != code || !strings.Contains(printed, text) {
		t.Errorf("%v: %v, want exit code %d and %q\n%s", args, err, code, text, printed)
	}
	return printed
}

// kept returns all output and the contents of all files of the job.
func (b *grantBench) kept(t *testing.T, printed string) []byte {
	t.Helper()
	all := []byte(printed)
	files, err := filepath.Glob(filepath.Join(b.dir, ".rotator", "*"))
	must(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		all = append(all, text...)
	}
	return all
}

// TestRolesAndGrants runs with an assumed role that can use the keys through grants only.
// Until the grants are visible, each request needs their tokens: DescribeKey, the dry runs
// and ReEncrypt. No token is printed or stored.
func TestRolesAndGrants(t *testing.T) {
	t.Parallel()
	b := newGrantBench(t)
	const role = `role_arn: "` + moverRole + `"`
	const tokens = `{` + role + `, grant_tokens: ["${env:GRANT_A}", "${env:GRANT_B}"]}`
	printed := ""
	try := func(kms string, code int, text string, args ...string) {
		t.Helper()
		b.job(t, kms)
		printed += b.run(t, code, text, args...)
	}
	try(`{}`, exitAccess, "kms:DescribeKey is denied", "run")
	try(`{`+role+`}`, exitAccess, "kms:DescribeKey is denied", "run")
	try(`{`+role+`, grant_tokens: ["${env:GRANT_A}"]}`, exitAccess, "kms:DescribeKey is denied",
		"run")
	try(`{`+role+`, grant_tokens: [forged-token]}`, exitAccess,
		"destination.key: key "+b.new+": KMS refuses a token in kms.grant_tokens", "run")
	try(tokens, exitDone, "", "run")
	b.check(t, map[int]int{})
	try(tokens, exitDone, "", "verify")
	try(`{`+role+`}`, exitAccess, "kms:DescribeKey is denied", "verify")
	b.server.KMS().HoldGrants(false)
	try(`{`+role+`}`, exitDone, "", "verify")
	b.revoke(t, b.old)
	try(tokens, exitAccess, "its grant was retired or revoked", "verify")
	if b.stranger.Load() {
		t.Error("the table received a request without the role")
	}
	for _, token := range append(b.tokens, "forged-token") {
		if bytes.Contains(b.kept(t, printed), []byte(token)) {
			t.Errorf("the grant token %q was printed or stored", token)
		}
	}
}

func (b *grantBench) revoke(t *testing.T, key string) {
	t.Helper()
	_, err := b.kms.RevokeGrant(t.Context(),
		&kms.RevokeGrantInput{KeyId: &key, GrantId: aws.String(b.grants[key])})
	must(t, err)
}
