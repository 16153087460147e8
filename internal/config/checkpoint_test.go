package config

import (
	"strings"
	"testing"
)

func TestCheckpointLocations(t *testing.T) {
	longTable := strings.Repeat("x", 255)
	for text, want := range map[string]CheckpointLocation{
		"file:x/state.db":            {File: "x/state.db"},
		"dynamodb://rotator-state":   {Table: "rotator-state"},
		"dynamodb://abc":             {Table: "abc"},
		"dynamodb://" + longTable:    {Table: longTable},
		"dynamodb://a.b?region=eu-1": {Table: "a.b", Region: "eu-1"},
		"dynamodb://arn:aws:dynamodb:eu-west-1:111122223333:table/state": {
			Table: "arn:aws:dynamodb:eu-west-1:111122223333:table/state",
		},
		"s3://bucket":     {Bucket: "bucket"},
		"s3://bucket/":    {Bucket: "bucket"},
		"s3://bucket/a/b": {Bucket: "bucket", Prefix: "a/b/"},
		"s3://bucket/a/b/?endpoint=http%3A%2F%2F127.0.0.1%3A1&role_arn=arn:x": {
			Bucket:   "bucket",
			Prefix:   "a/b/",
			Endpoint: "http://127.0.0.1:1",
			RoleARN:  "arn:x",
		},
	} {
		got, wrong := parseLocation(text)
		if got != want || wrong != "" || got.Shared() != (want.File == "") {
			t.Errorf("%s: got %+v, problem %q, want %+v", text, got, wrong, want)
		}
	}
	for text, want := range map[string]string{
		"":                                   "must be file:PATH",
		"state.db":                           "must be file:PATH",
		"file:":                              "has no path",
		"dynamodb:state":                     "must be file:PATH",
		"dynamodb://":                        "not the name or ARN of a table",
		"dynamodb://no spaces":               "not the name or ARN of a table",
		"dynamodb://ab":                      "not the name or ARN of a table",
		"dynamodb://" + longTable + "x":      "not the name or ARN of a table",
		"s3://":                              "not the name of a bucket",
		"s3://UPPER/x":                       "not the name of a bucket",
		"s3://bucket/a b":                    "the prefix",
		"s3://bucket/\n":                     "the prefix",
		"dynamodb://state?zone=a":            "can have region, endpoint and role_arn",
		"dynamodb://state?region=a&region=b": "can have region, endpoint and role_arn",
		"dynamodb://state?region=%":          "has an invalid query",
	} {
		if _, wrong := parseLocation(text); !strings.Contains(wrong, want) {
			t.Errorf("%q: problem %q, want %q in it", text, wrong, want)
		}
	}
}

// TestEvidenceLocation: the segments of a job with a checkpoint in S3 are below its prefix. Other
// jobs upload only if the job file names a place.
func TestEvidenceLocation(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		checkpoint, evidence string
		want                 CheckpointLocation // zero: nothing is uploaded
	}{
		{"file:state.db", "", CheckpointLocation{}},
		{"dynamodb://state", "", CheckpointLocation{}},
		{"dynamodb://state", "s3://log/a", CheckpointLocation{Bucket: "log", Prefix: "a/"}},
		{"file:state.db", "s3://log", CheckpointLocation{Bucket: "log"}},
		{"s3://state/p?region=eu-1", "",
			CheckpointLocation{Bucket: "state", Prefix: "p/evidence/", Region: "eu-1"}},
		{"s3://state/p?region=eu-1", "s3://log", CheckpointLocation{Bucket: "log"}},
		{"s3://state", EvidenceLocal, CheckpointLocation{}},
	} {
		job := Job{Checkpoint: test.checkpoint, Evidence: test.evidence}
		got, ok := job.EvidenceLocation()
		if want := test.want.Bucket != ""; ok != want || ok && got != test.want {
			t.Errorf("%s, %q: %+v, %v", test.checkpoint, test.evidence, got, ok)
		}
	}
}
