package copies_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/backup"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamotypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	"rotator/internal/copies"
	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fault"
)

var update = flag.Bool("update", false, "write the expected outputs again")

// pipes is a listener whose connections are in memory, so that time is virtual in a bubble of
// package synctest.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// keeping keeps the connection when the SDK closes the body of a request early, as the clients of
// rotator do (keepingConnections in cmd/rotator).
type keeping struct{ http.RoundTripper }

func (k keeping) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return k.RoundTripper.RoundTrip(r)
}

// world is a fake AWS with a bucket, a table and a directory, in a bubble.
type world struct {
	*testing.T
	server *fakeaws.Server
	s3     *s3.Client
	table  *dynamodb.Client
	config copies.Config
}

// inWorld runs a test in a bubble. Its time begins at 2000-01-01T00:00:00Z.
func inWorld(t *testing.T, test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		listener := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		server, err := fakeaws.Start(fakeaws.Config{
			Listen: func(string, string) (net.Listener, error) { return listener, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{DialContext: listener.dial}
		defer func() {
			transport.CloseIdleConnections()
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		}()
		cfg := aws.Config{
			Region:       "us-east-1",
			BaseEndpoint: aws.String(server.Endpoint()),
			Credentials:  credentials.NewStaticCredentialsProvider("AKIACOPIES", "secret", ""),
			Retryer:      func() aws.Retryer { return aws.NopRetryer{} },
			HTTPClient:   &http.Client{Transport: keeping{transport}},
		}
		w := &world{
			T:      t,
			server: server,
			s3:     s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }),
			table:  dynamodb.NewFromConfig(cfg),
		}
		points := backup.NewFromConfig(cfg)
		w.config = copies.Config{
			Job:      "trial",
			Version:  "test",
			Patience: 10 * time.Second,
			Targets: []copies.Target{
				{Name: "objects", Bucket: "objects", Prefix: "in/", Region: "us-east-1", S3: w.s3,
					Backup: points, Archived: &copies.Archived{Pass: "pass 2"}},
				{Name: "customers", Table: "customers", Region: "us-east-1", DynamoDB: w.table,
					Backup: points, Kinesis: kinesis.NewFromConfig(cfg)},
				{Name: "files", Root: "/data"},
			},
		}
		w.bucket("objects")
		w.createTable()
		test(w)
	})
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) bucket(name string) {
	w.Helper()
	_, err := w.s3.CreateBucket(w.Context(), &s3.CreateBucketInput{Bucket: &name})
	w.must(err)
	_, err = w.s3.PutBucketVersioning(w.Context(), &s3.PutBucketVersioningInput{
		Bucket: &name,
		VersioningConfiguration: &s3types.VersioningConfiguration{
			Status: s3types.BucketVersioningStatusEnabled,
		},
	})
	w.must(err)
}

func (w *world) createTable() {
	w.Helper()
	_, err := w.table.CreateTable(w.Context(), &dynamodb.CreateTableInput{
		TableName:   aws.String("customers"),
		BillingMode: dynamotypes.BillingModePayPerRequest,
		KeySchema: []dynamotypes.KeySchemaElement{{
			AttributeName: aws.String("pk"),
			KeyType:       dynamotypes.KeyTypeHash,
		}},
		AttributeDefinitions: []dynamotypes.AttributeDefinition{{
			AttributeName: aws.String("pk"),
			AttributeType: dynamotypes.ScalarAttributeTypeS,
		}},
	})
	w.must(err)
	_, err = w.table.PutItem(w.Context(), &dynamodb.PutItemInput{
		TableName: aws.String("customers"),
		Item: map[string]dynamotypes.AttributeValue{
			"pk": &dynamotypes.AttributeValueMemberS{Value: "a"},
		},
	})
	w.must(err)
}

func (w *world) put(key, body string) {
	w.Helper()
	_, err := w.s3.PutObject(w.Context(), &s3.PutObjectInput{
		Bucket: aws.String("objects"),
		Key:    &key,
		Body:   strings.NewReader(body),
	})
	w.must(err)
}

func (w *world) remove(key string) {
	w.Helper()
	_, err := w.s3.DeleteObject(w.Context(), &s3.DeleteObjectInput{
		Bucket: aws.String("objects"),
		Key:    &key,
	})
	w.must(err)
}

