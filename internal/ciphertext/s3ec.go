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

// The names under which the Amazon S3 Encryption Client stores what it needs to
// read an object, as user metadata of the object or in an instruction file beside
// it (data-format/content-metadata.md of the S3 Encryption Client specification in
// github.com/awslabs/aws-encryption-sdk-specification).
const (
	s3ecKeyV1 = "x-amz-key" // a data key that KMS never saw
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
	// s3ecInstruction is the end of the key of an instruction file
	// (data-format/metadata-strategy.md of the same specification).
	s3ecInstruction = ".instruction"
	// s3ecInstructionMark is metadata that the clients of the Java SDK v1 give an
	// instruction file (Headers.CRYPTO_INSTRUCTION_FILE of aws-sdk-java).
	s3ecInstructionMark = "x-amz-crypto-instr-file"
	// maxMetadata is how much user metadata an object can have, the UTF-8 of names
	// and values taken together (Working with object metadata, Amazon S3).
	maxMetadata = 2048
)

// s3ecNames are the names on which a slot depends.
func s3ecNames() []string {
	return []string{s3ecKeyV1, s3ecIV, s3ecKeyV2, s3ecWrapV2, s3ecContextV2, s3ecKeyV3, s3ecWrapV3, s3ecContextV3}
}

// s3ec moves the data keys of objects that the Amazon S3 Encryption Client wrote:
// all generations that KMS has wrapped, in metadata and in instruction files. The
// data key stays the same, and with it the body, its key commitment and everything
// else that the client stored: nothing but the wrapped key changes. Of files it knows
// the copies of instruction files, since files have no metadata.
type s3ec struct {
	suffix       string // of the keys of instruction files, beside s3ecInstruction
	instructions *bodyFormat
}

var _ Format = (*s3ec)(nil)

func newS3EC(c *compiler) binder {
	f := &s3ec{
		suffix: cmp.Or(c.spec.InstructionSuffix, s3ecInstruction),
		instructions: &bodyFormat{
			name:  formatS3EC,
			sites: orUnread(instructionSites, markedInstruction),
		},
	}
	c.needsBody = func(key string, metadata map[string]string) bool {
		return !f.byMetadata(key, metadata)
	}
	c.metadata = append(c.metadata, s3ecMarks()...)
	return unbound(f)
}

// s3ecMarks are the entries of metadata by which an object is recognised.
func s3ecMarks() []string {
	return []string{
		s3ecInstructionMark, s3ecKeyV1, s3ecIV, s3ecKeyV2, s3ecKeyV3, s3ecCommitmentV3,
		s3ecMessageV3,
	}
}

// byMetadata reports whether an object is recognised only by its metadata,
// which is true for all objects except instruction files. The clients for PHP
// and Ruby write no mark in the metadata of instruction files, so these are
// recognised by name.
func (f *s3ec) byMetadata(key string, metadata map[string]string) bool {
	_, marked := metadata[s3ecInstructionMark]
	return s3ecMarked(metadata) ||
		!marked && !strings.HasSuffix(key, s3ecInstruction) && !strings.HasSuffix(key, f.suffix)
}

// recogniseS3EC is for format auto.
func recogniseS3EC(format Format, object *scan.Object) bool {
	if f, ok := format.(*s3ec); !ok || f.byMetadata(object.Key, object.Metadata) {
		return s3ecMarked(object.Metadata)
	}
	return len(instructionSites(object)) > 0
}

