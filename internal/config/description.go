// Code generated from the comments of job.go by go test -update; DO NOT EDIT.

package config

// description is the comment of a type ("Job") or of a field ("Job.Targets").
func description(name string) string {
	switch name {
	case "Job":
		return "Job is one rotation: which ciphertexts are moved, from which keys, to which key, and how fast."
	case "Job.Job":
		return "Name of the job: letters, digits, \"-\", \"_\" and \".\", at most 64. The checkpoint is kept under it, so a new name starts from nothing. Required."
	case "Job.Mode":
		return "What the job does: move, from the source keys to the destination key; refresh, to the newest material of one key; or context, to another encryption context under one key. For refresh and context, source.keys names the destination key alone. Default move."
	case "Job.Destination":
		return "Where ciphertexts are moved to. Required."
	case "Job.Source":
		return "Which ciphertexts are moved. Required."
	case "Job.KMS":
		return "How KMS is called."
	case "Job.Targets":
		return "The places to scan, at least one. Required."
	case "Job.Checkpoint":
		return "Where the state of a pass is kept, so that a stopped run can go on: file:PATH, a database on a local disk, for one run at a time; or dynamodb://TABLE or s3://BUCKET/PREFIX, for any number of runs on any machines, with ?region=, ?endpoint= and ?role_arn= behind it where they are not those of the AWS configuration. A relative path starts at the directory of the job file. Default file:.rotator/state.db."
	case "Job.Lease":
		return "How long a run that shares its checkpoint may be silent until the others take its partitions over, at least 1s. Default 30s."
	case "Job.AuditLog":
		return "File that gets one line for every ciphertext changed, append only. A relative path starts at the directory of the job file. Runs that share a checkpoint and a directory each take one of their own. Default: the name of the job and .audit.jsonl, beside the checkpoint, or in .rotator."
	case "Job.Workers":
		return "Most chunks worked on at once, of 25 items or one object, 1 to 4096. Default: as many as it takes to send requests at the rate, found out while running, up to 1024."
	case "Job.MaxOutage":
		return "How long a service may stay unavailable before the run stops, to be resumed later: a number and a unit, such as 90s, 10m or 1h. Default 10m."
	case "Job.StopAfter":
		return "Number of slots after which a run stops because the job file seems wrong. A run stops if the first slots of an entry of slots all have the same outcome, for the same reason, and a wrong context, format or key can cause this reason. 0 turns this off. Default 50."
	case "Job.Accept":
		return "Known exceptions: slots in the ledger that are counted and listed as accepted and do not make a command exit with 3. They do not change the verdict on a key. Default: none."
	case "Destination":
		return "Destination is the key under which every ciphertext stands afterwards."
	case "Destination.Key":
		return "Key id, key ARN, alias name or alias ARN; another account's key needs an ARN. It is resolved once per pass. It can be a source key only with mode refresh or context. Required."
	case "Destination.Algorithm":
		return "Encryption algorithm of the key. An RSA or SM2 key needs it. SM2PKE exists in the China Regions only. Default SYMMETRIC_DEFAULT."
	case "Source":
		return "Source says under which keys a ciphertext must stand in order to be moved."
	case "Source.Keys":
		return "Keys whose ciphertexts are moved: key ids, key ARNs, alias names or alias ARNs. All others are left alone and reported as foreign. Excludes any."
	case "Source.Any":
		return "Move the ciphertexts of every key that KMS lets the caller use. Excludes keys, and the algorithm of an asymmetric key."
	case "Source.Algorithm":
		return "Encryption algorithm of all source keys. RSA and SM2 keys need it, and must be listed in keys. SM2PKE exists in the China Regions only. Default SYMMETRIC_DEFAULT."
	case "KMS":
		return "KMS says how KMS is called. ReEncrypt works within one Region."
	case "KMS.Rate":
		return "Most ReEncrypt requests per second, retries included. They draw on the quota that everybody in the account and Region shares, so leave room for the rest. Default 1000, unless quota is given."
	case "KMS.Quota":
		return "Instead of rate: share of the account's quota for cryptographic operations, such as 60%. The quota is read when a command starts. Excludes rate."
	case "KMS.Region":
		return "Region of the keys. Default: that of the AWS configuration."
	case "KMS.Endpoint":
		return "URL of the service, instead of the one of the Region."
	case "KMS.RoleARN":
		return "ARN of an IAM role to assume for KMS, instead of the caller's identity."
	case "KMS.GrantTokens":
		return "Grant tokens to send along, at most 10. They are secrets and never printed: write \"${env:NAME}\"."
	case "Target":
		return "Target is one place to scan, and how ciphertexts hide in its items."
	case "Target.Name":
		return "Name in reports and in the checkpoint, unique in the job. Default: the table, bucket/prefix, or root."
	case "Target.DynamoDB":
		return "A DynamoDB table. Excludes s3 and files."
	case "Target.S3":
		return "The objects of an S3 bucket. Excludes dynamodb and files."
	case "Target.Files":
		return "The files of a directory. Excludes dynamodb and s3."
	case "Target.Format":
		return "How ciphertexts are stored, such as raw, base64 or json. Holds for the slots that have none of their own. Required where one has none."
	case "Target.Slots":
		return "The places in an item that hold one ciphertext each. Left out with a format that knows its own places."
	case "Target.InstructionSuffix":
		return "With format s3-encryption-client or auto: custom suffix of the names of instruction files. Files that end in .instruction are always found. Default: none."
	case "Target.Context":
		return "Encryption context, or a part of it, that a format which knows its own places cannot know by itself. A value is a constant or takes ${...} from the item. With slots it is written at the slot instead. Default: none."
	case "Target.DestinationContext":
		return "The same, as it shall be afterwards; {} means none. Default: the same as context."
	case "Target.ContextFile":
		return "Encryption contexts by name, for formats that store no context, such as credstash."
	case "Target.MayBeEmpty":
		return "Whether the target may hold no ciphertext. If false, a target in which no ciphertext was found is not proven. Default false."
	case "Target.StopAfter":
		return "Like stop_after of the job, for this target. Default: the value of the job."
	case "Target.Search":
		return "Where to search for ciphertexts that no slot names: read, in everything that is read anyway; or all, also in attributes and bodies that the format does not need. Default read."
	case "ContextFile":
		return "ContextFile is a file with encryption contexts by name."
	case "ContextFile.Path":
		return "File that gives each name its encryption context: YAML or JSON, a map of names to maps, or CSV with the columns name, key, value. A relative path starts at the directory of the job file. Required."
	case "ContextFile.Name":
		return "The name under which an item stands there, such as \"${name}\"; it takes ${...} from the item. Names that are not in the file have the context of its entry \"*\", or else that of the target, and fail if there is neither. Required."
	case "DynamoDB":
		return "DynamoDB names a table."
	case "DynamoDB.Table":
		return "Name or ARN of the table. Required."
	case "DynamoDB.Segments":
		return "Number of segments of the parallel scan, 1 to 1,000,000, or auto. auto means 8, or 64 if the checkpoint is in a table or a bucket, so that several runs can share them. The number cannot change during a pass. Default auto."
	case "DynamoDB.ReadCapacity":
		return "Most read capacity units per second. Default: no limit."
	case "DynamoDB.WriteCapacity":
		return "Most write capacity units per second. Default: no limit."
	case "DynamoDB.BatchWrites":
		return "Whether to update up to 25 items with one BatchExecuteStatement request. With auto, batches are sent if a probe shows that the server checks the conditions of such updates. With never, one UpdateItem request is sent for each item. Default auto."
	case "DynamoDB.Region":
		return "Region of the table. Default: that of the AWS configuration."
	case "DynamoDB.Endpoint":
		return "URL of the service, instead of the one of the Region."
	case "DynamoDB.RoleARN":
		return "ARN of an IAM role to assume for this table, instead of the caller's identity."
	case "S3":
		return "S3 names a set of objects."
	case "S3.Bucket":
		return "Name of the bucket, or ARN of an access point of one Region, which cannot be used with an endpoint. Required."
	case "S3.Prefix":
		return "Beginning of the keys of the objects. Default: the whole bucket."
	case "S3.Include":
		return "Objects to scan: globs over the part of the key after the last slash of prefix. * and ? match characters other than a slash, ** any number of path segments, {a,b} either of two texts, [a-z] one character. Default: all objects under the prefix."
	case "S3.Exclude":
		return "Objects to leave out: globs as in include. A glob that matches a folder leaves out everything in it. Default: none."
	case "S3.Complete":
		return "Reason why the items that include and exclude leave out cannot hold a ciphertext under a source key. Reports quote it. Without it no source key is reported as safe to disable. Default: none."
	case "S3.KeyPattern":
		return "Regular expression (Go syntax) over the key of an object; its named groups can be used in contexts. Default: none."
	case "S3.Region":
		return "Region of the bucket. Default: that of an access point, or of the AWS configuration."
	case "S3.Endpoint":
		return "URL of the service, instead of the one of the Region."
	case "S3.RoleARN":
		return "ARN of an IAM role to assume for this bucket, instead of the caller's identity."
	case "Files":
		return "Files names a set of files. Symbolic links are not followed."
	case "Files.Root":
		return "Directory that holds the files, and directories with files. A relative path starts at the directory of the job file. Required."
	case "Files.Include":
		return "Which files: globs over the path below root, in which * and ? stand for what is in one name, ** for any number of directories, {a,b} for either, [a-z] for one of these. Default: all files."
	case "Files.Exclude":
		return "Which of them not: globs as in include. What matches a directory leaves out all that is in it. Default: none."
	case "Files.Complete":
		return "Reason why the items that include and exclude leave out cannot hold a ciphertext under a source key. Reports quote it. Without it no source key is reported as safe to disable. Default: none."
	case "Files.Mtime":
		return "Modification time of a file that was rewritten: update, so that backups and builds see the change, or keep. Default update."
	case "Files.KeyPattern":
		return "Regular expression (Go syntax) over the path of a file below root; its named groups can be used in contexts. Default: none."
	case "Slot":
		return "Slot is a place in an item that holds one ciphertext."
	case "Slot.Path":
		return "Document path of the place, such as ssn or profile.docs[*].key. Left out where the whole body of an object is the ciphertext."
	case "Slot.Pattern":
		return "With format text: regular expression (Go syntax) with one group, which is the ciphertext, such as DB_PASSWORD=(\\S+)."
	case "Slot.Format":
		return "How the ciphertext is stored. Default: the format of the target."
	case "Slot.Padding":
		return "With base64 and base64url: whether the writer pads, always or never. It applies to texts that need no padding and so do not show it. Default: that of the other texts of this slot, if they agree."
	case "Slot.Context":
		return "Encryption context under which the ciphertext stands. A value is a constant or takes ${...} from the item. Default: none."
	case "Slot.DestinationContext":
		return "Encryption context under which it shall stand afterwards; {} means none. Default: the same as context, or none under an asymmetric key."
	case "Slot.StopAfter":
		return "Like stop_after of the job, for this slot. Default: the value of the target."
	case "Slot.MayBeEmpty":
		return "Whether all items may lack this slot. If false, a slot for which no ciphertext was found is not proven. Default false."
	case "Accept":
		return "Accept is a rule for known exceptions: failed or foreign slots of one target with a known reason. A slot that KMS or the key token in its header reports to be under a source key is never accepted."
	case "Accept.Target":
		return "Name of the target. Required."
	case "Accept.Ref":
		return "Items to which the rule applies: a glob over the key of an object or the path of a file, as in include. For a table: a glob over the key of the item as reports print it, in which * matches any text and ? one character. Default: all items."
	case "Accept.Reason":
		return "Reasons of the ledger, such as archived or foreign-key. A conflict, a slot that remains, and service-error cannot be accepted. Required."
	case "Accept.Under":
		return "Key under which the slots are: a key id, key ARN, alias name or alias ARN. Default: any key other than a source key, or an unknown key."
	case "Accept.Most":
		return "Maximum number of slots. If there are more, the rule accepts none. Default: no limit."
	case "Accept.Until":
		return "Last day of the rule, in UTC, such as 2027-03-31; at most one year from now. Default: no end."
	case "Accept.Because":
		return "Reason for accepting these exceptions, for the report. Required."
	}
	return ""
}
