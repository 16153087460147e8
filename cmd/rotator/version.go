package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"rotator/internal/config"
)

// version is set by the linker (make build).
var version = "development"

func newVersionCommand(std streams) *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: noArguments, RunE: func(*cobra.Command, []string) error {
		_, err := fmt.Fprintf(std.out, "rotator %s (%s)\n", version, runtime.Version())
		if info, ok := debug.ReadBuildInfo(); ok && err == nil {
			for _, m := range info.Deps {
				if m.Path == "github.com/aws/aws-sdk-go-v2" {
					_, err = fmt.Fprintf(std.out, "aws-sdk-go-v2 %s\n", m.Version)
				}
			}
		}
		return err
	}}
}

func newSchemaCommand(std streams) *cobra.Command {
	return &cobra.Command{Use: "schema", Short: "Print the JSON Schema of the job file", Args: noArguments,
		Long: "Schema prints a JSON Schema that editors and validators can check a job file with.",
		RunE: func(*cobra.Command, []string) error {
			schema, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = std.out.Write(schema)
			return err
		}}
}
