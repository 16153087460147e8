// Package deploy_test checks the files for deployment: the example job files load, the policies
// contain neither Decrypt nor wildcards, and the manifest restricts its pod.
package deploy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"rotator/internal/config"
)

// actions is a list of strings in IAM JSON, which can be a single string.
type actions []string

func (a *actions) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*a = actions{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(a))
}

type policy struct {
	Version   string
	Statement []statement
}

type statement struct {
	Sid, Effect string
	Action      actions
	Resource    actions
	Condition   map[string]map[string]string
}

// allowed returns the resources of each action of a policy.
func (p policy) allowed() map[string][]string {
	all := map[string][]string{}
	for _, s := range p.Statement {
		for _, action := range s.Action {
			all[action] = append(all[action], s.Resource...)
		}
	}
	return all
}

func readPolicy(t *testing.T, path string) policy {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var p policy
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return p
}

// mistakes returns the parts of a policy that are not allowed.
func (p policy) mistakes() []string {
	var list []string
	if p.Version != "2012-10-17" || len(p.Statement) == 0 {
		list = append(list, "it is not a policy")
	}
	for _, s := range p.Statement {
		if s.Effect != "Allow" || s.Sid == "" {
			list = append(list, "statement "+s.Sid+" is not a named Allow")
		}
		for _, action := range s.Action {
			if strings.Contains(action, "*") || strings.EqualFold(action, "kms:Decrypt") {
				list = append(list, "it allows "+action)
			}
		}
		if slices.Equal(s.Resource, []string{"*"}) && !slices.ContainsFunc(s.Action, hasResources) {
			continue
		}
		for _, resource := range s.Resource {
			// A wildcard is allowed only at the end of the resource of objects, exports or backups.
			name := resource
			for _, end := range []string{"/PREFIX*", "/PREFIX/jobs/*", "/export/*", "/backup/*",
				":recovery-point:*"} {
				name = strings.TrimSuffix(name, end)
			}
			if strings.Contains(name, "*") ||
				!strings.HasPrefix(name, "arn:aws:") {
				list = append(list, "it reaches "+resource)
			}
		}
	}
	return list
}

// hasResources reports whether an action must name its resources. The others support none.
func hasResources(action string) bool {
	return !slices.Contains([]string{"servicequotas:GetServiceQuota",
		"servicequotas:GetAWSDefaultServiceQuota", "kms:ListAliases",
		"cloudtrail:LookupEvents", "dynamodb:ListBackups", "dynamodb:ListExports",
		"backup:ListRecoveryPointsByResource"}, action)
}

// readsOnly reports whether an action reads, or is one of those of ReEncrypt.
func readsOnly(action string) bool {
	verb := action[strings.Index(action, ":")+1:]
	return slices.ContainsFunc([]string{"Get", "List", "Lookup", "Describe", "Scan", "ReEncrypt"},
		func(read string) bool { return strings.HasPrefix(verb, read) })
}

// readsContent reports whether an action reads the content of an object, or items of a table.
func readsContent(action string) bool {
	return slices.Contains([]string{"s3:GetObject", "s3:GetObjectVersion", "dynamodb:GetItem",
		"dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:Scan"}, action)
}

// watch.json and copies.json only read, and need no ReEncrypt. copies.json needs no key and no
// content.
func TestReportPoliciesOnlyRead(t *testing.T) {
	for _, name := range []string{"watch", "copies"} {
		for action, on := range readPolicy(t, "iam/"+name+".json").allowed() {
			if !readsOnly(action) || strings.Contains(action, "ReEncrypt") || name == "copies" &&
				(strings.HasPrefix(action, "kms:") || readsContent(action)) {
				t.Errorf("the policy allows %s on %v for %s", action, on, name)
			}
		}
	}
}

// The policy for uploaded segments allows a run to add segments, but not to replace or delete one.
// The policy of prune does not reach them.
func TestSegmentsCannotBeReplaced(t *testing.T) {
	for _, s := range readPolicy(t, "iam/evidence-s3.json").Statement {
		for _, action := range s.Action {
			if !readsOnly(action) && (action != "s3:PutObject" ||
				s.Condition["Null"]["s3:if-none-match"] != "false") {
				t.Errorf("statement %s allows %s with the condition %v", s.Sid, action, s.Condition)
			}
		}
	}
	for action, on := range readPolicy(t, "iam/prune-s3.json").allowed() {
		if !slices.Equal(on, []string{"arn:aws:s3:::STATE-BUCKET/PREFIX/jobs/*"}) {
			t.Errorf("prune may %s on %v", action, on)
		}
	}
}

