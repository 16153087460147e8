package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"rotator/internal/config"
	"rotator/internal/nearest"
	"rotator/internal/outage"
	"rotator/internal/printable"
	"rotator/internal/redact"
	"rotator/internal/telemetry"
)

// streams are the standard streams. Results go to out, everything else to err.
// All output is escaped, and known secrets are redacted.
type streams struct {
	in       io.Reader
	out, err io.Writer
	// terminal is stderr if it is a terminal, for the progress bar, otherwise nil.
	terminal *os.File
	secrets  *redact.Redactor
	// result is the writer under out. It keeps the first error, because some callers, such
	// as help, ignore errors.
	result *resultWriter
	// identity records the credentials that services refused, for error messages.
	identity *identity
	logger   *zap.Logger
	level    zap.AtomicLevel // of logger
	screen   *screen         // under err
	stop     *stopper
	outages  *outage.Monitor // of all services
}

// newStreams wraps the streams of the process with escaping and redaction.
func newStreams(in io.Reader, out, err io.Writer) streams {
	s := streams{in: in, secrets: redact.New(), level: zap.NewAtomicLevel(),
		result: &resultWriter{w: out}, identity: &identity{}, screen: &screen{direct: err}}
	if file, ok := err.(*os.File); ok && telemetry.IsTerminal(file) {
		s.terminal = file
	}
	s.secrets.Add(environmentSecrets(os.Environ())...)
	s.out = redact.NewWriter(s.secrets, printable.NewWriter(s.result))
	s.err = redact.NewWriter(s.secrets, printable.NewWriter(s.screen))
	s.stop = &stopper{say: s.sayTo(s.screen)}
	s.logger = telemetry.NewLogger(telemetry.Config{Level: s.level, Output: s.err,
		People: s.terminal != nil, Redact: s.secrets.Text})
	s.outages = newOutages(s.logger)
	return s
}

// jobFlags holds the flags of every command that reads a job file, and the streams.
type jobFlags struct {
	streams
	file    string
	output  string
	forms   []string // the values of output that the command has
	table   string   // with the output csv
	verbose bool
	sdk     bool
	exact   bool // of the commands that send ReEncrypt requests
	whole   bool // read all attributes and bodies, and tables consistently
}

// run is the whole program except for signals and os.Exit. Output of libraries
// to the standard logger goes to the log.
func run(ctx context.Context, args []string, std streams) (code int) {
	defer zap.RedirectStdLog(std.logger)()
	defer std.recovered(&code)
	defer std.watchOutages(ctx)()
	root := newRootCommand(std)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	_ = std.logger.Sync() // writes how often warnings were repeated
	return std.explain(std.withOutput(err))
}

// recovered prints a panic of the main goroutine with escaping and redaction,
// because the value of the panic may come from outside.
func (s streams) recovered(code *int) {
	if value := recover(); value != nil {
		*code = exitPanic
		_, _ = fmt.Fprintf(s.err, "rotator: panic: %s\n%s",
			printable.Text(s.secrets.Text(fmt.Sprint(value))), debug.Stack())
	}
}

// helpWidth is the largest width of the lines about flags. The other lines of help are about as
// long.
const helpWidth = 92

