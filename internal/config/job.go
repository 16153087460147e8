// Package config reads a job file: strict YAML with ${env:NAME} expansion, defaults, and
// validation that reports all problems at once with file, line and column. It does not
// depend on stores, formats or AWS clients. Callers report problems that only they can
// detect with Job.Problem.
//
// The comments of the fields below are also the descriptions in the JSON Schema (see
// Schema). They address the author of a job file and state the meaning, unit and default of
// a field, and what it excludes.
package config

import (
	"fmt"
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
	DefaultSegment    = 32 * MiB // of the audit log
	MinSegment        = 64 * KiB
	MaxSegment        = 256 * MiB
	// DefaultStopAfter is small compared with any target. If 9 of 10 slots fail although
	// the job file is right, the probability that the first 50 slots all fail is 1 in 200.
	DefaultStopAfter = 50
	DefaultSearch    = SearchRead
	DefaultMode      = ModeMove
	DefaultBatches   = BatchAuto
	// DefaultAlgorithm is the only algorithm of symmetric keys (API_ReEncrypt).
	DefaultAlgorithm = "SYMMETRIC_DEFAULT"
)

// The values of Target.Search.
const (
	SearchRead = "read"
	SearchAll  = "all"
)

// The values of Job.Mode.
const (
	ModeMove    = "move"
	ModeRefresh = "refresh"
	ModeContext = "context"
)

// The values of Files.Mtime.
const (
	MtimeUpdate = "update"
	MtimeKeep   = "keep"
)

// The values of DynamoDB.BatchWrites.
const (
	BatchAuto  = "auto"
	BatchNever = "never"
)

// Job is a rotation: which ciphertexts to move, from which keys, to which key, and how fast.
type Job struct {
	// Name of the job: at most 64 letters, digits, "-", "_" and ".". The checkpoint is stored
	// under this name, so a job with a new name starts from the beginning. Required.
	Job string `yaml:"job" jsonschema:"required,minLength=1,maxLength=64,pattern=^[A-Za-z0-9][A-Za-z0-9._-]*$"`
	// What the job does. move: move ciphertexts from the source keys to the destination key.
	// refresh: move them to the newest key material of one key. context: change their
	// encryption context under one key. For refresh and context, source.keys contains only
	// the destination key. Default move.
	Mode string `yaml:"mode" jsonschema:"enum=move,enum=refresh,enum=context,default=move"`
	// Key to which ciphertexts are moved. Required.
	Destination Destination `yaml:"destination" jsonschema:"required"`
	// Keys from which ciphertexts are moved. Required.
	Source Source `yaml:"source" jsonschema:"required"`
	// Settings for requests to KMS.
	KMS KMS `yaml:"kms"`
	// Tables, buckets and directories to scan, at least one. Required.
	Targets []Target `yaml:"targets" jsonschema:"required,minItems=1"`
	// Where to store the state of a pass, so that a stopped run can resume. file:PATH is a
	// database on a local disk, for one run at a time. dynamodb://TABLE and
	// s3://BUCKET/PREFIX allow several runs on any machines at the same time; append
	// ?region=, ?endpoint= and ?role_arn= to override the AWS configuration. A relative path
	// is relative to the directory of the job file. Default file:.rotator/state.db.
	Checkpoint string `yaml:"checkpoint" jsonschema:"pattern=^(file:|dynamodb://|s3://).,default=file:.rotator/state.db"`
	// Time after which other runs take over the partitions of a run that no longer renews
	// its lease, at least 1s. Applies to a shared checkpoint. Default 30s.
	Lease Duration `yaml:"lease" jsonschema:"default=30s"`
	// Append-only file with one line per changed ciphertext. A relative path is relative to
	// the directory of the job file. If several runs share a checkpoint and a directory, each
	// run uses its own file. Default: JOB.audit.jsonl, where JOB is the name of the job, in
	// the directory of the checkpoint file or in .rotator.
	AuditLog string `yaml:"audit_log" jsonschema:"minLength=1"`
	// Size of the lines, in plain form, after which a segment of the audit log is closed and
	// compressed: 64KiB to 256MiB, in KiB or MiB. Default 32MiB.
	AuditLogSegment Size `yaml:"audit_log_segment" jsonschema:"default=32MiB"`
	// Where runs upload the closed segments of their audit logs: s3://BUCKET/PREFIX, or local
	// to upload none. Append ?region=, ?endpoint= and ?role_arn= to override the AWS
	// configuration. Default: evidence/ below the prefix of a checkpoint in S3, and local for
	// other checkpoints.
	Evidence string `yaml:"evidence" jsonschema:"pattern=^(s3://.+|local)$"`
	// Maximum number of chunks processed concurrently (25 items or one object each), 1 to
	// 4096. Default: tuned automatically to reach the rate, up to 1024.
	Workers int `yaml:"workers" jsonschema:"minimum=1,maximum=4096"`
	// How long a service may be unavailable before the run stops; it can be resumed later. A
	// number and a unit, such as 90s, 10m or 1h. Default 10m.
	MaxOutage Duration `yaml:"max_outage" jsonschema:"default=10m"`
	// Number of slots after which a run stops because the job file seems wrong. It stops if
	// the first slots of an entry of slots all have the same outcome for the same reason, and
	// a wrong context, format or key can cause this reason. 0 disables this check. Default 50.
	StopAfter int `yaml:"stop_after" jsonschema:"minimum=0,default=50"`
	// Known exceptions: slots in the ledger that are counted and listed as
	// accepted and do not make a command exit with 3. They do not change the
	// verdict on a key. Default: none.
	Accept []Accept `yaml:"accept"`
	// Data that a target of an earlier version of this file named, and that needs no source key
	// any more: it was deleted, or another job moved it. Without such a statement, ciphertexts
	// that were found there under a source key count for the verdict on the key. Default: none.
	Gone []Gone `yaml:"gone"`

	source source // position of each field in the file
}

