package s3scan

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/awserr"
	"rotator/internal/scan"
)

// preserved contains the properties of an object that a response to GET does not contain and
// that can be sent with a PUT.
type preserved struct {
	tags     string // URL query, in the format of x-amz-tagging
	tagCount int32  // number of tags
	grants   grants
}

// grants is an ACL in the form of the headers of a PUT.
type grants struct{ full, read, readACP, writeACP string }

// readPreserved reads the current properties immediately before a write, so that later
// changes of other writers are preserved too. more is true if it found properties that the
// snapshot of the object does not cover. It does not request the tags if untagged is true. A
// property that the caller is not allowed to read is an error, because S3 omits such
// properties from responses.
func (b *Bucket) readPreserved(
	ctx context.Context, key string, untagged bool,
) (c preserved, more bool, err error) {
	if err = b.verifyLockPermissions(ctx, key); err != nil {
		return c, false, err
	}
	if err = b.refuseAnnotated(ctx, key); err != nil {
		return c, false, err
	}
	if c.grants, more, err = b.grants(ctx, key); err != nil || untagged {
		return c, more, err
	}
	c.tags, c.tagCount, err = b.tags(ctx, key)
	return c, more || c.tagCount > 0 || !b.trustsTagCounts(), err
}

// tags returns the tags of an object in the format of a PUT.
func (b *Bucket) tags(ctx context.Context, key string) (query string, count int32, err error) {
	out, err := b.config.Client.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{
		Bucket: &b.config.Bucket,
		Key:    &key,
	})
	b.learnTagSupport(err)
	if b.notSupported(err) {
		b.note("bucket %s: this server does not support object tags", b.config.Bucket)
		return "", 0, nil
	}
	// the response of some servers for an object without tags
	if awserr.Code(err) == "NoSuchTagSet" {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, fmt.Errorf("get the tags of an object of bucket %s: %w", b.config.Bucket, err)
	}
	values := url.Values{}
	for _, tag := range out.TagSet {
		values.Set(aws.ToString(tag.Key), aws.ToString(tag.Value))
	}
	return values.Encode(), int32(len(out.TagSet)), nil
}

// grants returns the ACL of an object. Without it, a PUT would set the default ACL. On AWS the
// grant of the owner is included too, because a PUT by another account changes the owner. requested
// is true if it sent a request.
func (b *Bucket) grants(ctx context.Context, key string) (g grants, requested bool, err error) {
	enabled, err := b.aclsEnabled(ctx)
	if err != nil || !enabled {
		return grants{}, false, err
	}
	out, err := b.config.Client.GetObjectAcl(ctx, &s3.GetObjectAclInput{
		Bucket: &b.config.Bucket,
		Key:    &key,
	})
	if b.notSupported(err) {
		b.note("bucket %s: this server does not support object ACLs", b.config.Bucket)
		if isNotImplemented(err) {
			b.setACLs(false)
		}
		return grants{}, false, nil
	}
	if err != nil {
		return grants{}, true, fmt.Errorf("get the ACL of an object of bucket %s: %w",
			b.config.Bucket, err)
	}
	if !b.config.AWS && ownerOnly(out) {
		return grants{}, true, nil
	}
	for _, grant := range out.Grants {
		if err := g.add(grant); err != nil {
			return grants{}, true, err
		}
	}
	return g, true, nil
}

// ownerOnly reports whether the ACL is the default one.
func ownerOnly(acl *s3.GetObjectAclOutput) bool {
	if len(acl.Grants) != 1 || acl.Owner == nil || acl.Grants[0].Grantee == nil {
		return false
	}
	only := acl.Grants[0]
	return only.Permission == types.PermissionFullControl &&
		aws.ToString(only.Grantee.ID) == aws.ToString(acl.Owner.ID)
}

// add adds a grant to the header for its permission.
func (g *grants) add(grant types.Grant) error {
	var grantee string
	switch to := grant.Grantee; {
	case to != nil && to.ID != nil:
		grantee = fmt.Sprintf("id=%q", *to.ID)
	case to != nil && to.URI != nil:
		grantee = fmt.Sprintf("uri=%q", *to.URI)
	default:
		return &scan.RefusedError{
			Reason: "acl",
			Detail: "its ACL has a grantee without an ID or URI, which cannot be sent again",
		}
	}
	var header *string
	switch grant.Permission {
	case types.PermissionFullControl:
		header = &g.full
	case types.PermissionRead:
		header = &g.read
	case types.PermissionReadAcp:
		header = &g.readACP
	case types.PermissionWriteAcp:
		header = &g.writeACP
	default:
		return &scan.RefusedError{
			Reason: "acl",
			Detail: fmt.Sprintf("its ACL grants %s, which cannot be sent with a PUT",
				grant.Permission),
		}
	}
	*header = strings.TrimPrefix(*header+", "+grantee, ", ")
	return nil
}

