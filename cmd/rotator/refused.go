package main

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/smithy-go"

	"rotator/internal/awserr"
	"rotator/internal/retry"
)

// identity records which credentials the services refused, for error messages. It is safe
// for concurrent use.
type identity struct {
	mu      sync.Mutex
	refused map[string]refusedCredentials // by service
}

// refusedCredentials are credentials that a service refused, without their secret.
type refusedCredentials struct {
	accessKey string
	source    string    // Credentials.Source
	expires   time.Time // zero if it is unknown
	settings  awsSettings
}

func (i *identity) refuse(service string, c refusedCredentials) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.refused == nil {
		i.refused = map[string]refusedCredentials{}
	}
	i.refused[service] = c
}

// cause returns why a service refused the credentials of a request, and how to correct this.
// It returns "" if err has another cause.
func (i *identity) cause(err error) string {
	operation := (*smithy.OperationError)(nil)
	if !errors.As(err, &operation) || !retry.RefusesCredentials(err) {
		return ""
	}
	i.mu.Lock()
	c, known := i.refused[operation.Service()]
	i.mu.Unlock()
	what := short(operation)
	switch code := awserr.Code(err); {
	case offClock(err):
		return "the clock of this machine " + skewOf(err, operation.Service()) +
			", so signatures are refused: set the clock (" + what + ")"
	case !known:
		return "the credentials were refused: " + what
	case expired(code):
		return fmt.Sprintf("the credentials have expired%s: access key %s%s. %s (%s)", c.when(),
			printableKeyID(c.accessKey), c.from(), c.remedy(), what)
	}
	return fmt.Sprintf("the credentials were refused: access key %s%s. Check that they are the "+
		"right ones, and that the endpoint is (%s)", printableKeyID(c.accessKey), c.from(), what)
}

// printableKeyID returns the id of an access key. If it can be a secret access key, it returns
// what to check instead. Secret access keys have 40 characters, which can include / and +.
func printableKeyID(id string) string {
	if len(id) == secretKeyLength || strings.ContainsAny(id, "/+=") {
		return "(not printed, because it has the form of a secret access key; check that " +
			"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not interchanged)"
	}
	return id
}

// secretKeyLength is the length of a secret access key.
const secretKeyLength = 40

// when returns a phrase with the time of expiry.
func (c refusedCredentials) when() string {
	if expires, err := time.Parse(time.RFC3339, c.variable("AWS_CREDENTIAL_EXPIRATION")); err ==
		nil && c.source == awsconfig.CredentialsSourceName {
		return " at " + expires.UTC().Format(time.RFC3339)
	}
	if c.expires.IsZero() {
		return ", it is unknown when"
	}
	if c.expires.After(time.Now()) {
		return " before " + c.expires.UTC().Format(time.RFC3339) + ", their own time of expiry"
	}
	return " at " + c.expires.UTC().Format(time.RFC3339)
}

func (c refusedCredentials) variable(name string) string {
	value, _ := c.settings.lookup(name)
	return value
}

// from returns a phrase with the source of the credentials.
func (c refusedCredentials) from() string {
	name, _ := c.settings.profileName()
	path, shared := strings.CutPrefix(c.source, "SharedConfigCredentials: ")
	switch {
	case c.settings.role != "":
		return " of role " + c.settings.role
	case c.source == awsconfig.CredentialsSourceName:
		return " of the environment (AWS_ACCESS_KEY_ID)"
	case shared:
		return fmt.Sprintf(" of profile %q in %s", name, path)
	case c.source == endpointcreds.ProviderName:
		return " of the container endpoint (" + c.settings.containerVariable() + ")"
	case c.source == ec2rolecreds.ProviderName:
		return " of the EC2 instance metadata service"
	}
	return fmt.Sprintf(" of profile %q (%s)", name, c.source)
}

// remedy returns a sentence on how to get new credentials.
func (c refusedCredentials) remedy() string {
	name, _ := c.settings.profileName()
	switch c.source {
	case awsconfig.CredentialsSourceName:
		return "Set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN to new ones"
	case ssocreds.ProviderName:
		return "Run: aws sso login --profile " + name
	case processcreds.ProviderName:
		return "Check that credential_process gives new ones"
	}
	if strings.HasPrefix(c.source, "SharedConfigCredentials: ") {
		return "Write new ones to that file"
	}
	return "New ones were requested, and were refused too or are not available"
}

// expired reports whether an error code means that credentials or a token have expired.
func expired(code string) bool {
	return slices.Contains([]string{"ExpiredToken", "ExpiredTokenException",
		"TokenRefreshRequired"}, code)
}

// offClock reports whether a signature was refused because of its timestamp.
func offClock(err error) bool {
	switch awserr.Code(err) {
	case "RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture":
		return true
	}
	text := err.Error()
	return strings.Contains(text, "Signature expired") ||
		strings.Contains(text, "Signature not yet current")
}

// skewOf returns the difference between the clock of this machine and that of a service.
func skewOf(err error, service string) string {
	now, bad := http.ParseTime(awserr.Header(err, "Date"))
	switch ahead := time.Since(now).Round(time.Minute); {
	case bad != nil || ahead == 0:
		return "differs from the clock of " + service
	case ahead > 0:
		return fmt.Sprintf("is about %s ahead of the clock of %s", ahead, service)
	default:
		return fmt.Sprintf("is about %s behind the clock of %s", -ahead, service)
	}
}