// Destination is the key to which ciphertexts are moved.
type Destination struct {
	// Key ID, key ARN, alias name or alias ARN. A key of another account needs an ARN. It is
	// resolved once per pass. It can be a source key only with mode refresh or context.
	// Required.
	Key string `yaml:"key" jsonschema:"required,minLength=1"`
	// Encryption algorithm of the key. An RSA or SM2 key needs it. SM2PKE exists in
	// the China Regions only. Default SYMMETRIC_DEFAULT.
	Algorithm string `yaml:"algorithm" jsonschema:"enum=SYMMETRIC_DEFAULT,enum=RSAES_OAEP_SHA_1,enum=RSAES_OAEP_SHA_256,enum=SM2PKE,default=SYMMETRIC_DEFAULT"`
}

// Source is the keys from which ciphertexts are moved.
type Source struct {
	// Keys whose ciphertexts are moved: key IDs, key ARNs, alias names or alias ARNs.
	// Ciphertexts under other keys are not changed and are reported as foreign. Excludes any.
	Keys []string `yaml:"keys" jsonschema:"oneof_required=keys,minItems=1"`
	// Whether to move the ciphertexts of all keys that the caller may use. Excludes keys and
	// algorithms of asymmetric keys.
	Any bool `yaml:"any" jsonschema:"oneof_required=any"`
	// Encryption algorithm of all source keys. RSA and SM2 keys need it, and must be
	// listed in keys. SM2PKE exists in the China Regions only. Default
	// SYMMETRIC_DEFAULT.
	Algorithm string `yaml:"algorithm" jsonschema:"enum=SYMMETRIC_DEFAULT,enum=RSAES_OAEP_SHA_1,enum=RSAES_OAEP_SHA_256,enum=SM2PKE,default=SYMMETRIC_DEFAULT"`
}

// KMS is the settings for requests to KMS. ReEncrypt works within one Region.
type KMS struct {
	// Maximum number of ReEncrypt requests per second, including retries. All callers in the
	// account and Region share one quota, so choose a rate that leaves enough for them.
	// Default 1000, unless quota is set.
	Rate float64 `yaml:"rate" jsonschema:"exclusiveMinimum=0"`
	// Share of the account's quota for cryptographic operations, such as 60%, instead of a
	// rate. The quota is read when a command starts. Excludes rate.
	Quota Share `yaml:"quota" jsonschema:"pattern=^[0-9]+([.][0-9]+)?%$"`
	// Region of the keys. Default: the Region of the AWS configuration.
	Region string `yaml:"region"`
	// URL of the service. Default: the endpoint of the Region.
	Endpoint string `yaml:"endpoint" jsonschema:"format=uri"`
	// ARN of an IAM role to assume for KMS. Default: the identity of the caller.
	RoleARN string `yaml:"role_arn"`
	// Grant tokens for all requests, at most 10. They are secrets and are never printed; use
	// "${env:NAME}".
	GrantTokens GrantTokens `yaml:"grant_tokens" jsonschema:"maxItems=10"`
}