// rules sets lifecycle rules: one for noncurrent versions and one for incomplete uploads.
func (w *world) rules(prefix string, days, uploadDays int32) {
	w.Helper()
	_, err := w.s3.PutBucketLifecycleConfiguration(w.Context(),
		&s3.PutBucketLifecycleConfigurationInput{
			Bucket: aws.String("objects"),
			LifecycleConfiguration: &s3types.BucketLifecycleConfiguration{
				Rules: []s3types.LifecycleRule{{
					ID:     aws.String("old"),
					Status: s3types.ExpirationStatusEnabled,
					Filter: &s3types.LifecycleRuleFilter{Prefix: &prefix},
					NoncurrentVersionExpiration: &s3types.NoncurrentVersionExpiration{
						NoncurrentDays: &days,
					},
				}, {
					ID:     aws.String("parts"),
					Status: s3types.ExpirationStatusEnabled,
					Filter: &s3types.LifecycleRuleFilter{Prefix: aws.String("")},
					AbortIncompleteMultipartUpload: &s3types.AbortIncompleteMultipartUpload{
						DaysAfterInitiation: &uploadDays,
					},
				}},
			},
		})
	w.must(err)
}

func (w *world) replicate(to string) {
	w.Helper()
	_, err := w.s3.PutBucketReplication(w.Context(), &s3.PutBucketReplicationInput{
		Bucket: aws.String("objects"),
		ReplicationConfiguration: &s3types.ReplicationConfiguration{
			Role: aws.String("arn:aws:iam::111122223333:role/replication"),
			Rules: []s3types.ReplicationRule{{
				Status: s3types.ReplicationRuleStatusEnabled,
				Filter: &s3types.ReplicationRuleFilter{Prefix: aws.String("in/a")},
				Destination: &s3types.Destination{
					Bucket:  aws.String("arn:aws:s3:::" + to),
					Account: aws.String("444455556666"),
				},
			}},
		},
	})
	w.must(err)
}

func (w *world) upload(key string) {
	w.Helper()
	_, err := w.s3.CreateMultipartUpload(w.Context(), &s3.CreateMultipartUploadInput{
		Bucket: aws.String("objects"),
		Key:    &key,
	})
	w.must(err)
}

func (w *world) backup(name string) {
	w.Helper()
	_, err := w.table.CreateBackup(w.Context(), &dynamodb.CreateBackupInput{
		TableName:  aws.String("customers"),
		BackupName: &name,
	})
	w.must(err)
}

func (w *world) recovery(days int32) {
	w.Helper()
	_, err := w.table.UpdateContinuousBackups(w.Context(), &dynamodb.UpdateContinuousBackupsInput{
		TableName: aws.String("customers"),
		PointInTimeRecoverySpecification: &dynamotypes.PointInTimeRecoverySpecification{
			PointInTimeRecoveryEnabled: aws.Bool(true),
			RecoveryPeriodInDays:       &days,
		},
	})
	w.must(err)
}

func (w *world) export(prefix string) {
	w.Helper()
	_, err := w.table.ExportTableToPointInTime(w.Context(),
		&dynamodb.ExportTableToPointInTimeInput{
			TableArn: aws.String("arn:aws:dynamodb:us-east-1:111122223333:table/customers"),
			S3Bucket: aws.String("exports"),
			S3Prefix: &prefix,
		})
	w.must(err)
}

func (w *world) stream(view dynamotypes.StreamViewType) {
	w.Helper()
	_, err := w.table.UpdateTable(w.Context(), &dynamodb.UpdateTableInput{
		TableName: aws.String("customers"),
		StreamSpecification: &dynamotypes.StreamSpecification{
			StreamEnabled:  aws.Bool(true),
			StreamViewType: view,
		},
	})
	w.must(err)
}

