package hashrefs

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"rotator/internal/report"
	"rotator/internal/report/document"
	"rotator/internal/report/markdown"
	"rotator/internal/report/page"
	"rotator/internal/report/reporttest"
	"rotator/internal/report/sheet"
	"rotator/internal/verdict"
)

// TestHashRefs: no form of a hashed document contains an address. Equal addresses have equal
// digests, and another salt gives others.
func TestHashRefs(t *testing.T) {
	const ref, short = `{"mail":"ada@example.com"}`, "ann"
	d := reporttest.Saved(t)
	d.Exceptions.Listed[0].Ref = ref
	d.Exceptions.Listed[0].Detail = "cannot read " + ref
	d.Reasons[0].Examples = []report.Example{{Target: "customers", Ref: short}}
	d.Notes = []string{"the waiver has no effect (customers waived@example.com ssn)",
		"customers ann ssn", "an annual note"}
	d.Verdicts[0].Waived = []verdict.Waived{{Target: "customers", Ref: ref}}
	d.Verdicts[0].Why = []string{"1 failed slot is waived: customers " + ref + " ssn."}
	h := New([]byte("salt"))
	hashed, err := h.Document(d, []string{"waived@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range allForms(t, hashed) {
		for _, personal := range []string{"ada@", "waived@", " ann "} {
			if strings.Contains(text, personal) {
				t.Errorf("%s contains %q", name, personal)
			}
		}
	}
	listed := hashed.Exceptions.Listed[0]
	if listed.Ref != h.Ref(ref) || hashed.Verdicts[0].Waived[0].Ref != h.Ref(ref) ||
		h.Entry(d.Exceptions.Listed[0]) != listed {
		t.Errorf("the same address has several digests: %+v", listed)
	}
	if New([]byte("other")).Ref(ref) == h.Ref(ref) {
		t.Error("the digest does not depend on the salt")
	}
	if hashed.Notes[2] != "an annual note" {
		t.Errorf("a short address is replaced within words: %q", hashed.Notes[2])
	}
	if err := hashed.Check(); err != nil {
		t.Error(err)
	}
}

// TestHashWords: an address that is a word or a number changes neither times, keys, codes nor
// figures in sentences. The document stays valid, and each text that names the address is hashed.
func TestHashWords(t *testing.T) {
	t.Parallel()
	h := New([]byte("salt"))
	for _, ref := range []string{"2026", "is", "None", "a", "arn", "customers", "began", "1"} {
		d := reporttest.Saved(t)
		d.Exceptions.Listed[0].Ref, d.Exceptions.Listed[0].Detail = ref, "cannot read '"+ref+"'"
		d.Notes = []string{"(customers " + ref + " ssn)"}
		hashed, err := h.Document(d, nil)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if err := hashed.Check(); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
		if got := hashed.Exceptions.Listed[0]; got.Ref != h.Ref(ref) ||
			got.Detail != "cannot read '"+h.Ref(ref)+"'" {
			t.Errorf("%s: %+v", ref, got)
		}
		if strings.Contains(hashed.Notes[0], " "+ref+" ") {
			t.Errorf("%s: the note is %q", ref, hashed.Notes[0])
		}
		if hashed.Verdicts[0].Sentence != d.Verdicts[0].Sentence || hashed.AsOf != d.AsOf ||
			!slices.Equal(hashed.Scope.LookedAt, d.Scope.LookedAt) ||
			hashed.Exceptions.Listed[0].Key != d.Exceptions.Listed[0].Key {
			t.Errorf("%s: another member changed: %s", ref, hashed.Verdicts[0].Sentence)
		}
	}
}

// allForms returns the texts of a document by form.
func allForms(t *testing.T, d *document.Document) map[string]string {
	t.Helper()
	texts := map[string]string{}
	write := func(name string, err error, b *bytes.Buffer) {
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = b.String()
	}
	var asJSON, html, md, text, csv bytes.Buffer
	write("json", d.JSON(&asJSON), &asJSON)
	write("html", page.Write(&html, d), &html)
	write("md", markdown.Write(&md, d), &md)
	write("text", d.Text(&text), &text)
	write("csv", sheet.Write(&csv, d, sheet.Exceptions), &csv)
	return texts
}
