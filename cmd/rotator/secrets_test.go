package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"rotator/internal/config"
)

// TestSecretsOfURLs: the credentials in endpoints and proxies of the environment are known as
// secrets, and no report contains them.
func TestSecretsOfURLs(t *testing.T) {
	t.Parallel()
	for url, bare := range map[string]string{
		"http://user:pass%2Fword@host:1/p?token=query-secret": "http://host:1/p",
		"http://pass%2Fword@host:1":                           "http://host:1",
		"http://user:pass%2Fword@host:x":                      "",
		"http://host:1":                                       "http://host:1",
	} {
		for _, name := range []string{"AWS_ENDPOINT_URL_KMS", "HTTPS_PROXY", "http_proxy"} {
			secrets := environmentSecrets([]string{name + "=" + url})
			if slices.Contains(secrets, "pass/word") != strings.Contains(url, "@") {
				t.Errorf("%s=%s: %q", name, url, secrets)
			}
		}
		if got := bareEndpoint(url); got != bare {
			t.Errorf("%s is printed as %s", url, got)
		}
	}
}

// TestProblemsAreRedacted: the name of a field does not mark the following text as a secret, but
// secrets in the text are redacted.
func TestProblemsAreRedacted(t *testing.T) {
	t.Parallel()
	problems := &config.Problems{File: "job.yaml", List: []config.Problem{
		{Field: "kms.grant_tokens", Detail: "must be a list"},
		{Field: "kms.endpoint", Detail: "Signature=hunter2 is not one"},
	}}
	got := strings.Join(newStreams(nil, io.Discard, io.Discard).linesOf(problems), "\n")
	want := "job.yaml: kms.grant_tokens: must be a list\n" +
		"job.yaml: kms.endpoint: Signature=[redacted] is not one"
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
