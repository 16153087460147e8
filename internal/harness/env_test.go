package harness

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"go.uber.org/goleak"

	"rotator/internal/fakeaws"
	"rotator/internal/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rogue is a set of clients that break the rules of a worker. They sign as the worker or, to
// damage stored data without a violation, as the application.
type rogue struct {
	*Env
	t   *testing.T
	ddb *dynamodb.Client
	obj *s3.Client
	kms *kms.Client
}

func newRogue(t *testing.T, accessKey string, c Config) *rogue {
	w := Start(t, c)
	cfg := aws.Config{
		Region:       region,
		BaseEndpoint: aws.String(w.Server.Endpoint()),
		Credentials:  credentials.NewStaticCredentialsProvider(accessKey, "secret", ""),
	}
	return &rogue{Env: w, t: t, ddb: dynamodb.NewFromConfig(cfg), kms: kms.NewFromConfig(cfg),
		obj: s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })}
}

func small() Config {
	return Config{
		Items:   map[Kind]int{Ordinary: 2, Nested: 1, Current: 1},
		Objects: map[Kind]int{Ordinary: 2, Document: 1},
	}
}

func (r *rogue) ok(_ any, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rogue) first(target string, kind Kind) *Entry { return r.Entries(Of(target, kind))[0] }

func (r *rogue) seal(key string, e *Entry) []byte {
	blob, err := r.Server.KMS().Encrypt(key, []byte(e.slots[0].secret), e.slots[0].context)
	r.ok(nil, err)
	return blob
}

// move updates one slot of an item in a batch, with the given WHERE clause.
func (r *rogue) move(e *Entry, from, to []byte, where string) {
	parameters := []types.AttributeValue{
		&types.AttributeValueMemberB{Value: to},
		&types.AttributeValueMemberS{Value: e.ID},
	}
	if strings.Count(where, "?") == 2 {
		parameters = append(parameters, &types.AttributeValueMemberB{Value: from})
	}
	_, err := r.ddb.BatchExecuteStatement(r.t.Context(), &dynamodb.BatchExecuteStatementInput{
		Statements: []types.BatchStatementRequest{
			{
				Statement:  aws.String(`UPDATE "customers" SET "ssn" = ? WHERE ` + where),
				Parameters: parameters,
			},
		},
	})
	r.ok(nil, err)
}

// compared is a WHERE clause with the precondition that the rules require.
const compared = `"id" = ? AND "ssn" = ?`

func (r *rogue) put(e *Entry, body []byte, match *string) {
	r.ok(r.obj.PutObject(r.t.Context(), &s3.PutObjectInput{
		Bucket:  aws.String(Bucket),
		Key:     &e.ID,
		Body:    bytes.NewReader(body),
		IfMatch: match,
	}))
}

func (r *rogue) etag(e *Entry) *string {
	out, err := r.obj.HeadObject(r.t.Context(), &s3.HeadObjectInput{
		Bucket: aws.String(Bucket),
		Key:    &e.ID,
	})
	r.ok(nil, err)
	return out.ETag
}

// guardsCase is a case of TestGuards.
type guardsCase struct {
	name string
	do   func(*rogue)
	want string // "" for no violation
}

