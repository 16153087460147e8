package config

import (
	"fmt"
	"regexp"
	"strings"
)

// accessPoint is the ARN of an S3 access point (Amazon S3 User Guide, "Referencing access
// points").
var accessPoint = regexp.MustCompile(
	`^arn:aws[a-z-]*:s3:([a-z0-9-]+):[0-9]{12}:accesspoint/[a-z0-9-]{3,50}$`)

// AccessPointRegion returns the Region of an access point, or "" for the name
// of a bucket.
func (s *S3) AccessPointRegion() string {
	if match := accessPoint.FindStringSubmatch(s.Bucket); match != nil {
		return match[1]
	}
	return ""
}

// bucket checks the bucket, prefix and Region of a target.
func (c *checker) bucket(field string, s *S3) {
	arn := strings.HasPrefix(s.Bucket, "arn:")
	region := s.AccessPointRegion()
	switch {
	case s.Bucket == "":
		c.add(field+".bucket", "is missing; set the name of the bucket")
	case arn && region == "":
		c.add(field+".bucket", fmt.Sprintf("%q %s", s.Bucket, wrongBucketARN(s.Bucket)))
	case strings.HasSuffix(s.Bucket, "--xa-s3"):
		c.add(field+".bucket", "is an access point of a directory bucket, whose listing has no "+
			"order, so a stopped run could not resume; copy the objects to a general purpose "+
			"bucket")
	case arn && s.Region != "" && s.Region != region:
		c.add(field+".region", fmt.Sprintf(
			"the access point is in %s, not in %s; remove this field", region, s.Region))
	case !arn && strings.Contains(s.Bucket, "/"):
		c.add(field+".bucket", "must be only the name; set the rest as prefix")
	}
}

// wrongBucketARN describes why an ARN cannot be used as a bucket.
func wrongBucketARN(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	service := ""
	if len(parts) == 6 {
		service = parts[2]
	}
	switch {
	case service == "s3" && parts[3] == "" && !strings.HasPrefix(parts[5], "accesspoint"):
		return "is the ARN of a bucket; set its name"
	case service == "s3" && strings.HasSuffix(arn, ".mrap"):
		return "is a Multi-Region Access Point, which may read from a Region that does not " +
			"have a write yet; set a bucket or an access point of one Region"
	case service == "s3-object-lambda":
		return "is an Object Lambda access point, which transforms objects; set the bucket"
	case service == "s3-outposts":
		return "is on S3 on Outposts, which is not supported"
	}
	return "is not the ARN of an access point, such as " +
		"arn:aws:s3:us-east-1:111122223333:accesspoint/NAME"
}
