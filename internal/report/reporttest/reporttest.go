// Package reporttest has documents for the tests of all forms of a report.
package reporttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rotator/internal/checkpoint"
	"rotator/internal/report/document"
	"rotator/internal/watch"
)

// Saved returns the document in testdata of the package document.
func Saved(t testing.TB) *document.Document {
	t.Helper()
	name := filepath.Join("..", "document", "testdata", "report.json")
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	d, err := document.Read(name, file)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Hostile is a name that attacks each form: HTML, formulas of spreadsheets, Markdown, and
// characters that control a terminal or change the direction of a text.
const Hostile = "=HYPERLINK(\"http://evil.example\")</title></style><script>alert(1)</script>" +
	"<img src=x onerror=alert(1)>'\"|[a](javascript:alert(1))`~\\ \u202egnp\u2066\u200b" +
	"\x00\x1b[31m\r\n| x |\n# head\t&lt;\xff"

// Attacked returns a document in which all names and messages from outside are hostile.
func Attacked(t testing.TB) *document.Document {
	t.Helper()
	d := Saved(t)
	for _, text := range []*string{&d.Job, &d.Account, &d.Caller, &d.Convergence, &d.Version} {
		*text = Hostile
	}
	for i := range d.Targets {
		target := &d.Targets[i]
		target.Name = Hostile
		*target.Location = checkpoint.Location{Kind: checkpoint.LocationS3, Bucket: Hostile,
			Prefix: Hostile, Region: Hostile, Format: Hostile}
		for j := range target.Reasons {
			target.Reasons[j].Reason = Hostile
		}
	}
	for i := range d.Reasons {
		d.Reasons[i].Reason = Hostile
	}
	for i := range d.Inventory {
		h := &d.Inventory[i]
		h.Key += Hostile
		h.Alias, h.Target, h.Place, h.Format = Hostile, Hostile, Hostile, Hostile
	}
	for i := range d.Passes {
		p := &d.Passes[i]
		p.Command, p.Caller, p.Hosts, p.Version = Hostile, Hostile, []string{Hostile}, Hostile
	}
	for i := range d.Exceptions.Listed {
		e := &d.Exceptions.Listed[i]
		e.Target, e.Ref, e.Path, e.Reason, e.Detail = Hostile, Hostile, Hostile, Hostile, Hostile
		e.Blob, e.Key, e.HeaderKey = Hostile, Hostile, Hostile
	}
	for i := range d.Copies {
		c := &d.Copies[i]
		c.Target, c.Place, c.Detail, c.API = Hostile, Hostile, Hostile, Hostile
		c.MissingPermission = Hostile
	}
	for i := range d.KeyUse {
		attackKey(&d.KeyUse[i])
	}
	attackTexts(d)
	return d
}

// attackKey makes all texts about a source key hostile. Its ARN and state stay.
func attackKey(k *document.KeyUse) {
	k.Job, k.Given, k.Sentence, k.Rule, k.Spec = Hostile, Hostile, Hostile, Hostile, Hostile
	k.LastUsage.Operation, k.LastUsage.Caller = Hostile, Hostile
	k.LastUsage.RequestID, k.Aliases = Hostile, []string{Hostile}
	for i := range k.Grants {
		k.Grants[i].Grantee, k.Grants[i].Name = Hostile, Hostile
	}
	for i := range k.Trail.Callers {
		c := &k.Trail.Callers[i]
		c.ARN, c.Via, c.Operation, c.Result = Hostile, Hostile, Hostile, Hostile
	}
	for i := range k.Facts {
		k.Facts[i] = watch.Fact{About: Hostile, Sentence: Hostile}
	}
	for i := range k.Materials {
		k.Materials[i].ID, k.Materials[i].State = Hostile, Hostile
	}
	k.CannotSee = []watch.Unseen{{What: Hostile, Permission: Hostile, Sentence: Hostile}}
}

// attackTexts makes sentences hostile.
func attackTexts(d *document.Document) {
	for i := range d.Verdicts {
		v := &d.Verdicts[i]
		v.Key, v.Alias, v.Reason = Hostile, Hostile, Hostile
		v.Sentence = Hostile + " cannot be disabled. " + Hostile
		v.Why, v.Delete.BlockedBy, v.Delete.Sentence = []string{Hostile}, []string{Hostile}, Hostile
		for j := range v.NextSteps {
			v.NextSteps[j].Do, v.NextSteps[j].Command = Hostile, Hostile
		}
	}
	for i := range d.Logs {
		l := &d.Logs[i]
		l.Host, l.Name, l.Head = Hostile, Hostile, Hostile
	}
	d.Notes = []string{Hostile}
	d.Scope.LookedAt, d.Scope.CannotSee = []string{Hostile}, []string{Hostile}
	d.Scope.NotLookedAt = []string{Hostile}
	d.Parts = []document.Part{{File: Hostile, Job: Hostile, Account: Hostile, Command: Hostile}}
}

// Large returns a document with as many rows of each kind as a document can have, with long names.
func Large(t testing.TB, rows int) *document.Document {
	t.Helper()
	d := Saved(t)
	long := strings.Repeat("<\u202e>", 700)
	for i := range d.Exceptions.Listed {
		d.Exceptions.Listed[i].Ref = long
	}
	e := d.Exceptions.Listed[0]
	e.Ref, e.Path, e.Detail, e.Target = long, long, long, long
	for len(d.Exceptions.Listed) < document.MaxListed {
		d.Exceptions.Listed = append(d.Exceptions.Listed, e)
	}
	k := &d.KeyUse[0]
	for range rows {
		d.KeyUse = append(d.KeyUse, *k)
		k.Trail.Callers = append(k.Trail.Callers, watch.Caller{ARN: long, Operation: long})
		k.Facts = append(k.Facts, watch.Fact{About: long, Sentence: long})
		k.Materials = append(k.Materials, document.Material{ID: long, State: long})
		h, p, target, c := d.Inventory[0], d.Passes[0], d.Targets[0], d.Copies[0]
		h.Target, h.Key, p.Caller, target.Name, c.Detail = long, long, long, long, long
		d.Inventory, d.Passes = append(d.Inventory, h), append(d.Passes, p)
		d.Targets, d.Copies = append(d.Targets, target), append(d.Copies, c)
		d.Verdicts = append(d.Verdicts, d.Verdicts[0])
		d.Logs, d.Notes = append(d.Logs, d.Logs[0]), append(d.Notes, long)
		d.Reasons = append(d.Reasons, d.Reasons[0])
		d.Scope.LookedAt = append(d.Scope.LookedAt, long)
		d.Scope.NotLookedAt = append(d.Scope.NotLookedAt, long)
		d.NotProven = append(d.NotProven, d.NotProven...)
	}
	return d
}
