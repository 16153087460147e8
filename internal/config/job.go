// Package config reads a job file: strict YAML with ${env:NAME} expansion,
// defaults, and validation that reports every problem at once with its file,
// line and column. It knows no store, no format and no AWS client; what can be
// checked only against a service is checked elsewhere and pointed back into the
// file with Job.Problem.
//
// The comments of the fields below are also the descriptions in the JSON Schema
// (see Schema), so they speak to the author of a job file: meaning, unit,
// default, and what the field excludes.
package config

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The defaults of the fields that have one.
const (
	DefaultRate       = 1000 // ReEncrypt requests per second
	DefaultMaxOutage  = Duration(10 * time.Minute)
	DefaultCheckpoint = "file:.rotator/state.db"
	DefaultLease      = Duration(30 * time.Second)
	MinLease          = Duration(time.Second)
	DefaultMtime      = MtimeUpdate
	// DefaultStopAfter is small compared with any target. If 9 of 10 slots fail although
	// the job file is right, the probability that the first 50 slots all fail is 1 in 200.
	DefaultStopAfter = 50
	DefaultSearch    = SearchRead
	DefaultMode      = ModeMove
	DefaultBatches   = BatchAuto
	// DefaultAlgorithm is the only one of symmetric keys (API_ReEncrypt).
	DefaultAlgorithm = "SYMMETRIC_DEFAULT"
)

// What is searched for ciphertexts that no slot names.
const (
	SearchRead = "read"
	SearchAll  = "all"
)

// What a job does.
const (
	ModeMove    = "move"
	ModeRefresh = "refresh"
	ModeContext = "context"
)

// What becomes of the modification time of a rewritten file.
const (
	MtimeUpdate = "update"
	MtimeKeep   = "keep"
)

// Whether updates of a table are sent in batches.
const (
	BatchAuto  = "auto"
	BatchNever = "never"
)

// Job is one rotation: which ciphertexts are moved, from which keys, to which
// key, and how fast.
type Job struct {
	// Name of the job: letters, digits, "-", "_" and ".", at most 64. The
	// checkpoint is kept under it, so a new name starts from nothing. Required.
	Job string `yaml:"job" jsonschema:"required,minLength=1,maxLength=64,pattern=^[A-Za-z0-9][A-Za-z0-9._-]*$"`
	// What the job does: move, from the source keys to the destination key; refresh,
	// to the newest material of one key; or context, to another encryption context
	// under one key. For refresh and context, source.keys names the destination key
	// alone. Default move.
	Mode string `yaml:"mode" jsonschema:"enum=move,enum=refresh,enum=context,default=move"`
	// Where ciphertexts are moved to. Required.
	Destination Destination `yaml:"destination" jsonschema:"required"`
	// Which ciphertexts are moved. Required.
	Source Source `yaml:"source" jsonschema:"required"`
	// How KMS is called.
	KMS KMS `yaml:"kms"`
	// The places to scan, at least one. Required.
	Targets []Target `yaml:"targets" jsonschema:"required,minItems=1"`
	// Where the state of a pass is kept, so that a stopped run can go on:
	// file:PATH, a database on a local disk, for one run at a time; or
	// dynamodb://TABLE or s3://BUCKET/PREFIX, for any number of runs on any
	// machines, with ?region=, ?endpoint= and ?role_arn= behind it where they
	// are not those of the AWS configuration. A relative path starts at the
	// directory of the job file. Default file:.rotator/state.db.
	Checkpoint string `yaml:"checkpoint" jsonschema:"pattern=^(file:|dynamodb://|s3://).,default=file:.rotator/state.db"`
	// How long a run that shares its checkpoint may be silent until the others
	// take its partitions over, at least 1s. Default 30s.
	Lease Duration `yaml:"lease" jsonschema:"default=30s"`
	// File that gets one line for every ciphertext changed, append only. A
	// relative path starts at the directory of the job file. Runs that share a
	// checkpoint and a directory each take one of their own. Default: the name
	// of the job and .audit.jsonl, beside the checkpoint, or in .rotator.
	AuditLog string `yaml:"audit_log" jsonschema:"minLength=1"`
	// Most chunks worked on at once, of 25 items or one object, 1 to 4096.
	// Default: as many as it takes to send requests at the rate, found out while
	// running, up to 1024.
	Workers int `yaml:"workers" jsonschema:"minimum=1,maximum=4096"`
	// How long a service may stay unavailable before the run stops, to be
	// resumed later: a number and a unit, such as 90s, 10m or 1h. Default 10m.
	MaxOutage Duration `yaml:"max_outage" jsonschema:"default=10m"`
	// Number of slots after which a run stops because the job file seems wrong. A run stops
	// if the first slots of an entry of slots all have the same outcome, for the same reason,
	// and a wrong context, format or key can cause this reason. 0 turns this off. Default 50.
	StopAfter int `yaml:"stop_after" jsonschema:"minimum=0,default=50"`
	// Known exceptions: slots in the ledger that are counted and listed as
	// accepted and do not make a command exit with 3. They do not change the
	// verdict on a key. Default: none.
	Accept []Accept `yaml:"accept"`

	source source // where each field stands in the file
}

