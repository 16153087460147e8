// Code generated from the comments of job.go by go test -update; DO NOT EDIT.

package config

// description returns the comment of a type, such as Job, or of one of its fields.
func description(name, field string) string {
	switch name {
	case "Job":
		return describeJob(field)
	case "Destination":
		return describeDestination(field)
	case "Source":
		return describeSource(field)
	case "KMS":
		return describeKMS(field)
	case "Target":
		return describeTarget(field)
	case "ContextFile":
		return describeContextFile(field)
	case "DynamoDB":
		return describeDynamoDB(field)
	case "S3":
		return describeS3(field)
	case "Files":
		return describeFiles(field)
	case "Slot":
		return describeSlot(field)
	case "Accept":
		return describeAccept(field)
	case "Gone":
		return describeGone(field)
	}
	return ""
}

func describeJob(field string) string {
	switch field {
	case "":
		return "Job is a rotation: which ciphertexts to move, from which keys, to which key, and how fast."
	case "Job":
		return "Name of the job: at most 64 letters, digits, \"-\", \"_\" and \".\". The checkpoint is stored under this name, so a job with a new name starts from the beginning. Required."
	case "Mode":
		return "What the job does. move: move ciphertexts from the source keys to the destination key. refresh: move them to the newest key material of one key. context: change their encryption context under one key. For refresh and context, source.keys contains only the destination key. Default move."
	case "Destination":
		return "Key to which ciphertexts are moved. Required."
	case "Source":
		return "Keys from which ciphertexts are moved. Required."
	case "KMS":
		return "Settings for requests to KMS."
	case "Targets":
		return "Tables, buckets and directories to scan, at least one. Required."
	case "Checkpoint":
		return "Where to store the state of a pass, so that a stopped run can resume. file:PATH is a database on a local disk, for one run at a time. dynamodb://TABLE and s3://BUCKET/PREFIX allow several runs on any machines at the same time; append ?region=, ?endpoint= and ?role_arn= to override the AWS configuration. A relative path is relative to the directory of the job file. Default file:.rotator/state.db."
	case "Lease":
		return "Time after which other runs take over the partitions of a run that no longer renews its lease, at least 1s. Applies to a shared checkpoint. Default 30s."
	case "AuditLog":
		return "Append-only file with one line per changed ciphertext. A relative path is relative to the directory of the job file. If several runs share a checkpoint and a directory, each run uses its own file. Default: JOB.audit.jsonl, where JOB is the name of the job, in the directory of the checkpoint file or in .rotator."
	case "AuditLogSegment":
		return "Size of the lines, in plain form, after which a segment of the audit log is closed and compressed: 64KiB to 256MiB, in KiB or MiB. Default 32MiB."
	case "Evidence":
		return "Where runs upload the closed segments of their audit logs: s3://BUCKET/PREFIX, or local to upload none. Append ?region=, ?endpoint= and ?role_arn= to override the AWS configuration. Default: evidence/ below the prefix of a checkpoint in S3, and local for other checkpoints."
	case "Workers":
		return "Maximum number of chunks processed concurrently (25 items or one object each), 1 to 4096. Default: tuned automatically to reach the rate, up to 1024."
	case "MaxOutage":
		return "How long a service may be unavailable before the run stops; it can be resumed later. A number and a unit, such as 90s, 10m or 1h. Default 10m."
	case "StopAfter":
		return "Number of slots after which a run stops because the job file seems wrong. It stops if the first slots of an entry of slots all have the same outcome for the same reason, and a wrong context, format or key can cause this reason. 0 disables this check. Default 50."
	case "Accept":
		return "Known exceptions: slots in the ledger that are counted and listed as accepted and do not make a command exit with 3. They do not change the verdict on a key. Default: none."
	case "Gone":
		return "Data that a target of an earlier version of this file named, and that needs no source key any more: it was deleted, or another job moved it. Without such a statement, ciphertexts that were found there under a source key count for the verdict on the key. Default: none."
	}
	return ""
}

func describeDestination(field string) string {
	switch field {
	case "":
		return "Destination is the key to which ciphertexts are moved."
	case "Key":
		return "Key ID, key ARN, alias name or alias ARN. A key of another account needs an ARN. It is resolved once per pass. It can be a source key only with mode refresh or context. Required."
	case "Algorithm":
		return "Encryption algorithm of the key. An RSA or SM2 key needs it. SM2PKE exists in the China Regions only. Default SYMMETRIC_DEFAULT."
	}
	return ""
}

func describeSource(field string) string {
	switch field {
	case "":
		return "Source is the keys from which ciphertexts are moved."
	case "Keys":
		return "Keys whose ciphertexts are moved: key IDs, key ARNs, alias names or alias ARNs. Ciphertexts under other keys are not changed and are reported as foreign. Excludes any."
	case "Any":
		return "Whether to move the ciphertexts of all keys that the caller may use. Excludes keys and algorithms of asymmetric keys."
	case "Algorithm":
		return "Encryption algorithm of all source keys. RSA and SM2 keys need it, and must be listed in keys. SM2PKE exists in the China Regions only. Default SYMMETRIC_DEFAULT."
	}
	return ""
}

