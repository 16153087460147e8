package verdict

import (
	"fmt"
	"slices"
	"strings"
)

// The steps of the rows. Each names a command if there is one.

func noSteps(*facts) []Step { return []Step{} }

// rotator returns a command of rotator for the job.
func (f *facts) rotator(command string, flags ...string) string {
	parts := append([]string{"rotator", command, "-f", quote(f.JobFile)}, flags...)
	return strings.Join(parts, " ")
}

// aws returns a command of the AWS CLI about the key.
func (f *facts) aws(command string, flags ...string) string {
	parts := append([]string{"aws kms", command, "--key-id", quote(f.Key.ARN)}, flags...)
	if region := f.Key.region(); region != "" {
		parts = append(parts, "--region", region)
	}
	return strings.Join(parts, " ")
}

// quote quotes an argument for a POSIX shell, if it needs quotes.
func quote(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			strings.ContainsRune("-_./:@%+=,", r)
	}
	if text != "" && strings.TrimFunc(text, plain) == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// usable returns the steps after which the key can be used.
func (f *facts) usable() (steps []Step) {
	if f.Key.State == StatePendingDeletion {
		steps = append(steps, Step{"Cancel the deletion.", f.aws("cancel-key-deletion")})
	}
	if f.Key.unusable() {
		steps = append(steps, Step{"Enable the key.", f.aws("enable-key")})
	}
	return steps
}

func (f *facts) rescueKey() []Step { return f.moveRest() }

func (f *facts) moveRest() []Step {
	return append(f.usable(),
		Step{"Move the ciphertexts.", f.rotator("run")},
		Step{"Prove that none is left.", f.rotator("verify")})
}

func (f *facts) serveCaller() []Step {
	return append(f.usable(),
		Step{fmt.Sprintf("Add what %s reads to the job.", f.last.name()), ""},
		Step{"Find out what depends on the key.", f.rotator("audit")})
}

func (f *facts) serveUser() []Step {
	return []Step{
		{fmt.Sprintf("Find out what %s does with the key, and configure it to use the new key.",
			f.used.name()), ""},
		{"Look again.", f.rotator("verify")},
	}
}

func (f *facts) findWriter() []Step {
	return append([]Step{{"Find the writer that still uses the key (CloudTrail records every " +
		"use), and configure it to use the new key.", ""}}, f.moveRest()...)
}

func (f *facts) expireVersions() []Step {
	return []Step{
		{"Keep the key enabled until these versions are deleted or have expired.", ""},
		{"Look again.", f.rotator("verify")},
	}
}

// restore returns the steps for data that the job no longer reads.
func (f *facts) restore() []Step {
	var names []string
	for _, d := range f.left {
		if d.blocks() && !slices.Contains(names, d.target) {
			names = append(names, d.target)
		}
	}
	return append(f.usable(),
		Step{fmt.Sprintf("Put this data back into the job file (%s). If it is gone, or another "+
			"job moved it, state this in the job file instead (gone).", listed(names)), ""},
		Step{"Move the ciphertexts.", f.rotator("run")},
		Step{"Prove that none is left.", f.rotator("verify")})
}

func (f *facts) readAll() []Step {
	for _, p := range f.since {
		if !p.ReadOnly && !p.OtherJob && p.Number > 0 && !p.Complete {
			return append(f.usable(), Step{"Finish the pass.", f.rotator("run")},
				Step{"Prove that no ciphertext is left.", f.rotator("verify")})
		}
	}
	return f.verify()
}

func (f *facts) verify() []Step {
	return []Step{{"Look again.", f.rotator("verify")}}
}

// verifyLater returns the steps for a proof that does not count any more.
func (f *facts) verifyLater() []Step {
	if f.Working {
		return append([]Step{{"Wait until the run has ended.", f.rotator("status")}}, f.verify()...)
	}
	return f.verify()
}

func (f *facts) verifyExact() []Step {
	return []Step{{"Ask KMS about every slot.", f.rotator("verify", "--exact")}}
}

func (f *facts) correctRules() []Step {
	return []Step{
		{"Correct the path, prefix, format or context in the job file as the result states, or " +
			"set may_be_empty: true there.", ""},
		{"Look again.", f.rotator("verify")},
	}
}

func (f *facts) stateComplete() []Step {
	return []Step{
		{"Set complete in the job file to the reason why the items that are left out do not " +
			"matter, or remove the filters.", ""},
		{"Look again.", f.rotator("verify")},
	}
}

func (f *facts) correctContext() []Step {
	return []Step{
		{"List the slots.", f.rotator("verify", "--exceptions", "exceptions.jsonl")},
		{"Correct context in the job file, or waive the slots that no caller needs.", ""},
		{"Look again.", f.rotator("verify")},
	}
}

func (f *facts) examine() []Step {
	return []Step{
		{"List the slots.", f.rotator("verify", "--exceptions", "exceptions.jsonl")},
		{"Correct the cause that each reason names, or waive the slots that no caller needs.", ""},
		{"Look again.", f.rotator("verify")},
	}
}

func (f *facts) disable() []Step {
	return []Step{
		{"Disable the key. This can be undone.", f.aws("disable-key")},
		{"Look for callers that still need it, for some weeks.", f.rotator("watch")},
		{"If there is one, or an application reports DisabledException, enable the key again.",
			f.aws("enable-key")},
		f.listCopies(),
	}
}

func (f *facts) keepWatching() []Step {
	return []Step{
		{"Look for callers that still need the key, for some weeks. Applications report " +
			"DisabledException or KMSInvalidStateException.", f.rotator("watch")},
		f.listCopies(),
	}
}

// listCopies returns the step before a deletion.
func (f *facts) listCopies() Step {
	return Step{"Before you schedule its deletion, list the copies that need it.",
		f.rotator("copies")}
}
