package main

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/google/go-cmp/cmp"

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/harness"
	"rotator/internal/report"
)

// attributes is an item in the types of the SDK.
type attributes = map[string]types.AttributeValue

func textOf(s string) types.AttributeValue   { return &types.AttributeValueMemberS{Value: s} }
func numberOf(n string) types.AttributeValue { return &types.AttributeValueMemberN{Value: n} }
func binaryOf(b []byte) types.AttributeValue { return &types.AttributeValueMemberB{Value: b} }

// rowClient is the part of a client of a row format that wraps data keys: the rows that it writes,
// and its request to KMS when it reads one. It follows the sources of the clients, which testdata
// of package ciphertext cites, and shares no code with that package.
type rowClient struct {
	format  string
	target  string // lines of the target in addition to its table and its format
	key     []types.AttributeDefinition
	rows    func(b *rowBench) []clientRow
	read    func(row attributes) (*kms.DecryptInput, error)
	changes []string // the attributes that a move changes
}

// clientRow is a row with the expected result of its reader.
type clientRow struct {
	row     attributes
	dataKey string // "" if there is none to move
	refused string // the reason, for a row that cannot be moved
}

// rowBench has a table for each row format. All ciphertexts are under one old key.
type rowBench struct {
	server   *fakeaws.Server
	dynamodb *dynamodb.Client
	kms      *kms.Client
	old, new string
	dir      string
	rows     map[string][]clientRow // by format
}

// seal encrypts a data key as the clients do.
func (b *rowBench) seal(dataKey string, context map[string]string) []byte {
	blob, err := b.server.KMS().Encrypt(b.old, []byte(dataKey), context)
	if err != nil {
		panic(err) // cannot fail
	}
	return blob
}

func std64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// storedContexts are the contexts that users of the credstash table give on the command line.
func storedContexts() map[string]map[string]string {
	return map[string]map[string]string{"db/password": {"env": "prod", "role": "db"}, "plain": {}}
}

func credstashRow(
	b *rowBench, name, dataKey string, context map[string]string, more attributes,
) attributes {
	row := attributes{
		"name":     textOf(name),
		"version":  textOf("0000000000000000001"),
		"contents": textOf("qg=="),
		"digest":   textOf("SHA256"),
		"hmac":     binaryOf([]byte("0b0b")),
		"key":      textOf(std64(b.seal(dataKey, context))),
	}
	maps.Copy(row, more)
	return row
}

func stringKey(names ...string) (key []types.AttributeDefinition) {
	for _, name := range names {
		key = append(key, types.AttributeDefinition{
			AttributeName: aws.String(name),
			AttributeType: types.ScalarAttributeTypeS,
		})
	}
	return key
}

func readCredstash(row attributes) (*kms.DecryptInput, error) {
	blob, err := base64.StdEncoding.DecodeString(row["key"].(*types.AttributeValueMemberS).Value)
	return &kms.DecryptInput{
		CiphertextBlob:    blob,
		EncryptionContext: storedContexts()[row["name"].(*types.AttributeValueMemberS).Value],
	}, err
}

func credstashClient() rowClient {
	return rowClient{
		format:  "credstash",
		target:  `context_file: {path: contexts.csv, name: "${name}"}`,
		key:     stringKey("name", "version"),
		changes: []string{"key"},
		read:    readCredstash,
		rows: func(b *rowBench) []clientRow {
			contexts := storedContexts()
			cut := credstashRow(b, "cut", "k5", nil, nil)
			delete(cut, "contents")
			return []clientRow{
				{row: cut, refused: "unknown-format"},
				{
					row:     credstashRow(b, "db/password", "k1", contexts["db/password"], nil),
					dataKey: "k1",
				},
				{
					row: credstashRow(b, "db/password", "k2", contexts["db/password"],
						attributes{
							"version":    textOf("0000000000000000002"),
							"hmac":       textOf("0b0b"),
							"created_at": numberOf("1437711748"),
						}),
					dataKey: "k2",
				},
				{
					row: credstashRow(b, "plain", "k3", nil, attributes{
						"comment": textOf("ours"),
					}),
					dataKey: "k3",
				},
				{row: credstashRow(b, "not/listed", "k4", nil, nil), refused: "missing-context"},
				{
					row: attributes{
						"name":    textOf("lock"),
						"version": textOf("1"),
						"owner":   textOf("me"),
					},
				},
			}
		},
	}
}