// everything makes a copy of each kind before the move, and some after it. It ends two days after
// the move, of which it records the time.
func (w *world) everything() {
	w.Helper()
	w.config.Targets[0].Archived = &copies.Archived{Objects: 3, Pass: "pass 2"}
	w.put("in/a", "old")
	w.put("in/b", "old")
	w.put("out/c", "old") // not under the prefix
	w.stream(dynamotypes.StreamViewTypeNewAndOldImages)
	w.recovery(7)
	w.export("before")
	for _, name := range []string{"monday", "tuesday", "friday", "sunday"} {
		w.backup(name)
	}
	_, err := w.table.EnableKinesisStreamingDestination(w.Context(),
		&dynamodb.EnableKinesisStreamingDestinationInput{
			TableName: aws.String("customers"),
			StreamArn: aws.String("arn:aws:kinesis:us-east-1:111122223333:stream/changes"),
		})
	w.must(err)
	_, err = w.table.UpdateTable(w.Context(), &dynamodb.UpdateTableInput{
		TableName: aws.String("customers"),
		ReplicaUpdates: []dynamotypes.ReplicationGroupUpdate{{
			Create: &dynamotypes.CreateReplicationGroupMemberAction{
				RegionName: aws.String("eu-west-1"),
			},
		}},
	})
	w.must(err)
	for arn, deleted := range map[string]time.Time{
		"arn:aws:s3:::objects": time.Now().AddDate(0, 3, 0),
		"arn:aws:dynamodb:us-east-1:111122223333:table/customers": {},
	} {
		w.server.AddRecoveryPoint(arn, fakeaws.RecoveryPoint{
			ARN:     "arn:aws:backup:us-east-1:111122223333:recovery-point:" + arn[8:11],
			Vault:   "Default",
			Created: time.Now(),
			Deleted: deleted,
		})
	}
	w.server.SetStream("arn:aws:kinesis:us-east-1:111122223333:stream/changes", 7*24*time.Hour)
	w.upload("in/part")
	w.upload("in/part")
	w.upload("out/part")
	w.rules("in/", 30, 7)
	w.replicate("replica")
	time.Sleep(time.Hour)
	w.put("in/a", "moved")
	w.put("in/b", "moved")
	w.config.LastMove = time.Now().UTC()
	time.Sleep(24 * time.Hour)
	w.put("in/a", "by the application")
	w.put("in/a", "by the application, again")
	w.backup("later")
	w.export("after")
	time.Sleep(12 * time.Hour)
	w.remove("in/b")
}

func (w *world) find() *copies.Result {
	w.Helper()
	r, err := copies.Find(w.Context(), w.config)
	w.must(err)
	return r
}

// row returns the row of a kind for a target.
func row(r *copies.Result, target string, kind copies.Kind) copies.Row {
	i := slices.IndexFunc(r.Rows, func(row copies.Row) bool {
		return row.Target == target && row.Kind == kind
	})
	if i < 0 {
		return copies.Row{}
	}
	return r.Rows[i]
}

// golden compares the text and the JSON of a result with files.
func (w *world) golden(name string, r *copies.Result) {
	w.Helper()
	var text, object bytes.Buffer
	w.must(errors.Join(r.Text(&text), r.JSON(&object)))
	for line := range strings.Lines(text.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			w.Errorf("a line has %d characters, want at most 80: %s", n, line)
		}
	}
	for file, got := range map[string]string{name + ".txt": text.String(),
		name + ".json": object.String()} {
		got = regexp.MustCompile(`http://[0-9.:]+`).ReplaceAllString(got, "ENDPOINT")
		path := filepath.Join("testdata", file)
		if *update {
			w.must(os.WriteFile(path, []byte(got), 0o644))
			continue
		}
		want, err := os.ReadFile(path)
		w.must(err)
		if diff := cmp.Diff(string(want), got); diff != "" {
			w.Errorf("%s (-want +got); go test ./internal/copies -update writes it:\n%s", path,
				diff)
		}
	}
}

// kindsOfBucket and kindsOfTable are the rows that every target has.
func kindsOfBucket() []copies.Kind {
	return []copies.Kind{copies.Noncurrent, copies.DeleteMarked, copies.Locked, copies.Replicated,
		copies.Uploads, copies.ArchivedKind, copies.AWSBackup}
}

func kindsOfTable() []copies.Kind {
	return []copies.Kind{copies.Recovery, copies.Backups, copies.Exports, copies.Stream,
		copies.Kinesis, copies.Replicas, copies.AWSBackup}
}

