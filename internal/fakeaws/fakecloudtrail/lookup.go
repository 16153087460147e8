package fakecloudtrail

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// epoch is a time in the form of the JSON protocols: seconds since 1970. CloudTrail has no
// fractions of a second.
type epoch time.Time

// MarshalJSON implements json.Marshaler.
func (e epoch) MarshalJSON() ([]byte, error) {
	return strconv.AppendInt(nil, time.Time(e).Unix(), 10), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *epoch) UnmarshalJSON(text []byte) error {
	seconds, err := strconv.ParseFloat(string(text), 64)
	*e = epoch(time.UnixMilli(int64(seconds * 1000)))
	return err
}

type lookupAttribute struct{ AttributeKey, AttributeValue string }

// lookup is the input of LookupEvents.
type lookup struct {
	LookupAttributes   []lookupAttribute
	StartTime, EndTime *epoch
	MaxResults         *int
	NextToken          string
	EventCategory      string
}

// history is how long CloudTrail keeps events.
const history = 90 * 24 * time.Hour

// check returns an error for an invalid request, or nil.
func (in lookup) check() *Error {
	if in.StartTime != nil && in.EndTime != nil &&
		time.Time(*in.StartTime).After(time.Time(*in.EndTime)) {
		return fail("InvalidTimeRangeException", "the start time is after the end time")
	}
	if in.MaxResults != nil && (*in.MaxResults < 1 || *in.MaxResults > 50) {
		return fail("InvalidMaxResultsException", "MaxResults must be 1 to 50")
	}
	if len(in.LookupAttributes) > 1 {
		return fail("InvalidLookupAttributesException", "there can be one lookup attribute")
	}
	if in.EventCategory != "" && in.EventCategory != "insight" {
		return fail("InvalidEventCategoryException", "%q is not a category", in.EventCategory)
	}
	for _, a := range in.LookupAttributes {
		if _, known := attributes()[a.AttributeKey]; !known || a.AttributeValue == "" {
			return fail("InvalidLookupAttributesException", "%q is not a lookup attribute",
				a.AttributeKey)
		}
	}
	return nil
}

// attributes returns the lookup attributes and the values of an event for each.
func attributes() map[string]func(Event) []string {
	return map[string]func(Event) []string{
		"EventId":      func(e Event) []string { return []string{e.ID} },
		"EventName":    func(e Event) []string { return []string{e.Name} },
		"EventSource":  func(e Event) []string { return []string{e.Source} },
		"ReadOnly":     func(e Event) []string { return []string{strconv.FormatBool(e.ReadOnly)} },
		"AccessKeyId":  func(e Event) []string { return []string{e.AccessKeyID} },
		"Username":     func(e Event) []string { return []string{username(e.Principal)} },
		"ResourceType": func(e Event) []string { return []string{e.ResourceType} },
		"ResourceName": func(e Event) []string { return e.Resources },
	}
}

