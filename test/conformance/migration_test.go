package conformance

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/fakeaws"
	"rotator/internal/harness"
)

// The number of items and objects of a migration.
const (
	itemCount   = 300
	objectCount = 80
)

// oddName is an attribute name with characters that are syntax without quotes.
const oddName = `api.key "2"`

// migration is one migration with rotator on one server: a table, a bucket or both, and two keys.
type migration struct {
	*testing.T
	server   server
	binary   string
	dir      string
	kms      *kms.Client
	dynamodb *dynamodb.Client
	s3       *s3.Client
	old, new string // key ARNs
	// url and kmsURL are the endpoints of rotator: the proxies of guards.
	url, kmsURL string
	guards      *harness.Watcher
	slots       int
}

// fullRun runs a migration: audit, a killed run, run, verify, and reading all data back with the
// old key disabled. It returns one line for the document. KMS is the fake if the server has none.
func fullRun(t *testing.T, s server, endpoint, binary string) string {
	t.Helper()
	m := &migration{
		T:      t,
		server: s,
		binary: binary,
		dir:    t.TempDir(),
		guards: harness.NewWatcher(t),
	}
	m.guards.AddSecret("the secret access key", secretKey)
	m.url = m.guards.Proxy(t, endpoint)
	m.dynamodb = dynamodb.NewFromConfig(config(endpoint))
	m.s3 = s3.NewFromConfig(config(endpoint), func(o *s3.Options) { o.UsePathStyle = true })
	m.kmsURL = m.url
	if !s.has(kmsService) {
		fake, err := fakeaws.Start(fakeaws.Config{})
		m.must(err)
		t.Cleanup(func() { _ = fake.Close() })
		endpoint = fake.Endpoint()
		m.kmsURL = m.guards.Proxy(t, endpoint)
	}
	m.kms = kms.NewFromConfig(config(endpoint))
	m.seed()
	m.writeJob()

	m.guards.ReadOnly(true)
	if before := m.rotator(4, "audit", "--fail-on-remaining"); before.Slots.Remaining != m.slots {
		t.Errorf("audit: %+v, want %d slots remaining", before.Slots, m.slots)
	}
	m.guards.ReadOnly(false)
	m.killed()
	run := m.rotator(0, "run")
	if run.Slots.Seen != m.slots || run.Slots.Rotated+run.Slots.Current != m.slots {
		t.Errorf("run: %+v, want %d slots moved", run.Slots, m.slots)
	}
	m.guards.ReadOnly(true)
	if verify := m.rotator(0, "verify"); !verify.Converged {
		t.Errorf("verify: %+v", verify)
	}
	_, err := m.kms.DisableKey(t.Context(), &kms.DisableKeyInput{
		KeyId: aws.String(m.old[strings.LastIndex(m.old, "/")+1:]),
	})
	m.must(err)
	m.readBack()
	m.checkGuards()
	return fmt.Sprintf("%d slots moved and read back", m.slots)
}

func (m *migration) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

// checkGuards checks that the guards observed the requests, and that no output of rotator contains
// a secret. The guards report violations when the test ends.
func (m *migration) checkGuards() {
	if n := m.guards.Seen("kms:ReEncrypt"); n < m.slots {
		m.Errorf("the guards observed %d ReEncrypt requests, want at least %d", n, m.slots)
	}
	batches := m.guards.Seen("dynamodb:BatchExecuteStatement")
	single := m.guards.Seen("dynamodb:UpdateItem")
	if m.server.has(dynamodbService) && batches+single == 0 {
		m.Error("the guards observed no write to DynamoDB")
	}
	// A server that misreads the odd name gets single updates of items that have it. All other
	// items are updated in batches.
	if m.server.name == "dynoxide" && single > itemCount/3+itemCount/10 {
		m.Errorf("the guards observed %d single updates of %d items", single, itemCount)
	}
	if n := m.guards.Seen("s3:PutObject"); m.server.has(s3Service) && n < objectCount {
		m.Errorf("the guards observed %d writes to S3, want at least %d", n, objectCount)
	}
	m.rotator(0, "report")
	m.guards.Outputs(m.T, m.dir)
}

func (m *migration) seed() {
	for _, key := range []*string{&m.old, &m.new} {
		out, err := m.kms.CreateKey(m.Context(), &kms.CreateKeyInput{})
		m.must(err)
		*key = *out.KeyMetadata.Arn
	}
	if m.server.has(dynamodbService) {
		m.seedTable()
	}
	if m.server.has(s3Service) {
		m.seedBucket()
	}
}

func secretOf(name string) string { return "secret of " + name }

func contextOf(n int) map[string]string {
	return map[string]string{"tenant": fmt.Sprintf("t%d", n%3)}
}

func (m *migration) encrypt(name string, n int) []byte {
	m.guards.AddSecret("a plaintext", secretOf(name))
	out, err := m.kms.Encrypt(m.Context(), &kms.EncryptInput{
		KeyId:             &m.old,
		Plaintext:         []byte(secretOf(name)),
		EncryptionContext: contextOf(n),
	})
	m.must(err)
	return out.CiphertextBlob
}