// complete fails the test if a kind has no row, or a row has no state.
func (w *world) complete(r *copies.Result) {
	w.Helper()
	var want, got []copies.Kind
	want = append(append(append(want, kindsOfBucket()...), kindsOfTable()...), copies.FileCopies,
		copies.Elsewhere)
	for _, row := range r.Rows {
		got = append(got, row.Kind)
		if row.State == "" || row.State != copies.None && row.Detail == "" {
			w.Errorf("%s has the state %q and the detail %q", row.Kind, row.State, row.Detail)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestEverything: a copy of each kind. Copies that were made after the last move do not count.
func TestEverything(t *testing.T) {
	inWorld(t, func(w *world) {
		w.everything()
		r := w.find()
		w.complete(r)
		w.golden("everything", r)
		for _, want := range []struct {
			target string
			kind   copies.Kind
			count  int64
			until  string
		}{
			// in/a: the first version until 30 days after the move, and the moved one until 30
			// days after the application replaced it.
			{"objects", copies.Noncurrent, 2, "2000-02-02T00:00:00Z"},
			// in/b: both versions, the moved one since the object was deleted.
			{"objects", copies.DeleteMarked, 2, "2000-02-02T00:00:00Z"},
			{"objects", copies.Uploads, 2, "2000-01-08T00:00:00Z"},
			{"customers", copies.Recovery, 1, "2000-01-08T01:00:00Z"},
			{"customers", copies.Backups, 4, ""},
			{"customers", copies.Exports, 1, ""},
			{"customers", copies.Kinesis, 1, "2000-01-08T01:00:00Z"},
			{"objects", copies.ArchivedKind, 3, ""},
			{"objects", copies.AWSBackup, 1, "2000-04-01T00:00:00Z"},
			{"customers", copies.AWSBackup, 1, ""},
		} {
			got := row(r, want.target, want.kind)
			until := ""
			if !got.Until.IsZero() {
				until = got.Until.Format(time.RFC3339)
			}
			if got.State != copies.Counted || got.Count != want.count || until != want.until {
				w.Errorf("%s is %s, %d until %q, want %d until %q", want.kind, got.State,
					got.Count, until, want.count, want.until)
			}
		}
		if s := row(r, "customers", copies.Stream); s.State != copies.None {
			w.Errorf("36 hours after the move, the stream is %+v", s)
		}
	})
}

// TestNothing: new places have no copies. The rows are there nevertheless.
func TestNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put("in/a", "text")
		r := w.find()
		w.complete(r)
		w.golden("nothing", r)
		for _, row := range r.Rows {
			if row.Target != "files" && row.Target != "" && row.State != copies.None {
				w.Errorf("%s is %+v", row.Kind, row)
			}
		}
	})
}

// TestAfterTheEnd: copies whose time is over are no copies.
func TestAfterTheEnd(t *testing.T) {
	inWorld(t, func(w *world) {
		w.recovery(7)
		w.stream(dynamotypes.StreamViewTypeNewImage)
		w.config.LastMove = time.Now().UTC()
		r := w.find()
		for _, kind := range []copies.Kind{copies.Recovery, copies.Stream} {
			if got := row(r, "customers", kind); got.State != copies.Counted || got.Count != 1 {
				w.Errorf("%s is %+v", kind, got)
			}
		}
		time.Sleep(7*24*time.Hour + time.Minute)
		r = w.find()
		for _, kind := range []copies.Kind{copies.Recovery, copies.Stream} {
			if got := row(r, "customers", kind); got.State != copies.None || got.Count != 0 {
				w.Errorf("after a week, %s is %+v", kind, got)
			}
		}
	})
}

// TestNoEnd: without a rule that covers the prefix, versions and uploads exist for ever.
func TestNoEnd(t *testing.T) {
	inWorld(t, func(w *world) {
		w.put("in/a", "old")
		w.upload("in/part")
		w.put("in/a", "moved")
		w.config.LastMove = time.Now().UTC()
		for _, kind := range []copies.Kind{copies.Noncurrent, copies.Uploads} {
			if got := row(w.find(), "objects", kind); !got.NoEnd || !got.Until.IsZero() {
				w.Errorf("without rules, %s is %+v", kind, got)
			}
		}
		w.rules("in/a/b", 30, 7)
		got := row(w.find(), "objects", copies.Noncurrent)
		if !got.NoEnd || !strings.Contains(got.Detail, "rule old covers only in/a/b") {
			w.Errorf("with a rule for a part, the row is %+v", got)
		}
	})
}

