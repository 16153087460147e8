package s3scan

import (
	"reflect"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Everything that the SDK knows of an object has been thought of. When this
// fails, a new version of the SDK knows more: carry it over, refuse it, or say
// here why it need not be.
func TestEveryPropertyIsThoughtOf(t *testing.T) {
	carried := []string{"BucketKeyEnabled", "CacheControl", "ContentDisposition",
		"ContentEncoding", "ContentLanguage", "ContentType",
		"ETag", "ExpiresString", "LastModified", "Metadata", "ObjectLockEventHold",
		"ObjectLockEventHoldDurationDays",
		"ObjectLockEventHoldDurationYears", "ObjectLockLegalHoldStatus", "ObjectLockMode",
		"ObjectLockRetainUntilDate",
		"SSEKMSKeyId", "ServerSideEncryption", "StorageClass", "TagCount", "VersionId",
		"WebsiteRedirectLocation", "ChecksumType",
		"ChecksumCRC32", "ChecksumCRC32C", "ChecksumCRC64NVME", "ChecksumSHA1", "ChecksumSHA256",
		"ChecksumSHA512"}
	refused := []string{"MissingMeta", "SSECustomerAlgorithm", "SSECustomerKeyMD5",
		"ArchiveStatus", "Restore",
		"ChecksumMD5", "ChecksumXXHASH128", "ChecksumXXHASH3",
		"ChecksumXXHASH64" /* of a new body; a copy keeps them */}
	ofTheAnswer := []string{"AcceptRanges", "Body", "ContentLength", "ContentRange",
		"DeleteMarker", "Expiration",
		"Expires" /* ExpiresString has it */, "PartsCount", "ReplicationStatus", "RequestCharged",
		"ResultMetadata", "noSmithyDocumentSerde"}
	thought(t, reflect.TypeFor[s3.GetObjectOutput](), carried, refused, ofTheAnswer)
	thought(t, reflect.TypeFor[s3.HeadObjectOutput](), carried, refused, ofTheAnswer)

	sent := []string{"Bucket", "Key", "BucketKeyEnabled", "CacheControl", "ContentDisposition",
		"ContentEncoding",
		"ContentLanguage", "ContentType", "GrantFullControl", "GrantRead", "GrantReadACP",
		"GrantWriteACP", "Metadata",
		"ObjectLockEventHold", "ObjectLockEventHoldDurationDays",
		"ObjectLockEventHoldDurationYears", "ObjectLockLegalHoldStatus", "ObjectLockMode",
		"ObjectLockRetainUntilDate", "SSEKMSKeyId", "ServerSideEncryption", "StorageClass",
		"WebsiteRedirectLocation"}
	notSent := []string{"ACL" /* grants say it */, "ExpectedBucketOwner", "Expires", /* sent raw */
		"IfNoneMatch", "RequestPayer",
		"SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5",
		"SSEKMSEncryptionContext" /* nobody can read it */, "noSmithyDocumentSerde"}
	checksums := []string{"ChecksumCRC32", "ChecksumCRC32C", "ChecksumCRC64NVME", "ChecksumMD5",
		"ChecksumSHA1",
		"ChecksumSHA256", "ChecksumSHA512", "ChecksumXXHASH128", "ChecksumXXHASH3",
		"ChecksumXXHASH64"}
	thought(t, reflect.TypeFor[s3.PutObjectInput](), sent, notSent,
		checksums, /* sumBody or the SDK computes them */
		[]string{"Body", "ContentLength", "IfMatch", "Tagging", "ChecksumAlgorithm"},
		[]string{"ContentMD5", "WriteOffsetBytes" /* directory buckets */})
	thought(t, reflect.TypeFor[s3.CopyObjectInput](), sent, notSent,
		[]string{"CopySource", "CopySourceIfMatch", "IfMatch", "MetadataDirective",
			"TaggingDirective"},
		[]string{"AnnotationDirective" /* COPY without */, "ChecksumAlgorithm", /* stays without */
			"Tagging", /* copied */
			"CopySourceIfModifiedSince", "CopySourceIfNoneMatch", "CopySourceIfUnmodifiedSince",
			"ExpectedSourceBucketOwner",
			"CopySourceSSECustomerAlgorithm", "CopySourceSSECustomerKey",
			"CopySourceSSECustomerKeyMD5"})
	thought(t, reflect.TypeFor[s3.CreateMultipartUploadInput](), sent, notSent,
		[]string{"ChecksumAlgorithm", "ChecksumType", "Tagging"})
	thought(t, reflect.TypeFor[s3.CompleteMultipartUploadInput](), sent, notSent, checksums,
		[]string{"UploadId", "ChecksumType", "IfMatch", "MpuObjectSize", "MultipartUpload"})
}

// thought fails for each field of a type that no list names.
func thought(t *testing.T, of reflect.Type, lists ...[]string) {
	t.Helper()
	for i := range of.NumField() {
		if name := of.Field(i).Name; !slices.Contains(slices.Concat(lists...), name) {
			t.Errorf("%s.%s: nobody has thought of it", of.Name(), name)
		}
	}
}
