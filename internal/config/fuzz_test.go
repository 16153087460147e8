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

// FuzzParse: for any bytes, Parse returns a complete job that conforms to the published JSON
// Schema, or *Problems. Each problem has a valid position or concerns the whole file, and contains
// no grant token from the environment.
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
		tree := expanded(text)
		if err != nil {
			checkProblems(t, text, job, err)
			if !hasSecret(tree) && strings.Contains(err.Error(), secret) {
				t.Fatalf("the error contains a grant token: %v", err)
			}
			return
		}
		if job.Job == "" || job.Destination.Key == "" || len(job.Targets) == 0 ||
			job.Workers < 0 || job.Checkpoint == "" {
			t.Fatalf("required fields are missing: %+v", job)
		}
		for _, wrong := range schema.check(schema, "job", tree) {
			t.Errorf("accepted, but does not conform to the schema: %s", wrong)
		}
	})
}

// secret is the value of ${env:TOKEN} in tests.
const secret = "a-very-secret-token"

// checkProblems checks that every problem has a position in the text, except for problems of the
// whole file. The position of a missing field is that of its parent.
func checkProblems(t *testing.T, text []byte, job *Job, err error) {
	var problems *Problems
	if !errors.As(err, &problems) || len(problems.List) == 0 || job != nil ||
		problems.File != "job.yaml" {
		t.Fatalf("got %+v, %v", job, err)
	}
	lines := strings.Count(string(text), "\n") + strings.Count(string(text), "\r") + 1
	for _, p := range problems.List {
		switch {
		case p.Detail == "" || !utf8.ValidString(p.Detail):
			t.Fatalf("%+v has no detail, or one that is not UTF-8", p)
		case p.Line == 0 && p.Column == 0 && p.Field == "":
		case p.Line < 1 || p.Line > lines || p.Column < 1 || p.Column > len(text)+len(": "):
			t.Fatalf("%+v is outside of the file, which has %d lines", p, lines)
		}
	}
}

// expanded returns a job file as plain values, with aliases, merge keys and ${env:NAME} expanded.
func expanded(text []byte) any {
	body, problem := parse(text)
	if problem != nil {
		return nil
	}
	b := &binder{lookupEnv: environment, positions: map[string]position{}, left: maxValues}
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

// hasSecret reports whether the secret is also in a field other than grant_tokens. It may then be
// in messages.
func hasSecret(tree any) bool {
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

// check returns where a value does not conform to the schema. It reports keywords that it does not
// know.
func (s jsonSchema) check(root jsonSchema, at string, value any) (wrong []string) {
	for keyword, limit := range s {
		var ok bool
		known := true
		switch v := value.(type) {
		default:
			if keyword == "oneOf" {
				ok = s.oneOf(root, at, limit, v)
				break
			}
			ok, known = s.scalar(keyword, limit, v)
		case map[string]any:
			ok, known = s.object(root, at, keyword, limit, v, &wrong)
		case []any:
			ok, known = s.list(root, at, keyword, limit, v, &wrong)
		}
		switch keyword {
		case "$ref":
			name := strings.TrimPrefix(limit.(string), "#/$defs/")
			defs := root["$defs"].(map[string]any)
			definition := jsonSchema(defs[name].(map[string]any))
			wrong = append(wrong, definition.check(root, at, value)...)
		case "$schema", "$defs", "title", "description", "default", "format":
		default:
			if !known {
				wrong = append(wrong,
					fmt.Sprintf("%s: unknown keyword %s in the schema", at, keyword))
			} else if !ok {
				wrong = append(wrong,
					fmt.Sprintf("%s: %v violates %s: %v", at, value, keyword, limit))
			}
		}
	}
	return wrong
}

func (s jsonSchema) scalar(keyword string, limit, value any) (ok, known bool) {
	switch v := value.(type) {
	case string:
		return s.text(keyword, limit, v)
	case bool:
		return limit == "boolean" || keyword != "type", keyword == "type"
	case int64:
		return s.number(keyword, limit, float64(v), true)
	case float64:
		return s.number(keyword, limit, v, false)
	}
	return keyword != "type", true
}

// oneOf reports whether a value matches exactly one of several schemas.
func (s jsonSchema) oneOf(root jsonSchema, at string, limit, value any) bool {
	matching := 0
	for _, one := range limit.([]any) {
		if len(jsonSchema(one.(map[string]any)).check(root, at, value)) == 0 {
			matching++
		}
	}
	return matching == 1
}

func (s jsonSchema) object(
	root jsonSchema,
	at, keyword string,
	limit any,
	v map[string]any,
	wrong *[]string,
) (ok, known bool) {
	properties, _ := s["properties"].(map[string]any)
	switch keyword {
	case "type":
		return limit == "object", true
	case "required":
		return !slices.ContainsFunc(limit.([]any), func(name any) bool {
			_, has := v[name.(string)]
			return !has
		}), true
	case "oneOf":
		return s.oneOf(root, at, limit, v), true
	case "properties":
		for name, property := range properties {
			if inner, has := v[name]; has {
				*wrong = append(*wrong,
					jsonSchema(property.(map[string]any)).check(root, at+"."+name, inner)...)
			}
		}
		return true, true
	case "additionalProperties":
		for name, inner := range v {
			if _, has := properties[name]; has {
				continue
			}
			more, open := limit.(map[string]any)
			if !open {
				return false, true
			}
			*wrong = append(*wrong, jsonSchema(more).check(root, at+"."+name, inner)...)
		}
		return true, true
	}
	return true, false
}

func (s jsonSchema) list(
	root jsonSchema,
	at, keyword string,
	limit any,
	v []any,
	wrong *[]string,
) (ok, known bool) {
	switch keyword {
	case "type":
		return limit == "array", true
	case "minItems":
		return float64(len(v)) >= limit.(float64), true
	case "maxItems":
		return float64(len(v)) <= limit.(float64), true
	case "items":
		schema := jsonSchema(limit.(map[string]any))
		for i, inner := range v {
			*wrong = append(*wrong, schema.check(root, fmt.Sprintf("%s[%d]", at, i), inner)...)
		}
		return true, true
	}
	return true, false
}

func (s jsonSchema) text(keyword string, limit any, v string) (ok, known bool) {
	switch keyword {
	case "type":
		return limit == "string", true
	case "minLength":
		return float64(utf8.RuneCountInString(v)) >= limit.(float64), true
	case "maxLength":
		return float64(utf8.RuneCountInString(v)) <= limit.(float64), true
	case "pattern":
		return regexp.MustCompile(limit.(string)).MatchString(v), true
	case "enum":
		return slices.Contains(limit.([]any), any(v)), true
	}
	return true, false
}

func (s jsonSchema) number(keyword string, limit any, v float64, whole bool) (ok, known bool) {
	switch keyword {
	case "type":
		return limit == "number" || limit == "integer" && whole, true
	case "minimum":
		return v >= limit.(float64), true
	case "maximum":
		return v <= limit.(float64), true
	case "exclusiveMinimum":
		return v > limit.(float64), true
	}
	return true, false
}