func credsmashClient() rowClient {
	return rowClient{
		format:  "credsmash",
		key:     stringKey("name", "version"),
		changes: []string{"key"},
		read: func(row attributes) (*kms.DecryptInput, error) {
			if _, ok := row["algorithm"]; !ok {
				in, err := readCredstash(row)
				in.EncryptionContext = nil
				return in, err
			}
			return &kms.DecryptInput{
				CiphertextBlob: row["key"].(*types.AttributeValueMemberB).Value,
			}, nil
		},
		rows: func(b *rowBench) []clientRow {
			row := func(name, algorithm string, more attributes) attributes {
				made := credstashRow(b, name, name, nil, attributes{
					"algorithm": textOf(algorithm),
					"key":       binaryOf(b.seal(name, nil)),
					"contents":  binaryOf([]byte{1}),
				})
				maps.Copy(made, more)
				return made
			}
			return []clientRow{
				{
					row:     row("ctr", "aes-ctr", attributes{"nonce": binaryOf([]byte{2})}),
					dataKey: "ctr",
				},
				{
					row: row("gcm", "aes-gcm", attributes{
						"iv":       binaryOf([]byte{3}),
						"tag":      binaryOf([]byte{4}),
						"protocol": numberOf("1"),
					}),
					dataKey: "gcm",
				},
				{row: credstashRow(b, "legacy", "legacy", nil, nil), dataKey: "legacy"},
				{
					row:     row("two", "aes-gcm", attributes{"protocol": numberOf("2")}),
					refused: "credsmash-protocol",
				},
			}
		},
	}
}

func confidantClient() rowClient {
	return rowClient{format: "confidant", key: stringKey("id"), changes: []string{"data_key"},
		read: func(row attributes) (*kms.DecryptInput, error) {
			id := row["id"].(*types.AttributeValueMemberS).Value
			if row["data_type"].(*types.AttributeValueMemberS).Value != "credential" {
				id = strings.Split(id, "-")[0]
			}
			blob, err := base64.StdEncoding.DecodeString(
				string(row["data_key"].(*types.AttributeValueMemberB).Value))
			return &kms.DecryptInput{
				CiphertextBlob:    blob,
				EncryptionContext: map[string]string{"id": id},
			}, err
		},
		rows: func(b *rowBench) []clientRow {
			row := func(id, kind string) attributes {
				first, _, _ := strings.Cut(id, "-")
				return attributes{
					"id":               textOf(id),
					"data_type":        textOf(kind),
					"revision":         numberOf("2"),
					"credential_pairs": textOf("gAAAAAB"),
					"enabled":          &types.AttributeValueMemberBOOL{Value: true},
					"data_key": binaryOf([]byte(std64(b.seal(id, map[string]string{
						"id": first,
					})))),
				}
			}
			blind := row("c2", "blind-credential")
			blind["data_key"] = textOf(`{"us-east-1": "AQIC"}`)
			return []clientRow{
				{row: row("c1", "credential"), dataKey: "c1"},
				{row: row("c1-1", "archive-credential"), dataKey: "c1-1"},
				{row: row("c1-2", "archive-credential"), dataKey: "c1-2"},
				{
					row: attributes{
						"id":          textOf("pay-production"),
						"data_type":   textOf("service"),
						"credentials": &types.AttributeValueMemberSS{Value: []string{"c1"}},
					},
				},
				{row: blind, refused: "blind-credential"},
			}
		}}
}

// keystoreContext returns every attribute except enc, with the logical name of the store.
func keystoreContext(row attributes) map[string]string {
	context := map[string]string{"tablename": "logical-name"}
	for name, value := range row {
		switch v := value.(type) {
		case *types.AttributeValueMemberS:
			context[name] = v.Value
		case *types.AttributeValueMemberN:
			context[name] = v.Value
		}
	}
	return context
}