func describeKMS(field string) string {
	switch field {
	case "":
		return "KMS is the settings for requests to KMS. ReEncrypt works within one Region."
	case "Rate":
		return "Maximum number of ReEncrypt requests per second, including retries. All callers in the account and Region share one quota, so choose a rate that leaves enough for them. Default 1000, unless quota is set."
	case "Quota":
		return "Share of the account's quota for cryptographic operations, such as 60%, instead of a rate. The quota is read when a command starts. Excludes rate."
	case "Region":
		return "Region of the keys. Default: the Region of the AWS configuration."
	case "Endpoint":
		return "URL of the service. Default: the endpoint of the Region."
	case "RoleARN":
		return "ARN of an IAM role to assume for KMS. Default: the identity of the caller."
	case "GrantTokens":
		return "Grant tokens for all requests, at most 10. They are secrets and are never printed; use \"${env:NAME}\"."
	}
	return ""
}

func describeTarget(field string) string {
	switch field {
	case "":
		return "Target is a table, bucket or directory to scan, and how its items store ciphertexts."
	case "Name":
		return "Name of the target in reports and in the checkpoint, unique in the job. Default: the table, bucket/prefix, or root."
	case "DynamoDB":
		return "A DynamoDB table. Excludes s3 and files."
	case "S3":
		return "The objects of an S3 bucket. Excludes dynamodb and files."
	case "Files":
		return "The files of a directory. Excludes dynamodb and s3."
	case "Format":
		return "How ciphertexts are stored, such as raw, base64 or json. It applies to slots without a format of their own, and is required if there is such a slot."
	case "Slots":
		return "Locations in an item that hold one ciphertext each. Not used with a format that finds its slots itself."
	case "InstructionSuffix":
		return "Custom suffix of the names of instruction files, with format s3-encryption-client or auto. Files that end in .instruction are always found. Default: none."
	case "Context":
		return "Encryption context, or the part of it that the format cannot derive from the item, for formats that find their slots themselves. A value may contain ${...}, which is replaced by a value of the item. For other formats, set the context at the slot. Default: none."
	case "DestinationContext":
		return "Encryption context of the new ciphertext. {} means none. Default: same as context."
	case "ContextFile":
		return "Encryption contexts by name, for formats that store no context, such as credstash."
	case "MayBeEmpty":
		return "Whether the target may contain no ciphertext. If false, a target in which no ciphertext was found is not proven. Default false."
	case "StopAfter":
		return "Overrides stop_after of the job for this target. Default: the value of the job."
	case "Search":
		return "Where to search for ciphertexts outside of slots. read: in the data that is read for the format. all: also in attributes and bodies that the format does not need. Default read."
	}
	return ""
}

func describeContextFile(field string) string {
	switch field {
	case "":
		return "ContextFile is a file with encryption contexts by name."
	case "Path":
		return "File with an encryption context per name: YAML or JSON with a map of names to maps, or CSV with the columns name, key, value. A relative path is relative to the directory of the job file. Required."
	case "Name":
		return "Name of an item in the file, such as \"${name}\". ${...} is replaced by a value of the item. Names that are not in the file have the context of its entry \"*\", otherwise the context of the target. If there is neither, the slot fails. Required."
	}
	return ""
}

func describeDynamoDB(field string) string {
	switch field {
	case "":
		return "DynamoDB is a table."
	case "Table":
		return "Name or ARN of the table. Required."
	case "Segments":
		return "Number of segments of the parallel scan, 1 to 1,000,000, or auto. auto means 8, or 64 if the checkpoint is in a table or a bucket, so that several runs can share the segments. The number cannot change during a pass. Default auto."
	case "ReadCapacity":
		return "Maximum number of read capacity units per second. Default: no limit."
	case "WriteCapacity":
		return "Maximum number of write capacity units per second. Default: no limit."
	case "BatchWrites":
		return "Whether to update up to 25 items with one BatchExecuteStatement request. With auto, batches are sent if a probe shows that the server checks the conditions of such updates. With never, one UpdateItem request is sent for each item. Default auto."
	case "Region":
		return "Region of the table. Default: the Region of the AWS configuration."
	case "Regions":
		return "Regions of the other replicas of a global table. Only rotator copies asks there, about the backups, exports and streams of each replica. Default: none."
	case "Endpoint":
		return "URL of the service. Default: the endpoint of the Region."
	case "RoleARN":
		return "ARN of an IAM role to assume for this table. Default: the identity of the caller."
	}
	return ""
}

