package fakeaws

import (
	"bytes"
	"crypto/rand"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"rotator/internal/fakeaws/fault"
)

// tokens maps access keys to the roles for which AssumeRole issued them. It is safe for
// concurrent use.
type tokens struct {
	account string

	mu    sync.Mutex
	roles map[string]string // access key id -> ARN of the assumed role
}

func newTokens(account string) *tokens {
	return &tokens{account: account, roles: map[string]string{}}
}

// principal returns the ARN of the principal that signs with the access key: the assumed role
// if AssumeRole issued the key, otherwise a user whose name is the access key id.
func (t *tokens) principal(accessKeyID string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if role, ok := t.roles[accessKeyID]; ok {
		return role
	}
	return fmt.Sprintf("arn:aws:iam::%s:user/%s", t.account, accessKeyID)
}

// issue returns a new access key id for the assumed role.
func (t *tokens) issue(role string) string {
	accessKeyID := "ASIA" + rand.Text()[:16]
	t.mu.Lock()
	defer t.mu.Unlock()
	t.roles[accessKeyID] = role
	return accessKeyID
}

// stsService implements AssumeRole and GetCallerIdentity in the AWS query protocol.
type stsService struct{ tokens *tokens }

// Operation implements fault.Service.
func (s *stsService) Operation(r *http.Request) string {
	form, err := readForm(r)
	switch {
	case err != nil: // the client disconnected before the request was complete
		return "sts:Incomplete"
	case form.Get("Action") == "":
		return "sts:Unknown"
	}
	return "sts:" + form.Get("Action")
}

// readForm parses the body and leaves it readable for the service.
func readForm(r *http.Request) (url.Values, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return url.ParseQuery(string(body))
}

// Throttle implements fault.Service.
func (s *stsService) Throttle(w http.ResponseWriter, _ *http.Request) {
	stsError(w, http.StatusBadRequest, "Throttling", "Rate exceeded")
}

// Fail implements fault.Service.
func (s *stsService) Fail(w http.ResponseWriter, _ *http.Request) {
	stsError(w, http.StatusInternalServerError, "InternalFailure",
		"the request failed inside the service")
}

// Refuse implements fault.Service.
func (s *stsService) Refuse(w http.ResponseWriter, _ *http.Request, a fault.Answer) {
	stsError(w, a.Status, a.Code, a.Message)
}

func (s *stsService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	form, err := readForm(r)
	if err != nil {
		stsError(w, http.StatusBadRequest, "MalformedQueryString", "the body is not a form")
		return
	}
	switch form.Get("Action") {
	case "AssumeRole":
		s.assumeRole(w, form)
	case "GetCallerIdentity":
		s.callerIdentity(w, r)
	default:
		stsError(w, http.StatusBadRequest, "InvalidAction",
			"the fake STS implements only AssumeRole and GetCallerIdentity")
	}
}

type stsCredentials struct {
	AccessKeyID     string `xml:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      string // ISO 8601, UTC
}

type assumedRoleUser struct {
	ARN           string `xml:"Arn"`
	AssumedRoleID string `xml:"AssumedRoleId"`
}

type assumeRoleResponse struct {
	XMLName     xml.Name        `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleResponse"`
	Credentials stsCredentials  `xml:"AssumeRoleResult>Credentials"`
	User        assumedRoleUser `xml:"AssumeRoleResult>AssumedRoleUser"`
	RequestID   string          `xml:"ResponseMetadata>RequestId"`
}

// assumeRole is API_AssumeRole. It issues a new access key for the role. The answer says that
// the key is valid for an hour, but the fake does not refuse it afterwards.
func (s *stsService) assumeRole(w http.ResponseWriter, form url.Values) {
	// arn:aws:iam::111122223333:role/path/name
	parts := strings.SplitN(form.Get("RoleArn"), ":", 6)
	session := form.Get("RoleSessionName")
	if len(parts) != 6 || parts[2] != "iam" || !strings.HasPrefix(parts[5], "role/") ||
		session == "" {
		stsError(w, http.StatusBadRequest, "ValidationError",
			"RoleArn must be the ARN of a role, and RoleSessionName is required")
		return
	}
	name := parts[5][strings.LastIndexByte(parts[5], '/')+1:]
	role := fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", parts[1], parts[4], name, session)
	writeXML(w, http.StatusOK, assumeRoleResponse{
		Credentials: stsCredentials{
			AccessKeyID:     s.tokens.issue(role),
			SecretAccessKey: rand.Text(),
			SessionToken:    rand.Text(),
			Expiration:      time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
		},
		User: assumedRoleUser{
			ARN:           role,
			AssumedRoleID: "AROA" + rand.Text()[:16] + ":" + session,
		},
		RequestID: w.Header().Get("X-Amzn-Requestid"),
	})
}

type callerIdentityResponse struct {
	XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetCallerIdentityResponse"`
	ARN       string   `xml:"GetCallerIdentityResult>Arn"`
	UserID    string   `xml:"GetCallerIdentityResult>UserId"`
	Account   string   `xml:"GetCallerIdentityResult>Account"`
	RequestID string   `xml:"ResponseMetadata>RequestId"`
}

// callerIdentity is API_GetCallerIdentity.
func (s *stsService) callerIdentity(w http.ResponseWriter, r *http.Request) {
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	accessKeyID, _, _ := strings.Cut(credential, "/")
	arn := s.tokens.principal(accessKeyID)
	writeXML(w, http.StatusOK, callerIdentityResponse{
		ARN:       arn,
		UserID:    accessKeyID,
		Account:   strings.Split(arn, ":")[4],
		RequestID: w.Header().Get("X-Amzn-Requestid"),
	})
}

type stsErrorResponse struct {
	XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
	Type      string   `xml:"Error>Type"`
	Code      string   `xml:"Error>Code"`
	Message   string   `xml:"Error>Message"`
	RequestID string   `xml:"RequestId"`
}

func stsError(w http.ResponseWriter, status int, code, message string) {
	errorType := "Sender"
	if status >= http.StatusInternalServerError {
		errorType = "Receiver"
	}
	writeXML(w, status, stsErrorResponse{
		Type:      errorType,
		Code:      code,
		Message:   message,
		RequestID: w.Header().Get("X-Amzn-Requestid"),
	})
}

func writeXML(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(body) // an error means that the client disconnected
}
