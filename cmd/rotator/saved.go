package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rotator/internal/report/document"
)

// savedFlags are the flags of report about saved reports.
type savedFlags struct {
	from []string // files to render or merge
	diff string   // file of the old report
}

// addTo adds the flags to a command. With one of them, the command reads no job file.
func (f *savedFlags) addTo(cmd *cobra.Command, c *jobFlags) {
	cmd.Use += " [--from FILE... | --diff OLD NEW]"
	cmd.Args = f.arguments
	ofJob := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !f.given() {
			return ofJob(cmd, args)
		}
		if err := f.validate(cmd.Flags(), args); err != nil {
			return err
		}
		return inCommand("report", f.print(c, args))
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.from, "from", nil,
		"make the report from this saved report (-o json); several files are merged")
	flags.StringVar(&f.diff, "diff", "",
		"compare this saved report with the one that is named after it")
}

// given reports whether the command is about saved reports, so that it needs no job file.
func (f *savedFlags) given() bool { return len(f.from) > 0 || f.diff != "" }

// arguments accepts names of files after --from and --diff.
func (f *savedFlags) arguments(cmd *cobra.Command, args []string) error {
	if f.given() {
		return nil
	}
	return noArguments(cmd, args)
}

// validate refuses flags that cannot be combined with saved reports. args are the names of files
// on the command line.
func (f *savedFlags) validate(flags *pflag.FlagSet, args []string) error {
	var other string
	flags.Visit(func(flag *pflag.Flag) {
		switch flag.Name {
		case "from", "diff", "output", "table", "verbose":
		default:
			other = flag.Name
		}
	})
	switch {
	case other != "":
		return usagef("--%s cannot be combined with saved reports: they contain everything", other)
	case f.diff != "" && len(f.from) > 0:
		return usagef("--from and --diff cannot be combined")
	case f.diff != "" && len(args) != 1:
		return usagef("--diff compares two saved reports: rotator report --diff OLD.json NEW.json")
	}
	return nil
}

// print writes the saved reports in the form of -o.
func (f *savedFlags) print(c *jobFlags, args []string) error {
	if f.diff != "" {
		return f.printDiff(c, args[0])
	}
	if err := c.validateForm(); err != nil {
		return err
	}
	var list []document.Saved
	for _, name := range append(f.from, args...) {
		one, err := readSaved(name)
		if err != nil {
			return err
		}
		list = append(list, document.Saved{File: name, Document: one})
	}
	if len(list) == 1 {
		return c.printDocument(list[0].Document)
	}
	merged, err := document.Merge(list)
	if err != nil {
		return &outcomeError{code: exitJob, text: err.Error()}
	}
	return c.printDocument(merged)
}

func (f *savedFlags) printDiff(c *jobFlags, name string) error {
	if c.output != formText && c.output != formJSON {
		return usagef("--diff -o %s: the formats are text and json", c.output)
	}
	before, err := readSaved(f.diff)
	if err != nil {
		return err
	}
	after, err := readSaved(name)
	if err != nil {
		return err
	}
	diff := document.Compare(f.diff, before, name, after)
	write := diff.Text
	if c.output == formJSON {
		write = diff.JSON
	}
	if err := write(c.out); err != nil {
		return err
	}
	if diff.Grew {
		return &outcomeError{code: exitRemaining, text: diff.Sentence}
	}
	return nil
}

// readSaved reads a saved report. A report that cannot be used ends the command with exitStorage.
func readSaved(name string) (*document.Document, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, &outcomeError{code: exitStorage, text: "read the report: " + err.Error()}
	}
	defer func() { _ = file.Close() }()
	d, err := document.Read(name, file)
	if refused := (*document.ReadError)(nil); errors.As(err, &refused) {
		return nil, &outcomeError{code: exitStorage, text: refused.Error()}
	}
	if err != nil {
		return nil, &outcomeError{code: exitStorage, text: "read the report: " + err.Error()}
	}
	return d, nil
}
