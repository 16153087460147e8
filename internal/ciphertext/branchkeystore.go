package ciphertext

import (
	"maps"
	"slices"
	"strings"

	"rotator/internal/scan"
)

const formatBranchKeystore = "esdk-branch-keystore"

// The attributes of a branch key store. tablename exists only in encryption contexts.
const (
	branchKeyBlob    = "enc"
	branchKeyID      = "branch-key-id"
	branchKeyType    = "type"
	branchKeyARN     = "kms-arn"
	branchKeyVersion = "hierarchy-version"
	branchKeyStore   = "tablename"
)

// newBranchKeystore builds the format of the branch key store of the AWS Cryptographic
// Material Providers Library, which the hierarchical keyrings of the AWS Encryption SDK and
// the AWS Database Encryption SDK use. The encryption context consists of all attributes
// except enc, and of the logical name of the store as tablename. Items do not contain this
// name: it comes from the context of the target, otherwise it is the name of the table. kms-arn
// is part of the context, so the new blob has another context, and the same write changes
// kms-arn (framework/branch-key-store.md of awslabs/aws-encryption-sdk-specification,
// "Encryption Context" and "AWS KMS Branch Key Decryption").
//
// A write is conditional on all attributes that were read. DynamoDB has no condition for
// added attributes, and none is needed: the condition compares the blob, whose context does
// not contain the added attribute. An application that adds an attribute must therefore
// store another blob in the same write.
func newBranchKeystore(c *compiler) binder {
	c.whole = true
	c.writes = append(c.writes, branchKeyBlob, branchKeyARN)
	store := c.ownContext(branchKeyStore, c.spec.Container, "the logical name of the key store")
	return func(b binding) Format {
		f := &branchKeystore{destinationKey: b.destination, store: store}
		return &rowFormat{name: formatBranchKeystore, read: f.read}
	}
}

// ownContext compiles the one entry of a context that the format cannot derive from the
// item. The target may set it; what describes it.
func (c *compiler) ownContext(name, byDefault, what string) rule {
	for _, other := range slices.Sorted(maps.Keys(c.spec.Context)) {
		if other != name {
			c.fail("context", "format %s allows only %s, %s, and derives the rest of the context "+
				"from the item; remove %q", c.spec.Format, name, what, other)
		}
	}
	if c.spec.DestinationContext != nil {
		c.fail("destination_context", "format %s derives it from the item; remove this field",
			c.spec.Format)
	}
	if text, ok := c.spec.Context[name]; ok {
		if text == "" {
			c.fail("context", "%s is empty; remove it to use the default, the name of the table",
				name)
		}
		return c.rule("context", c.spec.Context)
	}
	return rule{names: []string{name}, values: map[string][]part{name: {{text: byDefault}}}}
}

type branchKeystore struct {
	destinationKey string
	store          rule
}

func (f *branchKeystore) read(_ scan.Item, row rowReader) *rowSlot {
	if !row.has(branchKeyBlob) {
		return nil
	}
	kind, _ := row.get(branchKeyType)
	switch {
	case !row.has(branchKeyID) || kind.Kind != scan.KindS:
		return unreadableBranchKey(row)
	case kind.Text == "branch:ACTIVE", kind.Text == "beacon:ACTIVE", strings.HasPrefix(kind.Text,
		"branch:version:"):
	case strings.HasPrefix(kind.Text, "branch:MUTATION_"):
		return refusedSlot(row, branchKeyBlob, "branch-key-mutation",
			"a mutation of this branch key is in progress (row %q), which fails if rows change; "+
				"wait until it ends, then run again", kind.Text)
	default:
		return unreadableBranchKey(row)
	}
	if refused := checkHierarchy(row); refused != nil {
		return heldSlot(row, branchKeyBlob, refused)
	}
	contexts := func() (context, destination map[string]string, refused *Refused) {
		return f.contexts(row)
	}
	found := newRowSlot(row, branchKeyBlob, scan.KindB, formatRaw, contexts)
	if replace := found.replace; replace != nil {
		found.replace = func(blob []byte) map[string]scan.Value {
			changes := replace(blob)
			changes[branchKeyARN] = scan.Value{Kind: scan.KindS, Text: f.destinationKey}
			return changes
		}
	}
	return found
}

// unreadableBranchKey refuses a row that has attributes of a branch key, but a primary key
// that the key store does not read. Other rows do not belong to the key store and have no
// slot.
func unreadableBranchKey(row rowReader) *rowSlot {
	if !row.has(branchKeyARN) && !row.has(branchKeyVersion) {
		return nil
	}
	return unreadableRow(row, branchKeyBlob, formatBranchKeystore,
		"enc with kms-arn or hierarchy-version",
		"its branch-key-id and type are not those of a branch key or beacon key: create the key "+
			"again with the key store, or delete the row")
}

// checkHierarchy refuses hierarchy version 2, whose plaintext contains a digest of the
// attributes that are the context in version 1, including kms-arn. ReEncrypt cannot change
// this digest (same document, "Wrapped Branch Key Creation v2").
func checkHierarchy(row rowReader) *Refused {
	version, refused := contextValue(row, branchKeyVersion, scan.KindN)
	switch {
	case refused != nil:
		return refused
	case version == "1":
		return nil
	case version == "2":
		return refuse("hierarchy-version-2", "the row has hierarchy-version 2, in which the "+
			"ciphertext contains a digest of kms-arn; change the key with a mutation by the Key "+
			"Store Admin of the AWS Cryptographic Material Providers Library")
	}
	return refuse("unknown-format", "the row has a hierarchy-version other than 1 and 2")
}

func (f *branchKeystore) contexts(
	row rowReader,
) (context, destination map[string]string, refused *Refused) {
	if row.has(branchKeyStore) {
		return nil, nil,
			refuse("ambiguous", "the row has an attribute tablename, but in the context "+
				"this is the name of the key store")
	}
	context, refused = f.store.fill(rowLookup(row))
	if refused != nil {
		return nil, nil, refused
	}
	for _, name := range row.names() {
		if name == branchKeyBlob {
			continue
		}
		if context[name], refused = contextValue(row, name, scan.KindS,
			scan.KindN); refused != nil {
			return nil, nil, refused
		}
	}
	if _, refused = contextValue(row, branchKeyARN, scan.KindS); refused != nil {
		return nil, nil, refused
	}
	destination = maps.Clone(context)
	destination[branchKeyARN] = f.destinationKey
	return context, destination, nil
}
