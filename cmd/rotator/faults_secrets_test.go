package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"rotator/internal/fakeaws"
	"rotator/internal/harness"
)

// echoing puts a proxy in front of the services that refuses one operation and
// repeats the request: the message, the code and the request id of the error
// contain the headers with the credentials, and the body, in several encodings.
func echoing(
	t *testing.T, w *harness.Env, operation string, status int, in string,
) (endpoint string) {
	t.Helper()
	to, err := url.Parse(w.Server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	proxy := proxyTo(to)
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		// The first requests to KMS are the dry runs of the preflight.
		if fakeaws.Operation(r) != operation || operation == "kms:ReEncrypt" &&
			requests.Add(1) <= 4 {
			proxy.ServeHTTP(rw, r)
			return
		}
		body, _ := io.ReadAll(r.Body)
		code := map[int]string{
			400: "OddException",
			403: "AccessDeniedException",
			500: "InternalFailure",
		}[status]
		message := "it failed"
		echo := echoOf(r, body)
		switch in {
		case "message":
			message = "bad request: " + echo
		case "code":
			code = "Bad" + base64.StdEncoding.EncodeToString(sentBlob(body))
		case "request id":
			blob := sentBlob(body)
			rw.Header().Set("X-Amzn-Requestid", base64.StdEncoding.EncodeToString(blob))
			rw.Header().Set("X-Amz-Request-Id", hex.EncodeToString(blob))
		}
		rw.WriteHeader(status)
		if strings.HasPrefix(operation, "s3:") {
			var text bytes.Buffer
			_ = xml.EscapeText(&text, []byte(message))
			_, _ = fmt.Fprintf(rw, "<Error><Code>%s</Code><Message>%s</Message></Error>", code,
				&text)
			return
		}
		_ = json.NewEncoder(rw).Encode(map[string]string{"__type": code, "message": message})
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// sentBlob is the ciphertext in the body of a request, or the body.
func sentBlob(body []byte) []byte {
	var request struct{ CiphertextBlob []byte }
	if json.Unmarshal(body, &request) == nil && len(request.CiphertextBlob) > 0 {
		return request.CiphertextBlob
	}
	if blob, err := base64.StdEncoding.DecodeString(string(body)); err == nil && len(blob) > 0 {
		return blob
	}
	return body
}

func echoOf(r *http.Request, body []byte) string {
	blob := sentBlob(body)
	encoded := base64.StdEncoding.EncodeToString(blob)
	quoted, _ := json.Marshal(string(body))
	headers, _ := httputil.DumpRequest(r, false)
	return strings.Join([]string{
		encoded, base64.URLEncoding.EncodeToString(blob), hex.EncodeToString(blob),
		fmt.Sprint(blob), fmt.Sprintf("%q", blob), strconv.Quote(strconv.Quote(string(blob))),
		url.QueryEscape(encoded), strings.ReplaceAll(encoded, "+", `\u002b`),
		string(quoted), string(headers), fmt.Sprint(r.Header),
		"token " + r.Header.Get("X-Amz-Security-Token"),
	}, "; ")
}

// echoedSecrets: if a service repeats the request in any part of its response,
// nothing of it is printed, logged or stored. The check for secrets, which runs
// after every row, looks for it.
func echoedSecrets(t *testing.T) {
	for _, c := range []struct {
		operation, in string
		status, code  int // code is the exit code; 0 for any
	}{
		{"kms:DescribeKey", "message", 500, exitUnavailable},
		{"kms:ReEncrypt", "message", 500, exitUnavailable}, {"kms:ReEncrypt", "message", 400, 0},
		{"kms:ReEncrypt", "message", 403, 0}, {"kms:ReEncrypt", "code", 400, 0},
		{"kms:ReEncrypt", "request id", 500, exitUnavailable},
		{"dynamodb:Scan", "message", 500, exitUnavailable},
		{"dynamodb:BatchExecuteStatement", "message", 500, 0},
		{"s3:PutObject", "message", 500, exitUnavailable}, {"s3:PutObject", "code", 400, 0},
	} {
		t.Run(fmt.Sprintf("%s of %s, %d", c.in, c.operation, c.status), func(t *testing.T) {
			t.Parallel()
			// A response on a busy machine may take a second, and must not be an outage.
			w := newTrial(t, harness.Config{MaxOutage: "3s",
				Items:   map[harness.Kind]int{harness.Ordinary: 3, harness.Nested: 2},
				Objects: map[harness.Kind]int{harness.Ordinary: 3}})
			for _, flags := range [][]string{{"--sdk"}, nil} {
				p := w.Command(append([]string{"run", "-v"}, flags...)...)
				p.Env = append(p.Env,
					"AWS_ENDPOINT_URL="+echoing(t, w, c.operation, c.status, c.in))
				r := p.Begin(t).End(t)
				if c.code > 0 && (r.Code != c.code || !strings.Contains(r.Log, "[redacted]")) {
					t.Errorf("want exit code %d and redacted text: %s", c.code, r)
				}
			}
			w.Must(t, []int{exitDone, exitJob}, "report", "--ledger")
		})
	}
	t.Run("credentials that cannot be read", unreadableCredentials)
}

// unreadableCredentials: invalid output of a credential_process is never
// printed. Credentials in the response of a container endpoint are not printed
// either.
func unreadableCredentials(t *testing.T) {
	t.Parallel()
	const secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	const token = "FwoGZXIvYXdzEBYaDHqa0AP1Qw0Xk4tFQyKrAX"
	w := newTrial(t, harness.Config{
		Items:   map[harness.Kind]int{harness.Ordinary: 2},
		Objects: map[harness.Kind]int{},
	})
	w.AddSecret("the secret of the process", secret)
	w.AddSecret("the token of the process", token)
	w.AddSecret("an odd secret", "not like a secret at all")
	odd := "not like a secret at all"
	for i, output := range []string{
		`{"Version":1,"AccessKeyId":"A","SecretAccessKey":"` + secret +
			`","SessionToken":"` + token + `"`,
		"aws_secret_access_key = " + secret + "\naws_session_token = " + token,
		secret,
		secret[:20] + "\n" + secret[20:],
		"AKIAIOSFODNN7EXAMPLE," + secret + "," + token,
		odd,
		"secret: " + odd,
		base64.StdEncoding.EncodeToString([]byte(secret)),
		hex.EncodeToString([]byte(secret)),
		fmt.Sprint([]byte(secret)),
		"<SecretAccessKey>" + secret + "</SecretAccessKey>",
		`{"Version":"1","SecretAccessKey":"` + secret + `"}`,
		`{"Version":1,"AccessKeyId":7,"SecretAccessKey":"` + secret + `"}`,
		`{"Version":1,"AccessKeyId":"A","SecretAccessKey":"x","Expiration":"` + odd + `"}`,
		strings.Repeat(secret+" ", 3000),
	} {
		dir := t.TempDir()
		write := func(name, text string) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		config := write("config",
			"[default]\ncredential_process = cat "+write("output", output)+"\n")
		p := w.Command("audit", "-v")
		p.Unset("AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_SESSION_TOKEN=")
		p.Env = append(p.Env, "AWS_CONFIG_FILE="+config)
		if r := p.Begin(t).End(t); r.Code != exitAccess ||
			!strings.Contains(r.Log, "its output is not shown") {
			t.Errorf("output %d: want exit code 77 and the reason: %s", i+1, r)
		}
	}
}