// Destination is the key under which every ciphertext stands afterwards.
type Destination struct {
	// Key id, key ARN, alias name or alias ARN; another account's key needs an
	// ARN. It is resolved once per pass. It can be a source key only with mode
	// refresh or context. Required.
	Key string `yaml:"key" jsonschema:"required,minLength=1"`
	// Encryption algorithm of the key. An RSA or SM2 key needs it. SM2PKE exists in
	// the China Regions only. Default SYMMETRIC_DEFAULT.
	Algorithm string `yaml:"algorithm" jsonschema:"enum=SYMMETRIC_DEFAULT,enum=RSAES_OAEP_SHA_1,enum=RSAES_OAEP_SHA_256,enum=SM2PKE,default=SYMMETRIC_DEFAULT"`
}

// Source says under which keys a ciphertext must stand in order to be moved.
type Source struct {
	// Keys whose ciphertexts are moved: key ids, key ARNs, alias names or alias
	// ARNs. All others are left alone and reported as foreign. Excludes any.
	Keys []string `yaml:"keys" jsonschema:"oneof_required=keys,minItems=1"`
	// Move the ciphertexts of every key that KMS lets the caller use. Excludes
	// keys, and the algorithm of an asymmetric key.
	Any bool `yaml:"any" jsonschema:"oneof_required=any"`
	// Encryption algorithm of all source keys. RSA and SM2 keys need it, and must be
	// listed in keys. SM2PKE exists in the China Regions only. Default
	// SYMMETRIC_DEFAULT.
	Algorithm string `yaml:"algorithm" jsonschema:"enum=SYMMETRIC_DEFAULT,enum=RSAES_OAEP_SHA_1,enum=RSAES_OAEP_SHA_256,enum=SM2PKE,default=SYMMETRIC_DEFAULT"`
}

// KMS says how KMS is called. ReEncrypt works within one Region.
type KMS struct {
	// Most ReEncrypt requests per second, retries included. They draw on the
	// quota that everybody in the account and Region shares, so leave room for
	// the rest. Default 1000, unless quota is given.
	Rate float64 `yaml:"rate" jsonschema:"exclusiveMinimum=0"`
	// Instead of rate: share of the account's quota for cryptographic operations,
	// such as 60%. The quota is read when a command starts. Excludes rate.
	Quota Share `yaml:"quota" jsonschema:"pattern=^[0-9]+([.][0-9]+)?%$"`
	// Region of the keys. Default: that of the AWS configuration.
	Region string `yaml:"region"`
	// URL of the service, instead of the one of the Region.
	Endpoint string `yaml:"endpoint" jsonschema:"format=uri"`
	// ARN of an IAM role to assume for KMS, instead of the caller's identity.
	RoleARN string `yaml:"role_arn"`
	// Grant tokens to send along, at most 10. They are secrets and never
	// printed: write "${env:NAME}".
	GrantTokens GrantTokens `yaml:"grant_tokens" jsonschema:"maxItems=10"`
}

