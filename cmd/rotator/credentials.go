package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/smithy-go"

	"rotator/internal/awserr"
	"rotator/internal/retry"
)

// awsSettings is what the AWS SDK has read from the environment and the files of the AWS
// configuration. It explains why there are no credentials.
type awsSettings struct {
	profile awsconfig.SharedConfig
	// role is the role of the job file that is assumed with the credentials, or "".
	role   string
	lookup func(string) (string, bool) // of environment variables
}

// settingsOf returns the settings from which the SDK made a configuration.
func settingsOf(sources []any) awsSettings {
	s := awsSettings{lookup: os.LookupEnv}
	for _, source := range sources {
		if profile, ok := source.(awsconfig.SharedConfig); ok {
			s.profile = profile
		}
	}
	return s
}

// profileName returns the name of the profile, and where it comes from.
func (s awsSettings) profileName() (name, from string) {
	for _, variable := range []string{"AWS_PROFILE", "AWS_DEFAULT_PROFILE"} {
		if value, _ := s.lookup(variable); value != "" {
			return value, " (" + variable + ")"
		}
	}
	return "default", ""
}

// files returns the configuration files and the credentials files that the SDK reads.
func (s awsSettings) files() (config, credentials []string) {
	config = awsconfig.DefaultSharedConfigFiles
	if file, _ := s.lookup("AWS_CONFIG_FILE"); file != "" {
		config = []string{file}
	}
	credentials = awsconfig.DefaultSharedCredentialsFiles
	if file, _ := s.lookup("AWS_SHARED_CREDENTIALS_FILE"); file != "" {
		credentials = []string{file}
	}
	return config, credentials
}

// read describes the files, and states whether each contains a profile: "F (no such file) and
// G (no such profile)".
func (s awsSettings) read(profile string) string {
	config, credentials := s.files()
	var texts []string
	for _, path := range config {
		texts = append(texts, path+stateOfProfile(profile, []string{path}, []string{}))
	}
	for _, path := range credentials {
		texts = append(texts, path+stateOfProfile(profile, []string{}, []string{path}))
	}
	return strings.Join(texts, " and ")
}

func stateOfProfile(profile string, config, credentials []string) string {
	for _, path := range slices.Concat(config, credentials) {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return " (no such file)"
		} else if err != nil {
			return " (cannot be read)"
		}
	}
	_, err := awsconfig.LoadSharedConfigProfile(context.Background(), profile,
		func(o *awsconfig.LoadSharedConfigOptions) {
			o.ConfigFiles, o.CredentialsFiles = config, credentials
		})
	var missing awsconfig.SharedConfigProfileNotExistError
	if errors.As(err, &missing) && missing.Profile == profile {
		return " (no such profile)"
	}
	return ""
}

// unreadableSettings returns the error for settings that the SDK cannot use.
func unreadableSettings(s awsSettings, err error) error {
	var (
		missing awsconfig.SharedConfigProfileNotExistError
		assume  awsconfig.SharedConfigAssumeRoleError
		load    awsconfig.SharedConfigLoadError
		cause   string
	)
	name, from := s.profileName()
	webIdentity, _ := s.lookup("AWS_WEB_IDENTITY_TOKEN_FILE")
	role, _ := s.lookup("AWS_ROLE_ARN")
	switch {
	case errors.As(err, &assume) && assume.Err != nil:
		cause = fmt.Sprintf("source_profile %q of profile %q%s is not in %s", assume.Profile,
			name, from, s.read(assume.Profile))
	case errors.As(err, &assume):
		cause = fmt.Sprintf("source_profile %q of profile %q%s has no credentials in %s",
			assume.Profile, name, from, s.read(assume.Profile))
	case errors.As(err, &missing):
		cause = fmt.Sprintf("there is no profile %q%s in %s; in a configuration file its "+
			"section is [profile %s]", missing.Profile, from, s.read(missing.Profile),
			missing.Profile)
	case errors.As(err, &load):
		cause = fmt.Sprintf("the AWS configuration file %s cannot be read: %v", load.Filename,
			load.Err)
	case webIdentity != "" && role == "":
		cause = "AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not"
	default:
		cause = s.otherCause(err)
	}
	return &retry.CredentialsError{Err: err, Cause: cause, Permanent: true}
}

// otherCause returns why the SDK cannot use the settings, for errors without a type.
func (s awsSettings) otherCause(err error) string {
	name, from := s.profileName()
	text := strings.Join(strings.Fields(err.Error()), " ") // in one line
	if session, ok := strings.CutPrefix(text, "failed to find SSO session section, "); ok {
		return fmt.Sprintf("profile %q%s has sso_session = %s, but there is no section "+
			"[sso-session %s] in %s", name, from, session, session, s.read(name))
	}
	if _, part, ok := strings.Cut(text, "Error using profile: "); ok {
		text = part
	}
	return fmt.Sprintf("the AWS configuration (the environment, and profile %q%s of %s) cannot "+
		"be used: %s", name, from, s.read(name), text)
}

