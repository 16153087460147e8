package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"rotator/internal/fakeaws/fault"
	"rotator/internal/harness"
)

// editedContext: after an item was read and before it is written, an application edits only the
// attributes from which the new context is made. The write is refused, the item is read again and
// gets a new decision. Each item can then be decrypted with the context that it states.
func editedContext(t *testing.T) {
	bound := harness.Config{
		Items:   map[harness.Kind]int{harness.Bound: 60, harness.Ordinary: 20},
		Objects: map[harness.Kind]int{},
	}
	isBound := func(e *harness.Entry) bool { return e.Kind == harness.Bound }
	denied := fault.Answer{Code: "AccessDeniedException"}
	t.Run("in batches", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, bound)
		beforeWrites(t, w, isBound, false, func(e *harness.Entry) error {
			return w.Relocate(t.Context(), e)
		})
		toTheEnd(t, w)
	})
	t.Run("one by one", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, bound)
		beforeWrites(t, w, isBound, false, func(e *harness.Entry) error {
			return w.Relocate(t.Context(), e)
		})
		w.Fault("dynamodb:BatchExecuteStatement", fault.Fault{Kind: fault.Refusal, Answer: denied})
		toTheEnd(t, w)
		if w.Requests("dynamodb:UpdateItem") < 2*60 {
			t.Error("the items were not updated singly, twice each")
		}
	})
	t.Run("always", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, bound)
		hot := w.Entries(isBound)[7]
		beforeWrites(t, w, func(e *harness.Entry) bool { return e == hot }, true,
			func(e *harness.Entry) error { return w.Relocate(t.Context(), e) })
		r := w.Must(t, []int{exitExceptions}, "run", "-o", "json")
		if n := r.Summary.Slots.Conflict; n != 1 {
			t.Errorf("%d conflicts, want 1, the item that is always edited: %s", n, r)
		}
		w.CheckPartial(t, r.Summary)
		w.Server.Faults().Clear("")
		w.Must(t, []int{exitDone}, "retry", "-o", "json")
		w.Check(t, nil)
	})
	t.Run("while answers are lost", func(t *testing.T) {
		t.Parallel()
		w := newTrial(t, bound)
		entries := w.Entries(isBound)
		w.Fault("dynamodb:BatchExecuteStatement", fault.Fault{Kind: fault.LostResponse, Skip: 2,
			Times: 2, Before: func(_ requestOf, body []byte) {
				for i, e := range entries {
					if i%2 > 0 || !bytes.Contains(body, []byte(`"`+e.ID+`"`)) {
						continue
					}
					if err := w.Relocate(t.Context(), e); err != nil {
						t.Errorf("update of the application: %v", err)
					}
				}
			}})
		toTheEnd(t, w)
	})
}

// TestEditedAfterALostResponse: a write whose response was lost counts as made by this run. If the
// item states another context by then, KMS is asked whether it can be decrypted.
func TestEditedAfterALostResponse(t *testing.T) {
	t.Parallel()
	w := newTrial(t, harness.Config{
		Items:   map[harness.Kind]int{harness.Bound: 1},
		Objects: map[harness.Kind]int{},
	})
	client := dynamodb.NewFromConfig(aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(w.Server.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider(harness.ApplicationKey,
			"not-a-secret", ""),
	})
	w.Fault("dynamodb:UpdateItem", fault.Fault{Kind: fault.LostResponse, Times: 1})
	w.Fault("dynamodb:GetItem", fault.Fault{Times: 1, Before: func(requestOf, []byte) {
		_, err := client.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
			TableName:                 aws.String(harness.Table),
			Key:                       attributes{"id": textOf(w.Entries(nil)[0].ID)},
			UpdateExpression:          aws.String("SET #region = :region"),
			ExpressionAttributeNames:  map[string]string{"#region": "region"},
			ExpressionAttributeValues: attributes{":region": textOf("elsewhere")},
		})
		if err != nil {
			t.Errorf("update of the application: %v", err)
		}
	}})
	r := w.Must(t, []int{exitExceptions}, "run", "-o", "json")
	if s := r.Summary.Slots; s.Rotated != 0 || s.Exceptions() != 1 {
		t.Errorf("slots %+v, want one exception, the slot that cannot be decrypted", s)
	}
}