// QuotaShare is Quota as a share of 1; 0 when there is none.
func (k *KMS) QuotaShare() float64 {
	if !quotaForm.MatchString(string(k.Quota)) {
		return 0
	}
	percent, err := strconv.ParseFloat(strings.TrimSuffix(string(k.Quota), "%"), 64)
	if err != nil {
		return 0
	}
	return percent / 100
}

// Share is a percentage, as it is written in the file.
type Share string

var quotaForm = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?%$`)

// Target is one place to scan, and how ciphertexts hide in its items.
type Target struct {
	// Name in reports and in the checkpoint, unique in the job. Default: the
	// table, bucket/prefix, or root.
	Name string `yaml:"name" jsonschema:"maxLength=255"`
	// A DynamoDB table. Excludes s3 and files.
	DynamoDB *DynamoDB `yaml:"dynamodb" jsonschema:"oneof_required=dynamodb"`
	// The objects of an S3 bucket. Excludes dynamodb and files.
	S3 *S3 `yaml:"s3" jsonschema:"oneof_required=s3"`
	// The files of a directory. Excludes dynamodb and s3.
	Files *Files `yaml:"files" jsonschema:"oneof_required=files"`
	// How ciphertexts are stored, such as raw, base64 or json. Holds for the
	// slots that have none of their own. Required where one has none.
	Format string `yaml:"format"`
	// The places in an item that hold one ciphertext each. Left out with a format
	// that knows its own places.
	Slots []Slot `yaml:"slots"`
	// With format s3-encryption-client or auto: custom suffix of the names of
	// instruction files. Files that end in .instruction are always found. Default:
	// none.
	InstructionSuffix string `yaml:"instruction_suffix" jsonschema:"minLength=1"`
	// Encryption context, or a part of it, that a format which knows its own places
	// cannot know by itself. A value is a constant or takes ${...} from the item.
	// With slots it is written at the slot instead. Default: none.
	Context map[string]string `yaml:"context"`
	// The same, as it shall be afterwards; {} means none. Default: the same as
	// context.
	DestinationContext map[string]string `yaml:"destination_context"`
	// Encryption contexts by name, for formats that store no context, such as
	// credstash.
	ContextFile *ContextFile `yaml:"context_file"`
	// Whether the target may hold no ciphertext. If false, a target in which no
	// ciphertext was found is not proven. Default false.
	MayBeEmpty bool `yaml:"may_be_empty" jsonschema:"default=false"`
	// Like stop_after of the job, for this target. Default: the value of the job.
	StopAfter int `yaml:"stop_after" jsonschema:"minimum=0"`
	// Where to search for ciphertexts that no slot names: read, in everything that
	// is read anyway; or all, also in attributes and bodies that the format does
	// not need. Default read.
	Search string `yaml:"search" jsonschema:"enum=read,enum=all,default=read"`
}

// Filter reports whether the job file leaves out items of the target. complete
// is the reason in the job file why these cannot matter, or "".
func (t *Target) Filter() (hides bool, complete string) {
	switch {
	case t.S3 != nil:
		return len(t.S3.Include)+len(t.S3.Exclude) > 0, t.S3.Complete
	case t.Files != nil:
		return len(t.Files.Include)+len(t.Files.Exclude) > 0, t.Files.Complete
	}
	return false, ""
}

// ContextFile is a file with encryption contexts by name.
type ContextFile struct {
	// File that gives each name its encryption context: YAML or JSON, a map of
	// names to maps, or CSV with the columns name, key, value. A relative path
	// starts at the directory of the job file. Required.
	Path string `yaml:"path" jsonschema:"required,minLength=1"`
	// The name under which an item stands there, such as "${name}"; it takes
	// ${...} from the item. Names that are not in the file have the context of its
	// entry "*", or else that of the target, and fail if there is neither.
	// Required.
	Name string `yaml:"name" jsonschema:"required,minLength=1"`
}

// Segments is a number of segments of a parallel scan.
type Segments int

// The numbers of segments that auto stands for.
const (
	AutoSegments       Segments = 8
	AutoSharedSegments Segments = 64 // if several runs can share the pass

	segmentsAuto Segments = math.MinInt // auto, before it is replaced by a number
	mostSegments Segments = 1_000_000
	autoWord              = "auto"
)

// DynamoDB names a table.
type DynamoDB struct {
	// Name or ARN of the table. Required.
	Table string `yaml:"table" jsonschema:"required,minLength=1"`
	// Number of segments of the parallel scan, 1 to 1,000,000, or auto. auto means 8, or
	// 64 if the checkpoint is in a table or a bucket, so that several runs can share
	// them. The number cannot change during a pass. Default auto.
	Segments Segments `yaml:"segments"`
	// Most read capacity units per second. Default: no limit.
	ReadCapacity float64 `yaml:"read_capacity" jsonschema:"exclusiveMinimum=0"`
	// Most write capacity units per second. Default: no limit.
	WriteCapacity float64 `yaml:"write_capacity" jsonschema:"exclusiveMinimum=0"`
	// Whether to update up to 25 items with one BatchExecuteStatement request. With
	// auto, batches are sent if a probe shows that the server checks the conditions of
	// such updates. With never, one UpdateItem request is sent for each item. Default
	// auto.
	BatchWrites string `yaml:"batch_writes" jsonschema:"enum=auto,enum=never,default=auto"`
	// Region of the table. Default: that of the AWS configuration.
	Region string `yaml:"region"`
	// URL of the service, instead of the one of the Region.
	Endpoint string `yaml:"endpoint" jsonschema:"format=uri"`
	// ARN of an IAM role to assume for this table, instead of the caller's
	// identity.
	RoleARN string `yaml:"role_arn"`
}

// S3 names a set of objects.
type S3 struct {
	// Name of the bucket, or ARN of an access point of one Region, which cannot be
	// used with an endpoint. Required.
	Bucket string `yaml:"bucket" jsonschema:"required,minLength=1"`
	// Beginning of the keys of the objects. Default: the whole bucket.
	Prefix string `yaml:"prefix"`
	// Objects to scan: globs over the part of the key after the last slash of
	// prefix. * and ? match characters other than a slash, ** any number of path
	// segments, {a,b} either of two texts, [a-z] one character. Default: all
	// objects under the prefix.
	Include []string `yaml:"include" jsonschema:"minItems=1"`
	// Objects to leave out: globs as in include. A glob that matches a folder
	// leaves out everything in it. Default: none.
	Exclude []string `yaml:"exclude"`
	// Reason why the items that include and exclude leave out cannot hold a
	// ciphertext under a source key. Reports quote it. Without it no source key is
	// reported as safe to disable. Default: none.
	Complete string `yaml:"complete" jsonschema:"minLength=1,maxLength=500"`
	// Regular expression (Go syntax) over the key of an object; its named
	// groups can be used in contexts. Default: none.
	KeyPattern string `yaml:"key_pattern" jsonschema:"format=regex"`
	// Region of the bucket. Default: that of an access point, or of the AWS
	// configuration.
	Region string `yaml:"region"`
	// URL of the service, instead of the one of the Region.
	Endpoint string `yaml:"endpoint" jsonschema:"format=uri"`
	// ARN of an IAM role to assume for this bucket, instead of the caller's
	// identity.
	RoleARN string `yaml:"role_arn"`
}

// Files names a set of files. Symbolic links are not followed.
type Files struct {
	// Directory that holds the files, and directories with files. A relative path
	// starts at the directory of the job file. Required.
	Root string `yaml:"root" jsonschema:"required,minLength=1"`
	// Which files: globs over the path below root, in which * and ? stand for what
	// is in one name, ** for any number of directories, {a,b} for either, [a-z] for
	// one of these. Default: all files.
	Include []string `yaml:"include" jsonschema:"minItems=1"`
	// Which of them not: globs as in include. What matches a directory leaves out
	// all that is in it. Default: none.
	Exclude []string `yaml:"exclude"`
	// Reason why the items that include and exclude leave out cannot hold a
	// ciphertext under a source key. Reports quote it. Without it no source key is
	// reported as safe to disable. Default: none.
	Complete string `yaml:"complete" jsonschema:"minLength=1,maxLength=500"`
	// Modification time of a file that was rewritten: update, so that backups and
	// builds see the change, or keep. Default update.
	Mtime string `yaml:"mtime" jsonschema:"enum=update,enum=keep,default=update"`
	// Regular expression (Go syntax) over the path of a file below root; its named
	// groups can be used in contexts. Default: none.
	KeyPattern string `yaml:"key_pattern" jsonschema:"format=regex"`
}

// Slot is a place in an item that holds one ciphertext.
type Slot struct {
	// Document path of the place, such as ssn or profile.docs[*].key. Left out
	// where the whole body of an object is the ciphertext.
	Path string `yaml:"path"`
	// With format text: regular expression (Go syntax) with one group, which is the
	// ciphertext, such as DB_PASSWORD=(\S+).
	Pattern string `yaml:"pattern" json:",omitempty" jsonschema:"format=regex"`
	// How the ciphertext is stored. Default: the format of the target.
	Format string `yaml:"format"`
	// With base64 and base64url: whether the writer pads, always or never. It
	// applies to texts that need no padding and so do not show it. Default: that
	// of the other texts of this slot, if they agree.
	Padding string `yaml:"padding" json:"-" jsonschema:"enum=always,enum=never"`
	// Encryption context under which the ciphertext stands. A value is a
	// constant or takes ${...} from the item. Default: none.
	Context map[string]string `yaml:"context"`
	// Encryption context under which it shall stand afterwards; {} means none.
	// Default: the same as context, or none under an asymmetric key.
	DestinationContext map[string]string `yaml:"destination_context"`
	// Like stop_after of the job, for this slot. Default: the value of the target.
	StopAfter int `yaml:"stop_after" json:"-" jsonschema:"minimum=0"`
	// Whether all items may lack this slot. If false, a slot for which no
	// ciphertext was found is not proven. Default false.
	MayBeEmpty bool `yaml:"may_be_empty" json:"-" jsonschema:"default=false"`
}

// Accept is a rule for known exceptions: failed or foreign slots of one target
// with a known reason. A slot that KMS or the key token in its header reports
// to be under a source key is never accepted.
type Accept struct {
	// Name of the target. Required.
	Target string `yaml:"target" jsonschema:"required,minLength=1"`
	// Items to which the rule applies: a glob over the key of an object or the
	// path of a file, as in include. For a table: a glob over the key of the item
	// as reports print it, in which * matches any text and ? one character.
	// Default: all items.
	Ref string `yaml:"ref" jsonschema:"minLength=1"`
	// Reasons of the ledger, such as archived or foreign-key. A conflict, a slot that
	// remains, and service-error cannot be accepted. Required.
	Reason []string `yaml:"reason" jsonschema:"required,minItems=1"`
	// Key under which the slots are: a key id, key ARN, alias name or alias ARN.
	// Default: any key other than a source key, or an unknown key.
	Under string `yaml:"under" jsonschema:"minLength=1"`
	// Maximum number of slots. If there are more, the rule accepts none. Default: no
	// limit.
	Most int `yaml:"most" jsonschema:"minimum=1"`
	// Last day of the rule, in UTC, such as 2027-03-31; at most one year from now.
	// Default: no end.
	Until string `yaml:"until" jsonschema:"format=date,pattern=^[0-9]{4}-[0-9]{2}-[0-9]{2}$"`
	// Reason for accepting these exceptions, for the report. Required.
	Because string `yaml:"because" jsonschema:"required,minLength=1,maxLength=500"`
}

// Duration is a span of time, written as Go writes it: 90s, 10m, 1h30m.
type Duration time.Duration

func (d Duration) String() string { return time.Duration(d).String() }
