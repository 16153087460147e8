package config

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// The ways to write where a checkpoint is.
const (
	fileScheme     = "file:"
	dynamoDBScheme = "dynamodb://"
	s3Scheme       = "s3://"
)

// CheckpointPlace is where the state of a pass is kept. Exactly one of File, Table
// and Bucket is set.
type CheckpointPlace struct {
	File   string // path of a database on a local disk
	Table  string // name or ARN of a DynamoDB table
	Bucket string // of S3
	Prefix string // of the objects in the bucket, "" or ending in "/"

	// Region, Endpoint and RoleARN are those of Table or Bucket; "" for the AWS
	// configuration's.
	Region, Endpoint, RoleARN string
}

// Shared says whether several runs, on any machine, can work with the checkpoint
// at the same time.
func (p CheckpointPlace) Shared() bool { return p.File == "" }

// CheckpointPlace takes Checkpoint apart, which Load has checked.
func (j *Job) CheckpointPlace() CheckpointPlace {
	place, _ := parsePlace(j.Checkpoint)
	return place
}

var (
	tableForm  = regexp.MustCompile(`^([A-Za-z0-9_.-]{3,255}|arn:aws[a-z-]*:dynamodb:[a-z0-9-]+:[0-9]{12}:table/[A-Za-z0-9_.-]{3,255})$`)
	bucketForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	// prefixForm is what can stand in a key without surprises.
	prefixForm = regexp.MustCompile(`^[A-Za-z0-9!_.*'()/-]*$`)
)

// parsePlace returns what is wrong, "" for nothing.
func parsePlace(text string) (place CheckpointPlace, wrong string) {
	if path, ok := strings.CutPrefix(text, fileScheme); ok {
		if path == "" {
			wrong = "names no path; write file:PATH, such as " + DefaultCheckpoint
		}
		return CheckpointPlace{File: path}, wrong
	}
	rest, query, _ := strings.Cut(text, "?")
	if table, ok := strings.CutPrefix(rest, dynamoDBScheme); ok {
		place.Table = table
		if !tableForm.MatchString(table) {
			wrong = fmt.Sprintf("%q is not the name or ARN of a table; write dynamodb://TABLE", table)
		}
	} else if name, ok := strings.CutPrefix(rest, s3Scheme); ok {
		place.Bucket, place.Prefix, _ = strings.Cut(name, "/")
		if place.Prefix != "" && !strings.HasSuffix(place.Prefix, "/") {
			place.Prefix += "/"
		}
		switch {
		case !bucketForm.MatchString(place.Bucket):
			wrong = fmt.Sprintf("%q is not the name of a bucket; write s3://BUCKET/PREFIX", place.Bucket)
		case len(place.Prefix) > 512 || !prefixForm.MatchString(place.Prefix):
			wrong = fmt.Sprintf("the prefix %q must be letters, digits and !-_.*'()/, at most 512", place.Prefix)
		}
	} else {
		return place, "must be file:PATH, dynamodb://TABLE or s3://BUCKET/PREFIX"
	}
	if wrong == "" {
		wrong = place.options(query)
	}
	return place, wrong
}

// options reads ?region=...&endpoint=...&role_arn=..., and returns what is wrong.
func (p *CheckpointPlace) options(query string) (wrong string) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return "what follows ? is not a query: write ?region=REGION&endpoint=URL&role_arn=ARN"
	}
	for name, given := range values {
		if !slices.Contains([]string{"region", "endpoint", "role_arn"}, name) || len(given) != 1 {
			return fmt.Sprintf("takes region, endpoint and role_arn once each behind ?, not %s", name)
		}
	}
	p.Region, p.Endpoint, p.RoleARN = values.Get("region"), values.Get("endpoint"), values.Get("role_arn")
	return ""
}
