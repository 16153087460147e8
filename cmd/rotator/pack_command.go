package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rotator/internal/columns"
)

// packFlags are the flags of evidence.
type packFlags struct {
	out, sign      string
	pass, readPass int  // 0: none is chosen
	chosen         bool // by a flag
	hashRefs       bool
	salt           string // file of the salt; "" for the default
	noLogs         bool
	check, key     string
	verdict        verdictFlags // copies, max-age and waivers
}

func newEvidenceCommand(std streams) *cobra.Command {
	c := &jobFlags{streams: std, forms: formsOf("evidence")}
	f := &packFlags{}
	cmd := commandOf(c, "evidence", "Write or check a signed evidence pack",
		`Write an evidence pack. It contains the report of the newest pass or read-only pass of
this job file in all forms, its tables as CSV, the keys as a CycloneDX bill of materials, the
audit logs, and a signed list of the SHA-256 digests of all files. With --sign, the list is
signed by kms:Sign, with a key of the key spec ECC_NIST_P256 or RSA. The pack contains a
script that checks it with openssl, jq and sha256sum. See docs/evidence.md.

The pack appears under its name when it is complete. An existing file or directory is never
replaced.

With --check, evidence checks a pack: the signature, all digests, the figures of the report,
the page, and the chains of hashes of the audit logs. It then needs no job file.

Exit codes: those of report --verdict after the pack is written: 0 each source key can be
disabled, 3 that is not proven, 4 a ciphertext or a caller depends on a key. With --check: 0
the pack is intact and signed, 1 it is not intact, 3 it is intact but not signed. For other
codes see docs/exit-codes.md.`, f.writePack)
	ofJob := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.validate(cmd.Flags()); err != nil {
			return err
		}
		if f.check == "" {
			return ofJob(cmd, args)
		}
		if err := c.validateForm(); err != nil {
			return err
		}
		return inCommand("evidence", f.checkPack(c))
	}
	f.addTo(cmd.Flags())
	return cmd
}

func (f *packFlags) addTo(flags *pflag.FlagSet) {
	flags.StringVar(&f.out, "out", "", "directory or FILE.zip of the new pack")
	flags.StringVar(&f.sign, "sign", "", "sign with this key of AWS KMS: an id, an ARN or an alias")
	flags.IntVar(&f.pass, "pass", 0, "number of a pass (default: the newest one)")
	flags.IntVar(&f.readPass, "read-pass", 0,
		"number of a read-only pass (default: the newest one)")
	flags.BoolVar(&f.noLogs, "no-logs", false,
		"leave out the audit logs; the pack still has their last hashes")
	flags.BoolVar(&f.hashRefs, "hash-refs", false,
		"replace addresses of items by salted digests, and leave out the audit logs")
	flags.StringVar(&f.salt, "salt", "",
		"file of the salt, made if it does not exist (default: the name of the pack with .salt)")
	f.verdict.addQuestions(flags)
	f.verdict.addPages(flags)
	flags.DurationVar(&f.verdict.maxAge, "max-age", defaultMaxAge,
		"how old the proof for an enabled key may be")
	flags.StringVar(&f.verdict.waivers, "waivers", "",
		"CSV file with failed slots that do not block a verdict")
	flags.StringVar(&f.check, "check", "", "check this pack")
	flags.StringVar(&f.key, "key", "",
		"with --check: PEM file with the public key (default: the one in the pack)")
}

// validate refuses flags that cannot be combined.
func (f *packFlags) validate(flags *pflag.FlagSet) error {
	if err := f.verdict.validateWatch(flags); err != nil {
		return err
	}
	switch {
	case flags.Changed("check"):
		return f.validateCheck(flags)
	case f.out == "":
		return usagef("evidence needs --out DIR or --out FILE.zip, or --check with a pack")
	case f.key != "":
		return usagef("--key needs --check; a pack is signed with --sign")
	case flags.Changed("pass") && flags.Changed("read-pass"):
		return usagef("--pass and --read-pass cannot be combined")
	case flags.Changed("pass") && f.pass < 1:
		return usagef("--pass %d: passes are numbered from 1", f.pass)
	case flags.Changed("read-pass") && f.readPass < 1:
		return usagef("--read-pass %d: read-only passes are numbered from 1", f.readPass)
	case f.salt != "" && !f.hashRefs:
		return usagef("--salt needs --hash-refs")
	}
	return f.verdict.validate(flags)
}

func (f *packFlags) validateCheck(flags *pflag.FlagSet) error {
	var other string
	flags.Visit(func(flag *pflag.Flag) {
		switch flag.Name {
		case "check", "key", "output", "verbose":
		default:
			other = flag.Name
		}
	})
	switch {
	case other != "":
		return usagef("--%s cannot be combined with --check", other)
	case f.check == "":
		return usagef("--check needs the name of a pack")
	}
	return nil
}

// packResult is the result of writing a pack.
type packResult struct {
	Out string `json:"out"`
	// Pass or ReadPass is the number of the pass that the pack is about.
	Pass      int    `json:"pass,omitempty"`
	ReadPass  int    `json:"read_pass,omitempty"`
	Key       string `json:"key,omitempty"` // ARN; "" without a signature
	Algorithm string `json:"algorithm,omitempty"`
	// RequestID identifies the signing request in CloudTrail.
	RequestID string `json:"request_id,omitempty"`
	Salt      string `json:"salt,omitempty"` // file
	Exit      int    `json:"exit"`           // of the worst verdict
}

func (r packResult) text() string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "Wrote the evidence pack %s about %s.\n", r.Out, r.about())
	if r.Key == "" {
		b.WriteString("It is not signed: --sign names a key of AWS KMS.\n")
	} else {
		_, _ = fmt.Fprintf(&b, "Signed with %s, %s, by request %s.\n", r.Key, r.Algorithm,
			r.RequestID)
	}
	if r.Salt != "" {
		_, _ = fmt.Fprintf(&b, "The salt is in %s. Keep it, and do not hand it on with the pack.\n",
			r.Salt)
	}
	return wrapLines(b.String())
}

// wrapLines wraps each line of a text at 80 columns.
func wrapLines(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(columns.WrapAt(line, columns.Width) + "\n")
	}
	return b.String()
}

// about names the pass of the pack.
func (r packResult) about() string {
	if r.ReadPass > 0 {
		return fmt.Sprintf("read-only pass %d", r.ReadPass)
	}
	return fmt.Sprintf("pass %d", r.Pass)
}

// printPack writes a result in the form of -o.
func (c *jobFlags) printPack(result any, text func() string) error {
	if c.output == formJSON {
		encoder := json.NewEncoder(c.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(result)
	}
	_, err := fmt.Fprint(c.out, text())
	return err
}
