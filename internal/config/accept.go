package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
)

// maxUntil is the maximum time until the end of an accept rule.
const maxUntil = 366 * 24 * time.Hour

// Ends returns the end of the last day of the rule in UTC. The rule accepts nothing after it.
// Ends returns false for a rule without an end.
func (a *Accept) Ends() (time.Time, bool) {
	day, err := time.Parse(time.DateOnly, a.Until)
	return day.AddDate(0, 0, 1), err == nil
}

// Matcher returns a function that reports whether the glob of the rule matches
// the address of an item. table is true if the target is a table, whose keys
// are not paths.
func (a *Accept) Matcher(table bool) func(ref string) bool {
	switch {
	case a.Ref == "":
		return func(string) bool { return true }
	case table:
		return textGlob(a.Ref).MatchString
	}
	return func(ref string) bool { return doublestar.MatchUnvalidated(a.Ref, ref) }
}

// textGlob compiles a glob in which only * and ? are special, because the keys
// of table items contain brackets and braces.
func textGlob(glob string) *regexp.Regexp {
	pattern := regexp.QuoteMeta(glob)
	pattern = strings.ReplaceAll(pattern, `\*`, `.*`)
	pattern = strings.ReplaceAll(pattern, `\?`, `.`)
	return regexp.MustCompile(`(?s)\A` + pattern + `\z`)
}

// neverAccepted are the outcomes and reasons of slots that may still be under a
// source key and must be tried again.
var neverAccepted = []string{"remaining", "conflict", "kept-changing", "service-error"}

var reasonForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*$`)

// accept checks one rule.
func (c *checker) accept(field string, a *Accept) {
	known := slices.IndexFunc(c.job.Targets, func(t Target) bool { return t.Name == a.Target })
	switch {
	case a.Target == "":
		c.add(field+".target", "is missing; set the name of the target with the exceptions")
	case known < 0:
		c.add(field+".target", fmt.Sprintf("no target has the name %q", a.Target))
	case c.job.Targets[known].DynamoDB == nil && !doublestar.ValidatePattern(a.Ref):
		c.add(field+".ref", fmt.Sprintf("%q is not a glob, such as archive/**", a.Ref))
	}
	if c.job.source.written(field+".ref") && a.Ref == "" {
		c.add(field+".ref", "is empty; remove it to accept all items")
	}
	if len(a.Reason) == 0 {
		c.add(field+".reason", "is missing; list the known reasons, such as [archived]")
	}
	for i, reason := range a.Reason {
		c.acceptReason(element(field+".reason", i), reason)
	}
	c.acceptUnder(field+".under", a.Under)
	if a.Most < 0 || a.Most == 0 && c.job.source.written(field+".most") {
		c.add(field+".most", "must be 1 or more; remove it for no limit")
	}
	c.acceptUntil(field+".until", a)
	if a.Because == "" && !c.job.source.written(field+".because") {
		c.add(field+".because", "is missing; state the reason for these exceptions")
	}
	c.sentence(field+".because", a.Because)
}

func (c *checker) acceptReason(field, reason string) {
	switch {
	case slices.Contains(neverAccepted, reason):
		c.add(field, fmt.Sprintf("%q cannot be accepted, because such a slot may be under a "+
			"source key; run again, or use rotator retry", reason))
	case !reasonForm.MatchString(reason):
		c.add(field, fmt.Sprintf("%q is not a reason of the ledger, such as archived", reason))
	}
}

// acceptUnder refuses a source key by its name in the job file. A source key
// under another name is refused when keys are resolved.
func (c *checker) acceptUnder(field, key string) {
	switch {
	case key == "" && !c.job.source.written(field):
	case c.job.Source.Any:
		c.add(field, "cannot be used with source.any, which makes every key a source key")
	case slices.Contains(c.job.Source.Keys, key):
		c.add(field, "is a source key; a slot under a source key cannot be accepted")
	default:
		c.key(field, key)
	}
}

func (c *checker) acceptUntil(field string, a *Accept) {
	ends, ok := a.Ends()
	switch {
	case !ok && (a.Until != "" || c.job.source.written(field)):
		c.add(field, fmt.Sprintf("%q is not a day, such as 2027-03-31", a.Until))
	case ok && time.Until(ends) > maxUntil:
		c.add(field, "is more than one year ahead; set a day within a year")
	}
}
