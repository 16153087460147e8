package awsspec

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// s3Case is one behaviour of S3.
type s3Case struct {
	name string
	run  func(*s3Probe)
}

// S3 runs the cases of S3 against the endpoint of cfg, as subtests. Set pathStyle for servers
// that have no host name for each bucket.
func S3(t *testing.T, cfg aws.Config, pathStyle bool) { runAll(t, S3Cases(cfg, pathStyle)) }

// S3Cases returns the cases of S3 for the endpoint of cfg. Retries are off.
func S3Cases(cfg aws.Config, pathStyle bool) (list []Case) {
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.Retryer, o.UsePathStyle = aws.NopRetryer{}, pathStyle
	})
	for _, cases := range [][]s3Case{s3BucketCases(), s3ObjectCases(), s3ConditionCases(),
		s3ListCases(), s3VersionCases(), s3MultipartCases(), s3CopyCases(), s3SettingCases()} {
		for _, c := range cases {
			list = append(list, Case{Name: c.name, run: func(ctx context.Context, t T) {
				c.run(&s3Probe{T: t, Client: client, ctx: ctx, region: cfg.Region})
			}})
		}
	}
	return list
}

// s3Probe is a client that fails the test instead of returning errors.
type s3Probe struct {
	T
	*s3.Client
	ctx    context.Context
	region string
}

func (p *s3Probe) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// want fails the test unless the error has the code and the HTTP status. Answers to HEAD have
// no body, so their errors have no code.
func (p *s3Probe) want(code string, status int, err error) {
	p.Helper()
	var api smithy.APIError
	var response *awshttp.ResponseError
	if !errors.As(err, &api) || !errors.As(err, &response) ||
		code != "" && api.ErrorCode() != code || response.HTTPStatusCode() != status {
		p.Errorf("error is %v, want %s with status %d", err, code, status)
	}
}

func (p *s3Probe) same(what string, got, want any) {
	p.Helper()
	if !reflect.DeepEqual(got, want) {
		p.Errorf("%s is %v, want %v", what, got, want)
	}
}

// bucket creates a bucket. change may change the request.
func (p *s3Probe) bucket(change ...func(*s3.CreateBucketInput)) *string {
	p.Helper()
	in := &s3.CreateBucketInput{Bucket: aws.String("rotator-" + strings.ToLower(rand.Text()))}
	if p.region != "us-east-1" {
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{
			LocationConstraint: types.BucketLocationConstraint(p.region),
		}
	}
	for _, c := range change {
		c(in)
	}
	_, err := p.CreateBucket(p.ctx, in)
	p.must(err)
	return in.Bucket
}

func (p *s3Probe) versioned() *string {
	p.Helper()
	bucket := p.bucket()
	_, err := p.PutBucketVersioning(p.ctx, &s3.PutBucketVersioningInput{
		Bucket: bucket,
		VersioningConfiguration: &types.VersioningConfiguration{
			Status: types.BucketVersioningStatusEnabled,
		},
	})
	p.must(err)
	return bucket
}

// put stores an object. change may change the request.
func (p *s3Probe) put(
	bucket *string, key, body string, change ...func(*s3.PutObjectInput),
) *s3.PutObjectOutput {
	p.Helper()
	out, err := p.tryPut(bucket, key, body, change...)
	p.must(err)
	return out
}

func (p *s3Probe) tryPut(
	bucket *string, key, body string, change ...func(*s3.PutObjectInput),
) (*s3.PutObjectOutput, error) {
	in := &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: strings.NewReader(body)}
	for _, c := range change {
		c(in)
	}
	return p.PutObject(p.ctx, in)
}

// get returns an object and its body.
func (p *s3Probe) get(
	bucket *string, key string, change ...func(*s3.GetObjectInput),
) (*s3.GetObjectOutput, string) {
	p.Helper()
	in := &s3.GetObjectInput{Bucket: bucket, Key: &key}
	for _, c := range change {
		c(in)
	}
	out, err := p.GetObject(p.ctx, in)
	p.must(err)
	defer func() { _ = out.Body.Close() }()
	var body bytes.Buffer
	_, err = io.Copy(&body, out.Body)
	p.must(err)
	return out, body.String()
}

