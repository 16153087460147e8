package ciphertext_test

import (
	"fmt"

	"rotator/internal/ciphertext"
	"rotator/internal/scan"
)

// A target has a table whose attribute ssn holds a ciphertext. The encryption context contains the
// attribute tenant.
func ExampleCompile() {
	template, err := ciphertext.Compile(ciphertext.Spec{
		Format: "raw",
		Kind:   ciphertext.Rows,
		Slots: []ciphertext.SlotSpec{{
			Path:    "ssn",
			Context: map[string]string{"tenant": "${tenant}"},
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	format := template.Bind(ciphertext.Keys{
		Destination: "arn:aws:kms:eu-west-1:111122223333:key/0987dcba-09fe-87dc-65ba-ab0987654321",
	})
	item := scan.Item{
		Ref: `{"id":{"S":"7"}}`,
		Payload: &scan.Row{Attributes: map[string]scan.Value{
			"ssn":    {Kind: scan.KindB, Bytes: []byte("old ciphertext")},
			"tenant": {Kind: scan.KindS, Text: "t1"},
		}},
	}
	for _, slot := range format.Find(item) {
		fmt.Printf("%s: %s, context %v\n", slot.Path, slot.Blob, slot.DestinationContext)
	}
	payload, err := format.Splice(item, [][]byte{[]byte("new ciphertext")})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", payload.(*scan.Row).Attributes["ssn"].Bytes)
	// Output:
	// ssn: old ciphertext, context map[tenant:t1]
	// new ciphertext
}

// Compile reports all problems of a Spec, each with the field of the job file.
func ExampleSpecError() {
	_, err := ciphertext.Compile(ciphertext.Spec{
		Format: "raw",
		Kind:   ciphertext.Rows,
		Slots:  []ciphertext.SlotSpec{{Path: "docs["}, {Path: "ssn", Padding: "always"}},
	})
	fmt.Println(err)
	// Output:
	// slots[0].path: path "docs[", byte 5: [ without ]
	// slots[1].padding: format raw has no padding; remove this field
}
