package document

import (
	"encoding/json"
	"fmt"

	"github.com/invopop/jsonschema"
)

// JSONSchema returns the JSON Schema (2020-12) of a document. It allows further members, which
// later minor versions add.
func JSONSchema() ([]byte, error) {
	reflector := &jsonschema.Reflector{
		Anonymous:                 true,
		ExpandedStruct:            true,
		AllowAdditionalProperties: true,
	}
	schema := reflector.Reflect(&Document{})
	schema.Title = "rotator report " + Schema
	text, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("format the JSON Schema of the report: %w", err)
	}
	return append(text, '\n'), nil
}
