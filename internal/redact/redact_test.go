package redact

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// encodings are the ways in which bytes get into a text.
func encodings() map[string]func([]byte) string {
	std := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	return map[string]func([]byte) string{
		"base64":           std,
		"base64 raw":       base64.RawStdEncoding.EncodeToString,
		"base64url":        base64.URLEncoding.EncodeToString,
		"base64 of base64": func(b []byte) string { return std([]byte(std(b))) },
		"base64, escaped": func(b []byte) string {
			return strings.NewReplacer("/", `\/`, "+", `\u002b`, "=", `\u003d`).Replace(std(b))
		},
		"base64, percent": func(b []byte) string { return url.QueryEscape(std(b)) },
		"base64, percent twice": func(b []byte) string {
			return url.QueryEscape(url.QueryEscape(std(b)))
		},
		"base64, XML":     func(b []byte) string { return strings.NewReplacer("+", "&#43;", "/", "&#x2F;").Replace(std(b)) },
		"base64, wrapped": func(b []byte) string { return wrap(std(b), 64) },
		"base32":          base32.StdEncoding.EncodeToString,
		"hex":             hex.EncodeToString,
		"HEX":             func(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) },
		"hex with colons": func(b []byte) string { return strings.ReplaceAll(fmt.Sprintf("% x", b), " ", ":") },
		"hex with spaces": func(b []byte) string { return fmt.Sprintf("% x", b) },
		"%v":              func(b []byte) string { return fmt.Sprint(b) },
		"%#v":             func(b []byte) string { return fmt.Sprintf("%#v", b) },
		"%q":              func(b []byte) string { return fmt.Sprintf("%q", b) },
		"quoted twice":    func(b []byte) string { return strconv.Quote(strconv.Quote(string(b))) },
		"raw":             func(b []byte) string { return string(b) },
		"JSON latin-1":    latin1,
		"percent":         func(b []byte) string { return url.QueryEscape(string(b)) },
		"JSON array":      func(b []byte) string { return strings.ReplaceAll(fmt.Sprint(b), " ", ",") },
		"HTML of base64":  func(b []byte) string { return html.EscapeString(`"` + std(b) + `"`) },
	}
}

func wrap(s string, width int) string {
	var lines []string
	for len(s) > width {
		lines, s = append(lines, s[:width]), s[width:]
	}
	return strings.Join(append(lines, s), "\n")
}

func latin1(b []byte) string {
	runes := make([]rune, len(b))
	for i, c := range b {
		runes[i] = rune(c)
	}
	text, _ := json.Marshal(string(runes))
	return string(text)
}

// TestBytesAreTakenOut: of 32 random bytes and more, in whatever form, no 16 characters in
// a row are left, and the text around them stays. Bytes that are not random, such as text,
// cannot be told from other text.
func TestBytesAreTakenOut(t *testing.T) {
	r := New()
	for name, encode := range encodings() {
		random := rand.NewChaCha8([32]byte{7})
		for _, length := range []int{32, 33, 34, 48, 64, 152, 300} {
			for range 60 {
				blob := make([]byte, length)
				_, _ = random.Read(blob)
				secret := encode(blob)
				got := r.Text("ValidationException: 1 error: Value '" + secret + "' at 'x' is bad")
				for i := 0; i+16 <= len(secret); i++ {
					if strings.Contains(got, secret[i:i+16]) {
						t.Fatalf("%s: %q is left of %q in %q", name, secret[i:i+16], secret, got)
					}
				}
				if !strings.HasPrefix(got, "ValidationException: 1 error: Value ") ||
					!strings.Contains(got, "at 'x' is bad") {
					t.Fatalf("%s: more than the secret is gone: %q", name, got)
				}
			}
		}
	}
}

