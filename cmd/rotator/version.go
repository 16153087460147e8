package main

import (
	"io"

	"github.com/spf13/cobra"

	"rotator/internal/config"
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
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the job file",
		Long:  "Print the JSON Schema of the job file, for editors and validators.",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			schema, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = std.out.Write(schema)
			return err
		},
	}
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