// unavailableCredentials returns the error for a credential provider that returned no
// credentials. sources are the sources of the provider. last are the credentials that it
// returned last, or nil. waited is the time since its first call.
func (s awsSettings) unavailableCredentials(
	err error, sources []aws.CredentialSource, last *aws.Credentials, waited time.Duration,
) error {
	failed := &retry.CredentialsError{Err: withoutOutput(err)}
	path := (*fs.PathError)(nil)
	failed.Permanent = errors.As(err, &path)
	if base := (*retry.CredentialsError)(nil); errors.As(err, &base) && base.Cause != "" {
		failed.Cause, failed.Permanent = base.Cause, base.Permanent // of the role's own ones
		return failed
	}
	failed.Cause = s.cause(err, sources)
	if last != nil {
		failed.Cause += "; the last ones, access key " + printableKeyID(last.AccessKeyID)
		if last.CanExpire {
			failed.Cause += ", were valid until " + last.Expires.UTC().Format(time.RFC3339)
		} else {
			failed.Cause += ", were refused"
		}
	} else if s.fellThrough(sources) && waited >= patienceWithMetadata {
		failed.Permanent = true
	}
	return failed
}

// patienceWithMetadata is the time without a response after which the instance metadata
// service counts as missing, if no setting refers to it. The SDK itself sends several
// requests.
const patienceWithMetadata = 2 * time.Second

// fellThrough reports whether the SDK uses the instance metadata service only because no
// other source is configured.
func (s awsSettings) fellThrough(sources []aws.CredentialSource) bool {
	return slices.Contains(sources, aws.CredentialSourceIMDS) && s.credentialSource() == ""
}

// credentialSource returns credential_source of the profile, or of its source profile.
func (s awsSettings) credentialSource() string {
	for p := &s.profile; p != nil; p = p.Source {
		if p.CredentialSource != "" {
			return p.CredentialSource
		}
	}
	return ""
}

// cause returns why a provider returns no credentials, and how to correct this.
func (s awsSettings) cause(err error, sources []aws.CredentialSource) string {
	name, from := s.profileName()
	profile := fmt.Sprintf("profile %q%s", name, from)
	var (
		process *processcreds.ProviderError
		token   *ssocreds.InvalidTokenError
	)
	has := func(source aws.CredentialSource) bool { return slices.Contains(sources, source) }
	metadata := has(aws.CredentialSourceIMDS) && strings.Contains(err.Error(), "IMDS")
	switch {
	case refusedRole(err) != "":
		return s.roleCause(err)
	case errors.As(err, &process):
		return fmt.Sprintf("credential_process of %s failed: %s", profile,
			processCause(err, process))
	case errors.As(err, &token), has(aws.CredentialSourceSSO),
		has(aws.CredentialSourceSSOLegacy):
		return s.signInCause(name, profile, err)
	case has(aws.CredentialSourceLogin):
		return fmt.Sprintf("the sign-in of %s cannot be used: %s; run: aws login --profile %s",
			profile, lastCause(err), name)
	case strings.Contains(err.Error(), "failed to retrieve jwt"):
		return "the web identity token file " + s.webIdentityFile() + " cannot be read" +
			fileState(s.webIdentityFile())
	case s.credentialSource() == "Environment":
		return fmt.Sprintf("credential_source Environment of %s gives no credentials: "+
			"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not both set", profile)
	case s.credentialSource() == "" && has(aws.CredentialSourceHTTP):
		return fmt.Sprintf("the endpoint of container credentials (%s) gives none: %s",
			s.containerVariable(), lastCause(err))
	case s.credentialSource() != "":
		return fmt.Sprintf("credential_source %s of %s gives no credentials: %s",
			s.credentialSource(), profile, lastCause(err))
	case metadata && s.profile.RoleARN != "":
		return fmt.Sprintf("%s has role_arn, but none of source_profile, credential_source and "+
			"web_identity_token_file, so there are no credentials to assume the role with",
			profile)
	case metadata:
		return "no credentials found. Looked in " + s.lookedIn(name, err)
	}
	return "no usable credentials: " + lastCause(err)
}

func (s awsSettings) webIdentityFile() string {
	variable, _ := s.lookup("AWS_WEB_IDENTITY_TOKEN_FILE")
	return cmp.Or(s.profile.WebIdentityTokenFile, variable)
}

// fileState returns why a file cannot be read, or "".
func fileState(path string) string {
	file, err := os.Open(path)
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
		return ": " + failed.Err.Error()
	}
	_ = file.Close()
	return ""
}

