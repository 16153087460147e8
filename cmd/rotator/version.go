package main

import (
	"io"

	"github.com/spf13/cobra"

	"rotator/internal/config"
	"rotator/internal/report/document"
	"rotator/internal/version"
)

func newVersionCommand(std streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(std.out, version.Text("rotator"))
			return err
		},
	}
}

func newSchemaCommand(std streams) *cobra.Command {
	write := func(schema func() ([]byte, error)) func(*cobra.Command, []string) error {
		return func(*cobra.Command, []string) error {
			text, err := schema()
			if err != nil {
				return err
			}
			_, err = std.out.Write(text)
			return err
		}
	}
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the job file",
		Long: `Print the JSON Schema of the job file, for editors and validators.
rotator schema report prints that of the JSON form of audit, verify and report.`,
		Args: noArguments,
		RunE: write(config.Schema),
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "report",
		Short: "Print the JSON Schema of the report",
		Long: "Print the JSON Schema of the JSON form of audit, verify and report. Later minor " +
			"versions only add members.",
		Args: noArguments,
		RunE: write(document.JSONSchema),
	})
	return cmd
}

// newDemoCommand returns the command that was the demo. It refers to the program that has
// the demo now, whatever its arguments are.
func newDemoCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "demo",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return usagef("the demo is a program of its own, rotator-demo; " +
				"in the source of rotator, make demo builds and runs it")
		},
	}
}
