package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// The names under which ReEncrypt is counted.
const (
	reEncrypt = "ReEncrypt"
	dryRun    = "ReEncrypt (dry run)"
)

// kms implements the operations of KMS.
func (s *stub) kms(operation string, body []byte) response {
	in := gjson.ParseBytes(body)
	if operation == reEncrypt && in.Get("DryRun").Bool() {
		operation = dryRun
	}
	s.count(operation)
	switch operation {
	case dryRun:
		return failure("DryRunOperationException")
	case "DescribeKey":
		return jsonResponse(http.StatusOK, fmt.Appendf(nil, `{"KeyMetadata":`+
			`{"AWSAccountId":"111122223333","Arn":%q,"KeyId":%q,"KeyState":"Enabled",`+
			`"KeyUsage":"ENCRYPT_DECRYPT","EncryptionAlgorithms":["SYMMETRIC_DEFAULT"],`+
			`"KeySpec":"SYMMETRIC_DEFAULT"}}`,
			in.Get("KeyId").Str, in.Get("KeyId").Str))
	case reEncrypt:
		if !s.quota.admit(time.Now()) {
			return explained("ThrottlingException", "You have exceeded the rate at which you may "+
				"call KMS. Reduce the frequency of your calls.")
		}
		return s.reEncrypt(in)
	}
	return failure("UnknownOperationException")
}

func (s *stub) reEncrypt(in gjson.Result) response {
	blob, err := base64.StdEncoding.DecodeString(in.Get("CiphertextBlob").Str)
	if err != nil {
		return failure("InvalidCiphertextException")
	}
	from := sourceKey
	i, ok := itemOf(from, blob)
	if !ok {
		from = destinationKey
		i, ok = itemOf(from, blob)
	}
	switch pin := in.Get("SourceKeyId"); {
	case !ok || !s.items.known(i) || i != s.items.first(i) ||
		!sameContext(in.Get("SourceEncryptionContext"), i) ||
		!sameContext(in.Get("DestinationEncryptionContext"), i):
		return failure("InvalidCiphertextException")
	case pin.Exists() && pin.Str != from:
		return failure("IncorrectKeyException")
	case in.Get("DestinationKeyId").Str != destinationKey:
		return failure("NotFoundException")
	}
	s.items.state[i].Or(reEncrypted)
	to := blobOf(destinationKey, i)
	if from == destinationKey {
		// KMS never returns the same ciphertext twice. This one must not be written.
		binary.BigEndian.PutUint64(to[blobLen-8:], uint64(s.served.Load()))
	}
	return jsonResponse(http.StatusOK, fmt.Appendf(nil, `{"CiphertextBlob":%q,"KeyId":%q,`+
		`"SourceKeyId":%q,"SourceEncryptionAlgorithm":"SYMMETRIC_DEFAULT",`+
		`"DestinationEncryptionAlgorithm":"SYMMETRIC_DEFAULT"}`,
		base64.StdEncoding.EncodeToString(to), destinationKey, from))
}

func sameContext(given gjson.Result, i int) bool {
	pairs := map[string]string{}
	given.ForEach(func(name, value gjson.Result) bool {
		pairs[name.Str] = value.Str
		return true
	})
	return maps.Equal(pairs, contextOf(i))
}

// dynamodb implements the operations of DynamoDB.
func (s *stub) dynamodb(operation string, body []byte) response {
	in := gjson.ParseBytes(body)
	switch operation {
	case "DescribeTable":
		return jsonResponse(http.StatusOK, fmt.Appendf(nil, `{"Table":{"TableName":%q,`+
			`"TableStatus":"ACTIVE","ItemCount":%d,`+
			`"KeySchema":[{"AttributeName":"id","KeyType":"HASH"}],`+
			`"AttributeDefinitions":[{"AttributeName":"id","AttributeType":"S"}]}}`,
			resourceName, len(s.items.state)))
	case "Scan":
		return s.scan(in)
	case "BatchExecuteStatement":
		if !s.unbatched {
			return s.batch(in)
		}
	case "UpdateItem":
		values := in.Get("ExpressionAttributeValues")
		if !s.replaceItem(in.Get("Key.id.S").Str, values.Get(":o0.B").Str,
			values.Get(":n0.B").Str) {
			return failure("ConditionalCheckFailedException")
		}
		return jsonResponse(http.StatusOK, []byte(`{}`))
	}
	return failure("UnknownOperationException")
}

