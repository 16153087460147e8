package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fault"
)

// testStore is a kind of store under test.
type testStore struct {
	// open returns the same store again, as another process would.
	open func() Store
	// lose drops the responses to the next writes after they were applied. It is nil
	// for a store without responses.
	lose func(writes int)
	// loseDelete is lose for deletes.
	loseDelete func(deletes int)
	// cut truncates the responses to the next reads. blind makes all reads fail until
	// it is called with false. Both are nil if lose is nil.
	cut   func(reads int)
	blind func(on bool)
	// refusesWithRecord is true if the response to a refused write contains the record.
	refusesWithRecord bool
	// damage replaces the stored form of a record with other bytes.
	damage func(id string)
}

// TestStores runs one suite over every store.
func TestStores(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) testStore{
		"memory":                               inMemory,
		"file":                                 inFile,
		"DynamoDB":                             inDynamoDB,
		"DynamoDB without records in refusals": inPlainDynamoDB,
		"S3":                                   inS3,
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("compare and swap", func(t *testing.T) { testCompareAndSwap(t, make(t).open) })
			t.Run("size", func(t *testing.T) { testSize(t, make(t).open()) })
			t.Run("race", func(t *testing.T) { testRace(t, make(t)) })
			t.Run("read-only passes", func(t *testing.T) { testReadPasses(t, make(t)) })
			t.Run("delete", func(t *testing.T) { testDelete(t, make(t)) })
			t.Run("prune", func(t *testing.T) { testPrune(t, make(t)) })
			if p := make(t); p.lose != nil {
				t.Run("lost responses", func(t *testing.T) { testLostResponses(t, p) })
				t.Run("truncated responses", func(t *testing.T) {
					testTruncatedResponses(t, make(t))
				})
				t.Run("unknown outcome", func(t *testing.T) { testUnknownOutcome(t, make(t)) })
			}
			if p := make(t); p.damage != nil {
				t.Run("damage", func(t *testing.T) { testDamage(t, p) })
			}
		})
	}
}

func inMemory(*testing.T) testStore {
	m := NewMemory()
	return testStore{open: func() Store { return m }}
}

func inFile(t *testing.T) testStore {
	path := filepath.Join(t.TempDir(), "state.db")
	if _, err := CreateFile(path); err != nil {
		t.Fatal(err)
	}
	return testStore{
		open: func() Store {
			f, err := OpenFile(path)
			if err != nil {
				t.Fatal(err)
			}
			return f
		},
		damage: func(id string) {
			inside(t, path, func(b *bbolt.Bucket) error {
				return b.Put([]byte(id), []byte("short"))
			})
		},
	}
}

// inside changes a checkpoint file directly, not through its Store.
func inside(t *testing.T, path string, change func(*bbolt.Bucket) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	changed := db.Update(func(tx *bbolt.Tx) error { return change(tx.Bucket([]byte(records))) })
	if err := errors.Join(changed, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// testPatience is the maximum time of an operation in tests.
const testPatience = 20 * time.Second

func fakeAWS(t *testing.T) (*fakeaws.Server, aws.Config) {
	server, err := fakeaws.Start(fakeaws.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server, aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(server.Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider("AKIAFAKEAWSFAKEAWS00",
			"not-a-secret", ""),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts, o.MaxBackoff, o.RateLimiter = math.MaxInt32, 20*time.Millisecond,
					ratelimit.None
			})
		}}
}

func inDynamoDB(t *testing.T) testStore {
	server, cfg := fakeAWS(t)
	return dynamoDBStore(t, server, dynamodb.NewFromConfig(cfg))
}

// inPlainDynamoDB is a server that does not know ReturnValuesOnConditionCheckFailure.
func inPlainDynamoDB(t *testing.T) testStore {
	server, cfg := fakeAWS(t)
	store := dynamoDBStore(t, server, dynamodb.NewFromConfig(cfg, func(o *dynamodb.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("plain",
				func(
					ctx context.Context, in middleware.InitializeInput,
					next middleware.InitializeHandler,
				) (middleware.InitializeOutput, middleware.Metadata, error) {
					if put, ok := in.Parameters.(*dynamodb.PutItemInput); ok {
						put.ReturnValuesOnConditionCheckFailure = ""
					}
					return next.HandleInitialize(ctx, in)
				}), middleware.After)
		})
	}))
	store.refusesWithRecord = false
	return store
}