// TestServerWithoutConditions: audit writes nothing and reports that the
// conditions of the server were not tested; run tests them and logs those that
// are not enforced.
func TestServerWithoutConditions(t *testing.T) {
	t.Parallel()
	m := newMixed(t, 0)
	i := slices.IndexFunc(varieties(), func(v variety) bool { return v.name == "sops-json" })
	if err := m.put(t.Context(), "object.json", varieties()[i]); err != nil {
		t.Fatal(err)
	}
	m.server.Faults().Set("s3:CopyObject", fault.Fault{Before: func(r requestOf, _ []byte) {
		r.Header.Del("If-Match")
	}})
	file := filepath.Join(t.TempDir(), "job.yaml")
	job := fmt.Sprintf("job: unprobed\ndestination: { key: %q }\nsource: { keys: [%q] }\n"+
		"targets:\n"+
		"  - s3: { bucket: %s }\n    format: auto\n", m.keys["new"], m.keys["old"], mixedBucket)
	if err := os.WriteFile(file, []byte(job), 0o600); err != nil {
		t.Fatal(err)
	}
	before := m.server.Faults().Counts()
	code, out, errs := command(t, m.env, "audit", "-f", file)
	puts := m.server.Faults().Counts()["s3:PutObject"] - before["s3:PutObject"]
	if code != exitDone || puts != 0 {
		t.Errorf("audit: exit code %d, %d PUT requests: %s", code, puts, errs)
	}
	if !strings.Contains(unwrapped(out), "Whether it enforces the conditions") {
		t.Errorf("audit does not report the untested conditions: %s", out)
	}
	code, out, errs = command(t, m.env, "run", "-f", file)
	for _, text := range []string{out, errs} {
		if code != exitDone ||
			!strings.Contains(unwrapped(text), "does not enforce If-Match on CopyObject") {
			t.Errorf("run: exit code %d: %s", code, text)
		}
	}
}

// TestEditedContextOfFiles: between the read and the write of a file, an
// application edits the values of the new context, or moves the file to another
// path. Each file can then be decrypted with the context that its content and
// path state.
func TestEditedContextOfFiles(t *testing.T) {
	t.Parallel()
	const files = 30
	v := newVault(t, `  - name: vault
    files: { root: export, key_pattern: '^(?P<team>[^/]+)/' }
    format: json
    slots:
      - path: secret
        context: { path: constant }
        destination_context: { team: "${key.team}", region: "${body.region}" }
`)
	write := func(path, region, blob string) {
		temporary := filepath.Join(v.dir, "new")
		text := fmt.Appendf(nil, `{"region":%q,"secret":%q}`, region, blob)
		v.must(os.WriteFile(temporary, text, 0o640))
		v.must(os.Rename(temporary, filepath.Join(v.dir, "export", path)))
	}
	v.must(os.MkdirAll(filepath.Join(v.dir, "export", "one"), 0o755))
	v.must(os.MkdirAll(filepath.Join(v.dir, "export", "two"), 0o755))
	blobs := map[string]string{}
	for n := range files {
		path := fmt.Sprintf("one/%d", n)
		blobs[path] = v.blob("secret", "constant")
		write(path, "first", blobs[path])
	}
	var mu sync.Mutex
	v.server.Faults().Set("kms:ReEncrypt", fault.Fault{Before: func(_ requestOf, body []byte) {
		mu.Lock()
		defer mu.Unlock()
		for path, blob := range blobs {
			if !bytes.Contains(body, []byte(blob)) {
				continue
			}
			delete(blobs, path) // once
			if strings.HasSuffix(path, "7") {
				from := filepath.Join(v.dir, "export", path)
				v.must(os.Rename(from, strings.Replace(from, "/one/", "/two/", 1)))
			} else {
				write(path, "second", blob)
			}
		}
	}})
	if s := v.rotator(exitDone, "run"); s.Slots.Gone == 0 || s.Slots.Rotated == 0 {
		t.Errorf("slots %+v, want some gone and the others rotated", s.Slots)
	}
	v.server.Faults().Clear("")
	v.rotator(exitDone, "run")
	v.checkContexts(files)
}

// checkContexts checks that each file can be decrypted with the context that its content and path
// state.
func (v *vault) checkContexts(files int) {
	v.t.Helper()
	content := v.content()
	for path, text := range content {
		var document struct {
			Region string
			Secret []byte
		}
		v.must(json.Unmarshal([]byte(text), &document))
		team, _, _ := strings.Cut(path, "/")
		_, key, err := v.server.KMS().Decrypt("", document.Secret,
			map[string]string{"team": team, "region": document.Region})
		if err != nil || key != v.new || team == "one" && document.Region != "second" {
			v.t.Errorf("%s, with region %q, cannot be decrypted with the context that it "+
				"states: %v", path,
				document.Region, err)
		}
	}
	if len(content) != files {
		v.t.Errorf("%d files, want %d", len(content), files)
	}
}

// unwrapped returns a text with one space between two words.
func unwrapped(text string) string { return strings.Join(strings.Fields(text), " ") }