// copyOnto copies an object within the bucket. change may change the request.
func (p *s3Probe) copyOnto(
	bucket *string, from, to string, change ...func(*s3.CopyObjectInput),
) (*s3.CopyObjectOutput, error) {
	in := &s3.CopyObjectInput{Bucket: bucket, Key: &to,
		CopySource: aws.String(*bucket + "/" + from)}
	for _, c := range change {
		c(in)
	}
	return p.CopyObject(p.ctx, in)
}

func s3BucketCases() []s3Case {
	return []s3Case{
		{"HeadBucket/a missing bucket is 404", s3NoBucket},
		{"GetBucketVersioning/empty until versioning is set", s3Versioning},
		{"GetBucketOwnershipControls/the default is BucketOwnerEnforced, which disables ACLs",
			s3Ownership},
		{"DeleteBucket/a bucket with objects is BucketNotEmpty", s3DeleteBucket},
	}
}

// API_HeadBucket; API_GetObject: NoSuchBucket.
func s3NoBucket(p *s3Probe) {
	_, err := p.HeadBucket(p.ctx, &s3.HeadBucketInput{Bucket: aws.String("rotator-nobody")})
	p.want("", http.StatusNotFound, err)
	_, err = p.ListObjectsV2(p.ctx, &s3.ListObjectsV2Input{Bucket: aws.String("rotator-nobody")})
	p.want("NoSuchBucket", http.StatusNotFound, err)
	_, err = p.HeadBucket(p.ctx, &s3.HeadBucketInput{Bucket: p.bucket()})
	p.must(err)
}

// API_GetBucketVersioning.
func s3Versioning(p *s3Probe) {
	out, err := p.GetBucketVersioning(p.ctx, &s3.GetBucketVersioningInput{Bucket: p.bucket()})
	p.must(err)
	p.same("status", out.Status, types.BucketVersioningStatus(""))
	out, err = p.GetBucketVersioning(p.ctx, &s3.GetBucketVersioningInput{Bucket: p.versioned()})
	p.must(err)
	p.same("status", out.Status, types.BucketVersioningStatusEnabled)
}

// Controlling ownership of objects and disabling ACLs for your bucket.
func s3Ownership(p *s3Probe) {
	bucket := p.bucket()
	out, err := p.GetBucketOwnershipControls(p.ctx, &s3.GetBucketOwnershipControlsInput{
		Bucket: bucket,
	})
	p.must(err)
	p.same("ownership", out.OwnershipControls.Rules[0].ObjectOwnership,
		types.ObjectOwnershipBucketOwnerEnforced)
	_, err = p.tryPut(bucket, "k", "x", func(in *s3.PutObjectInput) {
		in.ACL = types.ObjectCannedACLPublicRead
	})
	p.want("AccessControlListNotSupported", http.StatusBadRequest, err)

	bucket = p.bucket(func(in *s3.CreateBucketInput) {
		in.ObjectOwnership = types.ObjectOwnershipObjectWriter
	})
	everybody := `uri="http://acs.amazonaws.com/groups/global/AllUsers"`
	p.put(bucket, "k", "x", func(in *s3.PutObjectInput) { in.GrantRead = &everybody })
	acl, err := p.GetObjectAcl(p.ctx, &s3.GetObjectAclInput{Bucket: bucket, Key: aws.String("k")})
	p.must(err)
	found := false
	for _, g := range acl.Grants {
		found = found ||
			g.Permission == types.PermissionRead &&
				strings.HasSuffix(aws.ToString(g.Grantee.URI), "/AllUsers")
	}
	p.same("the grant is in the ACL", found, true)
}

// API_DeleteBucket.
func s3DeleteBucket(p *s3Probe) {
	bucket := p.bucket()
	p.put(bucket, "k", "x")
	_, err := p.DeleteBucket(p.ctx, &s3.DeleteBucketInput{Bucket: bucket})
	p.want("BucketNotEmpty", http.StatusConflict, err)
	_, err = p.DeleteObject(p.ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("k")})
	p.must(err)
	_, err = p.DeleteBucket(p.ctx, &s3.DeleteBucketInput{Bucket: bucket})
	p.must(err)
}
