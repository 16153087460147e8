package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func loadContexts(t *testing.T, name, text string) (map[string]map[string]string, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	contexts, err := LoadContexts(path)
	if err == nil {
		return contexts, ""
	}
	return contexts, strings.ReplaceAll(err.Error(), path, name)
}

// TestLoadContexts: all three syntaxes give the same contexts, with every character kept.
func TestLoadContexts(t *testing.T) {
	want := map[string]map[string]string{
		"db/password": {"env": "prod", "Env": " 1 ", "literal": "${env:HOME}"},
		"*":           {},
		"ü":           {"a": ""},
	}
	for name, text := range map[string]string{
		"c.yaml": "# contexts\n" +
			"db/password: {env: prod, Env: ' 1 ', literal: '${env:HOME}'}\n" +
			"\"*\": {}\nü:\n  a: ''\n",
		"c.YML": "base: &b\n  env: prod\n" +
			"db/password: {<<: *b, Env: ' 1 ', literal: '${env:HOME}'}\n" +
			"\"*\": {}\nü: {a: \"\"}\n",
		"c.json": "\ufeff{\"db/password\": " +
			"{\"env\": \"prod\", \"Env\": \" 1 \", \"literal\": \"${env:HOME}\"},\n" +
			"\"*\": {}, \"\\u00fc\": {\"a\": \"\"}}\n",
		"c.csv": "name,key,value\ndb/password,env,prod\n*,,\r\nü,a,\n" +
			"db/password,Env, 1 \ndb/password,literal,${env:HOME}\n",
	} {
		got, problem := loadContexts(t, name, text)
		delete(got, "base")
		if diff := cmp.Diff(want, got); diff != "" || problem != "" {
			t.Errorf("%s: %s\n%s", name, problem, diff)
		}
	}
}

// TestLoadContextsRefuses: each problem is reported with its position, and one call reports all
// problems that it can detect.
func TestLoadContextsRefuses(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"c.toml", "", "c.toml: must end in .yaml"},
		{
			"c.yaml",
			"a: {n: 1}\nb: {x: [1]}\nc:\nd: text\n",
			"c.yaml:1:8: a.n: must be text, not a number; put it in quotes\n" +
				"c.yaml:2:8: b.x: must be text, not a list; put it in quotes\nc.yaml:3:",
		},
		{"c.yaml", "a: {x: y}\na: {}\n", "c.yaml:2:1: a: is duplicate, first on line 1"},
		{"c.yaml", "a: {x: y, x: z}\n", "c.yaml:1:11: a.x: is duplicate"},
		{"c.yaml", "- a\n", "c.yaml:1:1: must be fields with values"},
		{"c.yaml", "a: {x: \xff}\n", "c.yaml:1:8: is not UTF-8 here"},
		{"c.yaml", "a: {x\n", "c.yaml:"},
		{"c.yaml", "a: {}\n---\nb: {}\n", "has 2 YAML documents"},
		{"c.yaml", "", "has 0 YAML documents"},
		{"c.yaml", "{}", "has no contexts"},
		{"c.yaml", `"": {}`, "a name is empty"},
		{"c.yaml", `a: {"": x}`, "every value of an encryption context needs a name"},
		{"c.json", "{\"a\": {\"x\": \"y\"},\n \"a\": {}}", "c.json:2:2: a: is duplicate"},
		{"c.json", "{\"a\": {\"x\": \"y\",\n   \"x\": \"z\"}}", "c.json:2:4: a.x: is duplicate"},
		{"c.json", "{\"a\":\n  {\"x\": 1}}", "c.json:2:9: a.x: must be text"},
		{"c.json", "{\"a\": 1}", "c.json:1:7: a: must be an object"},
		{"c.json", "[]", "c.json:1:1: must be an object"},
		{"c.json", "{\"a\": {}}\n{}", "c.json:2:1: continues after"},
		{"c.json", "{\"a\": {}", "is not valid JSON here, or ends too early"},
		{"c.json", "{\"a\": {\"x\": \"y\",}}", "is not valid JSON"},
		{"c.csv", "name,value\n", "c.csv:1:"},
		{"c.csv", "key,name,value\n", "c.csv:1:1: must start with the line name,key,value"},
		{"c.csv", "", "c.csv:1:1: must start with"},
		{"c.csv", "name,key,value\na,b\n", "c.csv:2:1: is not CSV with three columns"},
		{"c.csv", "name,key,value\na,b,1\na,b,2\n", "c.csv:3:1: a.b: is duplicate"},
		{"c.csv", "name,key,value\na,b,1\na,,\n", "c.csv:3:1: a: has a line with an empty context"},
		{"c.csv", "name,key,value\na,,\na,b,1\n", "c.csv:3:1: a: has a line with an empty context"},
		{
			"c.csv",
			"name,key,value\na,,1\n",
			"c.csv:2:1: a: every value of an encryption context needs a name",
		},
		{"c.csv", "name,key,value\n,a,1\n", "c.csv:2:1: a name is empty"},
	} {
		contexts, problem := loadContexts(t, test.name, test.text)
		if contexts != nil || !strings.Contains(problem, test.want) {
			t.Errorf("%s %q: %v, %q, want %q", test.name, test.text, contexts, problem, test.want)
		}
	}
	_, err := LoadContexts(filepath.Join(t.TempDir(), "none.json"))
	if err == nil || !strings.Contains(err.Error(), "cannot read") {
		t.Errorf("missing file: %v", err)
	}
}

// FuzzLoadContexts: for any bytes, LoadContexts returns contexts or problems. The contexts of a
// JSON file are those that encoding/json reads.
func FuzzLoadContexts(f *testing.F) {
	for _, text := range []string{"a: {x: y}\n", `{"a": {"x": "y"}}`, "name,key,value\na,x,y\n",
		`{"a":{"x":"\ud800"}}`, "a: *b", "\"\n\",,"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, extension := range []string{".yaml", ".json", ".csv"} {
			path := filepath.Join(t.TempDir(), "c"+extension)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			contexts, err := LoadContexts(path)
			if (err == nil) != (len(contexts) > 0) {
				t.Fatalf("%s: %v, %v", extension, contexts, err)
			}
			if extension == ".json" && err == nil {
				checkSameJSON(t, data, contexts)
			}
		}
	})
}

func checkSameJSON(t *testing.T, data []byte, contexts map[string]map[string]string) {
	var want map[string]map[string]string
	if err := json.Unmarshal(bytes.TrimPrefix(data, []byte("\ufeff")), &want); err != nil {
		t.Fatalf("%q is accepted but is not JSON: %v", data, err)
	}
	if diff := cmp.Diff(want, contexts); diff != "" {
		t.Fatalf("%q: %s", data, diff)
	}
}
