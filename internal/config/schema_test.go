package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write golden files and description.go anew")

// golden compares with a file, or writes it.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not what the code gives now (-file +code); go test -update writes it anew:\n%s", path, diff)
	}
}

// The descriptions in the schema are the comments of job.go, so that there is
// one text to keep true. Run with -update twice: the schema takes the
// descriptions that were compiled in.
func TestDescriptionsAreTheCommentsOfJob(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "job.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var cases strings.Builder
	add := func(name string, doc *ast.CommentGroup) {
		text := strings.Join(strings.Fields(doc.Text()), " ")
		if text == "" {
			t.Errorf("%s has no comment", name)
		}
		fmt.Fprintf(&cases, "case %q:\nreturn %q\n", name, text)
	}
	for _, decl := range file.Decls {
		d, ok := decl.(*ast.GenDecl)
		if !ok || d.Tok != token.TYPE {
			continue
		}
		spec := d.Specs[0].(*ast.TypeSpec)
		fields, ok := spec.Type.(*ast.StructType)
		if !ok {
			continue
		}
		add(spec.Name.Name, d.Doc)
		for _, field := range fields.Fields.List {
			if name := field.Names[0]; name.IsExported() {
				add(spec.Name.Name+"."+name.Name, field.Doc)
			}
		}
	}
	source, err := format.Source([]byte(`// Code generated from the comments of job.go by go test -update; DO NOT EDIT.

package config

// description is the comment of a type ("Job") or of a field ("Job.Targets").
func description(name string) string {
switch name {
` + cases.String() + `}
return ""
}
`))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "description.go", source)
}

func TestSchemaGolden(t *testing.T) {
	schema, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata", "schema.json"), schema)
}

// schemaNode is as much of a JSON Schema as the job file uses.
type schemaNode struct {
	Ref                  string                `json:"$ref"`
	Defs                 map[string]schemaNode `json:"$defs"`
	Type                 string                `json:"type"`
	Description          string                `json:"description"`
	Properties           map[string]schemaNode `json:"properties"`
	AdditionalProperties json.RawMessage       `json:"additionalProperties"`
	Items                *schemaNode           `json:"items"`
	Required             []string              `json:"required"`
	Enum                 []any                 `json:"enum"`
	OneOf                []schemaNode          `json:"oneOf"` // of a scalar
}

func readSchema(t *testing.T) schemaNode {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var root schemaNode
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	return root
}

// Every object is closed and every field is described, at any depth.
func TestSchemaIsClosedAndDescribed(t *testing.T) {
	root := readSchema(t)
	objects := map[string]schemaNode{"Job": root}
	for name, def := range root.Defs {
		objects[name] = def
	}
	if len(objects) < 8 {
		t.Fatalf("%d objects in the schema, want those of Job and 7 or more others", len(objects))
	}
	for name, object := range objects {
		if object.Type != "object" || object.Description == "" {
			t.Errorf("%s: type %q, description %q", name, object.Type, object.Description)
		}
		if string(object.AdditionalProperties) != "false" {
			t.Errorf("%s lets unknown fields pass", name)
		}
		for field, property := range object.Properties {
			if property.Description == "" {
				t.Errorf("%s.%s has no description", name, field)
			}
		}
	}
}

// conforms reports where a value leaves the shape that the schema gives.
func (s schemaNode) conforms(root schemaNode, at string, value any) []string {
	if s.Ref != "" {
		s = root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")]
	}
	for _, one := range s.OneOf {
		if s.Type == "" && len(one.conforms(root, at, value)) == 0 {
			return nil
		}
	}
	var wrong []string
	kind := "none"
	switch v := value.(type) {
	case map[string]any:
		kind = "object"
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				wrong = append(wrong, at+"."+name+" is required")
			}
		}
		for name, inner := range v {
			property, known := s.Properties[name]
			if !known && len(s.AdditionalProperties) > 0 && json.Unmarshal(s.AdditionalProperties, &property) == nil {
				known = true
			}
			if !known {
				wrong = append(wrong, at+"."+name+" is not in the schema")
				continue
			}
			wrong = append(wrong, property.conforms(root, at+"."+name, inner)...)
		}
	case []any:
		kind = "array"
		for i, inner := range v {
			wrong = append(wrong, s.Items.conforms(root, fmt.Sprintf("%s[%d]", at, i), inner)...)
		}
	case string:
		kind = "string"
	case bool:
		kind = "boolean"
	case uint64, int64:
		kind = "integer"
	case float64:
		kind = "number"
	}
	if kind != s.Type && !(kind == "integer" && s.Type == "number") {
		wrong = append(wrong, fmt.Sprintf("%s is %s, want %s", at, kind, s.Type))
	}
	return wrong
}

func TestExamplesLoadAndConform(t *testing.T) {
	paths, err := filepath.Glob("../../deploy/examples/*.yaml")
	if err != nil || len(paths) < 8 {
		t.Fatalf("examples: %v, %v", paths, err)
	}
	root := readSchema(t)
	env := func(name string) (string, bool) { return "value-of-" + name, true }
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			if _, err := Load(path, env); err != nil {
				t.Errorf("load:\n%v", err)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var tree any
			if err := yaml.Unmarshal(text, &tree); err != nil {
				t.Fatal(err)
			}
			for _, wrong := range root.conforms(root, "", tree) {
				t.Error(wrong)
			}
		})
	}
	// The check itself can fail.
	bad := map[string]any{"job": uint64(1), "tarets": []any{}}
	if wrong := root.conforms(root, "", bad); len(wrong) != 5 {
		t.Errorf("a wrong job has %d deviations, want 5: %q", len(wrong), wrong)
	}
	if !reflect.DeepEqual(bytes.TrimSpace(root.AdditionalProperties), []byte("false")) {
		t.Error("the schema is open at the top")
	}
}