// The policy for evidence packs reaches only the key that signs them.
func TestSignPolicy(t *testing.T) {
	const key = "arn:aws:kms:eu-west-1:111122223333:key/EVIDENCE-KEY-ID"
	want := map[string][]string{"kms:GetPublicKey": {key}, "kms:Sign": {key}}
	if diff := cmp.Diff(want, readPolicy(t, "iam/sign.json").allowed()); diff != "" {
		t.Errorf("sign.json (-want +got):\n%s", diff)
	}
}

func TestPolicies(t *testing.T) {
	paths, err := filepath.Glob("iam/*.json")
	if err != nil || len(paths) != 13 {
		t.Fatalf("policies: %v, %v", paths, err)
	}
	for _, path := range paths {
		p := readPolicy(t, path)
		for _, mistake := range p.mistakes() {
			t.Errorf("%s: %s", path, mistake)
		}
		allowed := p.allowed()
		if base := filepath.Base(path); strings.HasPrefix(base, "checkpoint-") ||
			strings.HasPrefix(base, "prune-") || strings.HasPrefix(base, "evidence-") ||
			base == "quota.json" {
			for action := range allowed {
				if strings.HasPrefix(action, "kms:") {
					t.Errorf("%s: the policy does not need %s", path, action)
				}
			}
			continue
		}
		if base := filepath.Base(path); base == "watch.json" || base == "copies.json" {
			continue // TestReportPoliciesOnlyRead
		}
		if filepath.Base(path) == "sign.json" {
			continue // TestSignPolicy
		}
		if keys := allowed["kms:ReEncryptTo"]; len(keys) != 1 ||
			!strings.HasSuffix(keys[0], "NEW-KEY-ID") {
			t.Errorf("%s: ReEncryptTo on %v, want only the new key", path, keys)
		}
		if keys := allowed["kms:ReEncryptFrom"]; len(keys) != 2 {
			t.Errorf("%s: ReEncryptFrom on %v, want both keys", path, keys)
		}
		if strings.HasPrefix(filepath.Base(path), "audit-") {
			for action := range allowed {
				if !readsOnly(action) {
					t.Errorf("%s: the policy allows %s for an audit", path, action)
				}
			}
		}
	}
}

// TestMistakesAreFound: the check of the policies detects every kind of mistake.
func TestMistakesAreFound(t *testing.T) {
	bad := policy{Version: "2012-10-17", Statement: []statement{{
		Sid:      "A",
		Effect:   "Allow",
		Action:   actions{"kms:Decrypt", "kms:*", "kms:ReEncrypt*"},
		Resource: actions{"*", "arn:aws:s3:::*", "arn:aws:s3:::B/PREFIX*"},
	}}}
	want := []string{"it allows kms:Decrypt", "it allows kms:*", "it allows kms:ReEncrypt*",
		"it reaches *", "it reaches arn:aws:s3:::*"}
	if diff := cmp.Diff(want, bad.mistakes()); diff != "" {
		t.Error(diff)
	}
}

// documents returns all documents of a manifest by kind.
func documents(t *testing.T, manifest string) map[string]map[string]any {
	t.Helper()
	file, err := os.Open(filepath.Join("kubernetes", manifest))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	found := map[string]map[string]any{}
	for decoder := yaml.NewDecoder(file); ; {
		var doc map[string]any
		if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		found[doc["kind"].(string)] = doc
	}
}

// at returns the value at a path of map keys and list indexes.
func at(t *testing.T, value any, steps ...any) any {
	t.Helper()
	for _, step := range steps {
		switch s := step.(type) {
		case string:
			value = value.(map[string]any)[s]
		case int:
			value = value.([]any)[s]
		}
		if value == nil {
			t.Fatalf("the manifest has no %v in %v", step, steps)
		}
	}
	return value
}

