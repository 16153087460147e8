// Command rotator-demo shows rotator on a fake AWS. Without a subcommand it takes rotator
// through a complete migration and then decrypts every ciphertext, to prove that nothing was
// lost. With serve it starts only the fake AWS, so that rotator and other programs can be
// tried against it. It needs no AWS account and sends no request to AWS.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"rotator/internal/version"
)

// The exit codes are a subset of those of rotator.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 64
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes the command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.AddCommand(newServeCommand(), newVersionCommand())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	_, _ = fmt.Fprintf(stderr, "rotator-demo: %v\n", err)
	if usage := (*usageError)(nil); errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

func newRootCommand() *cobra.Command {
	var config demoConfig
	root := &cobra.Command{
		Use:   "rotator-demo",
		Short: "Show rotator on a fake AWS",
		Long: `Show a complete migration with rotator on a fake AWS.

The demo starts a fake AWS on loopback, stores 22,000 ciphertexts in it, and runs
rotator: audit, run (killed half way), run again, retry and verify, while another
client keeps writing. When rotator reports that the old key can be disabled, rotator
writes a signed evidence pack, which the demo checks with openssl. The demo disables the
key, and rotator watch reports whether a caller still needs it. The demo then decrypts
every ciphertext with a client of its own, and compares the plaintext with the value that
was stored last.
The exit code is 0 only if every check succeeds.

The demo needs no AWS account and sends no request to AWS.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config.out = cmd.OutOrStdout()
			if config.binary == "" {
				binary, err := findRotator()
				if err != nil {
					return err
				}
				config.binary = binary
			}
			return runDemo(cmd.Context(), config)
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%v; see %s --help", err, cmd.CommandPath())
	})
	root.Flags().StringVar(&config.dir, "dir", "",
		"directory for the job file, checkpoint and audit log (default: a temporary directory)")
	root.Flags().StringVar(&config.binary, "rotator", "",
		"rotator binary to run (default: rotator in the directory of rotator-demo, or in PATH)")
	return root
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := io.WriteString(cmd.OutOrStdout(), version.Text("rotator-demo"))
			return err
		},
	}
}

// findRotator returns the path of the rotator binary: the one beside this program, or the
// one in PATH.
func findRotator() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "rotator")
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	found, err := exec.LookPath("rotator")
	if err != nil {
		return "", usagef("found no rotator binary beside rotator-demo or in PATH; " +
			"name it with --rotator PATH, or use make demo, which builds both")
	}
	return found, nil
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unknown command or argument %q; see %s --help", args[0], cmd.CommandPath())
	}
	return nil
}

// usageError is an error on the command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}
