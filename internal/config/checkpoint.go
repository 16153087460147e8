package config

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// The schemes of the location of a checkpoint.
const (
	fileScheme     = "file:"
	dynamoDBScheme = "dynamodb://"
	s3Scheme       = "s3://"
)

// CheckpointLocation is where a checkpoint is stored. Exactly one of File, Table and Bucket is set.
type CheckpointLocation struct {
	File   string // path of a database on a local disk
	Table  string // name or ARN of a DynamoDB table
	Bucket string // name of an S3 bucket
	Prefix string // of the keys in the bucket, "" or ending in "/"

	// Region, Endpoint and RoleARN apply to Table or Bucket. If empty, the AWS
	// configuration applies.
	Region, Endpoint, RoleARN string
}

// Shared reports whether several runs, on any machines, can use the checkpoint at the same
// time.
func (p CheckpointLocation) Shared() bool { return p.File == "" }

// CheckpointLocation returns the location in Checkpoint, which Load has validated.
func (j *Job) CheckpointLocation() CheckpointLocation {
	location, _ := parseLocation(j.Checkpoint)
	return location
}

// EvidenceLocal is the value of Job.Evidence with which no segment is uploaded.
const EvidenceLocal = "local"

// evidencePrefix is the default place of segments below the prefix of a checkpoint.
const evidencePrefix = "evidence/"

// EvidenceLocation returns the location in S3 to which closed segments of the audit log are
// uploaded. ok is false if there is none.
func (j *Job) EvidenceLocation() (location CheckpointLocation, ok bool) {
	if j.Evidence != "" {
		location, _ = parseLocation(j.Evidence)
		return location, location.Bucket != ""
	}
	location = j.CheckpointLocation()
	location.Prefix += evidencePrefix
	return location, location.Bucket != ""
}

var (
	// tableForm matches names and ARNs of tables. Its last group is the name, of any length: an
	// expression that counts to 255 takes a millisecond to compile.
	tableForm = regexp.MustCompile(
		`^(arn:aws[a-z-]*:dynamodb:[a-z0-9-]+:[0-9]{12}:table/)?([A-Za-z0-9_.-]+)$`)
	bucketForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	// prefixForm matches keys that need no escaping.
	prefixForm = regexp.MustCompile(`^[A-Za-z0-9!_.*'()/-]*$`)
)

// isTable reports whether text is the name or the ARN of a table.
func isTable(text string) bool {
	form := tableForm.FindStringSubmatch(text)
	if form == nil {
		return false
	}
	name := form[len(form)-1]
	return len(name) >= 3 && len(name) <= 255
}

// parseLocation parses the location of a checkpoint. wrong is the problem, or "".
func parseLocation(text string) (location CheckpointLocation, wrong string) {
	if path, ok := strings.CutPrefix(text, fileScheme); ok {
		if path == "" {
			wrong = "has no path; set file:PATH, such as " + DefaultCheckpoint
		}
		return CheckpointLocation{File: path}, wrong
	}
	rest, query, _ := strings.Cut(text, "?")
	if table, ok := strings.CutPrefix(rest, dynamoDBScheme); ok {
		location.Table = table
		if !isTable(table) {
			wrong = fmt.Sprintf("%q is not the name or ARN of a table; set dynamodb://TABLE", table)
		}
	} else if name, ok := strings.CutPrefix(rest, s3Scheme); ok {
		location.Bucket, location.Prefix, _ = strings.Cut(name, "/")
		if location.Prefix != "" && !strings.HasSuffix(location.Prefix, "/") {
			location.Prefix += "/"
		}
		switch {
		case !bucketForm.MatchString(location.Bucket):
			wrong = fmt.Sprintf("%q is not the name of a bucket; set s3://BUCKET/PREFIX",
				location.Bucket)
		case len(location.Prefix) > 512 || !prefixForm.MatchString(location.Prefix):
			wrong = fmt.Sprintf("the prefix %q must be at most 512 letters, digits and !-_.*'()/",
				location.Prefix)
		}
	} else {
		return location, "must be file:PATH, dynamodb://TABLE or s3://BUCKET/PREFIX"
	}
	if wrong == "" {
		wrong = location.options(query)
	}
	return location, wrong
}

// options parses region=...&endpoint=...&role_arn=.... wrong is the problem, or "".
func (p *CheckpointLocation) options(query string) (wrong string) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return "has an invalid query after ?; use ?region=REGION&endpoint=URL&role_arn=ARN"
	}
	for name, list := range values {
		if !slices.Contains([]string{"region", "endpoint", "role_arn"}, name) || len(list) != 1 {
			return fmt.Sprintf("can have region, endpoint and role_arn once each after ?, but "+
				"has %s",
				name)
		}
	}
	p.Region, p.Endpoint = values.Get("region"), values.Get("endpoint")
	p.RoleARN = values.Get("role_arn")
	return ""
}