func TestCronJobIsRestricted(t *testing.T) {
	docs := documents(t, "cronjob.yaml")
	job := at(t, docs["CronJob"], "spec")
	pod := at(t, job, "jobTemplate", "spec", "template", "spec")
	got := map[string]any{
		"concurrency": at(t, job, "concurrencyPolicy"),
		"restart":     at(t, pod, "restartPolicy"),
		"grace":       at(t, pod, "terminationGracePeriodSeconds"),
		"non-root":    at(t, pod, "securityContext", "runAsNonRoot"),
		"seccomp":     at(t, pod, "securityContext", "seccompProfile", "type"),
		"read-only":   at(t, pod, "containers", 0, "securityContext", "readOnlyRootFilesystem"),
		"escalation":  at(t, pod, "containers", 0, "securityContext", "allowPrivilegeEscalation"),
		"dropped":     at(t, pod, "containers", 0, "securityContext", "capabilities", "drop"),
		"exit codes": at(t, job, "jobTemplate", "spec", "podFailurePolicy", "rules", 1,
			"onExitCodes", "values"),
		"account": at(t, pod, "serviceAccountName"),
		"claim":   at(t, pod, "volumes", 1, "persistentVolumeClaim", "claimName"),
		"config":  at(t, pod, "volumes", 0, "configMap", "name"),
	}
	want := map[string]any{
		"concurrency": "Forbid",
		"restart":     "Never",
		"grace":       uint64(30),
		"non-root":    true,
		"seccomp":     "RuntimeDefault",
		"read-only":   true,
		"escalation":  false,
		"dropped":     []any{"ALL"},
		"exit codes":  []any{uint64(3), uint64(77), uint64(78)},
		"account":     at(t, docs["ServiceAccount"], "metadata", "name"),
		"claim":       at(t, docs["PersistentVolumeClaim"], "metadata", "name"),
		"config":      at(t, docs["ConfigMap"], "metadata", "name"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cronjob.yaml (-want +got):\n%s", diff)
	}
}

// TestCronJobCarriesAJobFile: the job file in the manifest loads. Its state is on the mounted
// volume, because the root file system is read-only.
func TestCronJobCarriesAJobFile(t *testing.T) {
	docs := documents(t, "cronjob.yaml")
	pod := at(t, docs["CronJob"], "spec", "jobTemplate", "spec", "template", "spec")
	text := at(t, docs["ConfigMap"], "data", "job.yaml").(string)
	job, err := config.Parse("/job/job.yaml", []byte(text), func(string) (string, bool) {
		return "", false
	})
	if err != nil {
		t.Fatal(err)
	}
	mount := at(t, pod, "containers", 0, "volumeMounts", 1, "mountPath").(string)
	for _, path := range []string{job.CheckpointLocation().File, job.AuditLog} {
		if !strings.HasPrefix(path, mount+"/") {
			t.Errorf("%s is not under %s", path, mount)
		}
	}
	if args := at(t, pod, "containers", 0, "args").([]any); !slices.Contains(args,
		any(at(t, pod, "containers", 0, "volumeMounts", 0, "mountPath").(string)+"/job.yaml")) {
		t.Errorf("the arguments %v do not name the mounted job file", args)
	}
}

// TestWatchManifest: the watch has no volume but the job file, is restricted as the run is, and
// does not try again.
func TestWatchManifest(t *testing.T) {
	docs, run := documents(t, "watch.yaml"), documents(t, "cronjob.yaml")
	job := at(t, docs["CronJob"], "spec", "jobTemplate", "spec")
	pod := at(t, job, "template", "spec")
	of := at(t, run["CronJob"], "spec", "jobTemplate", "spec", "template", "spec", "containers", 0,
		"securityContext")
	if diff := cmp.Diff(of, at(t, pod, "containers", 0, "securityContext")); diff != "" {
		t.Errorf("the container is restricted differently (-run +watch):\n%s", diff)
	}
	got := map[string]any{
		"retries": at(t, job, "backoffLimit"),
		"command": at(t, pod, "containers", 0, "args", 0),
		"job":     at(t, pod, "volumes", 0, "configMap", "name"),
		"account": at(t, pod, "serviceAccountName"),
	}
	want := map[string]any{
		"retries": uint64(0),
		"command": "watch",
		"job":     at(t, run["ConfigMap"], "metadata", "name"),
		"account": at(t, docs["ServiceAccount"], "metadata", "name"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("watch.yaml (-want +got):\n%s", diff)
	}
}
