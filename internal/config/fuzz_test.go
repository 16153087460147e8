package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// FuzzParse: whatever the bytes, Parse returns a usable job, which the published
// JSON Schema lets pass too, or *Problems, each at a place in the file or about
// the file itself, and no secret that the environment gave for a grant token.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.yaml", "../../deploy/examples/*.yaml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			f.Fatalf("%s: %v, %v", pattern, paths, err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Add([]byte(minimal))
	schema := readJSONSchema(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		job, err := Parse("job.yaml", text, environment)
		tree := asWritten(text)
		if err != nil {
			checkProblems(t, text, job, err)
			if !holdsSecret(tree) && strings.Contains(err.Error(), secret) {
				t.Fatalf("a grant token is in the error: %v", err)
			}
			return
		}
		if job.Job == "" || job.Destination.Key == "" || len(job.Targets) == 0 || job.Workers < 0 || job.Checkpoint == "" {
			t.Fatalf("loaded without what is required: %+v", job)
		}
		for _, wrong := range schema.check(schema, "job", tree) {
			t.Errorf("loads, against the schema: %s", wrong)
		}
	})
}

// secret is what environment has for TOKEN.
const secret = "a-very-secret-token"

// checkProblems: every problem has a place in the text, but for those about the
// file as a whole. A value that is missing stands where it would be written.
func checkProblems(t *testing.T, text []byte, job *Job, err error) {
	var problems *Problems
	if !errors.As(err, &problems) || len(problems.List) == 0 || job != nil || problems.File != "job.yaml" {
		t.Fatalf("got %+v, %v", job, err)
	}
	lines := strings.Count(string(text), "\n") + strings.Count(string(text), "\r") + 1
	for _, p := range problems.List {
		switch {
		case p.Detail == "" || !utf8.ValidString(p.Detail):
			t.Fatalf("%+v says nothing, or not in UTF-8", p)
		case p.Line == 0 && p.Column == 0 && p.Field == "":
		case p.Line < 1 || p.Line > lines || p.Column < 1 || p.Column > len(text)+len(": "):
			t.Fatalf("%+v does not point into a file of %d lines", p, lines)
		}
	}
}

// asWritten is a job file as plain values: aliases and merges written out, and
// ${env:NAME} expanded.
func asWritten(text []byte) any {
	body, problem := parse(text)
	if problem != nil {
		return nil
	}
	b := &binder{lookupEnv: environment, places: map[string]place{}, left: maxValues}
	return b.plain(body)
}

func (b *binder) plain(node *yaml.Node) any {
	node, ok := b.resolve(node, "")
	if !ok {
		return nil
	}
	switch node.Kind {
	case yaml.MappingNode:
		pairs, _ := b.pairs(node, "")
		m := map[string]any{}
		for _, p := range pairs {
			m[p.key] = b.plain(p.value)
		}
		return m
	case yaml.SequenceNode:
		list := make([]any, len(node.Content))
		for i, value := range node.Content {
			list[i] = b.plain(value)
		}
		return list
	}
	switch is := scalarOf(node); is {
	case boolean:
		return strings.EqualFold(node.Value, "true")
	case whole:
		n, _ := integer(node, is)
		return n
	case fraction:
		n, _ := strconv.ParseFloat(node.Value, 64)
		return n
	}
	text, _ := b.text(node, "")
	return text
}

// holdsSecret says that the secret is somewhere else than in a grant token, and so
// is none.
func holdsSecret(tree any) bool {
	job, _ := tree.(map[string]any)
	job = maps.Clone(job)
	if kms, ok := job["kms"].(map[string]any); ok {
		kms = maps.Clone(kms)
		delete(kms, "grant_tokens")
		job["kms"] = kms
	}
	if _, ok := tree.(map[string]any); !ok {
		return strings.Contains(fmt.Sprint(tree), secret)
	}
	return strings.Contains(fmt.Sprint(job), secret)
}

// jsonSchema is a JSON Schema, or a part of one.
type jsonSchema map[string]any

func readJSONSchema(f *testing.F) (schema jsonSchema) {
	text, err := Schema()
	if err == nil {
		err = json.Unmarshal(text, &schema)
	}
	if err != nil {
		f.Fatal(err)
	}
	return schema
}