func guardsCasesOfItems() []guardsCase {
	return []guardsCase{
		{"a conditional batch", func(r *rogue) {
			e := r.first(Table, Ordinary)
			r.move(e, e.slots[0].blob, r.seal(r.New, e), compared)
		}, ""},
		{"a batch without comparison", func(r *rogue) {
			e := r.first(Table, Ordinary)
			r.move(e, nil, r.seal(r.New, e), `"id" = ?`)
		}, "sets ssn without a comparison"},
		{"a value that the worker wrote before", func(r *rogue) {
			e := r.first(Table, Ordinary)
			once := r.seal(r.New, e)
			r.move(e, e.slots[0].blob, once, compared)
			r.move(e, once, r.seal(r.New, e), compared)
		}, "replaced a value that it had written itself"},
		{"a slot under the new key", func(r *rogue) {
			e := r.first(Table, Current)
			r.move(e, e.slots[0].blob, r.seal(r.New, e), compared)
		}, "was under the new key already"},
		{"an update without condition", func(r *rogue) {
			e := r.first(Table, Ordinary)
			r.ok(r.ddb.UpdateItem(r.t.Context(), &dynamodb.UpdateItemInput{
				TableName:        aws.String(Table),
				Key:              e.key(),
				UpdateExpression: aws.String("REMOVE note"),
			}))
		}, "dynamodb:UpdateItem on table customers has no condition"},
		{"an update that compares something else", func(r *rogue) {
			e := r.first(Table, Ordinary)
			r.ok(r.ddb.UpdateItem(r.t.Context(), &dynamodb.UpdateItemInput{
				TableName:                aws.String(Table),
				Key:                      e.key(),
				UpdateExpression:         aws.String("SET #n0 = :n0"),
				ConditionExpression:      aws.String("#n1 = :o0"),
				ExpressionAttributeNames: map[string]string{"#n0": "ssn", "#n1": "tenant"},
				ExpressionAttributeValues: map[string]types.AttributeValue{
					":n0": &types.AttributeValueMemberB{Value: r.seal(r.New, e)},
					":o0": &types.AttributeValueMemberS{Value: e.tenant},
				},
			}))
		}, "sets ssn without a comparison"},
		{"a batch of puts", func(r *rogue) {
			e := r.first(Table, Ordinary)
			r.ok(r.ddb.BatchWriteItem(r.t.Context(), &dynamodb.BatchWriteItemInput{
				RequestItems: map[string][]types.WriteRequest{
					Table: {{PutRequest: &types.PutRequest{Item: e.item(0)}}}},
			}))
		}, "the worker called dynamodb:BatchWriteItem"},
	}
}

func guardsCasesOfObjects() []guardsCase {
	return []guardsCase{
		{"a conditional put", func(r *rogue) {
			e := r.first(Objects, Ordinary)
			r.put(e, []byte(base64.StdEncoding.EncodeToString(r.seal(r.New, e))), r.etag(e))
		}, ""},
		{"a put without condition", func(r *rogue) {
			e := r.first(Objects, Ordinary)
			r.put(e, []byte(base64.StdEncoding.EncodeToString(r.seal(r.New, e))), nil)
		}, "has no precondition"},
		{"an object that the worker wrote before", func(r *rogue) {
			e := r.first(Objects, Ordinary)
			for range 2 {
				r.put(e, []byte(base64.StdEncoding.EncodeToString(r.seal(r.New, e))), r.etag(e))
			}
		}, "replaced a value that it had written itself"},
		{"deleted tags", func(r *rogue) {
			e := r.first(Objects, Ordinary)
			r.ok(r.obj.DeleteObjectTagging(r.t.Context(), &s3.DeleteObjectTaggingInput{
				Bucket: aws.String(Bucket),
				Key:    &e.ID,
			}))
		}, "the worker called s3:DeleteObjectTagging"},
		{"an object deleted", func(r *rogue) {
			e := r.first(Objects, Ordinary)
			r.ok(r.obj.DeleteObject(r.t.Context(), &s3.DeleteObjectInput{
				Bucket: aws.String(Bucket),
				Key:    &e.ID,
			}))
		}, "the worker deletes"},
	}
}

func guardsCasesOfCommands() []guardsCase {
	return []guardsCase{
		{"kms:Decrypt", func(r *rogue) {
			e := r.first(Table, Ordinary)
			r.ok(r.kms.Decrypt(r.t.Context(), &kms.DecryptInput{
				CiphertextBlob:    e.slots[0].blob,
				EncryptionContext: e.slots[0].context,
			}))
		}, "the worker called kms:Decrypt"},
		{"a write of a read-only command", func(r *rogue) {
			r.ReadOnly(true)
			e := r.first(Table, Ordinary)
			r.move(e, e.slots[0].blob, r.seal(r.New, e), compared)
		}, "must not write"},
	}
}