// TestReplicaIsTarget: a destination of the replication that is a target of the job is read by
// passes.
func TestReplicaIsTarget(t *testing.T) {
	inWorld(t, func(w *world) {
		w.replicate("replica")
		if got := row(w.find(), "objects", copies.Replicated); got.State != copies.NotLookedAt ||
			got.Place != "replica" {
			w.Errorf("the row is %+v", got)
		}
		w.bucket("replica")
		w.config.Targets = append(w.config.Targets, copies.Target{Name: "replica",
			Bucket: "replica", Region: "us-east-1", S3: w.s3})
		if got := row(w.find(), "objects", copies.Replicated); got.State != copies.None {
			w.Errorf("as a target of the job, the row is %+v", got)
		}
	})
}

// TestReplicasThatAreAsked: a replica in a Region that the job names has all rows of a table,
// except the one about replicas, and the table has a row that states so.
func TestReplicasThatAreAsked(t *testing.T) {
	inWorld(t, func(w *world) {
		w.everything()
		before := w.find()
		table := w.config.Targets[1]
		replica := table
		w.config.Targets[1].Regions = []string{"eu-west-1"}
		replica.Region, replica.Replica = "eu-west-1", true
		w.config.Targets = append(w.config.Targets, replica)
		after := w.find()
		if got := row(after, "customers", copies.Replicas); got.State != copies.None ||
			got.Place != "customers in eu-west-1" {
			t.Errorf("the replica that was asked is %+v", got)
		}
		found := map[copies.Kind]int{}
		for _, r := range after.Rows {
			if r.Place == "customers in eu-west-1" && r.Kind != copies.Replicas {
				found[r.Kind]++
			}
		}
		for _, r := range before.Rows {
			ofTable := r.Target == "customers" && r.Kind != copies.Replicas
			if ofTable && found[r.Kind] != 1 {
				t.Errorf("the replica has %d rows of %s", found[r.Kind], r.Kind)
			}
		}
	})
}

// TestLocks: versions in a bucket with Object Lock can exist longer than their lifecycle rule
// states, so their end is not known.
func TestLocks(t *testing.T) {
	inWorld(t, func(w *world) {
		_, err := w.s3.CreateBucket(w.Context(), &s3.CreateBucketInput{
			Bucket:                     aws.String("locked"),
			ObjectLockEnabledForBucket: aws.Bool(true),
		})
		w.must(err)
		w.config.Targets = []copies.Target{{Name: "objects", Bucket: "locked", S3: w.s3}}
		if got := row(w.find(), "objects", copies.Locked); got.State != copies.None {
			w.Errorf("without a version, the row is %+v", got)
		}
		for range 2 {
			_, err := w.s3.PutObject(w.Context(), &s3.PutObjectInput{
				Bucket: aws.String("locked"),
				Key:    aws.String("k"),
				Body:   strings.NewReader("x"),
			})
			w.must(err)
		}
		if got := row(w.find(), "objects", copies.Locked); got.State != copies.NotLookedAt {
			w.Errorf("the row is %+v", got)
		}
	})
}

// affected are the rows that a failed call affects, as target and kind.
func affected() map[string][]string {
	return map[string][]string{
		"s3:GetBucketVersioning": {}, // versions are then listed without it
		"s3:GetBucketLifecycleConfiguration": {"objects s3-noncurrent-versions",
			"objects s3-delete-marked-versions", "objects s3-incomplete-uploads"},
		"s3:ListObjectVersions": {"objects s3-noncurrent-versions",
			"objects s3-delete-marked-versions"},
		"s3:GetObjectLockConfiguration": {"objects s3-object-lock"},
		"s3:GetBucketReplication":       {"objects s3-replication"},
		"s3:ListMultipartUploads":       {"objects s3-incomplete-uploads"},
		"dynamodb:DescribeTable": {"customers dynamodb-stream", "customers dynamodb-replicas",
			"customers aws-backup"},
		"dynamodb:DescribeContinuousBackups":           {"customers dynamodb-pitr"},
		"dynamodb:ListBackups":                         {"customers dynamodb-backups"},
		"dynamodb:ListExports":                         {"customers dynamodb-exports"},
		"dynamodb:DescribeExport":                      {"customers dynamodb-exports"},
		"dynamodb:DescribeKinesisStreamingDestination": {"customers dynamodb-kinesis"},
		"backup:ListRecoveryPointsByResource": {"objects aws-backup",
			"customers aws-backup"},
		"backup:DescribeRecoveryPoint":  {"objects aws-backup", "customers aws-backup"},
		"kinesis:DescribeStreamSummary": {"customers dynamodb-kinesis"},
	}
}