// check says where a value leaves the schema. It knows the keywords that the
// schema of the job file has, and reports any other.
func (s jsonSchema) check(root jsonSchema, at string, value any) (wrong []string) {
	for keyword, says := range s {
		var ok bool
		known := true
		switch v := value.(type) {
		default:
			if keyword == "oneOf" {
				ok = s.oneOf(root, at, says, v)
				break
			}
			ok, known = s.scalar(keyword, says, v)
		case map[string]any:
			ok, known = s.object(root, at, keyword, says, v, &wrong)
		case []any:
			ok, known = s.list(root, at, keyword, says, v, &wrong)
		}
		switch keyword {
		case "$ref":
			name := strings.TrimPrefix(says.(string), "#/$defs/")
			wrong = append(wrong, jsonSchema(root["$defs"].(map[string]any)[name].(map[string]any)).check(root, at, value)...)
		case "$schema", "$defs", "title", "description", "default", "format":
		default:
			if !known {
				wrong = append(wrong, fmt.Sprintf("%s: the schema has a keyword %s that this test does not know", at, keyword))
			} else if !ok {
				wrong = append(wrong, fmt.Sprintf("%s: %v is not what %s %v allows", at, value, keyword, says))
			}
		}
	}
	return wrong
}

func (s jsonSchema) scalar(keyword string, says, value any) (ok, known bool) {
	switch v := value.(type) {
	case string:
		return s.text(keyword, says, v)
	case bool:
		return says == "boolean" || keyword != "type", keyword == "type"
	case int64:
		return s.number(keyword, says, float64(v), true)
	case float64:
		return s.number(keyword, says, v, false)
	}
	return keyword != "type", true
}

// oneOf reports whether a value matches exactly one of several schemas.
func (s jsonSchema) oneOf(root jsonSchema, at string, says, value any) bool {
	matching := 0
	for _, one := range says.([]any) {
		if len(jsonSchema(one.(map[string]any)).check(root, at, value)) == 0 {
			matching++
		}
	}
	return matching == 1
}

func (s jsonSchema) object(root jsonSchema, at, keyword string, says any, v map[string]any, wrong *[]string) (ok, known bool) {
	properties, _ := s["properties"].(map[string]any)
	switch keyword {
	case "type":
		return says == "object", true
	case "required":
		return !slices.ContainsFunc(says.([]any), func(name any) bool { _, has := v[name.(string)]; return !has }), true
	case "oneOf":
		return s.oneOf(root, at, says, v), true
	case "properties":
		for name, property := range properties {
			if inner, has := v[name]; has {
				*wrong = append(*wrong, jsonSchema(property.(map[string]any)).check(root, at+"."+name, inner)...)
			}
		}
		return true, true
	case "additionalProperties":
		for name, inner := range v {
			if _, has := properties[name]; has {
				continue
			}
			more, open := says.(map[string]any)
			if !open {
				return false, true
			}
			*wrong = append(*wrong, jsonSchema(more).check(root, at+"."+name, inner)...)
		}
		return true, true
	}
	return true, false
}

func (s jsonSchema) list(root jsonSchema, at, keyword string, says any, v []any, wrong *[]string) (ok, known bool) {
	switch keyword {
	case "type":
		return says == "array", true
	case "minItems":
		return float64(len(v)) >= says.(float64), true
	case "maxItems":
		return float64(len(v)) <= says.(float64), true
	case "items":
		for i, inner := range v {
			*wrong = append(*wrong, jsonSchema(says.(map[string]any)).check(root, fmt.Sprintf("%s[%d]", at, i), inner)...)
		}
		return true, true
	}
	return true, false
}

func (s jsonSchema) text(keyword string, says any, v string) (ok, known bool) {
	switch keyword {
	case "type":
		return says == "string", true
	case "minLength":
		return float64(utf8.RuneCountInString(v)) >= says.(float64), true
	case "maxLength":
		return float64(utf8.RuneCountInString(v)) <= says.(float64), true
	case "pattern":
		return regexp.MustCompile(says.(string)).MatchString(v), true
	case "enum":
		return slices.Contains(says.([]any), any(v)), true
	}
	return true, false
}

func (s jsonSchema) number(keyword string, says any, v float64, whole bool) (ok, known bool) {
	switch keyword {
	case "type":
		return says == "number" || says == "integer" && whole, true
	case "minimum":
		return v >= says.(float64), true
	case "maximum":
		return v <= says.(float64), true
	case "exclusiveMinimum":
		return v > says.(float64), true
	}
	return true, false
}
