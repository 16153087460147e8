package clients

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// keystore is a branch key store that is used by the AWS Encryption SDK for JavaScript.
type keystore struct {
	*Trial
	script []string
}

// encrypted is a message under a branch key.
type encrypted struct {
	ID      string `json:"id"`
	Text    string `json:"text"`
	Message string `json:"message"`
	Version string `json:"version"`
}

// ask runs a command of keystore.mjs. The logical name of the store, which is part of every
// encryption context, differs from the name of the table.
func (k *keystore) ask(answer any, command string, kmsConfig any, fields map[string]any) {
	k.Helper()
	request := map[string]any{
		"command": command,
		"table":   "branch-keys",
		"store":   "logical-store",
		"kms":     kmsConfig,
	}
	for name, value := range fields {
		request[name] = value
	}
	k.Ask(answer, request, k.script...)
}

func (k *keystore) read(kmsConfig any, messages []encrypted) map[string]string {
	k.Helper()
	var answers map[string]string
	k.ask(&answers, "read", kmsConfig, map[string]any{"messages": messages})
	return answers
}

func only(arn string) map[string]string { return map[string]string{"identifier": arn} }

// table creates a table with a partition key and a sort key of type S.
func (t *Trial) table(name, partition, sort string) {
	t.Helper()
	_, err := t.DynamoDB().CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName:   &name,
		BillingMode: types.BillingModePayPerRequest,
		KeySchema: []types.KeySchemaElement{
			{AttributeName: &partition, KeyType: types.KeyTypeHash},
			{AttributeName: &sort, KeyType: types.KeyTypeRange},
		},
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: &partition, AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: &sort, AttributeType: types.ScalarAttributeTypeS},
		},
	})
	t.Must(err)
}

// TestBranchKeyStore: old and new versions of branch keys, with and without an additional
// encryption context, and messages of hierarchical keyrings under them.
func TestBranchKeyStore(t *testing.T) {
	k := &keystore{script: node(t, "keystore.mjs"), Trial: NewTrial(t)}
	k.table("branch-keys", "branch-key-id", "type")
	var messages, more []encrypted
	k.ask(&messages, "write", only(k.A), map[string]any{
		"id":      "tenant-1",
		"context": map[string]string{"tenant": "größe 1", "team": "pay"},
		"texts":   []string{"first", "second", "third"},
	})
	k.ask(&more, "write", only(k.A), map[string]any{
		"id":      "tenant-2",
		"context": map[string]string{"tenant": "2"},
		"texts":   []string{"only"},
	})
	messages = append(messages, more...)
	k.Judge(Subject{
		Targets: "  - dynamodb: {table: branch-keys, segments: 2}\n    format: " +
			"esdk-branch-keystore\n    context: {tablename: logical-store}\n",
		Slots: 8, // 4 versions, and for each of 2 branch keys the active version and the beacon key
		Read:  map[string]func() error{"beacon key of tenant-1": k.beacon("tenant-1")},
		All: map[string]func() map[string]string{"discovery": func() map[string]string {
			return k.read("discovery", messages)
		}},
	})

	// Cutover: a store that is configured with B can read and can create new versions of the keys.
	// A store that is configured with A cannot read, even with A enabled.
	for name, wrong := range k.read(only(k.B), messages) {
		if wrong != "" {
			t.Errorf("configured with B, %s: %s", name, wrong)
		}
	}
	more = nil
	k.ask(&more, "version", only(k.B), map[string]any{
		"id":   "tenant-1",
		"text": "after the migration",
	})
	for name, wrong := range k.read("discovery", append(messages, more...)) {
		if wrong != "" {
			t.Errorf("with a version made under B, %s: %s", name, wrong)
		}
	}
	k.disable(false)
	for name, wrong := range k.read(only(k.A), messages) {
		if wrong == "" {
			t.Errorf(
				"a store that is configured with A can read %s: the advice of docs/formats.md "+
					"is wrong", name,
			)
		}
	}
}

// beacon returns a function that decrypts a beacon key like the Database Encryption SDK, for which
// there is no client here. The encryption context contains all attributes except enc, and the
// logical name of the store (framework/branch-key-store.md of
// awslabs/aws-encryption-sdk-specification).
func (k *keystore) beacon(id string) func() error {
	return func() error {
		out, err := k.DynamoDB().GetItem(k.Context(), &dynamodb.GetItemInput{
			TableName: aws.String("branch-keys"),
			Key: map[string]types.AttributeValue{
				"branch-key-id": &types.AttributeValueMemberS{Value: id},
				"type":          &types.AttributeValueMemberS{Value: "beacon:ACTIVE"},
			},
		})
		if err != nil {
			return err
		}
		in := &kms.DecryptInput{EncryptionContext: map[string]string{"tablename": "logical-store"}}
		for name, value := range out.Item {
			switch value := value.(type) {
			case *types.AttributeValueMemberS:
				in.EncryptionContext[name] = value.Value
			case *types.AttributeValueMemberN:
				in.EncryptionContext[name] = value.Value
			case *types.AttributeValueMemberB:
				in.CiphertextBlob = value.Value
			}
		}
		in.KeyId = aws.String(in.EncryptionContext["kms-arn"])
		_, err = k.KMS().Decrypt(k.Context(), in)
		return err
	}
}
