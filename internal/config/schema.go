package config

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/invopop/jsonschema"
)

// Schema returns the JSON Schema of a job file, for editors and other programs. Load is
// stricter: it also checks relations between fields.
func Schema() ([]byte, error) {
	reflector := &jsonschema.Reflector{
		Anonymous:                  true,
		ExpandedStruct:             true,
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true,
		Mapper:                     schemaOf,
		LookupComment:              describe,
	}
	schema := reflector.Reflect(&Job{})
	schema.Title = "rotator job file"
	text, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("format the JSON Schema of the job file: %w", err)
	}
	return append(text, '\n'), nil
}

// schemaOf returns the schema of types whose Go type differs from their type in the file. It
// returns nil for other types.
func schemaOf(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[Duration]():
		return &jsonschema.Schema{Type: "string", Pattern: durationForm.String()}
	case reflect.TypeFor[Size]():
		return &jsonschema.Schema{Type: "string", Pattern: sizeForm.String()}
	case reflect.TypeFor[Segments]():
		return &jsonschema.Schema{Default: autoWord, OneOf: []*jsonschema.Schema{
			{Type: "integer", Minimum: "1", Maximum: json.Number(fmt.Sprint(int(mostSegments)))},
			{Type: "string", Enum: []any{autoWord}},
		}}
	case reflect.TypeFor[GrantTokens]():
		return &jsonschema.Schema{Type: "array", Items: &jsonschema.Schema{Type: "string"}}
	}
	return nil
}

// describe returns the comment of a type, or of one of its fields if field is not empty.
func describe(t reflect.Type, field string) string {
	return description(t.Name(), field)
}