// TestGuards: each forbidden request of a worker is a violation, and an allowed request is not.
func TestGuards(t *testing.T) {
	for _, test := range slices.Concat(
		guardsCasesOfItems(),
		guardsCasesOfObjects(),
		guardsCasesOfCommands(),
	) {
		t.Run(test.name, func(t *testing.T) {
			r := newRogue(t, workerKey, small())
			test.do(r)
			found := r.Violations()
			if got := strings.Join(found, "\n"); (test.want == "") != (len(found) == 0) ||
				!strings.Contains(got, test.want) {
				t.Errorf("violations %q, want %q", got, test.want)
			}
		})
	}
}

// storedCase is a case of TestStored.
type storedCase struct {
	name string
	do   func(*rogue)
	want string // "" for no damage
}

func storedCasesOfSlots() []storedCase {
	return []storedCase{
		{"nothing", func(*rogue) {}, ""},
		{"the application's own writes", func(r *rogue) {
			for _, e := range r.Entries(nil) {
				r.ok(nil, r.Touch(r.t.Context(), e))
				r.ok(nil, r.Replace(r.t.Context(), e, []string{r.Old, r.New}[e.number%2]))
			}
			r.ok(nil, r.Delete(r.t.Context(), r.first(Table, Ordinary)))
			r.ok(nil, r.Delete(r.t.Context(), r.first(Objects, Ordinary)))
			r.ok(r.Add(r.t.Context(), Table))
		}, ""},
		{"a lost update", func(r *rogue) {
			e := r.first(Table, Ordinary)
			before := e.slots[0].blob
			r.ok(nil, r.Replace(r.t.Context(), e, r.Old))
			r.ok(nil, r.update(r.t.Context(), e, "ssn", &types.AttributeValueMemberB{
				Value: before,
			}))
		}, "has another plaintext than the application stored last"},
		{"another key", func(r *rogue) {
			e := r.first(Table, Ordinary)
			r.ok(nil, r.update(r.t.Context(), e, "ssn", &types.AttributeValueMemberB{
				Value: r.seal(r.Third, e),
			}))
		}, "is under the third key"},
		{"another context", func(r *rogue) {
			e := r.first(Table, Ordinary)
			blob, err := r.Server.KMS().Encrypt(r.New, []byte(e.slots[0].secret), nil)
			r.ok(nil, err)
			r.ok(nil, r.update(r.t.Context(), e, "ssn", &types.AttributeValueMemberB{Value: blob}))
		}, "cannot be read"},
		{"a changed slot that must not change", func(r *rogue) {
			e := r.first(Table, Current)
			r.ok(nil, r.update(r.t.Context(), e, "ssn", &types.AttributeValueMemberB{
				Value: r.seal(r.New, e),
			}))
		}, "must not change"},
	}
}

func storedCasesOfOtherData() []storedCase {
	return []storedCase{
		{"another attribute", func(r *rogue) {
			r.ok(nil, r.update(r.t.Context(), r.first(Table,
				Ordinary), "scores", &types.AttributeValueMemberNS{
				Value: []string{"1.5", "3"},
			}))
		}, "data outside its slots"},
		{"a deleted item created again", func(r *rogue) {
			e := r.first(Table, Ordinary)
			r.ok(nil, r.Delete(r.t.Context(), e))
			r.ok(r.ddb.PutItem(r.t.Context(), &dynamodb.PutItemInput{
				TableName: aws.String(Table),
				Item:      e.item(0),
			}))
		}, "created again"},
		{"a lost item", func(r *rogue) {
			r.ok(r.ddb.DeleteItem(r.t.Context(), &dynamodb.DeleteItemInput{
				TableName: aws.String(Table),
				Key:       r.first(Table, Ordinary).key(),
			}))
		}, "the application did not delete it"},
		{"an item that the application did not create", func(r *rogue) {
			r.ok(r.ddb.PutItem(r.t.Context(), &dynamodb.PutItemInput{
				TableName: aws.String(Table),
				Item:      (&Entry{ID: "probe"}).item(0),
			}))
		}, "the application did not create it"},
		{"lost metadata", func(r *rogue) {
			e := r.first(Objects, Ordinary)
			r.put(e, e.body(0), nil)
		}, "data outside its slots"},
		{"a changed document", func(r *rogue) {
			e := r.first(Documents, Document)
			e.tenant += "x"
			r.ok(nil, r.putObject(r.t.Context(), e))
		}, "data outside its slots"},
	}
}