func describeS3(field string) string {
	switch field {
	case "":
		return "S3 is a set of objects of a bucket."
	case "Bucket":
		return "Name of the bucket, or ARN of an access point of one Region. An access point cannot be used with an endpoint. Required."
	case "Prefix":
		return "Prefix of the keys of the objects. Default: the whole bucket."
	case "Include":
		return "Objects to scan, as globs for the part of the key after the last slash of prefix. * and ? match characters other than a slash, ** any number of path segments, {a,b} either of two texts, [a-z] one character. Default: all objects with the prefix."
	case "Exclude":
		return "Objects to exclude, as globs like those of include. A glob that matches a folder excludes all objects in it. Default: none."
	case "Complete":
		return "Reason why the items that include and exclude leave out cannot hold a ciphertext under a source key. Reports quote it. Without it no source key is reported as safe to disable. Default: none."
	case "Versions":
		return "report: audit and verify also read the old versions of the objects, which no run moves. verify then exits with 4 if one of them is under a source key. Default: old versions are not read."
	case "KeyPattern":
		return "Regular expression (Go syntax) for the key of an object. Contexts can use its named groups. Default: none."
	case "Region":
		return "Region of the bucket. Default: the Region of the access point, or of the AWS configuration."
	case "Endpoint":
		return "URL of the service. Default: the endpoint of the Region."
	case "RoleARN":
		return "ARN of an IAM role to assume for this bucket. Default: the identity of the caller."
	}
	return ""
}

func describeFiles(field string) string {
	switch field {
	case "":
		return "Files is the files of a directory tree. Symbolic links are not followed."
	case "Root":
		return "Root directory of the files. A relative path is relative to the directory of the job file. Required."
	case "Include":
		return "Files to scan, as globs for the path relative to root. * and ? match characters other than a slash, ** any number of path segments, {a,b} either of two texts, [a-z] one character. Default: all files."
	case "Exclude":
		return "Files to exclude, as globs like those of include. A glob that matches a directory excludes all files in it. Default: none."
	case "Complete":
		return "Reason why the items that include and exclude leave out cannot hold a ciphertext under a source key. Reports quote it. Without it no source key is reported as safe to disable. Default: none."
	case "Mtime":
		return "Modification time of a rewritten file. update: set it to the time of the write, so that backups and builds detect the change. keep: do not change it. Default update."
	case "KeyPattern":
		return "Regular expression (Go syntax) for the path of a file relative to root. Contexts can use its named groups. Default: none."
	}
	return ""
}

func describeSlot(field string) string {
	switch field {
	case "":
		return "Slot is a location in an item that holds one ciphertext."
	case "Path":
		return "Document path of the slot, such as ssn or profile.docs[*].key. Omit it if the whole body of an object is the ciphertext."
	case "Pattern":
		return "Regular expression (Go syntax) with one group, which is the ciphertext, such as DB_PASSWORD=(\\S+). Used with format text."
	case "Format":
		return "How the ciphertext is stored. Default: the format of the target."
	case "Padding":
		return "Whether the writer pads base64 or base64url: always or never. It applies to texts whose length needs no padding. Default: the padding of the other texts of this slot, if they agree."
	case "Context":
		return "Encryption context of the ciphertext. A value may contain ${...}, which is replaced by a value of the item. Default: none."
	case "DestinationContext":
		return "Encryption context of the new ciphertext. {} means none. Default: same as context, or none under an asymmetric key."
	case "StopAfter":
		return "Overrides stop_after of the target for this slot. Default: the value of the target."
	case "MayBeEmpty":
		return "Whether the slot may be missing in all items. If false, a slot for which no ciphertext was found is not proven. Default false."
	}
	return ""
}

func describeAccept(field string) string {
	switch field {
	case "":
		return "Accept is a rule for known exceptions: failed or foreign slots of one target with a known reason. A slot that is under a source key, according to KMS or to the key token in its header, is never accepted."
	case "Target":
		return "Name of the target. Required."
	case "Ref":
		return "Items to which the rule applies: a glob like those of include for the key of an object or the path of a file. For a table: a glob for the key of the item as printed in reports, in which * matches any text and ? one character. Default: all items."
	case "Reason":
		return "Reasons of the ledger, such as archived or foreign-key. A conflict, a slot that remains, and service-error cannot be accepted. Required."
	case "Under":
		return "Key of the slots: a key ID, key ARN, alias name or alias ARN. Default: any key other than a source key, or an unknown key."
	case "Most":
		return "Maximum number of slots. If there are more, the rule accepts none. Default: no limit."
	case "Until":
		return "Last day of the rule in UTC, such as 2027-03-31, at most one year from now. Default: no end."
	case "Because":
		return "Reason for accepting these exceptions, for the report. Required."
	}
	return ""
}

func describeGone(field string) string {
	switch field {
	case "":
		return "Gone names data of an earlier version of the job file that no longer needs a source key."
	case "Target":
		return "Name that the target had. It can still be the name of a target that is narrower now. Required."
	case "Since":
		return "Day in UTC from which the data is gone, such as 2026-11-20. Passes that began on a later day are not covered. Required."
	case "Because":
		return "Reason why no caller needs a source key for this data, for the report. Required."
	}
	return ""
}
