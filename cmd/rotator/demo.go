package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"rotator/internal/demo"
)

func newDemoCommand(std streams) *cobra.Command {
	var dir string
	cmd := &cobra.Command{Use: "demo", Short: "Show the main job end to end, on an embedded fake AWS", Args: noArguments,
		Long: `Demo starts a fake AWS on loopback, stores 22,000 ciphertexts there, and takes
them through audit, a run that is killed half way, its resumption, retry and
verify, while another client keeps writing. Then it disables the old key, decrypts
everything, and compares it with what was last stored. It needs no AWS account and
touches none. It exits with 0 only if every promise held.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			binary, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			return demo.Run(cmd.Context(), demo.Config{Binary: binary, Out: std.out, Dir: dir})
		}}
	cmd.Flags().StringVar(&dir, "dir", "", "keep job file, checkpoint and audit log in this directory (default: a temporary one)")
	return cmd
}
