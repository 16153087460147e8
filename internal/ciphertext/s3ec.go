package ciphertext

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"rotator/internal/scan"
)

const formatS3EC = "s3-encryption-client"

// The names of the values that the Amazon S3 Encryption Client stores with an object, in
// user metadata or in an instruction file (data-format/content-metadata.md of the S3
// Encryption Client specification in github.com/awslabs/aws-encryption-sdk-specification).
const (
	s3ecKeyV1 = "x-amz-key" // a data key that is not wrapped by KMS
	s3ecIV    = "x-amz-iv"

	s3ecKeyV2     = "x-amz-key-v2"
	s3ecWrapV2    = "x-amz-wrap-alg"
	s3ecContextV2 = "x-amz-matdesc"

	s3ecKeyV3        = "x-amz-3"
	s3ecWrapV3       = "x-amz-w"
	s3ecContextV3    = "x-amz-t"
	s3ecCipherV3     = "x-amz-c"
	s3ecCommitmentV3 = "x-amz-d"
	s3ecMessageV3    = "x-amz-i"
)

const (
	// s3ecInstruction is the suffix of the keys of instruction files
	// (data-format/metadata-strategy.md of the same specification).
	s3ecInstruction = ".instruction"
	// s3ecInstructionMark is a metadata entry of instruction files that the clients of
	// the Java SDK v1 write (Headers.CRYPTO_INSTRUCTION_FILE of aws-sdk-java).
	s3ecInstructionMark = "x-amz-crypto-instr-file"
	// maxMetadata is the maximum size of the user metadata of an object: the sum of the
	// bytes of all names and values in UTF-8 (Working with object metadata, Amazon S3).
	maxMetadata = 2048
)

// s3ecNames returns the names of the values on which a slot depends.
func s3ecNames() []string {
	return []string{
		s3ecKeyV1, s3ecIV, s3ecKeyV2, s3ecWrapV2, s3ecContextV2, s3ecKeyV3, s3ecWrapV3,
		s3ecContextV3,
	}
}

// s3ec is the format of the Amazon S3 Encryption Client: all generations of data keys that
// KMS wrapped, in metadata and in instruction files. Only the wrapped key changes. The data
// key, the body and its key commitment stay the same. Files of a directory have no metadata,
// so there the format applies only to copies of instruction files.
type s3ec struct {
	suffix       string // of the keys of instruction files, in addition to s3ecInstruction
	instructions *bodyFormat
}

var _ Format = (*s3ec)(nil)

func newS3EC(c *compiler) binder {
	f := &s3ec{
		suffix: cmp.Or(c.spec.InstructionSuffix, s3ecInstruction),
		instructions: &bodyFormat{
			name:  formatS3EC,
			sites: orUnreadable(instructionSites, markedInstruction),
		},
	}
	c.needsBody = func(key string, metadata map[string]string) bool {
		return !f.byMetadata(key, metadata)
	}
	c.metadata = append(c.metadata, s3ecMarks()...)
	return unbound(f)
}

// s3ecMarks returns the names of metadata entries by which an object is recognised.
func s3ecMarks() []string {
	return []string{
		s3ecInstructionMark, s3ecKeyV1, s3ecIV, s3ecKeyV2, s3ecKeyV3, s3ecCommitmentV3,
		s3ecMessageV3,
	}
}

// byMetadata reports whether an object is recognised only by its metadata. This is true for
// all objects except instruction files. The clients for PHP and Ruby write no mark in the
// metadata of instruction files, so these are also recognised by the suffix of their key.
func (f *s3ec) byMetadata(key string, metadata map[string]string) bool {
	_, marked := metadata[s3ecInstructionMark]
	return s3ecMarked(metadata) ||
		!marked && !strings.HasSuffix(key, s3ecInstruction) && !strings.HasSuffix(key, f.suffix)
}

// recogniseS3EC reports, for format auto, whether an object has a wrapped data key.
func recogniseS3EC(format Format, object *scan.Object) bool {
	if f, ok := format.(*s3ec); !ok || f.byMetadata(object.Key, object.Metadata) {
		return s3ecMarked(object.Metadata)
	}
	return len(instructionSites(object)) > 0
}

// s3ecMarked reports whether metadata contains a wrapped data key of any generation. Only
// the client uses the name of the second generation. The names of the first and the third
// could belong to other software, so they count only together with other names of the client
// (Determining S3EC Object Status, content-metadata.md). It returns false for an object whose
// wrapped key is in an instruction file.
func s3ecMarked(metadata map[string]string) bool {
	has := func(name string) bool { _, ok := metadata[name]; return ok }
	return has(s3ecKeyV2) || has(s3ecKeyV1) && has(s3ecIV) ||
		has(s3ecKeyV3) && has(s3ecCommitmentV3) && has(s3ecMessageV3)
}