// permissionOf returns the IAM action of an operation.
func permissionOf(operation string) string {
	if action := map[string]string{
		"s3:GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
		"s3:ListObjectVersions":              "s3:ListBucketVersions",
		"s3:GetObjectLockConfiguration":      "s3:GetBucketObjectLockConfiguration",
		"s3:GetBucketReplication":            "s3:GetReplicationConfiguration",
		"s3:ListMultipartUploads":            "s3:ListBucketMultipartUploads",
	}[operation]; action != "" {
		return action
	}
	return operation
}

// TestFaults: each call is denied, throttled or cut alone. The rows that need it state so, and no
// other row changes.
func TestFaults(t *testing.T) {
	faults := map[string]fault.Fault{
		"denied":    {Kind: fault.Refusal, Answer: fault.Answer{Status: 403}},
		"throttled": {Kind: fault.Throttle},
		"cut":       {Kind: fault.HalfResponse},
		"reset":     {Kind: fault.Reset},
		"failed":    {Kind: fault.InternalError},
	}
	for operation, rows := range affected() {
		for name, f := range faults {
			t.Run(operation+"/"+name, func(t *testing.T) {
				inWorld(t, func(w *world) {
					w.everything()
					before := w.find()
					f.Answer.Code = "AccessDeniedException"
					if strings.HasPrefix(operation, "s3:") {
						f.Answer.Code = "AccessDenied"
					}
					w.server.Faults().Set(operation, f)
					w.compare(before, w.find(), operation, name == "denied", rows)
				})
			})
		}
	}
}

// compare fails the test if other rows than the affected ones changed, or if an affected row does
// not state what is missing.
func (w *world) compare(
	before, after *copies.Result, operation string, denied bool, rows []string,
) {
	w.Helper()
	w.complete(after)
	for i, got := range after.Rows {
		id := got.Target + " " + string(got.Kind)
		want := before.Rows[i]
		if !slices.Contains(rows, id) {
			if diff := cmp.Diff(want, got); diff != "" {
				w.Errorf("%s changed (-before +after):\n%s", id, diff)
			}
			continue
		}
		onlyEnd := operation == "s3:GetBucketLifecycleConfiguration" ||
			operation == "backup:DescribeRecoveryPoint"
		longest := operation == "kinesis:DescribeStreamSummary"
		noARN := operation == "dynamodb:DescribeTable" && got.Kind == copies.AWSBackup
		missing := ""
		if denied && !noARN {
			missing = permissionOf(operation)
		}
		switch {
		case got.MissingPermission != missing:
			w.Errorf("%s names the permission %q, want %q", id, got.MissingPermission, missing)
		case onlyEnd && (got.State != copies.Counted || got.Count != want.Count || got.NoEnd ||
			!got.Until.IsZero()):
			w.Errorf("%s is %+v, want counted without an end", id, got)
		case longest && (got.State != copies.Counted || !got.Until.After(want.Until)):
			w.Errorf("%s is %+v, want the longest retention", id, got)
		case !onlyEnd && !longest && got.State != copies.CannotSee:
			w.Errorf("%s is %s, want %s", id, got.State, copies.CannotSee)
		}
	}
}

// TestDenied: without any permission, every row states what is missing.
func TestDenied(t *testing.T) {
	inWorld(t, func(w *world) {
		w.everything()
		w.server.Faults().Set("*", fault.Fault{
			Kind:   fault.Refusal,
			Answer: fault.Answer{Status: 403, Code: "AccessDenied"},
		})
		r := w.find()
		w.complete(r)
		w.golden("denied", r)
		for _, row := range r.Rows {
			if row.State != copies.CannotSee && row.State != copies.NotLookedAt &&
				row.Kind != copies.ArchivedKind { // which needs no call
				w.Errorf("%s is %+v", row.Kind, row)
			}
		}
	})
}

// TestCredentials: credentials that no service accepts end the report.
func TestCredentials(t *testing.T) {
	inWorld(t, func(w *world) {
		w.server.Faults().Set("*", fault.Fault{
			Kind:   fault.Refusal,
			Answer: fault.Answer{Status: 400, Code: "ExpiredToken"},
		})
		if r, err := copies.Find(w.Context(), w.config); err == nil {
			w.Errorf("the result is %+v", r)
		}
	})
}
