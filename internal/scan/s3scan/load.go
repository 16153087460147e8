package s3scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"rotator/internal/scan"
)

// maxBody is the largest object whose body is read, in bytes. Every worker holds
// one at a time.
const maxBody = 64 << 20

// asRead is what an object was when it was read: the Token of an item. A PUT
// sends all of it again.
type asRead struct {
	head   *s3.GetObjectOutput // without its body
	tags   string              // URL query, as x-amz-tagging has it
	grants grants
}

// Load reads an object whole. *scan.RefusedError says that it cannot be rewritten
// without losing something; scan.ErrGone that it is not there.
func (b *Bucket) Load(ctx context.Context, ref scan.Ref) (scan.Item, error) {
	key := string(ref)
	out, err := b.config.Client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.config.Bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		return scan.Item{}, b.loadError(ctx, key, err)
	}
	content := out.Body
	out.Body = nil
	defer func() { _ = content.Close() }()
	if err := refuse(out); err != nil {
		return scan.Item{}, err
	}
	body, err := io.ReadAll(io.LimitReader(content, maxBody+1))
	if err != nil {
		return scan.Item{}, fmt.Errorf("read an object of bucket %s: %w", b.config.Bucket, err)
	}
	if len(body) > maxBody {
		return scan.Item{}, errTooLarge()
	}
	read := &asRead{head: out}
	if read.tags, err = b.tags(ctx, key, aws.ToInt32(out.TagCount)); err != nil {
		return scan.Item{}, err
	}
	if read.grants, err = b.grants(ctx, key); err != nil {
		return scan.Item{}, err
	}
	if err := b.annotations(ctx, key); err != nil {
		return scan.Item{}, err
	}
	return scan.Item{Ref: ref, Token: read, Payload: &scan.Object{Bucket: b.config.Bucket, Key: key, Body: body, Metadata: out.Metadata}}, nil
}

func (b *Bucket) loadError(ctx context.Context, key string, err error) error {
	var archived *types.InvalidObjectState
	switch {
	case errors.As(err, &archived):
		return &scan.RefusedError{Reason: "archived", Detail: fmt.Sprintf(
			"its storage class is %s; restore it, then run retry (a restore costs money, so rotator asks for none)", archived.StorageClass)}
	case code(err) == "NoSuchKey" || status(err) == http.StatusNotFound && code(err) != "NoSuchBucket":
		return scan.ErrGone
	case status(err) == http.StatusBadRequest && b.encryptedByCustomer(ctx, key):
		return &scan.RefusedError{Reason: "sse-c", Detail: "it is encrypted with a customer-provided key (SSE-C), which rotator does not have"}
	}
	return fmt.Errorf("get an object of bucket %s: %w", b.config.Bucket, err)
}

// encryptedByCustomer asks for what a refused GET does not say: S3 answers HEAD
// of an SSE-C object without its key with 400 too (API_HeadObject), and of others
// with success.
func (b *Bucket) encryptedByCustomer(ctx context.Context, key string) bool {
	_, err := b.config.Client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.config.Bucket, Key: &key})
	return status(err) == http.StatusBadRequest
}

// refuse names what cannot be sent again.
func refuse(out *s3.GetObjectOutput) error {
	switch {
	case aws.ToInt64(out.ContentLength) > maxBody:
		return errTooLarge()
	case aws.ToInt32(out.MissingMeta) > 0:
		return &scan.RefusedError{Reason: "metadata", Detail: "it has user metadata that S3 cannot return as HTTP headers, so a rewrite would lose it"}
	case out.SSECustomerAlgorithm != nil:
		return &scan.RefusedError{Reason: "sse-c", Detail: "it is encrypted with a customer-provided key (SSE-C), which rotator does not have"}
	}
	return nil
}

func errTooLarge() error {
	return &scan.RefusedError{Reason: "too-large", Detail: "it is larger than 64 MiB, more than a body format reads"}
}

// tags returns the tags of an object as a PUT takes them.
func (b *Bucket) tags(ctx context.Context, key string, count int32) (string, error) {
	if count == 0 {
		return "", nil
	}
	out, err := b.config.Client.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: &b.config.Bucket, Key: &key})
	if err != nil {
		return "", fmt.Errorf("get the tags of an object of bucket %s: %w", b.config.Bucket, err)
	}
	return encodeTags(out.TagSet), nil
}

