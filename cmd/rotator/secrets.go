package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/smithy-go/logging"
	"go.uber.org/zap"
)

// mostTokenFile is the maximum number of bytes that are read from a token file.
const mostTokenFile = 64 << 10

// environmentSecrets returns the secrets in environment variables and in the
// files that they name. It ignores unreadable files; the SDK reports them.
func environmentSecrets(environ []string) (secrets []string) {
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		switch {
		case name == "AWS_SECRET_ACCESS_KEY", name == "AWS_SECRET_KEY", name == "AWS_SESSION_TOKEN",
			name == "AWS_SECURITY_TOKEN", name == "AWS_CONTAINER_AUTHORIZATION_TOKEN",
			strings.HasPrefix(name, "AWS_BEARER_TOKEN_"):
			secrets = append(secrets, value)
		case name == "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
			name == "AWS_WEB_IDENTITY_TOKEN_FILE":
			secrets = append(secrets, readToken(value))
		case strings.HasPrefix(name, "AWS_ENDPOINT_URL"),
			strings.HasSuffix(strings.ToUpper(name), "_PROXY"):
			secrets = append(secrets, urlSecrets(value)...)
		}
	}
	return secrets
}

// urlSecrets returns the password of a URL, or its user name if it has no
// password, both as written and decoded. The URL may be malformed.
func urlSecrets(text string) []string {
	end := strings.LastIndexByte(text, '@')
	if end < 0 {
		return nil
	}
	user := text[:end]
	if _, rest, ok := strings.Cut(user, "://"); ok {
		user = rest
	}
	secret := user
	if _, password, ok := strings.Cut(user, ":"); ok {
		secret = password
	}
	decoded, err := url.PathUnescape(secret)
	if err != nil {
		return []string{secret}
	}
	return []string{secret, decoded}
}

func readToken(path string) string {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return "" // opening a pipe could wait for ever
	}
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	token, _ := io.ReadAll(io.LimitReader(file, mostTokenFile))
	return string(token)
}

// learn makes resolved credentials known to the redactor.
func (s streams) learn(c aws.Credentials) { s.secrets.Add(c.SecretAccessKey, c.SessionToken) }

// sdkLogger writes the log output of the SDK to the log of the program.
type sdkLogger struct{ logger *zap.Logger }

// Logf implements logging.Logger.
func (l sdkLogger) Logf(class logging.Classification, format string, args ...any) {
	log := l.logger.Debug
	switch {
	case class != logging.Warn:
	case strings.Contains(format, "IMDS"): // its errors are explained
	case strings.Contains(format, "HTTP response body, this may affect connection reuse"):
		// The body of an error response, such as that of a proxy. The error is reported anyway.
	default:
		log = l.logger.Warn
	}
	log(fmt.Sprintf(format, args...), zap.String("from", "AWS SDK"))
}

// withoutOutput removes the output of a credential_process from the text of an
// error. The SDK includes the output if it cannot parse it.
func withoutOutput(err error) error {
	var process *processcreds.ProviderError
	if !errors.As(err, &process) ||
		!strings.Contains(process.Error(), "parse failed of process output") {
		return err
	}
	text := "credential_process did not print a JSON object of credentials; " +
		"its output is not shown"
	// Other causes quote a value, such as an Expiration that is not a time.
	if cause := (*json.SyntaxError)(nil); errors.As(process.Err, &cause) {
		text += ": " + cause.Error()
	}
	return &hiddenError{text: strings.ReplaceAll(err.Error(), process.Error(), text), err: err}
}

// hiddenError is an error whose text is replaced.
type hiddenError struct {
	text string
	err  error
}

func (e *hiddenError) Error() string { return e.text }
func (e *hiddenError) Unwrap() error { return e.err }