func keystoreClient() rowClient {
	return rowClient{
		format:  "esdk-branch-keystore",
		target:  "context: {tablename: logical-name}",
		key:     stringKey("branch-key-id", "type"),
		changes: []string{"enc", "kms-arn"},
		// with discovery: the key in the row
		read: func(row attributes) (*kms.DecryptInput, error) {
			return &kms.DecryptInput{
				CiphertextBlob:    row["enc"].(*types.AttributeValueMemberB).Value,
				EncryptionContext: keystoreContext(row),
				KeyId:             aws.String(row["kms-arn"].(*types.AttributeValueMemberS).Value),
			}, nil
		},
		rows: func(b *rowBench) []clientRow {
			row := func(kind, dataKey string, more attributes) attributes {
				made := attributes{
					"branch-key-id":            textOf("tenant-7"),
					"type":                     textOf(kind),
					"kms-arn":                  textOf(b.old),
					"create-time":              textOf("2023-06-03T19:03:29.358000Z"),
					"hierarchy-version":        numberOf("1"),
					"aws-crypto-ec:department": textOf("admin"),
				}
				maps.Copy(made, more)
				made["enc"] = binaryOf(b.seal(dataKey, keystoreContext(made)))
				return made
			}
			return []clientRow{
				{row: row("branch:version:1", "b1", nil), dataKey: "b1"},
				{row: row("branch:version:2", "b2", nil), dataKey: "b2"},
				{
					row: row("branch:ACTIVE", "b2", attributes{
						"version": textOf("branch:version:2"),
					}),
					dataKey: "b2",
				},
				{row: row("beacon:ACTIVE", "beacon", nil), dataKey: "beacon"},
				{row: row("branch:other", "o", nil), refused: "unknown-format"},
				{
					row: row("branch:version:3", "b3", attributes{
						"hierarchy-version": numberOf("2"),
					}),
					refused: "hierarchy-version-2",
				},
				{
					row: row("branch:MUTATION_INDEX", "m", attributes{
						"branch-key-id": textOf("tenant-8"),
					}),
					refused: "branch-key-mutation",
				},
			}
		},
	}
}

// describe encodes a material description: pairs of names and values.
func describe(entries ...string) []byte {
	text := make([]byte, 4)
	for _, e := range entries {
		text = append(binary.BigEndian.AppendUint32(text, uint32(len(e))), e...)
	}
	return text
}

func undescribe(text []byte) (map[string]string, error) {
	var entries []string
	for text = text[4:]; len(text) >= 4; {
		n := binary.BigEndian.Uint32(text)
		if int(n) > len(text)-4 {
			return nil, fmt.Errorf("an entry has %d bytes, but %d are left", n, len(text)-4)
		}
		entries, text = append(entries, string(text[4:4+n])), text[4+n:]
	}
	if len(text) > 0 || len(entries)%2 != 0 {
		return nil, fmt.Errorf("%d bytes after %d entries", len(text), len(entries))
	}
	description := map[string]string{}
	for i := 0; i < len(entries); i += 2 {
		description[entries[i]] = entries[i+1]
	}
	return description, nil
}

func ddbContext(id, at string) map[string]string {
	return map[string]string{
		"*amzn-ddb-env-alg*": "AES/256",
		"*amzn-ddb-sig-alg*": "HmacSHA256/256",
		"*aws-kms-table*":    "ddb-encryption-client",
		"id":                 id,
		"at":                 at,
	}
}

func ddbClient() rowClient {
	key := append(stringKey("id"), types.AttributeDefinition{
		AttributeName: aws.String("at"),
		AttributeType: types.ScalarAttributeTypeN,
	})
	return rowClient{
		format:  "ddb-encryption-client",
		key:     key,
		changes: []string{"*amzn-ddb-map-desc*"},
		read: func(row attributes) (*kms.DecryptInput, error) {
			description, err := undescribe(
				row["*amzn-ddb-map-desc*"].(*types.AttributeValueMemberB).Value)
			if err != nil {
				return nil, err
			}
			if description["ours"] != "kept" || len(description) != 6 {
				return nil, fmt.Errorf("the description is now %v",
					slices.Sorted(maps.Keys(description)))
			}
			blob, err := base64.StdEncoding.DecodeString(description["amzn-ddb-env-key"])
			return &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: map[string]string{
				"*amzn-ddb-env-alg*": description["amzn-ddb-env-alg"],
				"*amzn-ddb-sig-alg*": description["amzn-ddb-sig-alg"],
				"*aws-kms-table*":    "ddb-encryption-client",
				"id":                 row["id"].(*types.AttributeValueMemberS).Value,
				"at":                 row["at"].(*types.AttributeValueMemberN).Value,
			}}, err
		},
		rows: func(b *rowBench) []clientRow {
			row := func(id, at string, entries ...string) attributes {
				return attributes{
					"id":                  textOf(id),
					"at":                  numberOf(at),
					"ssn":                 binaryOf([]byte{0, 1}),
					"*amzn-ddb-map-sig*":  binaryOf([]byte{7}),
					"*amzn-ddb-map-desc*": binaryOf(describe(entries...)),
				}
			}
			wrapped := func(id, at string) string { return std64(b.seal(id, ddbContext(id, at))) }
			moved := row("p", "1", "amzn-ddb-env-key", "QQ==")
			moved["aws_dbe_head"] = binaryOf([]byte{1})
			return []clientRow{
				{
					row: row("python", "55", "amzn-ddb-env-alg", "AES/256", "amzn-ddb-env-key",
						wrapped("python", "55"), "amzn-ddb-sig-alg", "HmacSHA256/256",
						"amzn-ddb-wrap-alg", "kms", "aws-kms-ec-attr", "*keys*", "ours", "kept"),
					dataKey: "python",
				},
				{
					row: row("java", "-1.5", "ours", "kept", "aws-kms-ec-attr", "*keys*",
						"amzn-ddb-sig-alg", "HmacSHA256/256", "amzn-ddb-env-alg", "AES/256",
						"amzn-ddb-wrap-alg", "kms", "amzn-ddb-env-key", wrapped("java", "-1.5")),
					dataKey: "java",
				},
				{row: row("static", "1", "amzn-ddb-map-sym-mode", "/CBC/PKCS5Padding")},
				{row: moved, refused: "dbesdk-header"},
			}
		},
	}
}