// s3ecMarked says that metadata holds a wrapped data key of any generation. The
// name of the second is the client's alone; those of the first and the third are
// short, and taken for its own only along with what stands beside them (Determining
// S3EC Object Status, content-metadata.md). An object whose wrapped key is in an
// instruction file is not marked.
func s3ecMarked(metadata map[string]string) bool {
	has := func(name string) bool { _, ok := metadata[name]; return ok }
	return has(s3ecKeyV2) || has(s3ecKeyV1) && has(s3ecIV) || has(s3ecKeyV3) && has(s3ecCommitmentV3) && has(s3ecMessageV3)
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
			return nil, fmt.Errorf("%d blobs for no slot", len(blobs))
		}
		return &changed, nil
	}
	if len(blobs) != 1 {
		return nil, fmt.Errorf("%d blobs for 1 slot", len(blobs))
	}
	slot, name, encode := metadataSlot(object.Metadata)
	if blobs[0] == nil || slot.Refused != nil || bytes.Equal(blobs[0], slot.Blob) {
		return &changed, nil
	}
	changed.Metadata = maps.Clone(object.Metadata)
	changed.Metadata[name] = string(encode(blobs[0]))
	if now := metadataSize(changed.Metadata); now > maxMetadata && now > metadataSize(object.Metadata) {
		return nil, fmt.Errorf("its user metadata would have %d bytes, more than the 2 KB that S3 takes", now)
	}
	return &changed, nil
}

func metadataSize(metadata map[string]string) (size int) {
	for name, value := range metadata {
		size += len(name) + len(value)
	}
	return size
}

// metadataSlot is the one slot of a marked object, the name under which its blob
// stands, and how to write another.
func metadataSlot(metadata map[string]string) (Slot, string, func([]byte) []byte) {
	name, slot, encode := s3ecSlot(metadata, fromS3)
	slot.Path = "metadata." + name
	if _, ok := metadata[s3ecIV]; slot.Refused == nil && name == s3ecKeyV2 && !ok {
		slot = Slot{Path: slot.Path, Refused: malformedS3EC("its metadata has %s without %s", s3ecKeyV2, s3ecIV)}
	}
	if slot.Refused == nil && name == s3ecKeyV3 && metadata[s3ecCipherV3] != "115" {
		slot = Slot{Path: slot.Path, Refused: malformedS3EC("its metadata has %s with another %s than 115", s3ecKeyV3, s3ecCipherV3)}
	}
	return slot, name, encode
}

// instructionSites finds the one slot of an instruction file: a JSON object whose
// members have the names that metadata would have. What is no such object is no
// instruction file, and has no slot.
func instructionSites(object *scan.Object) []editSite {
	if !gjson.ValidBytes(object.Body) || tooDeep(object.Body) || !utf8.Valid(object.Body) {
		return nil
	}
	members, values := map[string]gjson.Result{}, map[string]string{}
	var twice, odd string
	gjson.ParseBytes(object.Body).ForEach(func(name, value gjson.Result) bool {
		if !slices.Contains(s3ecNames(), name.Str) {
			return true
		}
		if _, ok := members[name.Str]; ok {
			twice = name.Str
		}
		members[name.Str], values[name.Str] = value, value.Str
		if value.Type != gjson.String {
			odd = name.Str
		}
		return true
	})
	has := func(name string) bool { _, ok := members[name]; return ok }
	if !has(s3ecKeyV2) && !(has(s3ecKeyV3) && has(s3ecWrapV3)) && !(has(s3ecKeyV1) && has(s3ecIV)) {
		return nil
	}
	name, slot, encode := s3ecSlot(values, asWritten)
	slot.Path = name
	switch start, end, ok := stringIn(object.Body, members[name]); {
	case twice != "":
		return []editSite{refusedSitef(name, "ambiguous", "the instruction file has %s twice", twice)}
	case odd != "":
		return []editSite{{Slot: Slot{Path: name, Refused: malformedS3EC("%s of the instruction file is not a string", odd)}}}
	case slot.Refused != nil:
		return []editSite{{Slot: slot}}
	case !ok:
		return []editSite{refusedSitef(name, "not-json", "%s could not be found again in the instruction file", name)}
	default:
		return []editSite{{Slot: slot, edits: []edit{{start: start, end: end, text: quoted(encode)}}}}
	}
}