// username returns the name of a user, or of the session of a role.
func username(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// matches reports whether the request is for the event.
func (in lookup) matches(e Event, now time.Time, delay time.Duration) bool {
	second := e.At.Truncate(time.Second)
	switch {
	case e.At.After(now.Add(-delay)), e.At.Before(now.Add(-history)):
		return false
	case in.StartTime != nil && second.Before(time.Time(*in.StartTime).Truncate(time.Second)):
		return false
	case in.EndTime != nil && second.After(time.Time(*in.EndTime)):
		return false
	}
	for _, a := range in.LookupAttributes {
		if !slices.Contains(attributes()[a.AttributeKey](e), a.AttributeValue) {
			return false
		}
	}
	return in.EventCategory == ""
}

type resource struct{ ResourceName, ResourceType string }

// found is an event of the response.
type found struct {
	EventID         string `json:"EventId"`
	EventName       string
	EventSource     string
	EventTime       epoch
	AccessKeyID     string `json:"AccessKeyId,omitempty"`
	ReadOnly        string
	Username        string     `json:",omitempty"`
	Resources       []resource `json:",omitempty"`
	CloudTrailEvent string
}

type lookupOutput struct {
	Events    []found
	NextToken string `json:",omitempty"`
}

// lookupEvents is API_LookupEvents: the newest event first. The token names the last event that
// was returned, so later events do not change the next page.
func (s *Service) lookupEvents(in lookup, now time.Time) (lookupOutput, *Error) {
	if err := in.check(); err != nil {
		return lookupOutput{}, err
	}
	s.mu.Lock()
	events, delay := s.events, s.delay
	s.mu.Unlock()
	var all []Event
	for _, e := range slices.Backward(events[max(0, len(events)-maxEvents):]) {
		if in.matches(e, now, delay) {
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b Event) int { return b.At.Compare(a.At) })
	if in.NextToken != "" {
		last := slices.IndexFunc(all, func(e Event) bool { return e.ID == in.NextToken })
		if last < 0 {
			return lookupOutput{}, fail("InvalidNextTokenException",
				"the token is not one that this lookup returned")
		}
		all = all[last+1:]
	}
	limit := 50
	if in.MaxResults != nil {
		limit = *in.MaxResults
	}
	out := lookupOutput{Events: []found{}}
	if len(all) > limit {
		all = all[:limit]
		out.NextToken = all[limit-1].ID
	}
	for _, e := range all {
		out.Events = append(out.Events, s.found(e))
	}
	return out, nil
}

func (s *Service) found(e Event) found {
	f := found{
		EventID:     e.ID,
		EventName:   e.Name,
		EventSource: e.Source,
		EventTime:   epoch(e.At),
		AccessKeyID: e.AccessKeyID,
		ReadOnly:    strconv.FormatBool(e.ReadOnly),
		Username:    username(e.Principal),
	}
	for _, name := range e.Resources {
		f.Resources = append(f.Resources, resource{name, e.ResourceType})
	}
	text, _ := json.Marshal(s.record(e)) // strings and maps of a JSON document
	f.CloudTrailEvent = string(text)
	return f
}

// record returns the record of an event ("CloudTrail record contents").
func (s *Service) record(e Event) map[string]any {
	account := s.config.Account
	if parts := strings.SplitN(e.Principal, ":", 6); len(parts) == 6 {
		account = parts[4]
	}
	record := map[string]any{
		"eventVersion":       "1.11",
		"userIdentity":       identity(e, account),
		"eventTime":          e.At.UTC().Format(time.RFC3339),
		"eventSource":        e.Source,
		"eventName":          e.Name,
		"awsRegion":          s.config.Region,
		"sourceIPAddress":    e.SourceIP,
		"userAgent":          e.UserAgent,
		"requestParameters":  nil,
		"responseElements":   nil,
		"requestID":          e.RequestID,
		"eventID":            e.ID,
		"readOnly":           e.ReadOnly,
		"eventType":          "AwsApiCall",
		"managementEvent":    true,
		"recipientAccountId": s.config.Account,
		"eventCategory":      "Management",
	}
	if e.Parameters != nil {
		record["requestParameters"] = e.Parameters()
	}
	if e.Code != "" {
		record["errorCode"] = strings.Replace(e.Code, "AccessDeniedException", "AccessDenied", 1)
		record["errorMessage"] = e.Message
	}
	var resources []map[string]string
	for _, arn := range e.Resources {
		resources = append(resources, map[string]string{
			"accountId": s.config.Account,
			"type":      e.ResourceType,
			"ARN":       arn,
		})
	}
	if resources != nil {
		record["resources"] = resources
	}
	return record
}

// identity returns the element userIdentity for a user, a role or a service.
func identity(e Event, account string) map[string]any {
	if service, ok := strings.CutSuffix(e.Principal, ".amazonaws.com"); ok {
		return map[string]any{"type": "AWSService", "invokedBy": service + ".amazonaws.com"}
	}
	who := map[string]any{
		"type":        "IAMUser",
		"principalId": "AIDA" + username(e.Principal),
		"arn":         e.Principal,
		"accountId":   account,
		"accessKeyId": e.AccessKeyID,
		"userName":    username(e.Principal),
	}
	_, session, ok := strings.Cut(e.Principal, ":assumed-role/")
	if !ok {
		return who
	}
	role, _, _ := strings.Cut(session, "/")
	who["type"] = "AssumedRole"
	delete(who, "userName")
	partition := strings.SplitN(e.Principal, ":", 3)[1]
	who["sessionContext"] = map[string]any{"sessionIssuer": map[string]any{
		"type":      "Role",
		"arn":       "arn:" + partition + ":iam::" + account + ":role/" + role,
		"accountId": account,
		"userName":  role,
	}}
	return who
}
