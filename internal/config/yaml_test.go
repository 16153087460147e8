package config

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

// reading is a context file and the contexts that other YAML readers find in it: PyYAML 6.0.3,
// js-yaml 4 and yaml 2 (npm). The contexts are nil if the reader refuses the file, or finds a value
// that is not text, such as a date.
type reading struct {
	Text   string                       `json:"text"`
	PyYAML map[string]map[string]string `json:"pyyaml"`
	JSYAML map[string]map[string]string `json:"js-yaml"`
	YAML   map[string]map[string]string `json:"yaml"`
}

func readings(t *testing.T) (list []reading) {
	t.Helper()
	file, err := os.Open("testdata/readers.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var r reading
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	if lines.Err() != nil || len(list) < 100 {
		t.Fatalf("%d readings, %v", len(list), lines.Err())
	}
	return list
}

// TestContextsMatchOtherYAMLReaders: LoadContexts finds the same contexts as the other readers, or
// refuses the file, because KMS compares contexts exactly.
func TestContextsMatchOtherYAMLReaders(t *testing.T) {
	agreed, read := 0, 0
	for _, r := range readings(t) {
		got, problem := loadContexts(t, "c.yaml", r.Text)
		same := reflect.DeepEqual(r.PyYAML, r.JSYAML) && reflect.DeepEqual(r.PyYAML, r.YAML)
		if same && r.PyYAML != nil {
			agreed++
		}
		if problem != "" {
			continue
		}
		read++
		for name, other := range map[string]map[string]map[string]string{
			"PyYAML": r.PyYAML, "js-yaml": r.JSYAML, "yaml": r.YAML,
		} {
			if other != nil && !reflect.DeepEqual(other, got) {
				t.Errorf("%q: read as %q, but %s reads %q", r.Text, got, name, other)
			}
		}
	}
	if read < agreed*9/10 {
		t.Errorf("%d files are accepted, want 90%% of the %d for which all readers agree", read,
			agreed)
	}
}

// TestColonsInFlowStyle: a colon in flow style has the meaning that YAML 1.2.2 (7.3.3, 7.4.2)
// defines.
func TestColonsInFlowStyle(t *testing.T) {
	const arn = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	job := load(t, strings.NewReplacer("[alias/old]", "["+arn+"]", "{ path: ssn }",
		"{ path: ssn, context: { app:tenant: t1, a: b:c, url: http://h/p }, "+
			"destination_context: { aws:x-amz-cek-alg: AES/GCM } }").Replace(minimal))
	if got := job.Source.Keys; !reflect.DeepEqual(got, []string{arn}) {
		t.Errorf("keys %q", got)
	}
	slot := job.Targets[0].Slots[0]
	context := map[string]string{"app:tenant": "t1", "a": "b:c", "url": "http://h/p"}
	if !reflect.DeepEqual(slot.Context, context) {
		t.Errorf("context %q, want %q", slot.Context, context)
	}
	destination := map[string]string{"aws:x-amz-cek-alg": "AES/GCM"}
	if !reflect.DeepEqual(slot.DestinationContext, destination) {
		t.Errorf("destination_context %q, want %q", slot.DestinationContext, destination)
	}
}

// TestIrregularFilesAreRefused: Load and LoadContexts refuse pipes, devices and directories without
// reading them.
func TestIrregularFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	pipe, link := filepath.Join(dir, "pipe.yaml"), filepath.Join(dir, "zero.yaml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/zero", link); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "folder.yaml")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		pipe: "is a pipe, not a regular file", link: "is a device, not a regular file",
		folder: "is a directory",
	} {
		returned := make(chan struct{})
		go func() {
			defer close(returned)
			if _, err := Load(path, environment); err == nil ||
				!strings.Contains(err.Error(), want) {
				t.Errorf("job file %s: %v, want %q", path, err, want)
			}
			if _, err := LoadContexts(path); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("context file %s: %v, want %q", path, err, want)
			}
		}()
		select {
		case <-returned:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: no result within 10 s", path)
		}
	}
}
