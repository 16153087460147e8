package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	"rotator/internal/checkpoint"
	"rotator/internal/report"
)

const digestJob = `
job: demo
destination: {key: alias/new}
source: {keys: [alias/old]}
targets:
  - name: rows
    dynamodb: {table: rows}
    format: base64
    slots: [{path: text}, {path: texts}, {path: "doc.list[*].key"}, {path: bytes, format: raw},
      {path: byte_set, format: raw}]
  - name: bodies
    s3: {bucket: bodies}
    format: base64
    slots: [{}]
  - name: metadata
    s3: {bucket: metadata}
    format: s3-encryption-client
  - name: files
    files: {root: files}
    format: sops
`

// writers are the changes of other writers, by target and item. Each changes something other than
// a slot.
func (s *stage) writers(t *testing.T) map[string]map[string]func() {
	update := func(expression string, value types.AttributeValue) func(string) {
		return func(id string) { s.update(t, id, expression, value) }
	}
	rows := map[string]func(){}
	for i, change := range []func(string){
		update("SET another = :v", textOf("a value")),
		update("SET doc.#n = :v", numberOf("8")),
		update("SET doc.flag = :v", &types.AttributeValueMemberBOOL{Value: false}),
		update("SET doc.list[1].note = :v", binaryOf([]byte("b"))),
		update("SET tags = :v", &types.AttributeValueMemberSS{Value: []string{"a"}}),
		update("SET doc.nothing = :v", textOf("")),
	} {
		id := fmt.Sprint(i)
		rows[fmt.Sprintf(`{"id":{"S":"%d"}}`, i)] = func() { change(id) }
	}
	return map[string]map[string]func(){
		"rows": rows,
		"bodies": {
			"space": func() { s.rewriteObject(t, "bodies", "space", " \n") },
			"tags": func() {
				done(t)(s.s3.PutObjectTagging(t.Context(), &s3.PutObjectTaggingInput{
					Bucket: aws.String("bodies"), Key: aws.String("tags"),
					Tagging: tagging("owner", "them"),
				}))
			},
			"type": func() { s.rewriteObject(t, "bodies", "type", "") },
		},
		"metadata": {
			"body": func() { s.rewriteObject(t, "metadata", "body", "!") },
		},
		"files": {
			"value.yaml": func() { s.appendFile(t, "files/value.yaml", "# a comment\n") },
			"mode.yaml": func() {
				must(t, os.Chmod(filepath.Join(s.dir, "files/mode.yaml"), 0o640))
			},
		},
	}
}

// done fails the test if a request failed.
func done(t *testing.T) func(any, error) {
	return func(_ any, err error) {
		t.Helper()
		must(t, err)
	}
}

func tagging(key, value string) *s3types.Tagging {
	return &s3types.Tagging{TagSet: []s3types.Tag{{Key: &key, Value: &value}}}
}

func (s *stage) update(t *testing.T, id, expression string, value types.AttributeValue) {
	in := &dynamodb.UpdateItemInput{
		TableName:                 aws.String("rows"),
		Key:                       attributes{"id": textOf(id)},
		UpdateExpression:          &expression,
		ExpressionAttributeValues: attributes{":v": value},
	}
	if strings.Contains(expression, "#n") {
		in.ExpressionAttributeNames = map[string]string{"#n": "n"}
	}
	done(t)(s.dynamo.UpdateItem(t.Context(), in))
}

// rewriteObject stores an object again with a text after its body. Without a text, it changes the
// content type.
func (s *stage) rewriteObject(t *testing.T, bucket, key, text string) {
	now, err := s.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	must(t, err)
	body, err := io.ReadAll(now.Body)
	must(t, err)
	must(t, now.Body.Close())
	if text == "" {
		now.ContentType = aws.String("text/html")
	}
	done(t)(s.s3.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: &bucket, Key: &key, Body: strings.NewReader(string(body) + text),
		Metadata: now.Metadata, ContentType: now.ContentType, Tagging: aws.String("owner=us"),
	}))
}

func (s *stage) appendFile(t *testing.T, name, text string) {
	path := filepath.Join(s.dir, name)
	body, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, append(body, text...), 0o600))
}

// fillDigest stores the items that the writers change, and one more in each target.
func (s *stage) fillDigest(t *testing.T) {
	s.table(t, "rows", stringKey("id"), s.digestRow(t, "0"))
	for _, id := range []string{"1", "2", "3", "4", "5", "unchanged"} {
		done(t)(s.dynamo.PutItem(t.Context(), &dynamodb.PutItemInput{
			TableName: aws.String("rows"), Item: s.digestRow(t, id),
		}))
	}
	for bucket, keys := range map[string][]string{
		"bodies":   {"space", "tags", "type", "unchanged"},
		"metadata": {"body", "unchanged"},
	} {
		done(t)(s.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket}))
		for _, key := range keys {
			item := written{body: []byte(std64(s.seal(t)))}
			if bucket == "metadata" {
				item = likeVariety("s3ec-v2", key)(t, s).objects[key]
			}
			done(t)(s.s3.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: &bucket, Key: &key, Body: strings.NewReader(string(item.body)),
				Metadata: item.metadata, Tagging: aws.String("owner=us"),
			}))
		}
	}
	must(t, os.Mkdir(filepath.Join(s.dir, "files"), 0o700))
	for _, name := range []string{"value.yaml", "mode.yaml", "unchanged.yaml"} {
		item := likeVariety("sops-yaml", name)(t, s)
		must(t, os.WriteFile(filepath.Join(s.dir, "files", name), item.objects[name].body, 0o600))
	}
}