func (m *migration) seedTable() {
	_, err := m.dynamodb.CreateTable(m.Context(), &dynamodb.CreateTableInput{
		TableName:   aws.String("customers"),
		BillingMode: types.BillingModePayPerRequest,
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash},
		},
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS},
		},
	})
	m.must(err)
	m.must(dynamodb.NewTableExistsWaiter(m.dynamodb, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay = 50 * time.Millisecond
	}).
		Wait(m.Context(), &dynamodb.DescribeTableInput{
			TableName: aws.String("customers"),
		}, time.Minute))
	for n := range itemCount {
		name := fmt.Sprintf("item-%03d", n)
		_, err := m.dynamodb.PutItem(m.Context(), &dynamodb.PutItemInput{
			TableName: aws.String("customers"),
			Item: map[string]types.AttributeValue{
				"id":     &types.AttributeValueMemberS{Value: name},
				"tenant": &types.AttributeValueMemberS{Value: contextOf(n)["tenant"]},
				"ssn":    &types.AttributeValueMemberB{Value: m.encrypt(name, n)},
				"visits": &types.AttributeValueMemberN{Value: fmt.Sprint(n)},
				"cards": &types.AttributeValueMemberL{Value: []types.AttributeValue{
					&types.AttributeValueMemberM{Value: map[string]types.AttributeValue{
						"number": &types.AttributeValueMemberS{
							Value: base64.StdEncoding.EncodeToString(m.encrypt(name, n)),
						},
					}},
				}}},
		})
		m.must(err)
		m.slots += 2
		if n%3 > 0 {
			continue // every third item has one more slot, with a name that must be quoted
		}
		_, err = m.dynamodb.UpdateItem(m.Context(), &dynamodb.UpdateItemInput{
			TableName: aws.String("customers"),
			Key: map[string]types.AttributeValue{
				"id": &types.AttributeValueMemberS{Value: name}},
			UpdateExpression:         aws.String("SET #name = :blob"),
			ExpressionAttributeNames: map[string]string{"#name": oddName},
			ExpressionAttributeValues: map[string]types.AttributeValue{
				":blob": &types.AttributeValueMemberB{Value: m.encrypt(name, n)}},
		})
		m.must(err)
		m.slots++
	}
}

func (m *migration) seedBucket() {
	_, err := m.s3.CreateBucket(m.Context(), &s3.CreateBucketInput{Bucket: aws.String("vault")})
	m.must(err)
	for n := range objectCount {
		name := fmt.Sprintf("prod/odd key %d+ü.txt", n)
		_, err := m.s3.PutObject(m.Context(), &s3.PutObjectInput{
			Bucket:      aws.String("vault"),
			Key:         &name,
			ContentType: aws.String("text/x-secret"),
			Metadata:    map[string]string{"tenant": contextOf(n)["tenant"], "note": "n"},
			Body:        strings.NewReader(base64.StdEncoding.EncodeToString(m.encrypt(name, n))),
		})
		m.must(err)
		m.slots++
	}
}

func (m *migration) writeJob() {
	var b strings.Builder
	fmt.Fprintf(&b,
		"job: conformance\ndestination: {key: %q}\nsource: {keys: [%q]}\nkms: {rate: 150, "+
			"endpoint: %q}\nworkers: 8\ntargets:\n", m.new, m.old, m.kmsURL)
	if m.server.has(dynamodbService) {
		fmt.Fprintf(&b, "  - dynamodb: {table: customers, segments: 2, endpoint: %q}\n", m.url)
		b.WriteString("    format: raw\n    slots:\n")
		for _, slot := range []string{
			"path: ssn", `path: "cards[*].number", format: base64`, `path: '["api.key \"2\""]'`,
		} {
			fmt.Fprintf(&b, "      - {%s, context: {tenant: \"${tenant}\"}}\n", slot)
		}
	}
	if m.server.has(s3Service) {
		fmt.Fprintf(&b,
			"  - s3: {bucket: vault, prefix: prod/, endpoint: %q}\n    format: base64\n    "+
				"slots: [{context: {tenant: \"${metadata.tenant}\"}}]\n", m.url)
	}
	m.must(os.WriteFile(filepath.Join(m.dir, "job.yaml"), []byte(b.String()), 0o600))
}

// outcome is the part of a command's JSON result that the test checks.
type outcome struct {
	Converged bool
	Slots     struct{ Seen, Rotated, Current, Remaining int }
}

func (m *migration) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, m.binary, append(args, "-f", "job.yaml", "-o", "json", "-v")...)
	cmd.Dir = m.dir
	cmd.Env = append(os.Environ(), "AWS_REGION="+region, "AWS_ACCESS_KEY_ID="+accessKey,
		"AWS_SECRET_ACCESS_KEY="+secretKey, "AWS_EC2_METADATA_DISABLED=true")
	return cmd
}