// TestStored: Stored reports each kind of damage, and does not report writes of the application.
func TestStored(t *testing.T) {
	for _, test := range slices.Concat(storedCasesOfSlots(), storedCasesOfOtherData()) {
		t.Run(test.name, func(t *testing.T) {
			r := newRogue(t, accessKey, small())
			test.do(r)
			found := r.Stored(false)
			if got := strings.Join(found, "\n"); (test.want == "") != (len(found) == 0) ||
				!strings.Contains(got, test.want) {
				t.Errorf("problems %q, want %q", got, test.want)
			}
			if test.name == "nothing" && len(r.Stored(true)) == 0 {
				t.Error("an incomplete pass is not reported")
			}
		})
	}
}

func figuresCases() map[string]func(*report.Summary) {
	return map[string]func(*report.Summary){
		"a slot in two outcomes": func(s *report.Summary) {
			s.Targets[0].Slots.Current++
			s.Slots.Current++
		},
		"a slot in another outcome": func(s *report.Summary) {
			s.Targets[1].Slots.Current++
			s.Targets[1].Slots.Rotated--
			s.Slots.Current++
			s.Slots.Rotated--
		},
		"a total that is not the sum of the targets": func(s *report.Summary) {
			s.Slots.Seen++
			s.Slots.Gone++
		},
		"an item written twice": func(s *report.Summary) {
			s.Targets[0].Items.Written++
			s.Items.Written++
		},
		"an exception without a reason": func(s *report.Summary) {
			s.Targets[0].Reasons, s.Reasons = nil, nil
		},
		"a missing target": func(s *report.Summary) { s.Targets = s.Targets[:2] },
		"a stopped pass":   func(s *report.Summary) { s.Status = report.Stopped },
		"a negative figure": func(s *report.Summary) {
			s.Targets[0].Slots.Gone--
			s.Targets[0].Slots.Rotated++
		},
	}
}

// TestFigures: Figures reports figures whose sums are wrong or that differ from the expected
// counts.
func TestFigures(t *testing.T) {
	w := Start(t, small())
	good := func() *report.Summary {
		s := &report.Summary{Status: report.Complete}
		want := w.Expected()
		for _, name := range []string{Table, Objects, Documents} {
			target := want[name]
			if n := target.Slots.Failed; n > 0 {
				target.Reasons = []report.Reason{{Outcome: "failed", Reason: "poison", Slots: n}}
			}
			s.Targets = append(s.Targets, target)
		}
		for _, target := range s.Targets {
			s.Slots.Seen += target.Slots.Seen
			s.Slots.Rotated += target.Slots.Rotated
			s.Slots.Current += target.Slots.Current
			s.Slots.Failed += target.Slots.Failed
			s.Items.Seen += target.Items.Seen
			s.Items.Written += target.Items.Written
			s.Reasons = append(s.Reasons, target.Reasons...)
		}
		return s
	}
	if problems := w.Figures(good()); len(problems) != 0 {
		t.Errorf("good figures: %q", problems)
	}
	for name, corrupt := range figuresCases() {
		s := good()
		corrupt(s)
		if len(w.Figures(s)) == 0 {
			t.Errorf("%s is not reported", name)
		}
	}
}

