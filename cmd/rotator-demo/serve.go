package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"rotator/internal/fakeaws"
)

// small is the amount of data of serve --seed small.
func small() amounts {
	return amounts{items: 500, objects: 60, poison: 5, moved: 20, foreign: 10}
}

// serveConfig holds the flags of serve.
type serveConfig struct {
	listen string
	seed   string
	dir    string
	out    io.Writer
}

func newServeCommand() *cobra.Command {
	var config serveConfig
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Start only the fake AWS",
		Long: `Start the fake AWS and serve until SIGINT or SIGTERM.

The fake implements the parts of KMS, DynamoDB, S3, STS and Service Quotas that
rotator uses. It keeps all data in memory, checks no signatures, and listens on
loopback addresses only. Do not store real data in it.

Serve prints shell commands that make the AWS SDKs and the AWS CLI use the fake. With
--seed small it also creates keys, a table and a bucket, fills them with ciphertexts,
writes a job file for them, and names them in comments. One of the keys, alias/evidence,
signs evidence packs. The checkpoint and the audit log are in the directory of the job file,
which is temporary unless --dir names one. The last line, "# ready", is printed when the
fake accepts requests:

    rotator-demo serve --seed small > fake.env &
    until grep -q '^# ready' fake.env; do sleep 0.1; done
    eval "$(cat fake.env)"
    rotator audit -f "$ROTATOR_DEMO_JOB"
    kill %1`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config.out = cmd.OutOrStdout()
			return serve(cmd.Context(), config)
		},
	}
	cmd.Flags().StringVar(&config.listen, "listen", "127.0.0.1:4566",
		"loopback address and port to listen on; port 0 selects a free port")
	cmd.Flags().StringVar(&config.seed, "seed", "", "data to create: small (default: none)")
	cmd.Flags().StringVar(&config.dir, "dir", "",
		"directory for the job file, checkpoint and audit log (default: a temporary directory, "+
			"removed at the end)")
	return cmd
}

// serve runs the fake until ctx is done.
func serve(ctx context.Context, config serveConfig) error {
	if err := checkLoopback(config.listen); err != nil {
		return err
	}
	if config.seed != "" && config.seed != "small" {
		return usagef("--seed %s: the only value is small", config.seed)
	}
	server, err := fakeaws.Start(fakeaws.Config{Address: config.listen})
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }()
	text := environment(server)
	if config.seed == "small" {
		dir, remove, err := workDir(config.dir)
		if err != nil {
			return err
		}
		defer remove()
		seeded, err := seedSmall(ctx, server, dir)
		if err != nil {
			return err
		}
		text += seeded
		if config.dir == "" {
			text += "# This directory is temporary: serve deletes it at its end. --dir keeps it.\n"
		}
	}
	text += "# ready; stop with SIGINT or SIGTERM\n"
	if _, err := io.WriteString(config.out, text); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// checkLoopback returns an error unless address is a host and port on loopback.
func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return usagef("--listen %s: want HOST:PORT, for example 127.0.0.1:4566", address)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return usagef("--listen %s: the fake AWS listens on loopback addresses only, "+
		"for example 127.0.0.1:4566", address)
}

// environment returns the shell commands that make the AWS SDKs use the fake. They also
// remove variables that would send requests elsewhere or change the credentials.
func environment(server *fakeaws.Server) string {
	overriding := []string{
		"AWS_PROFILE",
		"AWS_DEFAULT_PROFILE",
		"AWS_SESSION_TOKEN",
		"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
		"AWS_USE_FIPS_ENDPOINT",
		"AWS_USE_DUALSTACK_ENDPOINT",
	}
	for _, service := range []string{
		"BACKUP", "CLOUDTRAIL", "DYNAMODB", "KINESIS", "KMS", "S3", "SERVICE_QUOTAS", "STS",
	} {
		overriding = append(overriding, "AWS_ENDPOINT_URL_"+service)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "unset %s\n", strings.Join(overriding, " "))
	for _, variable := range server.AWSEnv() {
		name, value, _ := strings.Cut(variable, "=")
		fmt.Fprintf(&text, "export %s=%s\n", name, quote(value))
	}
	return text.String()
}

// seedSmall fills the fake, writes the job file into dir, and returns their names as shell
// commands and comments.
func seedSmall(ctx context.Context, server *fakeaws.Server, dir string) (string, error) {
	data, err := seed(ctx, server, small())
	if err != nil {
		return "", fmt.Errorf("create the data: %w", err)
	}
	signing, err := data.createSigningKey(ctx)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, jobName)
	if err := os.WriteFile(path, []byte(jobFile), 0o600); err != nil {
		return "", err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "export ROTATOR_DEMO_JOB=%s\n", quote(path))
	for _, key := range []struct{ alias, arn, use string }{
		{oldAlias, data.old, "source key"},
		{newAlias, data.new, "destination key"},
		{thirdAlias, data.third, "a key that the job does not name"},
		{signingAlias, signing, "for rotator evidence --sign"},
	} {
		fmt.Fprintf(&text, "# %s: %s (%s)\n", key.alias, key.arn, key.use)
	}
	n := data.amounts
	fmt.Fprintf(&text, "# table %s: %d items; bucket %s: %d objects\n",
		table, n.items, bucket, n.objects)
	fmt.Fprintf(&text, "# of these, %d are no ciphertexts, %d are under %s, %d under %s\n",
		n.poison, n.moved, newAlias, n.foreign, thirdAlias)
	fmt.Fprintf(&text, "# job file: %s\n", path)
	fmt.Fprintf(&text, "# checkpoint and audit log: %s\n", filepath.Join(dir, ".rotator"))
	return text.String(), nil
}

// quote returns text as one word of a POSIX shell.
func quote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// workDir returns an absolute path of dir, or of a new temporary directory if dir is "".
// remove deletes the temporary directory.
func workDir(dir string) (path string, remove func(), err error) {
	if dir == "" {
		path, err = os.MkdirTemp("", "rotator-demo-")
		if err != nil {
			return "", nil, fmt.Errorf("create a temporary directory: %w", err)
		}
		return path, func() { _ = os.RemoveAll(path) }, nil
	}
	path, err = filepath.Abs(dir)
	if err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", nil, err
	}
	return path, func() {}, nil
}
