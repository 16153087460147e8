package awsspec

import (
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func s3ListCases() []s3Case {
	return []s3Case{
		{"ListObjectsV2/every key once, in the order of its bytes", s3ListPages},
		{"ListObjectsV2/StartAfter need not be a key", s3StartAfter},
		{"ListObjectsV2/prefix and delimiter", s3Delimiter},
		{"ListObjectVersions/newest first, with delete markers, over pages", s3ListVersions},
	}
}

// s3OddKeys returns keys with characters that need escaping in URLs or XML.
func s3OddKeys() []string {
	return []string{"a", "a b", "a+b", "a%2Fb", "a//b", "a/../b", "ä", "日本", "line\nbreak",
		"tab\t", `quote"&<>`, strings.Repeat("x", 1024)}
}

// API_ListObjectsV2: UTF-8 binary order, MaxKeys, ContinuationToken, EncodingType.
func s3ListPages(p *s3Probe) {
	bucket := p.bucket()
	keys := s3OddKeys()
	for _, key := range keys {
		p.put(bucket, key, key)
	}
	var listed []string
	in := &s3.ListObjectsV2Input{
		Bucket:       bucket,
		MaxKeys:      aws.Int32(5),
		EncodingType: types.EncodingTypeUrl,
	}
	for range 10 {
		out, err := p.ListObjectsV2(p.ctx, in)
		p.must(err)
		for _, object := range out.Contents {
			key, err := url.QueryUnescape(aws.ToString(object.Key))
			p.must(err)
			listed = append(listed, key)
			p.same("size of "+key, aws.ToInt64(object.Size), int64(len(key)))
		}
		if !aws.ToBool(out.IsTruncated) {
			break
		}
		p.same("keys of a page", aws.ToInt32(out.KeyCount), int32(5))
		in.ContinuationToken = out.NextContinuationToken
	}
	p.same("keys", listed, slices.Sorted(slices.Values(keys)))
	for _, key := range keys {
		if _, body := p.get(bucket, key); body != key {
			p.Errorf("%q holds %q", key, body)
		}
	}
}

// API_ListObjectsV2: "StartAfter can be any key in the bucket" or none of it.
func s3StartAfter(p *s3Probe) {
	bucket := p.bucket()
	for _, key := range []string{"a", "c", "e"} {
		p.put(bucket, key, "")
	}
	for after, want := range map[string]string{"": "ace", "a": "ce", "b": "ce", "e": ""} {
		out, err := p.ListObjectsV2(p.ctx, &s3.ListObjectsV2Input{
			Bucket:     bucket,
			StartAfter: aws.String(after),
		})
		p.must(err)
		got := ""
		for _, object := range out.Contents {
			got += *object.Key
		}
		p.same("keys after "+after, got, want)
	}
}

// API_ListObjectsV2: Prefix, Delimiter, CommonPrefixes.
func s3Delimiter(p *s3Probe) {
	bucket := p.bucket()
	for _, key := range []string{"a", "d/1", "d/2", "d/e/3", "f/4"} {
		p.put(bucket, key, "")
	}
	for prefix, want := range map[string]string{
		"":   "a|d/ f/",
		"d/": "d/1 d/2|d/e/",
		"d":  "|d/",
		"x":  "|",
	} {
		out, err := p.ListObjectsV2(p.ctx, &s3.ListObjectsV2Input{
			Bucket:    bucket,
			Prefix:    aws.String(prefix),
			Delimiter: aws.String("/"),
		})
		p.must(err)
		var keys, prefixes []string
		for _, object := range out.Contents {
			keys = append(keys, *object.Key)
		}
		for _, common := range out.CommonPrefixes {
			prefixes = append(prefixes, *common.Prefix)
		}
		p.same("list of "+prefix, strings.Join(keys, " ")+"|"+strings.Join(prefixes, " "), want)
	}
}

// API_ListObjectVersions.
func s3ListVersions(p *s3Probe) {
	bucket := p.versioned()
	for _, body := range []string{"1", "22", "333"} {
		p.put(bucket, "k", body)
	}
	p.put(bucket, "l", "4444")
	_, err := p.DeleteObject(p.ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("k")})
	p.must(err)
	var got []string
	in := &s3.ListObjectVersionsInput{Bucket: bucket, MaxKeys: aws.Int32(2)}
	for range 10 {
		out, err := p.ListObjectVersions(p.ctx, in)
		p.must(err)
		for _, m := range out.DeleteMarkers {
			got = append(got, *m.Key+" marker")
		}
		for _, v := range out.Versions {
			got = append(got, *v.Key+" "+strings.Repeat("#", int(aws.ToInt64(v.Size))))
		}
		if !aws.ToBool(out.IsTruncated) {
			break
		}
		in.KeyMarker, in.VersionIdMarker = out.NextKeyMarker, out.NextVersionIdMarker
	}
	p.same("versions", got, []string{"k marker", "k ###", "k ##", "k #", "l ####"})
}