// Name implements Format.
func (f *s3ec) Name() string { return formatS3EC }

// Find implements Format.
func (f *s3ec) Find(item scan.Item) []Slot {
	object, ok := item.Payload.(*scan.Object)
	switch {
	case !ok:
		return nil
	case !f.byMetadata(object.Key, object.Metadata):
		return f.instructions.Find(item)
	case !s3ecMarked(object.Metadata):
		return nil
	}
	slot, _, _ := metadataSlot(object.Metadata)
	return []Slot{slot}
}

// Splice implements Format.
func (f *s3ec) Splice(item scan.Item, blobs [][]byte) (scan.Payload, error) {
	object, ok := item.Payload.(*scan.Object)
	switch {
	case !ok:
		return nil, errWrongPayload(item)
	case !f.byMetadata(object.Key, object.Metadata):
		return f.instructions.Splice(item, blobs)
	}
	changed := *object
	if !s3ecMarked(object.Metadata) {
		if len(blobs) > 0 {
			return nil, fmt.Errorf("got %d blobs for 0 slots", len(blobs))
		}
		return &changed, nil
	}
	if len(blobs) != 1 {
		return nil, fmt.Errorf("got %d blobs for 1 slot", len(blobs))
	}
	slot, name, encode := metadataSlot(object.Metadata)
	if blobs[0] == nil || slot.Refused != nil || bytes.Equal(blobs[0], slot.Blob) {
		return &changed, nil
	}
	changed.Metadata = maps.Clone(object.Metadata)
	changed.Metadata[name] = string(encode(blobs[0]))
	now := metadataSize(changed.Metadata)
	if now > maxMetadata && now > metadataSize(object.Metadata) {
		return nil, fmt.Errorf(
			"the user metadata would have %d bytes, more than 2 KB, the limit of S3", now)
	}
	return &changed, nil
}

func metadataSize(metadata map[string]string) (size int) {
	for name, value := range metadata {
		size += len(name) + len(value)
	}
	return size
}

// metadataSlot returns the one slot of a marked object, the name of the metadata entry with
// its blob, and the encoding of this entry.
func metadataSlot(metadata map[string]string) (Slot, string, func([]byte) []byte) {
	name, slot, encode := s3ecSlot(metadata, fromS3)
	slot.Path = "metadata." + name
	if _, ok := metadata[s3ecIV]; slot.Refused == nil && name == s3ecKeyV2 && !ok {
		slot = Slot{
			Path:    slot.Path,
			Refused: malformedS3EC("the metadata has %s without %s", s3ecKeyV2, s3ecIV),
		}
	}
	if slot.Refused == nil && name == s3ecKeyV3 && metadata[s3ecCipherV3] != "115" {
		slot = Slot{
			Path: slot.Path,
			Refused: malformedS3EC("the metadata has %s, but %s is not 115", s3ecKeyV3,
				s3ecCipherV3),
		}
	}
	return slot, name, encode
}

// instructionSites returns the one slot of an instruction file: a JSON object whose members
// have the names of the metadata entries. Other bodies have no slot.
func instructionSites(object *scan.Object) []editSite {
	if !isDocument(object.Body) || !utf8.Valid(object.Body) {
		return nil
	}
	members, twice, odd := instructionMembers(object.Body)
	values := map[string]string{}
	for name, value := range members {
		values[name] = value.Str
	}
	has := func(name string) bool { _, ok := members[name]; return ok }
	if !has(s3ecKeyV2) && !(has(s3ecKeyV3) && has(s3ecWrapV3)) && !(has(s3ecKeyV1) && has(s3ecIV)) {
		return nil
	}
	name, slot, encode := s3ecSlot(values, asWritten)
	slot.Path = name
	switch start, end, ok := stringIn(object.Body, members[name]); {
	case twice != "":
		return []editSite{refusedSitef(name, "ambiguous", "the instruction file has %s twice",
			twice)}
	case odd != "":
		return []editSite{refusedSite(name,
			malformedS3EC("%s of the instruction file is not a string", odd))}
	case slot.Refused != nil:
		return []editSite{{Slot: slot}}
	case !ok:
		return []editSite{refusedSitef(name, "not-json",
			"the position of %s in the instruction file is unknown", name)}
	default:
		own := edit{start: start, end: end, text: quoted(encode)}
		return []editSite{{Slot: slot, edits: []edit{own}}}
	}
}