// rotator runs a command that must end with the exit code, and returns its result.
func (m *migration) rotator(code int, args ...string) (o outcome) {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), 2*time.Minute)
	defer cancel()
	cmd := m.command(ctx, args...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	m.guards.Printed(out.String(), log.String())
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		m.Fatalf("rotator %v: %v, want exit code %d\n%s\n%s", args, err, code, out.Bytes(),
			tail(log.String(), 3000))
	}
	m.must(json.Unmarshal(out.Bytes(), &o))
	return o
}

// killed starts a run and kills it when its audit log has a tenth of the slots.
func (m *migration) killed() {
	cmd := m.command(m.Context(), "run")
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	m.must(cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		m.guards.Printed(out.String(), log.String())
	}()
	trail := filepath.Join(m.dir, ".rotator", "conformance.audit.jsonl")
	for range 600 {
		if moved(trail) > m.slots/10 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	m.Error("the run wrote too few slots within 12 s, so it was not killed during the pass")
}

// moved returns the number of writes that an audit log confirms. They are the ranges of
// intents in its lines "r" (docs/audit-log.md).
func moved(trail string) (slots int) {
	text, _ := os.ReadFile(trail) // it does not exist yet
	for line := range bytes.Lines(text) {
		var fields []any
		if json.Unmarshal(line, &fields) != nil || len(fields) != 4 || fields[0] != "r" {
			continue
		}
		for part := range strings.SplitSeq(fmt.Sprint(fields[2]), ",") {
			var first, last int
			if n, _ := fmt.Sscanf(part, "%d-%d", &first, &last); n < 2 {
				last = first
			}
			slots += last - first + 1
		}
	}
	return slots
}

// readBack decrypts all slots as an application does, and checks the other data of each item.
func (m *migration) readBack() {
	if m.server.has(dynamodbService) {
		for n := range itemCount {
			name := fmt.Sprintf("item-%03d", n)
			out, err := m.dynamodb.GetItem(m.Context(), &dynamodb.GetItemInput{
				TableName:      aws.String("customers"),
				ConsistentRead: aws.Bool(true),
				Key: map[string]types.AttributeValue{
					"id": &types.AttributeValueMemberS{Value: name},
				},
			})
			m.must(err)
			m.readItem(name, n, out.Item)
		}
	}
	if m.server.has(s3Service) {
		for n := range objectCount {
			name := fmt.Sprintf("prod/odd key %d+ü.txt", n)
			out, err := m.s3.GetObject(m.Context(), &s3.GetObjectInput{
				Bucket: aws.String("vault"),
				Key:    &name,
			})
			m.must(err)
			body, err := io.ReadAll(out.Body)
			_ = out.Body.Close()
			m.must(err)
			blob, err := base64.StdEncoding.DecodeString(string(body))
			m.must(err)
			if aws.ToString(out.ContentType) != "text/x-secret" || len(out.Metadata) != 2 ||
				out.Metadata["note"] != "n" {
				m.Errorf("%s has type %s and metadata %v", name, aws.ToString(out.ContentType),
					out.Metadata)
			}
			m.decrypt(name, n, blob)
		}
	}
}

// readItem decrypts the slots of an item, and checks that it has no other attributes.
func (m *migration) readItem(name string, n int, item map[string]types.AttributeValue) {
	m.Helper()
	blob, _ := item["ssn"].(*types.AttributeValueMemberB)
	visits, _ := item["visits"].(*types.AttributeValueMemberN)
	cards, _ := item["cards"].(*types.AttributeValueMemberL)
	odd, _ := item[oddName].(*types.AttributeValueMemberB)
	if blob == nil || visits == nil || visits.Value != fmt.Sprint(n) || cards == nil ||
		len(cards.Value) != 1 || (odd != nil) != (n%3 == 0) || len(item) != 5+1-min(n%3, 1) {
		m.Fatalf("%s is %v", name, item)
	}
	card, _ := cards.Value[0].(*types.AttributeValueMemberM)
	if card == nil || len(card.Value) != 1 {
		m.Fatalf("%s is %v", name, item)
	}
	number, _ := card.Value["number"].(*types.AttributeValueMemberS)
	if number == nil {
		m.Fatalf("%s is %v", name, item)
	}
	text, err := base64.StdEncoding.DecodeString(number.Value)
	m.must(err)
	blobs := [][]byte{blob.Value, text}
	if odd != nil {
		blobs = append(blobs, odd.Value)
	}
	for _, b := range blobs {
		m.decrypt(name, n, b)
	}
}

func (m *migration) decrypt(name string, n int, blob []byte) {
	m.Helper()
	out, err := m.kms.Decrypt(m.Context(), &kms.DecryptInput{
		CiphertextBlob:    blob,
		EncryptionContext: contextOf(n),
	})
	m.must(err)
	if string(out.Plaintext) != secretOf(name) || aws.ToString(out.KeyId) != m.new {
		m.Errorf("%s holds %q under %s", name, out.Plaintext, aws.ToString(out.KeyId))
	}
}