func rowClients() []rowClient {
	return []rowClient{credstashClient(), credsmashClient(), confidantClient(), keystoreClient(),
		ddbClient()}
}

func newRowBench(t *testing.T) *rowBench {
	t.Helper()
	server, err := fakeaws.Start(fakeaws.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	harness.Watch(t, server)
	cfg := aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(server.Endpoint()),
		Retryer:      func() aws.Retryer { return aws.NopRetryer{} },
		Credentials: credentials.NewStaticCredentialsProvider(harness.ApplicationKey,
			"not-a-secret", ""),
	}
	b := &rowBench{
		server:   server,
		dir:      t.TempDir(),
		dynamodb: dynamodb.NewFromConfig(cfg),
		kms:      kms.NewFromConfig(cfg),
		rows:     map[string][]clientRow{},
	}
	for _, arn := range []*string{&b.old, &b.new} {
		if *arn, err = server.KMS().CreateKey(fakekms.Symmetric); err != nil {
			t.Fatal(err)
		}
	}
	job := fmt.Sprintf("job: rows\ndestination: {key: %q}\nsource: {keys: [%q]}\ntargets:\n",
		b.new, b.old)
	for _, c := range rowClients() {
		b.fill(t, c)
		job += fmt.Sprintf("  - dynamodb: {table: %s, segments: 2}\n    format: %s\n    %s\n",
			c.format, c.format, c.target)
	}
	b.write(t, "job.yaml", job)
	b.write(t, "contexts.csv",
		"name,key,value\ndb/password,env,prod\ndb/password,role,db\nplain,,\n")
	return b
}

