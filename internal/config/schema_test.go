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

var update = flag.Bool("update", false, "rewrite golden files and description.go")

// golden compares got with a file. With -update it writes the file.
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
		t.Errorf("%s differs from the generated text (-file +generated); "+
			"go test -update rewrites it:\n%s", path, diff)
	}
}

// TestDescriptionsAreTheCommentsOfJob: the descriptions in the schema are the comments of job.go.
// Run go test -update twice: it first writes description.go, and then the schema with the new
// descriptions.
func TestDescriptionsAreTheCommentsOfJob(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "job.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var types, functions strings.Builder
	add := func(out *strings.Builder, name string, doc *ast.CommentGroup) {
		text := strings.Join(strings.Fields(doc.Text()), " ")
		if text == "" {
			t.Errorf("%s has no comment", name)
		}
		fmt.Fprintf(out, "case %q:\nreturn %q\n", name, text)
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
		name := spec.Name.Name
		var cases strings.Builder
		add(&cases, "", d.Doc)
		for _, field := range fields.Fields.List {
			if field.Names[0].IsExported() {
				add(&cases, field.Names[0].Name, field.Doc)
			}
		}
		fmt.Fprintf(&types, "case %q:\nreturn describe%s(field)\n", name, name)
		fmt.Fprintf(&functions, "\nfunc describe%s(field string) string {\nswitch field {\n%s}\n"+
			"return \"\"\n}\n", name, cases.String())
	}
	source, err := format.Source([]byte(
		`// Code generated from the comments of job.go by go test -update; DO NOT EDIT.

package config

// description returns the comment of a type, such as Job, or of one of its fields.
func description(name, field string) string {
switch name {
` + types.String() + `}
return ""
}
` + functions.String()))
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

// schemaNode is the part of JSON Schema that the schema of the job file uses.
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

// TestSchemaIsClosedAndDescribed: at any depth, objects accept no unknown fields, and each field
// has a description.
func TestSchemaIsClosedAndDescribed(t *testing.T) {
	root := readSchema(t)
	objects := map[string]schemaNode{"Job": root}
	for name, def := range root.Defs {
		objects[name] = def
	}
	if len(objects) < 8 {
		t.Fatalf("%d objects in the schema, want at least 8", len(objects))
	}
	for name, object := range objects {
		if object.Type != "object" || object.Description == "" {
			t.Errorf("%s: type %q, description %q", name, object.Type, object.Description)
		}
		if string(object.AdditionalProperties) != "false" {
			t.Errorf("%s accepts unknown fields", name)
		}
		for field, property := range object.Properties {
			if property.Description == "" {
				t.Errorf("%s.%s has no description", name, field)
			}
		}
	}
}

// conforms returns where a value does not conform to the schema.
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
			if !known && len(s.AdditionalProperties) > 0 &&
				json.Unmarshal(s.AdditionalProperties, &property) == nil {
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
	// The check can fail.
	bad := map[string]any{"job": uint64(1), "tarets": []any{}}
	if wrong := root.conforms(root, "", bad); len(wrong) != 5 {
		t.Errorf("a wrong job has %d problems, want 5: %q", len(wrong), wrong)
	}
	if !reflect.DeepEqual(bytes.TrimSpace(root.AdditionalProperties), []byte("false")) {
		t.Error("the root of the schema accepts unknown fields")
	}
}