func (s awsSettings) containerVariable() string {
	if value, _ := s.lookup("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); value != "" {
		return "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
	}
	return "AWS_CONTAINER_CREDENTIALS_FULL_URI"
}

// lookedIn lists the sources of credentials that the SDK tried, and what it found there.
func (s awsSettings) lookedIn(profile string, err error) string {
	value := func(variable string) string { v, _ := s.lookup(variable); return v }
	id := cmp.Or(value("AWS_ACCESS_KEY_ID"), value("AWS_ACCESS_KEY"))
	secret := cmp.Or(value("AWS_SECRET_ACCESS_KEY"), value("AWS_SECRET_KEY"))
	environment := "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set"
	switch {
	case id != "" && secret == "":
		environment = "AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not"
	case id == "" && secret != "":
		environment = "AWS_SECRET_ACCESS_KEY is set, but AWS_ACCESS_KEY_ID is not"
	}
	return fmt.Sprintf("the environment (%s; AWS_WEB_IDENTITY_TOKEN_FILE is not set), profile "+
		"%q of %s, the container endpoint (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and "+
		"AWS_CONTAINER_CREDENTIALS_FULL_URI are not set), and the EC2 instance metadata service "+
		"(%s)", environment, profile, s.read(profile), metadataState(err))
}

// metadataState returns why the instance metadata service returns no credentials.
func metadataState(err error) string {
	sending := (*url.Error)(nil)
	switch {
	case strings.Contains(err.Error(), "AWS_EC2_METADATA_DISABLED"):
		return "turned off by AWS_EC2_METADATA_DISABLED"
	case errors.As(err, &sending):
		return "no response: " + sending.Err.Error()
	case awserr.Status(err) != 0:
		return fmt.Sprintf("no role, status %d", awserr.Status(err))
	}
	return "no role"
}

// refusedRole returns the operation of STS that was refused, or "".
func refusedRole(err error) string {
	operation := (*smithy.OperationError)(nil)
	if errors.As(err, &operation) && operation.Service() == "STS" && awserr.Code(err) != "" {
		return operation.Operation()
	}
	return ""
}

// roleCause returns why STS refused to assume a role.
func (s awsSettings) roleCause(err error) string {
	variable, _ := s.lookup("AWS_ROLE_ARN")
	role := cmp.Or(s.role, s.profile.RoleARN, variable)
	operation := (*smithy.OperationError)(nil)
	_ = errors.As(err, &operation) // refusedRole has checked it
	text := fmt.Sprintf("the role %s cannot be assumed: %s", role, short(operation))
	if expired(awserr.Code(err)) {
		if operation.Operation() == "AssumeRoleWithWebIdentity" {
			return text + "; the web identity token in " + s.webIdentityFile() + " has expired"
		}
		return text + "; the credentials to assume it with have expired"
	}
	return text
}

// processCause returns why a credential_process failed, without its output.
func processCause(err error, process *processcreds.ProviderError) string {
	if hidden := (*hiddenError)(nil); errors.As(withoutOutput(err), &hidden) {
		return "it did not print a JSON object of credentials; its output is not shown"
	}
	return strings.TrimPrefix(process.Err.Error(), "error in credential_process: ")
}

// signInCause returns why a profile with IAM Identity Center has no credentials.
func (s awsSettings) signInCause(name, profile string, err error) string {
	session := s.profile.SSOStartURL
	if s.profile.SSOSession != nil {
		session = s.profile.SSOSession.Name
	}
	what := fmt.Sprintf("the sign-in of %s at IAM Identity Center (%s) ", profile, session)
	remedy := "; run: aws sso login --profile " + name
	path, pathErr := ssocreds.StandardCachedTokenFilepath(session)
	text, readErr := os.ReadFile(path)
	var token struct {
		ExpiresAt time.Time `json:"expiresAt"`
	}
	switch {
	case pathErr == nil && errors.Is(readErr, fs.ErrNotExist):
		return what + "is missing: there is no " + path + remedy
	case readErr == nil && json.Unmarshal(text, &token) == nil && !token.ExpiresAt.IsZero() &&
		token.ExpiresAt.Before(time.Now()):
		return what + "expired at " + token.ExpiresAt.UTC().Format(time.RFC3339) + remedy
	}
	return what + "cannot be used: " + lastCause(err) + remedy
}

// lastCause returns the text of the innermost error that is understandable by itself.
func lastCause(err error) string {
	operation := (*smithy.OperationError)(nil)
	if errors.As(err, &operation) {
		text := short(operation)
		for inner := operation; errors.As(inner.Err, &inner); {
			text = short(inner)
		}
		return text
	}
	if sending := (*url.Error)(nil); errors.As(err, &sending) {
		return sending.Error()
	}
	return strings.TrimPrefix(err.Error(), "failed to refresh cached credentials, ")
}