func newRootCommand(std streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "rotator",
		Short: "Move stored KMS ciphertexts to another key",
		Long: `Find stored ciphertexts that depend on an AWS KMS key, and move each to another key
with kms:ReEncrypt. Every write is conditional, so no concurrent update is lost. The
result is evidence on whether the old key can be disabled.

A migration usually takes these commands, in this order:

  rotator audit              what depends on the old key
  rotator run                move it; run the same command again to resume
  rotator report --ledger    what could not be moved, and why; then rotator retry
  rotator verify             prove that nothing depends on the old key
  rotator report --verdict   whether it can be disabled, and the next steps

rotator schema describes the job file, and rotator COMMAND --help each command.
Results go to stdout, logs and progress to stderr. Exit codes: docs/exit-codes.md.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return usagef("no command was given")
		},
	}
	root.SetHelpCommand(newHelpCommand())
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages",
		fmt.Sprintf(".FlagUsagesWrapped %d", helpWidth)))
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%v; see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(
		newRunCommand(std), newAuditCommand(std), newVerifyCommand(std), newRetryCommand(std),
		newStatusCommand(std), newReportCommand(std), newWatchCommand(std),
		newCopiesCommand(std), newEvidenceCommand(std),
		newCheckpointCommand(std), newLogCommand(std),
		newSchemaCommand(std), newVersionCommand(std), newDemoCommand(),
	)
	strictCompletion(root)
	return root
}

// strictCompletion makes extra arguments of cobra's completion commands a command line error,
// as for other commands.
func strictCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		cmd.Args = noArguments
		cmd.RunE = func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return usagef("no shell was given; for example: %s bash", cmd.CommandPath())
		}
		for _, shell := range cmd.Commands() {
			shell.Args = noArguments
		}
	}
}

// newHelpCommand is cobra's help command, except that an unknown topic is an error.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{Use: "help [command]", Short: "Help about any command",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usagef("no help for %q; see %s --help", strings.Join(args, " "),
					cmd.Root().CommandPath())
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		}}
}

// jobCommand returns a command that reads a job file.
func jobCommand(
	std streams, use, short, long string,
	work func(context.Context, *jobFlags, *config.Job) error,
) *cobra.Command {
	return commandOf(&jobFlags{streams: std, forms: formsOf(use)}, use, short, long, work)
}

// commandOf is jobCommand with the flags that the caller keeps.
func commandOf(
	c *jobFlags, use, short, long string,
	work func(context.Context, *jobFlags, *config.Job) error,
) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: noArguments}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c.stop.names(cmd.Name(), c.file)
		return inCommand(cmd.Name(), c.onJob(cmd.Context(), work))
	}
	cmd.Flags().StringVarP(&c.file, "file", "f", "job.yaml", "job file")
	cmd.Flags().StringVarP(&c.output, "output", "o", "text",
		"format of the result on stdout: "+listForms(c.forms))
	c.addTable(cmd.Flags())
	cmd.Flags().BoolVarP(&c.verbose, "verbose", "v", false, "log at the debug level")
	cmd.Flags().BoolVar(&c.sdk, "sdk", false,
		"send all requests through the stock AWS SDK (more CPU time, same results)")
	return cmd
}

// onJob reads the job file and calls work with it.
func (c *jobFlags) onJob(
	ctx context.Context, work func(context.Context, *jobFlags, *config.Job) error,
) error {
	if err := c.validateForm(); err != nil {
		return err
	}
	if c.verbose {
		c.level.SetLevel(zapcore.DebugLevel)
	}
	job, err := config.Load(c.file, os.LookupEnv)
	if err != nil {
		return err
	}
	c.secrets.Add(job.KMS.GrantTokens...)
	return work(ctx, c, job)
}

// kmsCommand returns a command that reads a job file and sends ReEncrypt requests.
func kmsCommand(
	std streams, use, short, long string,
	work func(context.Context, *jobFlags, *config.Job) error,
) *cobra.Command {
	var exact bool
	withExact := func(ctx context.Context, c *jobFlags, job *config.Job) error {
		c.exact = exact
		return work(ctx, c, job)
	}
	cmd := jobCommand(std, use, short, long, withExact)
	cmd.Flags().BoolVar(&exact, "exact", false,
		"send one KMS request per slot; never infer the key from the ciphertext header")
	return cmd
}

// knownCommand returns an error if an argument of the root command is not a command.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q; see %s --help", args[0], cmd.CommandPath())
	if near := nearCommand(cmd, args[0]); near != "" {
		text = fmt.Sprintf("unknown command %q; did you mean %s?", args[0], near)
	}
	return &usageError{text}
}

// nearCommand returns the command that begins with name or is similar to it, or "". In a
// word of up to 3 letters only one letter may differ, because most short words are similar.
func nearCommand(root *cobra.Command, name string) string {
	f := nearest.Finder{Want: name, Most: 1, Within: max(1, min(2, len(name)/3))}
	for _, cmd := range root.Commands() {
		switch {
		case !cmd.IsAvailableCommand():
		case len(name) > 1 && strings.HasPrefix(cmd.Name(), strings.ToLower(name)),
			swapped(name, cmd.Name()):
			return cmd.Name()
		default:
			f.Add(cmd.Name())
		}
	}
	if len(f.Names()) == 0 {
		return ""
	}
	return f.Names()[0].Text
}

// swapped reports whether a becomes b if two neighbouring letters are exchanged.
func swapped(a, b string) bool {
	for i := range len(a) - 1 {
		if a[:i]+a[i+1:i+2]+a[i:i+1]+a[i+2:] == b {
			return true
		}
	}
	return false
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s accepts no arguments, but has %q; see %s --help",
			cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return nil
}

// usageError is a mistake on the command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

func isUsage(err error) bool {
	var usage *usageError
	return errors.As(err, &usage)
}
