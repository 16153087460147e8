package clients

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// credential is a secret and the data that is needed to read it.
type credential struct {
	Name    string            `json:"name"`
	Version string            `json:"version"`
	Secret  string            `json:"secret"`
	Context map[string]string `json:"context"`
}

const credentialTable = "credential-store"

// secretsOf returns the secrets that one client writes, with and without an encryption context.
func secretsOf(client string) []credential {
	given := map[string]string{"role": client, "tier": "prod, eu"}
	return []credential{
		{client + "-db", "0000000000000000001", "a secret", given},
		{client + "-db", "0000000000000000002", "a newer secret, größer", given},
		{client + "-api", "0000000000000000001", "another secret", map[string]string{}},
	}
}

// credentialTargets returns a target with a file of the encryption contexts, which rows do not
// contain.
func (t *Trial) credentialTargets(clients ...string) string {
	t.Helper()
	text := ""
	for _, client := range clients {
		text += fmt.Sprintf("%[1]s-db: {role: %[1]s, tier: \"prod, eu\"}\n", client)
	}
	t.Must(os.WriteFile(filepath.Join(t.Dir, "contexts.yaml"), []byte(text), 0o600))
	return "  - dynamodb: {table: " + credentialTable +
		", segments: 2}\n    format: credstash\n    context: {}\n" +
		"    context_file: {path: contexts.yaml, name: \"${name}\"}\n"
}

// script writes credentials with a client and returns a function that reads credentials with it.
func (t *Trial) script(
	secrets []credential, script []string,
) (read func(...credential) func() map[string]string) {
	t.Helper()
	request := map[string]any{
		"command": "put",
		"table":   credentialTable,
		"key":     t.A,
		"secrets": secrets,
	}
	var none map[string]string
	t.Ask(&none, request, script...)
	return func(secrets ...credential) func() map[string]string {
		return func() (answers map[string]string) {
			request["command"], request["secrets"] = "get", secrets
			t.Ask(&answers, request, script...)
			return answers
		}
	}
}

// TestCredstashNode: nodecredstash reads its own rows, rows that credstash writes with boto3, and
// rows of unicreds.
func TestCredstashNode(t *testing.T) {
	node := node(t, "credstash.cjs")
	trial := NewTrial(t)
	trial.table(credentialTable, "name", "version")
	theirs, unicreds := secretsOf("node"), secretsOf("unicreds")
	read := trial.script(theirs, node)
	trial.unicreds(unicreds)
	trial.Judge(Subject{
		Targets: trial.credentialTargets("node", "unicreds"),
		Slots:   6,
		All: map[string]func() map[string]string{
			"nodecredstash": read(append(theirs, unicreds...)...),
		},
	})
}

func TestCredstashBoto3(t *testing.T) {
	python := python(t, "credstash.py", "boto3", "cryptography")
	trial := NewTrial(t)
	trial.table(credentialTable, "name", "version")
	theirs := secretsOf("boto3")
	read := trial.script(theirs, python)
	hmac := trial.attribute(theirs[0], "hmac")
	trial.Judge(Subject{
		Targets: trial.credentialTargets("boto3"),
		Slots:   3,
		All:     map[string]func() map[string]string{"boto3": read(theirs...)},
	})
	if now, ok := trial.attribute(theirs[0], "hmac").(*types.AttributeValueMemberB); !ok ||
		string(now.Value) != string(hmac.(*types.AttributeValueMemberB).Value) {
		t.Errorf("the type of hmac is %T, want B, or its value has changed", now)
	}
}

// TestUnicreds: unicreds is written in Go but is not available as a module. This test writes and
// reads its rows like PutSecret and decryptCredential in ds.go and encryptor.go of
// Versent/unicreds.
func TestUnicreds(t *testing.T) {
	trial := NewTrial(t)
	trial.table(credentialTable, "name", "version")
	secrets := secretsOf("unicreds")
	trial.unicreds(secrets)
	read := map[string]func() error{}
	for _, one := range secrets {
		read[one.Name+" "+one.Version] = func() error { return trial.readUnicreds(one) }
	}
	trial.Judge(Subject{Targets: trial.credentialTargets("unicreds"), Slots: 3, Read: read})
	if got, ok := trial.attribute(secrets[0], "created_at").(*types.AttributeValueMemberN); !ok ||
		got.Value != "1500000000" {
		t.Error("created_at has changed")
	}
}

// seal encrypts with AES-256-CTR and a counter that starts at 1. The same function decrypts.
func (t *Trial) seal(dataKey, text []byte) []byte {
	block, err := aes.NewCipher(dataKey[:32])
	t.Must(err)
	out := make([]byte, len(text))
	cipher.NewCTR(block, append(make([]byte, 15), 1)).XORKeyStream(out, text)
	return out
}

func mac(dataKey, contents []byte) string {
	h := hmac.New(sha256.New, dataKey[32:])
	_, _ = h.Write(contents) // never fails
	return hex.EncodeToString(h.Sum(nil))
}

func (t *Trial) unicreds(secrets []credential) {
	t.Helper()
	for _, one := range secrets {
		key, err := t.KMS().GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{
			KeyId:             &t.A,
			NumberOfBytes:     aws.Int32(64),
			EncryptionContext: one.Context,
		})
		t.Must(err)
		contents := t.seal(key.Plaintext, []byte(one.Secret))
		item := map[string]types.AttributeValue{
			"created_at": &types.AttributeValueMemberN{Value: "1500000000"},
		}
		for name, text := range map[string]string{
			"name":     one.Name,
			"version":  one.Version,
			"hmac":     mac(key.Plaintext, contents),
			"key":      base64.StdEncoding.EncodeToString(key.CiphertextBlob),
			"contents": base64.StdEncoding.EncodeToString(contents),
		} {
			item[name] = &types.AttributeValueMemberS{Value: text}
		}
		_, err = t.DynamoDB().PutItem(t.Context(), &dynamodb.PutItemInput{
			TableName:                aws.String(credentialTable),
			Item:                     item,
			ConditionExpression:      aws.String("attribute_not_exists(#N)"),
			ExpressionAttributeNames: map[string]string{"#N": "name"},
		})
		t.Must(err)
	}
}

func (t *Trial) readUnicreds(one credential) error {
	text := func(name string) string {
		value, _ := t.attribute(one, name).(*types.AttributeValueMemberS)
		if value == nil {
			return ""
		}
		return value.Value
	}
	wrapped, err := base64.StdEncoding.DecodeString(text("key"))
	if err != nil {
		return err
	}
	key, err := t.KMS().Decrypt(t.Context(), &kms.DecryptInput{
		CiphertextBlob:    wrapped,
		EncryptionContext: one.Context,
	})
	if err != nil {
		return err
	}
	contents, err := base64.StdEncoding.DecodeString(text("contents"))
	if err != nil {
		return err
	}
	if mac(key.Plaintext, contents) != text("hmac") {
		return fmt.Errorf("the HMAC does not match")
	}
	return Same(string(t.seal(key.Plaintext, contents)), one.Secret)
}

// attribute returns an attribute of a row, or nil if the row does not have it.
func (t *Trial) attribute(one credential, name string) types.AttributeValue {
	t.Helper()
	out, err := t.DynamoDB().GetItem(t.Context(), &dynamodb.GetItemInput{
		TableName:      aws.String(credentialTable),
		ConsistentRead: aws.Bool(true),
		Key: map[string]types.AttributeValue{
			"name":    &types.AttributeValueMemberS{Value: one.Name},
			"version": &types.AttributeValueMemberS{Value: one.Version},
		},
	})
	t.Must(err)
	return out.Item[name]
}