// What is no secret stays readable.
func TestStays(t *testing.T) {
	r := New()
	r.Add("short", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
	for _, text := range []string{
		"arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"arn:aws:kms:us-east-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
		"User: arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_PowerUserAccess_0123456789abcdef/jane.doe@example.com is not authorized to perform: kms:ReEncryptFrom on resource: arn:aws:kms:eu-central-1:111122223333:alias/payments-production-customer-records-2019 because no identity-based policy allows the kms:ReEncryptFrom action",
		"operation error S3: GetObject, https response error StatusCode: 403, RequestID: 4442587FB7D0A2F9, HostID: vlR7PnpV2Ce81l0PRw6jlUpck7Jo5ZsQjryTjKlc5aLWGVHPZLj5NeC6qMa0emYBDXOo6QBU0Wo=, api error AccessDenied: Access Denied",
		"operation error DynamoDB: Scan, https response error StatusCode: 400, RequestID: 8OFQ6V4K1U9TV28PRM6LCP2Q3FVV4KQNSO5AEMVJF66Q9ASUAAJG, api error ProvisionedThroughputExceededException: too much",
		"request id: 2e7dc9b3-5a1f-4b9e-8f0a-0c1d2e3f4a5b, AKIAIOSFODNN7EXAMPLE",
		"open /var/lib/rotator/production/eu-central-1/customers/2024-03-01/checkpoint.state.db: permission denied",
		"/home/someone/projects/payments/internal/testdata/CustomerRecordsExportedByTheBillingService.json",
		"/tmp/TestRedactionOfErrors1234567890/001/audit.jsonl: line 7",
		"https://vpce-0123456789abcdef0-abcdefgh.kms.eu-central-1.vpce.amazonaws.com/some/very/long/path?list-type=2&prefix=production%2Fcustomers%2F2024",
		"InvalidSignatureException: Signature expired: 20260301T000000Z is now earlier than 20260301T000500Z",
		"UnrecognizedClientException: The security token included in the request is invalid.",
		"IncompleteSignature: Authorization header requires 'Credential' parameter",
		"InvalidToken: The provided token is malformed or otherwise invalid.",
		"/données/été/Kundenübersicht/顧客データ/Größenänderung/Straße.json: キーが見つかりません",
		"/files/%E9%A1%A7%E5%AE%A2%E3%83%87%E3%83%BC%E3%82%BF/%C3%A9t%C3%A9.json",
		"line 12 of the audit log: its hash e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 does not match",
		"object sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"secret/short is a name", "target customers: 250 of 1000 items, 3 failed, 7 foreign, 12 conflicts, 44 gone",
	} {
		if got := r.Text(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// Secrets with a label, and those that are known, are taken out in whatever form.
func TestLabelledAndKnown(t *testing.T) {
	r := New()
	const known, secret = "minio-secret/+1", "hunter2!x"
	r.Add(known, "  "+known+"\n")
	for _, text := range []string{
		`{"Version":1,"SecretAccessKey": "S","SessionToken":"S"}`, `{\"SecretAccessKey\":\"S\"}`, `{\\\"SessionToken\\\": \\\"S\\\"}`,
		"aws_secret_access_key = S\n", "aws_session_token=S", "export AWS_SECRET_ACCESS_KEY='S'", "SecretAccessKey: S",
		"<SecretAccessKey>S</SecretAccessKey>", "<Key>SecretAccessKey</Key><Value>S</Value>", "{'SecretAccessKey': 'S'}", "map[SecretAccessKey:S x:y]",
		"https://example.com/?X-Amz-Security-Token=S&X-Amz-Signature=S", "X-Amz-Security-Token: S", "password=S", "http://user:S@proxy:3128/",
		"Authorization: Bearer S", "Authorization: S", `"authorization":["Basic S"]`, `"Token" : "S"`, `"Plaintext":"S"`, `"GrantTokens":["S","S"]`,
		"Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260301/x, Signature=S",
	} {
		if got := r.Text(strings.ReplaceAll(text, "S\"", secret+"\"")); strings.Contains(got, secret) {
			t.Errorf("%q became %q", text, got)
		}
		for _, form := range []string{known, `minio-secret\/\u002b1`, "minio-secret%2F%2B1", hex.EncodeToString([]byte(known)),
			base64.StdEncoding.EncodeToString([]byte(known))} {
			if got := r.Known("it says " + form + "."); got != "it says "+Mark+"." && got != "it says "+Mark+"=." {
				t.Errorf("%q became %q", form, got)
			}
		}
	}
	for text, want := range map[string]string{
		`{"AccessKeyId":"AKIAIOSFODNN7EXAMPLE","SecretAccessKey":"abc","Version":1}`:       `{"AccessKeyId":"AKIAIOSFODNN7EXAMPLE","SecretAccessKey":"[redacted]","Version":1}`,
		"Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/x, Signature=abc": "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/x, Signature=[redacted]",
		"got wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY":                                     "got [redacted]",
	} {
		if got := r.Text(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func TestCode(t *testing.T) {
	for code, want := range map[string]string{
		"ProvisionedThroughputExceededException":       "ProvisionedThroughputExceededException",
		"KMS.DisabledException":                        "KMS.DisabledException",
		"Bad\u202eCode":                                "Bad\u202eCode",
		"Bad wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY": "Bad " + Mark,
		strings.Repeat("Long", 21):                     Mark,
		"":                                             "",
	} {
		if got := Code(code); got != want {
			t.Errorf("Code(%q) = %q, want %q", code, got, want)
		}
	}
}

func TestLongTextIsCut(t *testing.T) {
	got := New().Text(strings.Repeat("añb ", 1<<20))
	if len(got) > mostShown+40 || !strings.HasSuffix(got, fmt.Sprintf("more bytes)")) {
		t.Errorf("%d bytes are left, which end with %q", len(got), got[len(got)-30:])
	}
}

// FuzzText: no text makes it fail, and what was redacted once stays as it is.
func FuzzText(f *testing.F) {
	f.Add(`SecretAccessKey":"\u00ff\\x%25&#x;` + strings.Repeat("Aa1", 20))
	r := New()
	r.Add("known-secret")
	f.Fuzz(func(t *testing.T, s string) {
		if got := r.Text(s); strings.Contains(got, "known-secret") {
			t.Errorf("%q became %q", s, got)
		}
	})
}