// scan returns a page of a segment: every Total-th item.
func (s *stub) scan(in gjson.Result) response {
	total, limit := 1, 1_000 // of 1 MB, at about 1 KB
	if t := in.Get("TotalSegments"); t.Exists() {
		total = int(t.Int())
	}
	if l := in.Get("Limit"); l.Exists() {
		limit = int(l.Int())
	}
	i := int(in.Get("Segment").Int())
	if after := in.Get("ExclusiveStartKey.id.S"); after.Exists() {
		last, _ := indexOf(after.Str)
		i = last + total
	}
	out := []byte(`{"Items":[`)
	n := 0
	for ; n < limit && i < len(s.items.state); i += total {
		if n++; n > 1 {
			out = append(out, ',')
		}
		first := s.items.first(i)
		secret := base64.StdEncoding.EncodeToString(blobOf(s.items.key(i), first))
		out = fmt.Appendf(out, `{"id":{"S":%q},"tenant":{"S":%q},"secret":{"B":%q}`,
			idOf(i), tenantOf(first), secret)
		if !in.Get("ProjectionExpression").Exists() {
			out = fmt.Appendf(out, `,"name":{"S":"Jane Doe"},"visits":{"N":"17"},`+
				`"tags":{"L":[{"S":"a"},{"S":"b"}]},"notes":{"S":%q}`, filler[:400])
		}
		out = append(out, '}')
	}
	out = fmt.Appendf(out, `],"Count":%d,"ScannedCount":%d,`+
		`"ConsumedCapacity":{"TableName":%q,"CapacityUnits":%d}`, n, n, resourceName, n/8+1)
	if i < len(s.items.state) {
		out = fmt.Appendf(out, `,"LastEvaluatedKey":{"id":{"S":%q}}`, idOf(i-total))
	}
	return jsonResponse(http.StatusOK, append(out, '}'))
}

// The updates that clients send. Those of rotator also compare the attribute from which the
// encryption context is made.
const (
	statement = `UPDATE "bench" SET "secret" = ? WHERE "id" = ? AND "secret" = ?`
	guarded   = statement + ` AND "tenant" = ?`
)

func (s *stub) batch(in gjson.Result) response {
	out := []byte(`{"Responses":[`)
	for n, one := range in.Get("Statements").Array() {
		s.statements.Add(1)
		if n > 0 {
			out = append(out, ',')
		}
		id := one.Get("Parameters.1.S").Str
		if s.update(id, one) {
			out = fmt.Appendf(out, `{"TableName":%q}`, resourceName)
			continue
		}
		if !isProbe(one) {
			s.items.fault("a statement was refused: %s of %s", one.Get("Statement").Str, id)
		}
		out = append(out, `{"Error":{"Code":"ConditionalCheckFailed",`+
			`"Message":"The conditional request failed"},"TableName":"bench"}`...)
	}
	out = fmt.Appendf(out, `],"ConsumedCapacity":[{"TableName":%q,"CapacityUnits":25}]}`,
		resourceName)
	return jsonResponse(http.StatusOK, out)
}

// isProbe reports whether a statement tests whether the server checks conditions: its key or a
// value in its condition is a text of a probe.
func isProbe(statement gjson.Result) bool {
	const name = "rotator-probe-" // 14 bytes; the first 12 are whole groups of base64
	values := statement.Get("Parameters").Raw
	return strings.Contains(values, name) ||
		strings.Contains(values, base64.StdEncoding.EncodeToString([]byte(name[:12])))
}

// update applies one statement of a batch. It reports whether the condition held.
func (s *stub) update(id string, one gjson.Result) bool {
	switch one.Get("Statement").Str {
	case statement:
	case guarded:
		if !s.hasTenant(id, one.Get("Parameters.3.S").Str) {
			return false
		}
	default:
		return false
	}
	return s.replaceItem(id, one.Get("Parameters.2.B").Str, one.Get("Parameters.0.B").Str)
}

func (s *stub) hasTenant(id, tenant string) bool {
	i, ok := indexOf(id)
	return ok && tenantOf(s.items.first(i)) == tenant
}

func (s *stub) replaceItem(id, old, new string) bool {
	i, ok := indexOf(id)
	before, err := base64.StdEncoding.DecodeString(old)
	after, errAfter := base64.StdEncoding.DecodeString(new)
	return ok && err == nil && errAfter == nil && s.items.replace(i, before, after)
}