// QuotaShare returns Quota as a fraction of 1, or 0 if it is not set or not valid.
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

// Share is a percentage as written in the file.
type Share string

var quotaForm = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?%$`)

// Target is a table, bucket or directory to scan, and how its items store ciphertexts.
type Target struct {
	// Name of the target in reports and in the checkpoint, unique in the job. Default: the
	// table, bucket/prefix, or root.
	Name string `yaml:"name" jsonschema:"maxLength=255"`
	// A DynamoDB table. Excludes s3 and files.
	DynamoDB *DynamoDB `yaml:"dynamodb" jsonschema:"oneof_required=dynamodb"`
	// The objects of an S3 bucket. Excludes dynamodb and files.
	S3 *S3 `yaml:"s3" jsonschema:"oneof_required=s3"`
	// The files of a directory. Excludes dynamodb and s3.
	Files *Files `yaml:"files" jsonschema:"oneof_required=files"`
	// How ciphertexts are stored, such as raw, base64 or json. It applies to slots without a
	// format of their own, and is required if there is such a slot.
	Format string `yaml:"format"`
	// Locations in an item that hold one ciphertext each. Not used with a format that finds
	// its slots itself.
	Slots []Slot `yaml:"slots"`
	// Custom suffix of the names of instruction files, with format s3-encryption-client or
	// auto. Files that end in .instruction are always found. Default: none.
	InstructionSuffix string `yaml:"instruction_suffix" jsonschema:"minLength=1"`
	// Encryption context, or the part of it that the format cannot derive from the item, for
	// formats that find their slots themselves. A value may contain ${...}, which is replaced
	// by a value of the item. For other formats, set the context at the slot. Default: none.
	Context map[string]string `yaml:"context"`
	// Encryption context of the new ciphertext. {} means none. Default: same as context.
	DestinationContext map[string]string `yaml:"destination_context"`
	// Encryption contexts by name, for formats that store no context, such as
	// credstash.
	ContextFile *ContextFile `yaml:"context_file"`
	// Whether the target may contain no ciphertext. If false, a target in which no ciphertext
	// was found is not proven. Default false.
	MayBeEmpty bool `yaml:"may_be_empty" jsonschema:"default=false"`
	// Overrides stop_after of the job for this target. Default: the value of the job.
	StopAfter int `yaml:"stop_after" jsonschema:"minimum=0"`
	// Where to search for ciphertexts outside of slots. read: in the data that is read for
	// the format. all: also in attributes and bodies that the format does not need. Default
	// read.
	Search string `yaml:"search" jsonschema:"enum=read,enum=all,default=read"`
}

// VersionsReport is the value of S3.Versions with which audit and verify read old versions.
const VersionsReport = "report"

// ReadsVersions reports whether audit and verify read the old versions of the target.
func (t *Target) ReadsVersions() bool { return t.S3 != nil && t.S3.Versions == VersionsReport }

// VersionsOf returns the names of the targets whose old versions audit and verify read.
func (j *Job) VersionsOf() (names []string) {
	for i := range j.Targets {
		if j.Targets[i].ReadsVersions() {
			names = append(names, j.Targets[i].Name)
		}
	}
	return names
}

// Filter reports whether the job file excludes items of the target. complete is the reason
// in the job file why these items do not matter, or "".
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
	// File with an encryption context per name: YAML or JSON with a map of names to maps, or
	// CSV with the columns name, key, value. A relative path is relative to the directory of
	// the job file. Required.
	Path string `yaml:"path" jsonschema:"required,minLength=1"`
	// Name of an item in the file, such as "${name}". ${...} is replaced by a value of the
	// item. Names that are not in the file have the context of its entry "*", otherwise the
	// context of the target. If there is neither, the slot fails. Required.
	Name string `yaml:"name" jsonschema:"required,minLength=1"`
}

// Segments is a number of segments of a parallel scan.
type Segments int

// The numbers of segments for auto.
const (
	AutoSegments       Segments = 8
	AutoSharedSegments Segments = 64 // with a shared checkpoint

	segmentsAuto Segments = math.MinInt // auto, until setDefaults replaces it
	mostSegments Segments = 1_000_000
	autoWord              = "auto"
)

// DynamoDB is a table.
type DynamoDB struct {
	// Name or ARN of the table. Required.
	Table string `yaml:"table" jsonschema:"required,minLength=1"`
	// Number of segments of the parallel scan, 1 to 1,000,000, or auto. auto means 8, or 64 if
	// the checkpoint is in a table or a bucket, so that several runs can share the segments.
	// The number cannot change during a pass. Default auto.
	Segments Segments `yaml:"segments"`
	// Maximum number of read capacity units per second. Default: no limit.
	ReadCapacity float64 `yaml:"read_capacity" jsonschema:"exclusiveMinimum=0"`
	// Maximum number of write capacity units per second. Default: no limit.
	WriteCapacity float64 `yaml:"write_capacity" jsonschema:"exclusiveMinimum=0"`
	// Whether to update up to 25 items with one BatchExecuteStatement request. With
	// auto, batches are sent if a probe shows that the server checks the conditions of
	// such updates. With never, one UpdateItem request is sent for each item. Default
	// auto.
	BatchWrites string `yaml:"batch_writes" jsonschema:"enum=auto,enum=never,default=auto"`
	// Region of the table. Default: the Region of the AWS configuration.
	Region string `yaml:"region"`
	// Regions of the other replicas of a global table. Only rotator copies asks there, about the
	// backups, exports and streams of each replica. Default: none.
	Regions []string `yaml:"regions" jsonschema:"minItems=1"`
	// URL of the service. Default: the endpoint of the Region.
	Endpoint string `yaml:"endpoint" jsonschema:"format=uri"`
	// ARN of an IAM role to assume for this table. Default: the identity of the caller.
	RoleARN string `yaml:"role_arn"`
}

// S3 is a set of objects of a bucket.
type S3 struct {
	// Name of the bucket, or ARN of an access point of one Region. An access point cannot be
	// used with an endpoint. Required.
	Bucket string `yaml:"bucket" jsonschema:"required,minLength=1"`
	// Prefix of the keys of the objects. Default: the whole bucket.
	Prefix string `yaml:"prefix"`
	// Objects to scan, as globs for the part of the key after the last slash of prefix. * and
	// ? match characters other than a slash, ** any number of path segments, {a,b} either of
	// two texts, [a-z] one character. Default: all objects with the prefix.
	Include []string `yaml:"include" jsonschema:"minItems=1"`
	// Objects to exclude, as globs like those of include. A glob that matches a folder
	// excludes all objects in it. Default: none.
	Exclude []string `yaml:"exclude"`
	// Reason why the items that include and exclude leave out cannot hold a
	// ciphertext under a source key. Reports quote it. Without it no source key is
	// reported as safe to disable. Default: none.
	Complete string `yaml:"complete" jsonschema:"minLength=1,maxLength=500"`
	// report: audit and verify also read the old versions of the objects, which no run moves.
	// verify then exits with 4 if one of them is under a source key. Default: old versions are
	// not read.
	Versions string `yaml:"versions" jsonschema:"enum=report"`
	// Regular expression (Go syntax) for the key of an object. Contexts can use its named
	// groups. Default: none.
	KeyPattern string `yaml:"key_pattern" jsonschema:"format=regex"`
	// Region of the bucket. Default: the Region of the access point, or of the AWS
	// configuration.
	Region string `yaml:"region"`
	// URL of the service. Default: the endpoint of the Region.
	Endpoint string `yaml:"endpoint" jsonschema:"format=uri"`
	// ARN of an IAM role to assume for this bucket. Default: the identity of the caller.
	RoleARN string `yaml:"role_arn"`
}

// Files is the files of a directory tree. Symbolic links are not followed.
type Files struct {
	// Root directory of the files. A relative path is relative to the directory of the job
	// file. Required.
	Root string `yaml:"root" jsonschema:"required,minLength=1"`
	// Files to scan, as globs for the path relative to root. * and ? match characters other
	// than a slash, ** any number of path segments, {a,b} either of two texts, [a-z] one
	// character. Default: all files.
	Include []string `yaml:"include" jsonschema:"minItems=1"`
	// Files to exclude, as globs like those of include. A glob that matches a directory
	// excludes all files in it. Default: none.
	Exclude []string `yaml:"exclude"`
	// Reason why the items that include and exclude leave out cannot hold a
	// ciphertext under a source key. Reports quote it. Without it no source key is
	// reported as safe to disable. Default: none.
	Complete string `yaml:"complete" jsonschema:"minLength=1,maxLength=500"`
	// Modification time of a rewritten file. update: set it to the time of the write, so that
	// backups and builds detect the change. keep: do not change it. Default update.
	Mtime string `yaml:"mtime" jsonschema:"enum=update,enum=keep,default=update"`
	// Regular expression (Go syntax) for the path of a file relative to root. Contexts can use
	// its named groups. Default: none.
	KeyPattern string `yaml:"key_pattern" jsonschema:"format=regex"`
}

// Slot is a location in an item that holds one ciphertext.
type Slot struct {
	// Document path of the slot, such as ssn or profile.docs[*].key. Omit it if the whole body
	// of an object is the ciphertext.
	Path string `yaml:"path"`
	// Regular expression (Go syntax) with one group, which is the ciphertext, such as
	// DB_PASSWORD=(\S+). Used with format text.
	Pattern string `yaml:"pattern" json:",omitempty" jsonschema:"format=regex"`
	// How the ciphertext is stored. Default: the format of the target.
	Format string `yaml:"format"`
	// Whether the writer pads base64 or base64url: always or never. It applies to texts whose
	// length needs no padding. Default: the padding of the other texts of this slot, if they
	// agree.
	Padding string `yaml:"padding" json:"-" jsonschema:"enum=always,enum=never"`
	// Encryption context of the ciphertext. A value may contain ${...}, which is replaced by a
	// value of the item. Default: none.
	Context map[string]string `yaml:"context"`
	// Encryption context of the new ciphertext. {} means none. Default: same as context, or
	// none under an asymmetric key.
	DestinationContext map[string]string `yaml:"destination_context"`
	// Overrides stop_after of the target for this slot. Default: the value of the target.
	StopAfter int `yaml:"stop_after" json:"-" jsonschema:"minimum=0"`
	// Whether the slot may be missing in all items. If false, a slot for which no ciphertext was
	// found is not proven. Default false.
	MayBeEmpty bool `yaml:"may_be_empty" json:"-" jsonschema:"default=false"`
}

// Accept is a rule for known exceptions: failed or foreign slots of one target with a known
// reason. A slot that is under a source key, according to KMS or to the key token in its
// header, is never accepted.
type Accept struct {
	// Name of the target. Required.
	Target string `yaml:"target" jsonschema:"required,minLength=1"`
	// Items to which the rule applies: a glob like those of include for the key of an object
	// or the path of a file. For a table: a glob for the key of the item as printed in
	// reports, in which * matches any text and ? one character. Default: all items.
	Ref string `yaml:"ref" jsonschema:"minLength=1"`
	// Reasons of the ledger, such as archived or foreign-key. A conflict, a slot that
	// remains, and service-error cannot be accepted. Required.
	Reason []string `yaml:"reason" jsonschema:"required,minItems=1"`
	// Key of the slots: a key ID, key ARN, alias name or alias ARN. Default: any key other
	// than a source key, or an unknown key.
	Under string `yaml:"under" jsonschema:"minLength=1"`
	// Maximum number of slots. If there are more, the rule accepts none. Default: no
	// limit.
	Most int `yaml:"most" jsonschema:"minimum=1"`
	// Last day of the rule in UTC, such as 2027-03-31, at most one year from now. Default: no
	// end.
	Until string `yaml:"until" jsonschema:"format=date,pattern=^[0-9]{4}-[0-9]{2}-[0-9]{2}$"`
	// Reason for accepting these exceptions, for the report. Required.
	Because string `yaml:"because" jsonschema:"required,minLength=1,maxLength=500"`
}

// Gone names data of an earlier version of the job file that no longer needs a source key.
type Gone struct {
	// Name that the target had. It can still be the name of a target that is narrower now.
	// Required.
	Target string `yaml:"target" jsonschema:"required,minLength=1"`
	// Day in UTC from which the data is gone, such as 2026-11-20. Passes that began on a later
	// day are not covered. Required.
	Since string `yaml:"since" jsonschema:"required,format=date,minLength=10,maxLength=10"`
	// Reason why no caller needs a source key for this data, for the report. Required.
	Because string `yaml:"because" jsonschema:"required,minLength=1,maxLength=500"`
}

// Size is a number of bytes. In the file it has the unit KiB or MiB: 512KiB, 32MiB.
type Size int64

// The units of a Size.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
)

func (s Size) String() string {
	if s%MiB == 0 {
		return fmt.Sprintf("%dMiB", s/MiB)
	}
	return fmt.Sprintf("%dKiB", s/KiB)
}

// Duration is a duration in the syntax of Go: 90s, 10m, 1h30m.
type Duration time.Duration

func (d Duration) String() string { return time.Duration(d).String() }
