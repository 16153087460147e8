package awsspec

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	trailtypes "github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/middleware"
)

// CloudTrail runs the cases of CloudTrail against the endpoint of cfg, as subtests. An event must
// appear within wait.
func CloudTrail(t *testing.T, cfg aws.Config, wait time.Duration) {
	runAll(t, CloudTrailCases(cfg, wait))
}

// CloudTrailCases returns the cases of the event history for the endpoint of cfg. They make
// requests to KMS at the same endpoint and look them up.
func CloudTrailCases(cfg aws.Config, wait time.Duration) (list []Case) {
	keys := kms.NewFromConfig(cfg, func(o *kms.Options) { o.Retryer = aws.NopRetryer{} })
	events := cloudtrail.NewFromConfig(cfg, func(o *cloudtrail.Options) {
		o.Retryer = aws.NopRetryer{}
	})
	for name, run := range map[string]func(*trailProbe){
		"LookupEvents/requests to KMS, by event source, newest first": trailOfKMS,
		"LookupEvents/a refused request has its error code":           trailRefused,
		"LookupEvents/both keys of ReEncrypt are resources":           trailReEncrypt,
		"LookupEvents/the last use of a key names its event":          trailLastUse,
		"LookupEvents/a management operation, by event name":          trailByName,
		"LookupEvents/page by page":                                   trailPages,
		"LookupEvents/invalid requests are refused":                   trailInvalid,
	} {
		list = append(list, Case{Name: name, run: func(ctx context.Context, t T) {
			p := &kmsProbe{T: t, Client: keys, ctx: ctx, region: cfg.Region}
			run(&trailProbe{kmsProbe: p, trail: events, wait: wait, began: time.Now()})
		}})
	}
	slices.SortFunc(list, func(a, b Case) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// trailProbe is a client of CloudTrail and KMS that fails the test instead of returning errors.
type trailProbe struct {
	*kmsProbe
	trail *cloudtrail.Client
	wait  time.Duration
	began time.Time
}

// requestID returns the id of a request from the metadata of its response.
func requestID(m middleware.Metadata) string {
	id, _ := awsmiddleware.GetRequestIDMetadata(m)
	return id
}

// record is the part of a CloudTrail record that the cases read ("CloudTrail record contents").
type record struct {
	EventSource, EventName string
	EventTime              time.Time
	ErrorCode              string
	RequestID, EventID     string
	ReadOnly               bool
	UserIdentity           struct{ ARN string }
	RequestParameters      map[string]any
	Resources              []struct{ ARN, AccountID, Type string }
}

// about reports whether the event has the key as a resource.
func (r record) about(arn string) bool {
	for _, resource := range r.Resources {
		if resource.ARN == arn {
			return true
		}
	}
	return false
}

// lookup returns all events of the test that have the key as a resource, the newest first.
func (p *trailProbe) lookup(key string, a trailtypes.LookupAttribute) (list []record) {
	p.Helper()
	pages := cloudtrail.NewLookupEventsPaginator(p.trail, &cloudtrail.LookupEventsInput{
		LookupAttributes: []trailtypes.LookupAttribute{a},
		StartTime:        aws.Time(p.began.Add(-time.Minute)),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(p.ctx)
		p.must(err)
		for _, e := range page.Events {
			var r record
			p.must(json.Unmarshal([]byte(*e.CloudTrailEvent), &r))
			if r.about(key) {
				list = append(list, r)
			}
		}
	}
	return list
}

// await is lookup until there are n events, for at most wait.
func (p *trailProbe) await(key string, n int, a trailtypes.LookupAttribute) []record {
	p.Helper()
	for over := time.Now().Add(p.wait); ; time.Sleep(time.Second) {
		list := p.lookup(key, a)
		if len(list) >= n {
			return list
		}
		if time.Now().After(over) {
			p.Fatalf("%d events of %s are found, want %d", len(list), key, n)
		}
	}
}

// fromKMS selects the events of KMS.
func fromKMS() trailtypes.LookupAttribute {
	return trailtypes.LookupAttribute{
		AttributeKey:   trailtypes.LookupAttributeKeyEventSource,
		AttributeValue: aws.String("kms.amazonaws.com"),
	}
}

// API_LookupEvents; KMS developer guide, "Logging AWS KMS API calls with AWS CloudTrail" and its
// page on Encrypt. The context is recorded, plaintexts and ciphertexts are not.
func trailOfKMS(p *trailProbe) {
	k := p.key()
	out, err := p.Encrypt(p.ctx, &kms.EncryptInput{
		KeyId:             k.KeyId,
		Plaintext:         []byte("text"),
		EncryptionContext: map[string]string{"purpose": "case"},
	})
	p.must(err)
	p.describe(*k.KeyId)
	list := p.await(*k.Arn, 2, fromKMS())
	at := slices.IndexFunc(list, func(r record) bool { return r.EventName == "Encrypt" })
	if at < 0 {
		p.Fatalf("no event of Encrypt in %v", list)
	}
	got := list[at]
	context, _ := got.RequestParameters["encryptionContext"].(map[string]any)
	if got.RequestID != requestID(out.ResultMetadata) || got.EventSource != "kms.amazonaws.com" ||
		got.ErrorCode != "" || !got.ReadOnly || context["purpose"] != "case" ||
		got.UserIdentity.ARN == "" || got.Resources[0].Type != "AWS::KMS::Key" ||
		time.Since(got.EventTime).Abs() > time.Hour {
		p.Errorf("the event of Encrypt is %+v", got)
	}
	if got.RequestParameters["plaintext"] != nil {
		p.Error("the event has the plaintext")
	}
	for i := range list[1:] {
		if list[i].EventTime.Before(list[i+1].EventTime) {
			p.Errorf("event %d is older than the next one", i)
		}
	}
}

// KMS developer guide, "Determining past usage of a KMS key" and "Decrypt failure": a refused
// request has an error code.
func trailRefused(p *trailProbe) {
	k := p.key()
	blob := p.blob(*k.KeyId, "text", nil)
	p.disable(*k.KeyId)
	_, err := p.Decrypt(p.ctx, &kms.DecryptInput{CiphertextBlob: blob, KeyId: k.KeyId})
	p.want("DisabledException", err)
	for _, r := range p.await(*k.Arn, 3, fromKMS()) {
		if want := map[string]string{"Decrypt": "DisabledException"}; r.ErrorCode !=
			want[r.EventName] {
			p.Errorf("%s has error code %q", r.EventName, r.ErrorCode)
		}
	}
}

// KMS developer guide, page on ReEncrypt: both keys, the source key first.
func trailReEncrypt(p *trailProbe) {
	from, to := p.key(), p.key()
	out, err := p.ReEncrypt(p.ctx, &kms.ReEncryptInput{
		CiphertextBlob:   p.blob(*from.KeyId, "text", nil),
		DestinationKeyId: to.Arn,
	})
	p.must(err)
	for _, r := range p.await(*to.Arn, 1, fromKMS()) {
		if r.EventName == "ReEncrypt" && (r.RequestID != requestID(out.ResultMetadata) ||
			len(r.Resources) != 2 || r.Resources[0].ARN != *from.Arn ||
			r.Resources[1].ARN != *to.Arn) {
			p.Errorf("the event of ReEncrypt is %+v", r)
		}
	}
}

// API_KeyLastUsageData: CloudTrailEventId and KmsRequestId name the event of the last use.
func trailLastUse(p *trailProbe) {
	k := p.key()
	p.blob(*k.KeyId, "text", nil)
	last := p.lastUsage(*k.KeyId).KeyLastUsage
	for _, r := range p.await(*k.Arn, 1, fromKMS()) {
		if r.EventName == "Encrypt" && (r.EventID != aws.ToString(last.CloudTrailEventId) ||
			r.RequestID != aws.ToString(last.KmsRequestId)) {
			p.Errorf("the event is %s of request %s, the last use %s of request %s", r.EventID,
				r.RequestID, aws.ToString(last.CloudTrailEventId), aws.ToString(last.KmsRequestId))
		}
	}
}

// KMS developer guide, page on DisableKey.
func trailByName(p *trailProbe) {
	k := p.key()
	p.disable(*k.KeyId)
	list := p.await(*k.Arn, 1, trailtypes.LookupAttribute{
		AttributeKey:   trailtypes.LookupAttributeKeyEventName,
		AttributeValue: aws.String("DisableKey"),
	})
	if len(list) != 1 || list[0].EventName != "DisableKey" || list[0].ReadOnly {
		p.Errorf("the events of DisableKey are %+v", list)
	}
}

// API_LookupEvents, MaxResults and NextToken.
func trailPages(p *trailProbe) {
	k := p.key()
	const n = 7
	for range n {
		p.describe(*k.KeyId)
	}
	p.await(*k.Arn, n, fromKMS())
	pages := cloudtrail.NewLookupEventsPaginator(p.trail, &cloudtrail.LookupEventsInput{
		LookupAttributes: []trailtypes.LookupAttribute{fromKMS()},
		StartTime:        aws.Time(p.began.Add(-time.Minute)),
		MaxResults:       aws.Int32(3),
	})
	seen := map[string]bool{}
	for pages.HasMorePages() {
		page, err := pages.NextPage(p.ctx)
		p.must(err)
		if len(page.Events) > 3 {
			p.Errorf("a page has %d events, want 3 at most", len(page.Events))
		}
		for _, e := range page.Events {
			if seen[*e.EventId] {
				p.Errorf("event %s is on two pages", *e.EventId)
			}
			seen[*e.EventId] = true
		}
	}
	if len(seen) < n {
		p.Errorf("the pages have %d events, want at least %d", len(seen), n)
	}
}

// API_LookupEvents, Errors.
func trailInvalid(p *trailProbe) {
	for code, in := range map[string]*cloudtrail.LookupEventsInput{
		"InvalidMaxResultsException": {MaxResults: aws.Int32(51)},
		"InvalidTimeRangeException": {
			StartTime: aws.Time(p.began),
			EndTime:   aws.Time(p.began.Add(-time.Hour)),
		},
		"InvalidLookupAttributesException": {
			LookupAttributes: []trailtypes.LookupAttribute{fromKMS(), fromKMS()},
		},
		"InvalidNextTokenException": {NextToken: aws.String("no token")},
	} {
		_, err := p.trail.LookupEvents(p.ctx, in)
		p.want(code, err)
	}
}