// digestRow returns an item with attributes of every type, some of which are slots.
func (s *stage) digestRow(t *testing.T, id string) attributes {
	key := func() types.AttributeValue {
		return &types.AttributeValueMemberM{Value: attributes{"key": textOf(std64(s.seal(t)))}}
	}
	return attributes{
		"id":       textOf(id),
		"text":     textOf(std64(s.seal(t))),
		"bytes":    binaryOf(s.seal(t)),
		"byte_set": &types.AttributeValueMemberBS{Value: [][]byte{s.seal(t), s.seal(t), s.seal(t)}},
		"texts": &types.AttributeValueMemberSS{
			Value: []string{std64(s.seal(t)), std64(s.seal(t)), std64(s.seal(t))},
		},
		"tags": &types.AttributeValueMemberSS{Value: []string{"a", "b"}},
		"doc": &types.AttributeValueMemberM{Value: attributes{
			"list":    &types.AttributeValueMemberL{Value: []types.AttributeValue{key(), key()}},
			"n":       numberOf("7"),
			"numbers": &types.AttributeValueMemberNS{Value: []string{"1", "2"}},
			"flag":    &types.AttributeValueMemberBOOL{Value: true},
			"nothing": &types.AttributeValueMemberNULL{Value: true},
		}},
	}
}

// digests runs the command audit or verify with a file of content digests, and returns the digests
// by target.
func (s *stage) digests(
	t *testing.T, env []string, file, name string,
) map[string]*checkpoint.ContentDigest {
	t.Helper()
	code, out, errs := command(t, env, name, "-f", file, "-o", "json", "--content-digest-file",
		filepath.Join(s.dir, "digests"))
	s.guards.Printed(out, errs)
	var summary report.Summary
	if err := json.Unmarshal([]byte(out), &summary); err != nil || code != exitDone {
		t.Fatalf("exit %d, %v: %s%s", code, err, out, errs)
	}
	digests := map[string]*checkpoint.ContentDigest{}
	for _, target := range summary.Targets {
		digests[target.Name] = target.ContentDigest
	}
	return digests
}

// TestContentDigest: in all kinds of targets, a run leaves the content digest as it is, and any
// other change of an item is reported with its name.
func TestContentDigest(t *testing.T) {
	t.Parallel()
	s := newStage(t, "us-east-1")
	text := s.makeKeys(t, digestJob)
	file := filepath.Join(s.dir, "job.yaml")
	must(t, os.WriteFile(file, []byte(text), 0o600))
	s.fillDigest(t)
	env := s.server.AWSEnv()
	before := s.digests(t, env, file, "audit")
	if info, err := os.Stat(filepath.Join(s.dir, "digests")); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	if code, out, errs := command(t, env, "run", "-f", file); code != exitDone {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	for target, d := range s.digests(t, env, file, "verify") {
		if d.Compared.Result != checkpoint.ContentEqual || d.Digest != before[target].Digest ||
			d.Uncovered() > 0 {
			t.Errorf("target %s after the run: %+v %+v", target, *d, *d.Compared)
		}
	}
	want := map[string][]checkpoint.ContentDifference{}
	for target, changes := range s.writers(t) {
		for _, ref := range slices.Sorted(maps.Keys(changes)) {
			changes[ref]()
			want[target] = append(want[target], checkpoint.ContentDifference{
				Kind: "changed",
				Ref:  ref,
			})
		}
	}
	for target, d := range s.digests(t, env, file, "verify") {
		diff := cmp.Diff(want[target], d.Compared.Differences.First)
		if result := d.Compared.Result; diff != "" || result != checkpoint.ContentDiffers ||
			d.Digest == before[target].Digest {
			t.Errorf("target %s: %s, differences (-want +got):\n%s", target, result, diff)
		}
	}
	s.guards.Outputs(t)
}

// beforeRun computes the content digests of an example. The returned function checks that they are
// the same after the run. Both take much time for all examples, so only make timing calls them.
func (s *stage) beforeRun(t *testing.T, env []string, file string) (afterRun func()) {
	if !timed() {
		return func() {}
	}
	before := s.digests(t, env, file, "audit")
	return func() {
		t.Helper()
		for target, d := range s.digests(t, env, file, "audit") {
			if d.Digest != before[target].Digest || d.Items == 0 || d.Uncovered() > 0 {
				t.Errorf("target %s: %+v, before the run %+v", target, *d, *before[target])
			}
		}
	}
}
