package s3scan

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Old versions under the prefix are counted over several pages. Delete markers, current
// versions and other prefixes are not counted.
func TestCountOldVersions(t *testing.T) {
	// Object Lock enables versioning
	store := newStore(t, func(in *s3.CreateBucketInput) {
		in.ObjectLockEnabledForBucket = aws.Bool(true)
	})
	put := func(key string) {
		t.Helper()
		if _, err := store.direct.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: aws.String(bucketName),
			Key:    &key,
			Body:   strings.NewReader("x"),
		}); err != nil {
			t.Fatal(err)
		}
	}
	const keys, versions = 210, 6 // 1,260 versions in two pages
	for n := range keys * versions {
		put(fmt.Sprintf("%sodd key+%d", prefix, n%keys))
	}
	put("elsewhere")
	put("elsewhere")
	if _, err := store.direct.DeleteObject(t.Context(), &s3.DeleteObjectInput{
		Bucket: aws.String(bucketName),
		Key:    aws.String(prefix + "odd key+0"),
	}); err != nil {
		t.Fatal(err)
	}
	source := store.source(nil)
	if err := source.CountOldVersions(t.Context()); err != nil {
		t.Fatal(err)
	}
	// all versions of the deleted object are old
	want := fmt.Sprintf("keeps %d old versions", keys*(versions-1)+1)
	if notes := strings.Join(source.Notes(), "\n"); !strings.Contains(notes, want) {
		t.Errorf("notes %q, want %q", notes, want)
	}

	plain := newStore(t, nil).source(nil)
	if err := plain.CountOldVersions(t.Context()); err != nil || len(plain.Notes()) > 0 {
		t.Errorf("without versioning: %v, %q", err, plain.Notes())
	}
}