func dynamoDBStore(
	t *testing.T, server *fakeaws.Server, client *dynamodb.Client,
) testStore {
	if err := NewDynamoDB(client, "state", testPatience).CreateTable(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := NewDynamoDB(client, "state", testPatience).Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	return testStore{
		refusesWithRecord: true,

		open: func() Store { return NewDynamoDB(client, "state", testPatience) },
		lose: func(n int) {
			server.Faults().Set("dynamodb:PutItem", fault.Fault{Kind: fault.LostResponse, Times: n})
		},
		loseDelete: func(n int) {
			lost := fault.Fault{Kind: fault.LostResponse, Times: n}
			server.Faults().Set("dynamodb:DeleteItem", lost)
		},
		cut: func(n int) {
			server.Faults().Set("dynamodb:GetItem", fault.Fault{Kind: fault.HalfResponse, Times: n})
		},
		blind: func(on bool) {
			server.Faults().Clear("dynamodb:GetItem")
			if on {
				server.Faults().Set("dynamodb:GetItem", fault.Fault{
					Kind:   fault.Refusal,
					Answer: fault.Answer{Code: "AccessDeniedException"},
				})
			}
		},
		damage: func(id string) {
			if _, err := client.PutItem(t.Context(), &dynamodb.PutItemInput{
				TableName: aws.String("state"),
				Item: map[string]types.AttributeValue{
					"id":   &types.AttributeValueMemberS{Value: id},
					"data": &types.AttributeValueMemberS{Value: "text"}},
			}); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func inS3(t *testing.T) testStore {
	server, cfg := fakeAWS(t)
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := client.CreateBucket(t.Context(),
		&s3.CreateBucketInput{Bucket: aws.String("state")}); err != nil {
		t.Fatal(err)
	}
	store := NewS3(client, "state", "rotator/", testPatience)
	if err := errors.Join(store.Check(t.Context()),
		store.CheckConditions(t.Context())); err != nil {
		t.Fatal(err)
	}
	return testStore{
		open: func() Store { return NewS3(client, "state", "rotator/", testPatience) },
		lose: func(n int) {
			server.Faults().Set("s3:PutObject", fault.Fault{Kind: fault.LostResponse, Times: n})
		},
		loseDelete: func(n int) {
			server.Faults().Set("s3:DeleteObject", fault.Fault{Kind: fault.LostResponse, Times: n})
		},
		cut: func(n int) {
			server.Faults().Set("s3:GetObject", fault.Fault{Kind: fault.HalfResponse, Times: n})
		},
		blind: func(on bool) {
			server.Faults().Clear("s3:GetObject")
			if on {
				server.Faults().Set("s3:GetObject", fault.Fault{
					Kind:   fault.Refusal,
					Answer: fault.Answer{Status: 403, Code: "AccessDenied"},
				})
			}
		},
		damage: func(id string) {
			if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: aws.String("state"),
				Key:    aws.String("rotator/" + id),
				Body:   strings.NewReader("short"),
			}); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// testSize stores a record of the maximum size. A larger one is refused before it is sent.
func testSize(t *testing.T, s Store) {
	e, err := s.Create(t.Context(), "large", bytes.Repeat([]byte{'x'}, MaxRecord))
	if err != nil {
		t.Fatal(err)
	}
	if e, err = s.Fetch(t.Context(), "large"); err != nil || len(e.Data) != MaxRecord {
		t.Errorf("fetched %d bytes, %v, want %d", len(e.Data), err, MaxRecord)
	}
	if _, err := s.Replace(t.Context(), e, make([]byte, MaxRecord+1)); err == nil ||
		errors.Is(err, ErrConflict) {
		t.Errorf("Replace with more than MaxRecord bytes: %v", err)
	}
	if e, err = s.Create(t.Context(), "empty", nil); err != nil || !e.Exists() {
		t.Errorf("Create of an empty record: %v", err)
	}
	if e, err = s.Fetch(t.Context(), "empty"); err != nil || len(e.Data) != 0 {
		t.Errorf("fetched %q, %v, want no bytes", e.Data, err)
	}
}

// TestMissingTableOrBucket: a table or bucket that does not exist, or that is no checkpoint table,
// is not an empty checkpoint.
func TestMissingTableOrBucket(t *testing.T) {
	_, cfg := fakeAWS(t)
	tables, buckets := dynamodb.NewFromConfig(cfg),
		s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := tables.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName:   aws.String("customers"),
		BillingMode: types.BillingModePayPerRequest,
		KeySchema: []types.KeySchemaElement{{
			AttributeName: aws.String("pk"),
			KeyType:       types.KeyTypeHash,
		}},
		AttributeDefinitions: []types.AttributeDefinition{{
			AttributeName: aws.String("pk"),
			AttributeType: types.ScalarAttributeTypeS,
		}},
	}); err != nil {
		t.Fatal(err)
	}
	type checked interface {
		Store
		Check(context.Context) error
	}
	for name, store := range map[string]checked{
		"table typo":      NewDynamoDB(tables, "typo", testPatience),
		"table customers": NewDynamoDB(tables, "customers", testPatience),
		"bucket typo":     NewS3(buckets, "typo", "", testPatience),
	} {
		var location *LocationError
		if err := store.Check(t.Context()); !errors.As(err, &location) ||
			location.Location != name {
			t.Errorf("%s: Check: %v, want *LocationError", name, err)
		}
		if _, err := store.Fetch(t.Context(), "n"); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("%s: Fetch: %v, want an error other than ErrNotFound", name, err)
		}
		if _, err := store.Create(t.Context(), "n", nil); err == nil {
			t.Errorf("%s: Create succeeded", name)
		}
	}
}

func testCompareAndSwap(t *testing.T, open func() Store) {
	ctx := t.Context()
	s := open()
	if _, err := s.Fetch(ctx, "jobs/a/head"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("Fetch of a missing record: %v, want ErrNotFound", err)
	}
	if _, err := s.Replace(ctx, Entry{ID: "jobs/a/head", version: "1"},
		[]byte("x")); !errors.Is(err, ErrConflict) {
		t.Fatalf("Replace of a missing record: %v, want ErrConflict", err)
	}
	first, err := s.Create(ctx, "jobs/a/head", []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(ctx, "jobs/a/head", []byte("two")); !errors.Is(err, ErrConflict) {
		t.Fatalf("Create of an existing record: %v, want ErrConflict", err)
	}
	second, err := s.Replace(ctx, first, []byte("one")) // the same bytes make a new version
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Replace(ctx, first, []byte("late")); !errors.Is(err, ErrConflict) {
		t.Fatalf("Replace of an old entry: %v, want ErrConflict", err)
	}
	fetched, err := open().Fetch(ctx, "jobs/a/head")
	if err != nil || !bytes.Equal(fetched.Data, []byte("one")) {
		t.Fatalf("Fetch in another process: %q, %v", fetched.Data, err)
	}
	if _, err := open().Replace(ctx, fetched, []byte("three")); err != nil {
		t.Fatalf("Replace of a fetched entry: %v", err)
	}
	_, err = s.Replace(ctx, second, []byte("late"))
	if !errors.Is(err, ErrConflict) {
		t.Fatalf("Replace after another process replaced the record: %v, want ErrConflict", err)
	}
	if conflict := (*conflictError)(nil); errors.As(err, &conflict) {
		if now := conflict.now; now.ID != "jobs/a/head" || string(now.Data) != "three" {
			t.Errorf("the error of the conflict contains %q, %q", now.ID, now.Data)
		}
		if _, err := s.Replace(ctx, conflict.now, []byte("four")); err != nil {
			t.Errorf("Replace of the record in the error of the conflict: %v", err)
		}
	}
}

// testRace: 32 concurrent writers add their names to one record. No name is lost, even if responses
// are.
func testRace(t *testing.T, p testStore) {
	const writers, rounds = 32, 4
	if _, err := p.open().Create(t.Context(), "n", nil); err != nil {
		t.Fatal(err)
	}
	if p.lose != nil {
		p.lose(writers)
	}
	var refused atomic.Int64
	var group sync.WaitGroup
	for writer := range writers {
		group.Go(func() {
			s := p.open()
			for round := range rounds {
				n, err := sign(s, fmt.Sprintf("%02d/%d ", writer, round))
				if err != nil {
					t.Error(err)
					return
				}
				refused.Add(n)
			}
		})
	}
	group.Wait()
	e, err := p.open().Fetch(t.Context(), "n")
	if err != nil {
		t.Fatal(err)
	}
	signed := map[string]bool{}
	for _, name := range strings.Fields(string(e.Data)) {
		if signed[name] {
			t.Errorf("%s is in the record twice", name)
		}
		signed[name] = true
	}
	if len(signed) != writers*rounds {
		t.Errorf("the record has %d names, want %d (%d attempts were refused)",
			len(signed), writers*rounds, refused.Load())
	}
}

// sign adds a name to the record if it is missing, and returns the number of conflicts.
func sign(s Store, name string) (refused int64, err error) {
	for {
		e, err := s.Fetch(context.Background(), "n")
		if err != nil || bytes.Contains(e.Data, []byte(name)) {
			return refused, err
		}
		_, err = s.Replace(context.Background(), e, append(bytes.Clone(e.Data), name...))
		if !errors.Is(err, ErrConflict) {
			return refused, err
		}
		refused++
	}
}

func TestDecodeRefuses(t *testing.T) {
	good, err := Encode("pass", Pass{Number: 3})
	if err != nil {
		t.Fatal(err)
	}
	var pass Pass
	if err := Decode("id", "pass", good, &pass); err != nil || pass.Number != 3 {
		t.Fatalf("Decode = %+v, %v", pass, err)
	}
	var corrupt *CorruptError
	for _, bad := range [][]byte{nil, []byte("{"), []byte("{}"),
		bytes.Replace(good, []byte(`"number":3`), []byte(`"number":4`), 1)} {
		if err := Decode("id", "pass", bad, &pass); !errors.As(err, &corrupt) {
			t.Errorf("Decode(%q) = %v, want *CorruptError", bad, err)
		}
	}
	if err := Decode("id", "head", good, &pass); !errors.As(err, &corrupt) {
		t.Errorf("Decode as another kind: %v, want *CorruptError", err)
	}
	var other *SchemaError
	for which, version := range map[string]string{"newer": "3", "older": "1"} {
		data := bytes.Replace(good, []byte(`"schema":2`), []byte(`"schema":`+version), 1)
		if err := Decode("id", "pass", data, &pass); !errors.As(err, &other) ||
			!strings.Contains(err.Error(), "the "+which+" rotator") {
			t.Errorf("Decode of schema %s: %v, want *SchemaError", version, err)
		}
	}
}

// TestMain lets the test binary hold a lock as another process, and fails if the tests leak
// goroutines.
func TestMain(m *testing.M) {
	if path := os.Getenv("CHECKPOINT_TEST_LOCK"); path != "" {
		if _, err := AcquireLock(path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("locked")
		time.Sleep(time.Minute)
	}
	goleak.VerifyTestMain(m)
}

func TestLockEndsWithItsProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CHECKPOINT_TEST_LOCK="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	line := make([]byte, len("locked"))
	if _, err := out.Read(line); err != nil || string(line) != "locked" {
		t.Fatalf("the child printed %q, %v, want \"locked\"", line, err)
	}
	var locked *LockedError
	if _, err := AcquireLock(path); !errors.As(err, &locked) ||
		!strings.Contains(locked.Holder, fmt.Sprint(cmd.Process.Pid)) {
		t.Fatalf("AcquireLock while the child holds the lock: %v, want *LockedError that "+
			"names it", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	lock, err := AcquireLock(path)
	if err != nil {
		t.Fatalf("AcquireLock after the child was killed: %v", err)
	}
	if err := lock.Release(); err != nil {
		t.Error(err)
	}
}