// TestSecrets: a secret is found in every encoding, within other text, and by a part of it.
// Headers of blobs and digests are not secrets.
func TestSecrets(t *testing.T) {
	w := Start(t, small())
	w.AddSecret("a grant token", "grant-token-0123456789")
	e := w.Entries(Of(Table, Ordinary))[0]
	blob, text := e.slots[0].blob, e.slots[0].secret
	encoded := map[string]string{
		"plaintext":              text,
		"plaintext in hex":       hex.EncodeToString([]byte(text)),
		"plaintext in base64":    base64.URLEncoding.EncodeToString([]byte(text)),
		"blob":                   string(blob),
		"blob in base64":         base64.StdEncoding.EncodeToString(blob),
		"blob in hex":            strings.ToUpper(hex.EncodeToString(blob)),
		"blob in Go":             fmt.Sprintf("%v", blob),
		"blob quoted":            fmt.Sprintf("%q", string(blob)),
		"blob after other bytes": base64.StdEncoding.EncodeToString(append([]byte("x"), blob...)),
		"half of a blob":         string(blob[:80]),
		"secret access key":      w.secret,
		"session token":          w.token,
		"grant token":            "grant-token-0123456789",
	}
	for _, name := range []string{"plaintext", "blob in base64"} {
		encoded[name+" in JSON"] = fmt.Sprintf(`{"level":"info","x":%q}`, encoded[name])
	}
	for name, text := range maps.All(encoded) {
		if len(w.secrets.find("text "+text+" text")) == 0 {
			t.Errorf("%s: not found", name)
		}
	}
	if found := w.secrets.find(fmt.Sprintf("%s %x %s %s", e.ID, blob[:headerLen], w.Old,
		base64.StdEncoding.EncodeToString(blob[:headerLen]))); len(found) > 0 {
		t.Errorf("text without secrets is reported as %v", found)
	}
}

// forbiddenRequest is a request that violates the rules, whatever the response is.
type forbiddenRequest struct {
	want string
	send func(context.Context, aws.Config)
}

func forbiddenRequests() []forbiddenRequest {
	return []forbiddenRequest{
		{"the worker called kms:Decrypt", func(ctx context.Context, c aws.Config) {
			_, _ = kms.NewFromConfig(c).Decrypt(ctx, &kms.DecryptInput{
				CiphertextBlob: []byte("blob"),
			})
		}},
		{"dynamodb:PutItem on table any has no condition", func(ctx context.Context, c aws.Config) {
			_, _ = dynamodb.NewFromConfig(c).PutItem(ctx, &dynamodb.PutItemInput{
				TableName: aws.String("any"),
				Item: map[string]types.AttributeValue{
					"id": &types.AttributeValueMemberS{Value: "1"},
				},
			})
		}},
		{"s3:PutObject of key has no precondition", func(ctx context.Context, c aws.Config) {
			_, _ = s3.NewFromConfig(c, func(o *s3.Options) {
				o.UsePathStyle = true
			}).PutObject(ctx,
				&s3.PutObjectInput{
					Bucket: aws.String("any"),
					Key:    aws.String("key"),
					Body:   strings.NewReader("body"),
				})
		}},
		{"the worker called dynamodb:DeleteTable", func(ctx context.Context, c aws.Config) {
			_, _ = dynamodb.NewFromConfig(c).DeleteTable(ctx, &dynamodb.DeleteTableInput{
				TableName: aws.String("any"),
			})
		}},
	}
}

// TestWatch: the rules that do not depend on an Env apply to workers, and not to the
// application.
func TestWatch(t *testing.T) {
	server, err := fakeaws.Start(fakeaws.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	w := newWatcher("dynamodb:CreateTable")
	server.Faults().Watch(w.observe)
	as := func(accessKey string) aws.Config {
		return aws.Config{
			Region:       region,
			BaseEndpoint: aws.String(server.Endpoint()),
			Retryer: func() aws.Retryer {
				return aws.NopRetryer{}
			},
			Credentials: credentials.NewStaticCredentialsProvider(accessKey, "secret", ""),
		}
	}
	forbidden := forbiddenRequests()
	for _, f := range forbidden {
		f.send(t.Context(), as(ApplicationKey))
	}
	client := dynamodb.NewFromConfig(as(workerKey))
	_, _ = client.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String("any"),
	})
	if got := w.violationList(); len(got) > 0 {
		t.Errorf("violations of the application, or of an allowed operation: %q", got)
	}
	for i, f := range forbidden {
		f.send(t.Context(), as(workerKey))
		if got := w.violationList(); len(got) != i+1 || got[i] != f.want {
			t.Errorf("violations are %q, want %q last", got, f.want)
		}
	}
}
