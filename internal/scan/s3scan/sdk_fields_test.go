package s3scan

import (
	"reflect"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Every field of the SDK that describes an object is listed here. If this test fails, a new
// version of the SDK has a new field: preserve it, refuse objects that have it, or list it
// here with the reason why it can be ignored.
func TestSDKFieldsAreCovered(t *testing.T) {
	preservedFields := []string{"BucketKeyEnabled", "CacheControl", "ContentDisposition",
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
		"ChecksumXXHASH64" /* for a new body; a copy preserves them */}
	ofResponse := []string{"AcceptRanges", "Body", "ContentLength", "ContentRange",
		"DeleteMarker", "Expiration",
		"Expires" /* see ExpiresString */, "PartsCount", "ReplicationStatus", "RequestCharged",
		"ResultMetadata", "noSmithyDocumentSerde"}
	wantCovered(t, reflect.TypeFor[s3.GetObjectOutput](), preservedFields, refused, ofResponse)
	wantCovered(t, reflect.TypeFor[s3.HeadObjectOutput](), preservedFields, refused, ofResponse)

	sent := []string{"Bucket", "Key", "BucketKeyEnabled", "CacheControl", "ContentDisposition",
		"ContentEncoding",
		"ContentLanguage", "ContentType", "GrantFullControl", "GrantRead", "GrantReadACP",
		"GrantWriteACP", "Metadata",
		"ObjectLockEventHold", "ObjectLockEventHoldDurationDays",
		"ObjectLockEventHoldDurationYears", "ObjectLockLegalHoldStatus", "ObjectLockMode",
		"ObjectLockRetainUntilDate", "SSEKMSKeyId", "ServerSideEncryption", "StorageClass",
		"WebsiteRedirectLocation"}
	notSent := []string{"ACL" /* sent as grants */, "ExpectedBucketOwner",
		"Expires", /* sent by withExpires */
		"IfNoneMatch", "RequestPayer",
		"SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5",
		"SSEKMSEncryptionContext" /* in no response */, "noSmithyDocumentSerde"}
	checksums := []string{"ChecksumCRC32", "ChecksumCRC32C", "ChecksumCRC64NVME", "ChecksumMD5",
		"ChecksumSHA1",
		"ChecksumSHA256", "ChecksumSHA512", "ChecksumXXHASH128", "ChecksumXXHASH3",
		"ChecksumXXHASH64"}
	wantCovered(t, reflect.TypeFor[s3.PutObjectInput](), sent, notSent,
		checksums, /* computed by setChecksum or by the SDK */
		[]string{"Body", "ContentLength", "IfMatch", "Tagging", "ChecksumAlgorithm"},
		[]string{"ContentMD5", "WriteOffsetBytes" /* directory buckets */})
	wantCovered(t, reflect.TypeFor[s3.CopyObjectInput](), sent, notSent,
		[]string{"CopySource", "CopySourceIfMatch", "IfMatch", "MetadataDirective",
			"TaggingDirective"},
		[]string{"AnnotationDirective", /* the default is COPY */
			"ChecksumAlgorithm", /* preserved by default */
			"Tagging",           /* copied by S3 */
			"CopySourceIfModifiedSince", "CopySourceIfNoneMatch", "CopySourceIfUnmodifiedSince",
			"ExpectedSourceBucketOwner",
			"CopySourceSSECustomerAlgorithm", "CopySourceSSECustomerKey",
			"CopySourceSSECustomerKeyMD5"})
	wantCovered(t, reflect.TypeFor[s3.CreateMultipartUploadInput](), sent, notSent,
		[]string{"ChecksumAlgorithm", "ChecksumType", "Tagging"})
	wantCovered(t, reflect.TypeFor[s3.CompleteMultipartUploadInput](), sent, notSent, checksums,
		[]string{"UploadId", "ChecksumType", "IfMatch", "MpuObjectSize", "MultipartUpload"})
}

// wantCovered fails the test for each field of the type that is in none of the lists.
func wantCovered(t *testing.T, of reflect.Type, lists ...[]string) {
	t.Helper()
	for i := range of.NumField() {
		if name := of.Field(i).Name; !slices.Contains(slices.Concat(lists...), name) {
			t.Errorf("%s.%s is in no list", of.Name(), name)
		}
	}
}