func (b *rowBench) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// fill creates the table of a client, named after its format, and stores its rows.
func (b *rowBench) fill(t *testing.T, c rowClient) {
	t.Helper()
	in := &dynamodb.CreateTableInput{
		TableName:            &c.format,
		BillingMode:          types.BillingModePayPerRequest,
		AttributeDefinitions: c.key,
	}
	for i, k := range c.key {
		in.KeySchema = append(in.KeySchema, types.KeySchemaElement{
			AttributeName: k.AttributeName,
			KeyType:       []types.KeyType{types.KeyTypeHash, types.KeyTypeRange}[i],
		})
	}
	if _, err := b.dynamodb.CreateTable(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	b.rows[c.format] = c.rows(b)
	for _, r := range b.rows[c.format] {
		if _, err := b.dynamodb.PutItem(t.Context(), &dynamodb.PutItemInput{
			TableName: &c.format,
			Item:      r.row,
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// run runs the job, which ends with exceptions: the rows that are refused.
func (b *rowBench) run(t *testing.T) (s report.Summary) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "run", "-f", "job.yaml", "-o", "json")
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), b.server.AWSEnv()...)
	var log strings.Builder
	cmd.Stderr = &log
	out, _ := cmd.Output()
	if cmd.ProcessState.ExitCode() != exitExceptions {
		t.Fatalf("exit code %d\n%s\n%s", cmd.ProcessState.ExitCode(), log.String(), out)
	}
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// read decrypts a row like its client.
func (b *rowBench) read(ctx context.Context, c rowClient, r clientRow) (string, error) {
	key := attributes{}
	for _, k := range c.key {
		key[*k.AttributeName] = r.row[*k.AttributeName]
	}
	got, err := b.dynamodb.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      &c.format,
		Key:            key,
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return "", err
	}
	in, err := c.read(got.Item)
	if err != nil {
		return "", err
	}
	out, err := b.kms.Decrypt(ctx, in)
	if err != nil {
		return "", err
	}
	return string(out.Plaintext), nil
}

// TestRowFormats moves a table of each row format. With the old key disabled, the client of the
// format can read each row that was moved, and could not read it without the move. Other
// attributes are unchanged. Rows that cannot be moved are unchanged, and in the ledger with their
// reason. A second pass finds nothing to move.
func TestRowFormats(t *testing.T) {
	t.Parallel()
	b := newRowBench(t)
	b.disable(t, true)
	for _, c := range rowClients() {
		for _, r := range b.rows[c.format] {
			if r.dataKey != "" {
				if _, err := b.read(t.Context(), c, r); err == nil {
					t.Fatalf("%s: a row can be read under the disabled key, so the test "+
						"cannot fail", c.format)
				}
			}
		}
	}
	b.disable(t, false)
	before := map[string]map[string]map[string]json.RawMessage{}
	want, wantReasons := report.Slots{}, map[string]int64{}
	for _, c := range rowClients() {
		before[c.format] = b.stored(t, c.format)
		for _, r := range b.rows[c.format] {
			if r.dataKey != "" {
				want.Rotated++
			} else if r.refused != "" {
				want.Failed++
				wantReasons[r.refused]++
			}
		}
	}
	want.Seen = want.Rotated + want.Failed
	summary := b.run(t)
	reasons := map[string]int64{}
	for _, r := range summary.Reasons {
		reasons[r.Reason] = r.Slots
	}
	if diff := cmp.Diff(want, summary.Slots) + cmp.Diff(wantReasons, reasons); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if summary = b.run(t); summary.Slots.Current != want.Rotated || summary.Slots.Rotated != 0 ||
		summary.Slots.Failed != want.Failed {
		t.Errorf("the second pass: %+v", summary.Slots)
	}
	b.disable(t, true)
	for _, c := range rowClients() {
		t.Run(c.format, func(t *testing.T) {
			for _, r := range b.rows[c.format] {
				if r.dataKey == "" {
					continue
				}
				if got, err := b.read(t.Context(), c, r); err != nil || got != r.dataKey {
					t.Errorf("%v: decrypted %q, %v, want %q", r.row["type"], got, err, r.dataKey)
				}
			}
			b.checkRest(t, c, before[c.format])
		})
	}
	if n := b.server.Faults().Counts()["dynamodb:PutItem"]; n !=
		len(slices.Concat(slices.Collect(maps.Values(b.rows))...)) {
		t.Errorf("%d PutItem requests, more than those of the clients", n)
	}
}

func (b *rowBench) disable(t *testing.T, off bool) {
	t.Helper()
	state := fakekms.Enabled
	if off {
		state = fakekms.Disabled
	}
	if err := b.server.KMS().SetState(b.old, state); err != nil {
		t.Fatal(err)
	}
}

// stored returns the content of a table as JSON.
func (b *rowBench) stored(t *testing.T, table string) map[string]map[string]json.RawMessage {
	t.Helper()
	rows := map[string]map[string]json.RawMessage{}
	for key, text := range b.server.DynamoDB().Items(table) {
		var row map[string]json.RawMessage
		if err := json.Unmarshal(text, &row); err != nil {
			t.Fatal(err)
		}
		rows[key] = row
	}
	return rows
}

// checkRest compares a table with its previous content, attribute by attribute.
func (b *rowBench) checkRest(
	t *testing.T, c rowClient, before map[string]map[string]json.RawMessage,
) {
	t.Helper()
	after := b.stored(t, c.format)
	moved := 0
	for key, was := range before {
		var changed []string
		for name := range was {
			if string(was[name]) != string(after[key][name]) {
				changed = append(changed, name)
			}
		}
		slices.Sort(changed)
		if len(was) != len(after[key]) || len(changed) > 0 && !slices.Equal(changed, c.changes) {
			t.Errorf("%s: the row had %d attributes and has %d, and %v changed", key, len(was),
				len(after[key]),
				changed)
		}
		moved += min(len(changed), 1)
	}
	want := 0
	for _, r := range b.rows[c.format] {
		want += min(len(r.dataKey), 1)
	}
	if len(after) != len(before) || moved != want {
		t.Errorf("the table had %d rows and has %d, of which %d changed, want %d", len(before),
			len(after), moved,
			want)
	}
}