// aclsEnabled reports whether objects have ACLs. It sends at most one successful request.
// Objects have no ACLs under BucketOwnerEnforced, the default of AWS. A bucket without
// ownership controls is an older one, with ACLs (API_GetBucketOwnershipControls).
func (b *Bucket) aclsEnabled(ctx context.Context) (bool, error) {
	b.mu.Lock()
	known := b.acls
	b.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	out, err := b.config.Client.GetBucketOwnershipControls(ctx, &s3.GetBucketOwnershipControlsInput{
		Bucket: &b.config.Bucket,
	})
	enabled := true
	switch {
	case err == nil && out.OwnershipControls != nil:
		for _, rule := range out.OwnershipControls.Rules {
			enabled = enabled && rule.ObjectOwnership != types.ObjectOwnershipBucketOwnerEnforced
		}
	case err == nil || awserr.Code(err) == "OwnershipControlsNotFoundError" || b.notSupported(err):
	// access points do not return the setting, so the ACL of each object is read
	case b.isAccessPoint():
	default:
		return false, fmt.Errorf("get the ownership controls of bucket %s: %w", b.config.Bucket,
			err)
	}
	b.setACLs(enabled)
	return enabled, nil
}

func (b *Bucket) setACLs(enabled bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.acls = &enabled
}

// refuseAnnotated returns an error for an object that has annotations, which belong to a
// version and cannot be sent with a PUT (API_ListObjectAnnotations).
func (b *Bucket) refuseAnnotated(ctx context.Context, key string) error {
	if !b.config.AWS {
		return nil
	}
	out, err := b.config.Client.ListObjectAnnotations(ctx, &s3.ListObjectAnnotationsInput{
		Bucket:               &b.config.Bucket,
		Key:                  &key,
		MaxAnnotationResults: aws.Int32(1),
	})
	if err != nil {
		return fmt.Errorf("list the annotations of an object of bucket %s: %w", b.config.Bucket,
			err)
	}
	if len(out.Annotations) > 0 || aws.ToInt32(out.AnnotationCount) > 0 {
		return &scan.RefusedError{
			Reason: "annotations",
			Detail: "it has annotations, which a rewrite of its body would lose",
		}
	}
	return nil
}

// verifyLockPermissions verifies once that responses contain the Object Lock settings of an
// object. S3 omits these headers if the caller lacks s3:GetObjectRetention or
// s3:GetObjectLegalHold, and a write would then remove the settings without an error.
func (b *Bucket) verifyLockPermissions(ctx context.Context, key string) error {
	b.mu.Lock()
	seen := b.lockPermissionsVerified || !b.config.AWS
	b.mu.Unlock()
	if seen {
		return nil
	}
	_, err := b.config.Client.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{
		Bucket: &b.config.Bucket,
		Key:    &key,
	})
	if !mayReadLock(err) {
		return fmt.Errorf(
			"get the retention of an object of bucket %s (s3:GetObjectRetention): %w",
			b.config.Bucket, err)
	}
	_, err = b.config.Client.GetObjectLegalHold(ctx, &s3.GetObjectLegalHoldInput{
		Bucket: &b.config.Bucket,
		Key:    &key,
	})
	if !mayReadLock(err) {
		return fmt.Errorf("get the legal hold of an object of bucket %s (s3:GetObjectLegalHold): "+
			"%w", b.config.Bucket, err)
	}
	b.mu.Lock()
	b.lockPermissionsVerified = true
	b.mu.Unlock()
	return nil
}

// mayReadLock reports whether the caller is allowed to read the setting: the object has a lock or
// has none, or the bucket has no Object Lock.
func mayReadLock(err error) bool {
	return err == nil || awserr.Code(err) == "NoSuchObjectLockConfiguration" ||
		awserr.Code(err) == "InvalidRequest" && awserr.Status(err) == http.StatusBadRequest
}
