package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/spf13/cobra"

	"rotator/internal/checkpoint"
	"rotator/internal/config"
)

func newCheckpointCommand(std streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Prepare a shared checkpoint; list and delete what a checkpoint contains",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return usagef("no command was given; for example: rotator checkpoint create-table")
		},
	}
	cmd.AddCommand(newCreateTableCommand(std), newListCommand(std), newPruneCommand(std))
	return cmd
}

func newCreateTableCommand(std streams) *cobra.Command {
	var show bool
	cmd := jobCommand(std, "create-table", "Create the DynamoDB table of the checkpoint",
		`Create the table of "checkpoint: dynamodb://TABLE" in the job file, with on-demand billing
and without TTL. With --print, print the request instead, for
aws dynamodb create-table --cli-input-json, and send nothing. One table can hold the
checkpoints of any number of jobs.`,
		func(ctx context.Context, c *jobFlags, job *config.Job) error {
			return c.createTable(ctx, job, show)
		})
	cmd.Flags().BoolVar(&show, "print", false, "print the request and do not send it")
	return cmd
}

func (c *jobFlags) createTable(ctx context.Context, job *config.Job, show bool) error {
	place := job.CheckpointLocation()
	if place.Table == "" {
		return problem(job, "checkpoint", "must be dynamodb://TABLE to create a table")
	}
	base, err := c.loadAWS(ctx, job.Workers, requestTimeout)
	if err != nil {
		return err
	}
	cfg := withTarget(base, place.Region, place.Endpoint, place.RoleARN)
	store := checkpoint.NewDynamoDB(stateTable(cfg), place.Table, time.Duration(job.MaxOutage))
	if show {
		return c.printTable(store)
	}
	err = store.CreateTable(ctx)
	if exists := (*types.ResourceInUseException)(nil); errors.As(err, &exists) {
		return problem(job, "checkpoint", "table "+place.Table+" already exists; if it is "+
			"a checkpoint table, rotator run uses it, otherwise name another table")
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "table %s was created\n", place.Table)
	return err
}

func (c *jobFlags) printTable(store *checkpoint.DynamoDB) error {
	in := store.TableInput()
	request := map[string]any{"TableName": in.TableName, "BillingMode": in.BillingMode}
	var keys, attributes []map[string]any
	for _, k := range in.KeySchema {
		keys = append(keys, map[string]any{
			"AttributeName": k.AttributeName,
			"KeyType":       k.KeyType,
		})
	}
	for _, a := range in.AttributeDefinitions {
		attributes = append(attributes, map[string]any{
			"AttributeName": a.AttributeName,
			"AttributeType": a.AttributeType,
		})
	}
	request["KeySchema"], request["AttributeDefinitions"] = keys, attributes
	encoder := json.NewEncoder(c.out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(request)
}