// s3ecSlot reads a slot from names and values, wherever they stand; read undoes
// what the store did to the text of a context.
func s3ecSlot(values map[string]string, read func(string) (string, *Refused)) (name string, slot Slot, encode func([]byte) []byte) {
	var generations []string
	for _, key := range []string{s3ecKeyV1, s3ecKeyV2, s3ecKeyV3} {
		if _, ok := values[key]; ok {
			generations = append(generations, key)
		}
	}
	switch {
	case len(generations) > 1:
		return generations[0], Slot{Refused: &Refused{Reason: "ambiguous", Detail: "it has wrapped data keys of several generations of the S3 Encryption Client: " + strings.Join(generations, ", ")}}, nil
	case generations[0] == s3ecKeyV1:
		return s3ecKeyV1, Slot{Refused: &Refused{Reason: "s3ec-v1", Detail: "its data key is of the first generation of the S3 Encryption Client, wrapped by a key of the client's own: KMS cannot move it; read it and write it again with a client of today"}}, nil
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

// wrappedByKMS refuses data keys that anything but KMS has wrapped.
func wrappedByKMS(key string, values map[string]string) *Refused {
	name, byKMS := s3ecWrapV2, []string{"kms", "kms+context"}
	byOthers := []string{"AES/GCM", "AESWrap", "RSA/ECB/OAEPWithSHA-256AndMGF1Padding", "RSA-OAEP-SHA1"}
	if key == s3ecKeyV3 {
		name, byKMS, byOthers = s3ecWrapV3, []string{"12"}, []string{"02", "22"}
	}
	switch wrap := values[name]; {
	case slices.Contains(byKMS, wrap):
		return nil
	case slices.Contains(byOthers, wrap):
		return &Refused{Reason: "s3ec-raw-key", Detail: fmt.Sprintf("its data key is wrapped by a key of the client's own (%s %s), not by KMS, so there is nothing to move", name, wrap)}
	}
	return malformedS3EC("its %s is none that the client is known to write", name)
}

// s3ecContext is the encryption context of a wrapped key: all of it stands in one
// JSON object, the names that the client adds among the user's. An object of the
// third generation without one has none.
func s3ecContext(key string, values map[string]string, read func(string) (string, *Refused)) (map[string]string, *Refused) {
	name := s3ecContextV2
	if key == s3ecKeyV3 {
		name = s3ecContextV3
	}
	text, ok := values[name]
	switch {
	case text == "" && key == s3ecKeyV3:
		return nil, nil
	case !ok:
		return nil, &Refused{Reason: "missing-context", Detail: fmt.Sprintf("its encryption context should stand in %s, which it does not have", name)}
	}
	text, refused := read(text)
	if refused != nil {
		return nil, refused
	}
	context, err := stringMap(text)
	if err != nil {
		return nil, malformedS3EC("its %s is not one JSON object of strings: %v", name, err)
	}
	return context, nil
}

// stringMap reads a JSON object of strings. Readers differ in what they make of a
// name that stands there twice, so it is an error.
func stringMap(text string) (map[string]string, error) {
	if !utf8.ValidString(text) || !json.Valid([]byte(text)) || !gjson.Parse(text).IsObject() {
		return nil, fmt.Errorf("it is no JSON object")
	}
	var err error
	context := map[string]string{}
	gjson.Parse(text).ForEach(func(name, value gjson.Result) bool {
		if _, ok := context[name.Str]; ok {
			err = fmt.Errorf("a name stands there twice")
		}
		if value.Type != gjson.String {
			err = fmt.Errorf("a value is not a string")
		}
		context[name.Str] = value.Str
		return err == nil
	})
	for name, value := range context {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			err = fmt.Errorf("it is not UTF-8")
		}
	}
	return context, err
}

func malformedS3EC(detail string, args ...any) *Refused {
	return &Refused{Reason: "s3ec-malformed", Detail: fmt.Sprintf(detail, args...)}
}