// grants are the ACL of an object as the headers of a PUT.
type grants struct{ full, read, readACP, writeACP string }

// grants reads the ACL of an object, where the bucket has ACLs: a PUT would set
// the default one. The owner's own full control is the default.
func (b *Bucket) grants(ctx context.Context, key string) (g grants, err error) {
	enabled, err := b.aclsEnabled(ctx)
	if err != nil || !enabled {
		return grants{}, err
	}
	out, err := b.config.Client.GetObjectAcl(ctx, &s3.GetObjectAclInput{Bucket: &b.config.Bucket, Key: &key})
	if err != nil {
		return grants{}, fmt.Errorf("get the ACL of an object of bucket %s: %w", b.config.Bucket, err)
	}
	if len(out.Grants) == 1 && out.Grants[0].Permission == types.PermissionFullControl && out.Owner != nil &&
		aws.ToString(out.Grants[0].Grantee.ID) == aws.ToString(out.Owner.ID) {
		return grants{}, nil
	}
	for _, grant := range out.Grants {
		grantee := grant.Grantee
		who := ""
		switch {
		case grantee.ID != nil:
			who = fmt.Sprintf("id=%q", *grantee.ID)
		case grantee.URI != nil:
			who = fmt.Sprintf("uri=%q", *grantee.URI)
		default:
			return grants{}, &scan.RefusedError{Reason: "acl", Detail: "its ACL has a grantee with neither id nor URI, which cannot be sent again"}
		}
		list := map[types.Permission]*string{types.PermissionFullControl: &g.full, types.PermissionRead: &g.read,
			types.PermissionReadAcp: &g.readACP, types.PermissionWriteAcp: &g.writeACP}[grant.Permission]
		if list == nil {
			return grants{}, &scan.RefusedError{Reason: "acl", Detail: fmt.Sprintf("its ACL grants %s, which no PUT of an object can", grant.Permission)}
		}
		*list = strings.TrimPrefix(*list+", "+who, ", ")
	}
	return g, nil
}

// aclsEnabled asks once whether objects have ACLs. They do not under
// BucketOwnerEnforced, the default of AWS; a bucket without ownership controls is
// an older one, with ACLs (API_GetBucketOwnershipControls).
func (b *Bucket) aclsEnabled(ctx context.Context) (bool, error) {
	b.mu.Lock()
	known := b.acls
	b.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	out, err := b.config.Client.GetBucketOwnershipControls(ctx, &s3.GetBucketOwnershipControlsInput{Bucket: &b.config.Bucket})
	enabled := true
	switch {
	case err == nil && out.OwnershipControls != nil:
		for _, rule := range out.OwnershipControls.Rules {
			enabled = enabled && rule.ObjectOwnership != types.ObjectOwnershipBucketOwnerEnforced
		}
	case code(err) == "OwnershipControlsNotFoundError":
	case !b.config.AWS && err != nil && (status(err) == http.StatusNotImplemented || status(err) == http.StatusNotFound || status(err) == http.StatusMethodNotAllowed):
		enabled = false
		b.note("bucket %s: this server has no object ownership controls, so ACLs of objects are not carried over", b.config.Bucket)
	default:
		return false, fmt.Errorf("get the ownership controls of bucket %s: %w", b.config.Bucket, err)
	}
	b.mu.Lock()
	b.acls = &enabled
	b.mu.Unlock()
	return enabled, nil
}

// annotations refuses an object that has any: they belong to a version, and a
// PUT cannot carry them (API_ListObjectAnnotations).
func (b *Bucket) annotations(ctx context.Context, key string) error {
	if !b.config.AWS {
		return nil
	}
	out, err := b.config.Client.ListObjectAnnotations(ctx, &s3.ListObjectAnnotationsInput{Bucket: &b.config.Bucket, Key: &key,
		MaxAnnotationResults: aws.Int32(1)})
	if err != nil {
		return fmt.Errorf("list the annotations of an object of bucket %s: %w", b.config.Bucket, err)
	}
	if len(out.Annotations) > 0 {
		return &scan.RefusedError{Reason: "annotations", Detail: "it has annotations, which a rewrite of its body would lose"}
	}
	return nil
}
