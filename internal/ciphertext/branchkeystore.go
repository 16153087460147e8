package ciphertext

import (
	"maps"
	"slices"
	"strings"

	"rotator/internal/scan"
)

const formatBranchKeystore = "esdk-branch-keystore"

// The attributes of a branch key store, and the name that its encryption contexts
// have beside them.
const (
	branchKeyBlob    = "enc"
	branchKeyID      = "branch-key-id"
	branchKeyType    = "type"
	branchKeyARN     = "kms-arn"
	branchKeyVersion = "hierarchy-version"
	branchKeyStore   = "tablename"
)

// newBranchKeystore is for the branch key store of the AWS Cryptographic Material
// Providers Library, which feeds the hierarchical keyrings of the AWS Encryption
// SDK and the AWS Database Encryption SDK. Every attribute but enc is in the
// encryption context, and so is the logical name of the store as tablename, which no
// item holds: the target's context says it, else it is the name of the table. Since
// kms-arn is in the context too, the new blob stands under another one, and kms-arn
// changes in the same write (framework/branch-key-store.md of
// awslabs/aws-encryption-sdk-specification, "Encryption Context" and "AWS KMS Branch
// Key Decryption").
//
// A write is conditional on every attribute that was read. DynamoDB has no
// condition for added attributes, and none is needed. The condition compares
// the blob that the write replaces, whose context has no added attribute. An
// application that adds one must therefore store another blob in the same
// write.
func newBranchKeystore(c *compiler) binder {
	c.whole = true
	c.writes = append(c.writes, branchKeyBlob, branchKeyARN)
	store := c.ownContext(branchKeyStore, c.spec.Container, "the logical name of the key store")
	return func(b binding) Format {
		f := &branchKeystore{destinationKey: b.destination, store: store}
		return &rowFormat{name: formatBranchKeystore, read: f.read}
	}
}

// ownContext compiles the one name of a context that a format cannot know, which
// the target may say.
func (c *compiler) ownContext(name, byDefault, what string) rule {
	for _, given := range slices.Sorted(maps.Keys(c.spec.Context)) {
		if given != name {
			c.fail("context", "format %s takes %s alone, %s, and makes the rest of the context from the item; take %q out", c.spec.Format, name, what, given)
		}
	}
	if c.spec.DestinationContext != nil {
		c.fail("destination_context", "format %s makes it from the item, as its readers do; take it out", c.spec.Format)
	}
	if text, ok := c.spec.Context[name]; ok {
		if text == "" {
			c.fail("context", "%s is empty; take it out for the default, which is the name of the table", name)
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
		return unreadBranchKey(row)
	case kind.Text == "branch:ACTIVE", kind.Text == "beacon:ACTIVE", strings.HasPrefix(kind.Text, "branch:version:"):
	case strings.HasPrefix(kind.Text, "branch:MUTATION_"):
		return refusedSlot(row, branchKeyBlob, "branch-key-mutation",
			"a mutation of this branch key is under way (row %q); let it end, then run again: it compares rows with what they were when it began", kind.Text)
	default:
		return unreadBranchKey(row)
	}
	if refused := checkHierarchy(row); refused != nil {
		return heldSlot(row, branchKeyBlob, refused)
	}
	found := newRowSlot(row, branchKeyBlob, scan.KindB, formatRaw, func() (context, destination map[string]string, refused *Refused) {
		return f.contexts(row)
	})
	if replace := found.replace; replace != nil {
		found.replace = func(blob []byte) map[string]scan.Value {
			changes := replace(blob)
			changes[branchKeyARN] = scan.Value{Kind: scan.KindS, Text: f.destinationKey}
			return changes
		}
	}
	return found
}

// unreadBranchKey refuses a row with attributes of a branch key whose primary key is none
// that the key store reads. A row without them is of something else.
func unreadBranchKey(row rowReader) *rowSlot {
	if !row.has(branchKeyARN) && !row.has(branchKeyVersion) {
		return nil
	}
	return unreadRow(row, branchKeyBlob, formatBranchKeystore,
		"enc with kms-arn or hierarchy-version",
		"its branch-key-id and type are not those of a branch key or a beacon key: "+
			"create the key again with the key store, or delete the row")
}

// checkHierarchy refuses hierarchy version 2: there the blob holds, before the key,
// a digest of what is the context in version 1, kms-arn included, so that the key
// of the item cannot change by ReEncrypt (the same page, "Wrapped Branch Key
// Creation v2").
func checkHierarchy(row rowReader) *Refused {
	version, refused := contextValue(row, branchKeyVersion, scan.KindN)
	switch {
	case refused != nil:
		return refused
	case version == "1":
		return nil
	case version == "2":
		return &Refused{Reason: "hierarchy-version-2",
			Detail: "it has hierarchy-version 2, in which the ciphertext itself holds a digest of kms-arn; change the key with a mutation by the Key Store Admin of the AWS Cryptographic Material Providers Library"}
	}
	return &Refused{Reason: "unknown-format", Detail: "it has a hierarchy-version other than 1 and 2"}
}

func (f *branchKeystore) contexts(
	row rowReader,
) (context, destination map[string]string, refused *Refused) {
	if row.has(branchKeyStore) {
		return nil, nil, &Refused{Reason: "ambiguous", Detail: "it has an attribute tablename, which in the context is the name of the key store"}
	}
	context, refused = f.store.fill(rowLookup(row))
	if refused != nil {
		return nil, nil, refused
	}
	for _, name := range row.names() {
		if name == branchKeyBlob {
			continue
		}
		if context[name], refused = contextValue(row, name, scan.KindS, scan.KindN); refused != nil {
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