// instructionMembers returns the members of an instruction file that a slot depends on. twice
// is the name of a duplicate member, and odd of one that is not a string.
func instructionMembers(body []byte) (members map[string]gjson.Result, twice, odd string) {
	members = map[string]gjson.Result{}
	gjson.ParseBytes(body).ForEach(func(name, value gjson.Result) bool {
		if !slices.Contains(s3ecNames(), name.Str) {
			return true
		}
		if _, ok := members[name.Str]; ok {
			twice = name.Str
		}
		members[name.Str] = value
		if value.Type != gjson.String {
			odd = name.Str
		}
		return true
	})
	return members, twice, odd
}

// s3ecSlot returns the slot for the values of metadata or an instruction file, and the name
// of the value with its blob. read decodes the text of a context as the store returned it.
func s3ecSlot(
	values map[string]string, read func(string) (string, *Refused),
) (name string, slot Slot, encode func([]byte) []byte) {
	var generations []string
	for _, key := range []string{s3ecKeyV1, s3ecKeyV2, s3ecKeyV3} {
		if _, ok := values[key]; ok {
			generations = append(generations, key)
		}
	}
	switch {
	case len(generations) > 1:
		return generations[0],
			Slot{Refused: refuse("ambiguous", "the object has wrapped data keys of "+
				"several generations of the S3 Encryption Client: %s",
				strings.Join(generations, ", "))}, nil
	case generations[0] == s3ecKeyV1:
		return s3ecKeyV1,
			Slot{Refused: refuse("s3ec-v1", "the data key is of the first generation of "+
				"the S3 Encryption Client and is not wrapped by KMS; read the object and write "+
				"it again "+
				"with a current client")}, nil
	}
	name = generations[0]
	if slot.Refused = wrappedByKMS(name, values); slot.Refused != nil {
		return name, slot, nil
	}
	slot.Blob, encode, slot.Refused = decodePadded([]byte(values[name]))
	if slot.Refused == nil {
		slot.Context, slot.Refused = s3ecContext(name, values, read)
	}
	if slot.Refused != nil {
		return name, Slot{Refused: slot.Refused, Held: slot.Blob}, nil
	}
	slot.DestinationContext = slot.Context
	return name, slot, encode
}

// wrappedByKMS refuses a data key that is not wrapped by KMS.
func wrappedByKMS(key string, values map[string]string) *Refused {
	name, byKMS := s3ecWrapV2, []string{"kms", "kms+context"}
	byOthers := []string{
		"AES/GCM", "AESWrap", "RSA/ECB/OAEPWithSHA-256AndMGF1Padding", "RSA-OAEP-SHA1",
	}
	if key == s3ecKeyV3 {
		name, byKMS, byOthers = s3ecWrapV3, []string{"12"}, []string{"02", "22"}
	}
	switch wrap := values[name]; {
	case slices.Contains(byKMS, wrap):
		return nil
	case slices.Contains(byOthers, wrap):
		return refuse("s3ec-raw-key",
			"the data key is wrapped by a key of the client (%s %s) and not by KMS", name, wrap)
	}
	return malformedS3EC("%s has a value that the client is not known to write", name)
}

// s3ecContext returns the encryption context of a wrapped key. It is stored as one JSON
// object, which includes the entries that the client adds. In the third generation, the
// context may be missing; then it is empty.
func s3ecContext(
	key string, values map[string]string, read func(string) (string, *Refused),
) (map[string]string, *Refused) {
	name := s3ecContextV2
	if key == s3ecKeyV3 {
		name = s3ecContextV3
	}
	text, ok := values[name]
	switch {
	case text == "" && key == s3ecKeyV3:
		return nil, nil
	case !ok:
		return nil, refuse("missing-context",
			"the object does not have %s, which contains the encryption context", name)
	}
	text, refused := read(text)
	if refused != nil {
		return nil, refused
	}
	context, err := stringMap(text)
	if err != nil {
		return nil, malformedS3EC("%s is not one JSON object of strings: %v", name, err)
	}
	return context, nil
}

// stringMap parses a JSON object of strings. A duplicate name is an error, because readers
// differ in which value they use.
func stringMap(text string) (map[string]string, error) {
	if !utf8.ValidString(text) || !json.Valid([]byte(text)) || !gjson.Parse(text).IsObject() {
		return nil, fmt.Errorf("the value is not a JSON object")
	}
	var err error
	context := map[string]string{}
	gjson.Parse(text).ForEach(func(name, value gjson.Result) bool {
		if _, ok := context[name.Str]; ok {
			err = fmt.Errorf("a name is duplicate")
		}
		if value.Type != gjson.String {
			err = fmt.Errorf("a value is not a string")
		}
		context[name.Str] = value.Str
		return err == nil
	})
	for name, value := range context {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			err = fmt.Errorf("a name or value is not UTF-8")
		}
	}
	return context, err
}

func malformedS3EC(detail string, args ...any) *Refused {
	return refuse("s3ec-malformed", detail, args...)
}
