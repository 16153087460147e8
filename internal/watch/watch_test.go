package watch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/go-cmp/cmp"

	"rotator/internal/fakeaws"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/fakeaws/fault"
	"rotator/internal/watch"
)

var update = flag.Bool("update", false, "write the expected outputs again")

// pipes is a listener whose connections are in memory, so that time is virtual in a bubble of
// package synctest.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes {
	return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// world is a fake AWS with one source key, in a bubble.
type world struct {
	t         *testing.T
	server    *fakeaws.Server
	transport *http.Transport
	key       string
	other     string // the ARN of another key
	blob      []byte // under key
	config    watch.Config
}

// inWorld runs a test in a bubble. Its time begins at 2000-01-01T00:00:00Z.
func inWorld(t *testing.T, test func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		listener := newPipes()
		server, err := fakeaws.Start(fakeaws.Config{
			Listen: func(string, string) (net.Listener, error) { return listener, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, server: server, transport: &http.Transport{DialContext: listener.dial}}
		defer func() {
			w.transport.CloseIdleConnections()
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		}()
		w.key, w.other = w.newKey(), w.newKey()
		if err := server.KMS().SetAlias("alias/old", w.key); err != nil {
			t.Fatal(err)
		}
		if w.blob, err = server.KMS().Encrypt(w.key, []byte("text"), nil); err != nil {
			t.Fatal(err)
		}
		server.CloudTrail().SetRate(2)
		w.config = watch.Config{
			KMS:      kms.NewFromConfig(w.as("AKIAWATCH")),
			Trail:    cloudtrail.NewFromConfig(w.as("AKIAWATCH")),
			Keys:     []watch.Source{{Given: "alias/old"}},
			Account:  "111122223333",
			Job:      "trial",
			Version:  "test",
			Pages:    20,
			Patience: 10 * time.Second,
		}
		test(t, w)
	})
}

func (w *world) newKey() string {
	w.t.Helper()
	arn, err := w.server.KMS().CreateKey(fakekms.Symmetric)
	if err != nil {
		w.t.Fatal(err)
	}
	return arn
}

// as returns a configuration of clients that sign with the access key.
func (w *world) as(accessKey string) aws.Config {
	return aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(w.server.Endpoint()),
		Credentials:  credentials.NewStaticCredentialsProvider(accessKey, "secret", ""),
		Retryer:      func() aws.Retryer { return aws.NopRetryer{} },
		HTTPClient:   &http.Client{Transport: keeping{w.transport}},
	}
}

// keeping keeps the connection when the SDK closes the body of a request early, as the clients of
// rotator do (keepingConnections in cmd/rotator).
type keeping struct{ http.RoundTripper }

func (k keeping) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return k.RoundTripper.RoundTrip(r)
}

// move moves a ciphertext from the key as rotator does, and returns the id of the request.
func (w *world) move() string {
	w.t.Helper()
	cfg := w.as("AKIAROTATOR")
	cfg.APIOptions = append(cfg.APIOptions, awsmiddleware.AddUserAgentKeyValue("rotator", "test"))
	out, err := kms.NewFromConfig(cfg).ReEncrypt(w.t.Context(),
		&kms.ReEncryptInput{
			CiphertextBlob:   w.blob,
			DestinationKeyId: &w.other,
		})
	if err != nil {
		w.t.Fatal(err)
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return id
}

// decrypt reads the ciphertext as an application does.
func (w *world) decrypt(accessKey string) error {
	_, err := kms.NewFromConfig(w.as(accessKey)).Decrypt(w.t.Context(), &kms.DecryptInput{
		CiphertextBlob: w.blob,
		KeyId:          &w.key,
	})
	return err
}

// encrypts makes n ciphertexts under a key as an application does.
func (w *world) encrypts(key string, n int) {
	w.t.Helper()
	client := kms.NewFromConfig(w.as("AKIAAPP"))
	for range n {
		if _, err := client.Encrypt(w.t.Context(),
			&kms.EncryptInput{KeyId: &key, Plaintext: []byte("text")}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// disable disables the key as its owner does.
func (w *world) disable() {
	w.t.Helper()
	if _, err := kms.NewFromConfig(w.as("AKIAOWNER")).DisableKey(w.t.Context(),
		&kms.DisableKeyInput{KeyId: &w.key}); err != nil {
		w.t.Fatal(err)
	}
}

// enable enables the key again.
func (w *world) enable() {
	w.t.Helper()
	if _, err := kms.NewFromConfig(w.as("AKIAOWNER")).EnableKey(w.t.Context(),
		&kms.EnableKeyInput{KeyId: &w.key}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) round(own watch.Own) *watch.Result {
	w.t.Helper()
	r, err := watch.New(w.config).Round(w.t.Context(), own)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// golden compares the text and the JSON of a result with files. Random ids are replaced.
func (w *world) golden(name string, r *watch.Result) {
	w.t.Helper()
	var text, object bytes.Buffer
	if err := errors.Join(r.Text(&text), r.JSON(&object, false)); err != nil {
		w.t.Fatal(err)
	}
	for file, got := range map[string]string{name + ".txt": text.String(),
		name + ".json": object.String()} {
		got = strings.ReplaceAll(strings.ReplaceAll(got, w.key, "OLD-KEY"), w.other, "NEW-KEY")
		for _, rule := range []struct{ pattern, with string }{
			{`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`, "ID"}, {`[0-9a-f]{64}`, "HEX"},
		} {
			got = regexp.MustCompile(rule.pattern).ReplaceAllString(got, rule.with)
		}
		path := filepath.Join("testdata", file)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				w.t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			w.t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			w.t.Errorf("%s (-want +got); go test ./internal/watch -update writes it:\n%s", path,
				diff)
		}
	}
}

// own has the requests of rotator, the last one at the present time.
func own(ids ...string) watch.Own {
	o := watch.Own{RequestIDs: map[string]bool{}, Last: time.Now().UTC()}
	for _, id := range ids {
		o.RequestIDs[id] = true
	}
	return o
}

// TestQuiet: only rotator used the key. A later management call and calls with another key do not
// count.
func TestQuiet(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ours := own(w.move())
		time.Sleep(2 * time.Hour)
		w.encrypts(w.other, 3)
		if _, err := kms.NewFromConfig(w.as("AKIASCAN")).DescribeKey(t.Context(),
			&kms.DescribeKeyInput{KeyId: &w.key}); err != nil {
			t.Fatal(err)
		}
		r := w.round(ours)
		if k := r.Keys[0]; r.Status != watch.Quiet || k.LastUsage.By != watch.ByRotator ||
			k.LastUsage.Early || k.Trail.Own != 1 || len(k.Trail.Callers) != 0 || k.Trail.Partial {
			t.Errorf("the result is %+v", k)
		}
		w.golden("quiet", r)
	})
}

// TestUsed: another caller used the key after rotator, and a grant lets a role use it.
func TestUsed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ours := own(w.move())
		time.Sleep(time.Hour)
		client := kms.NewFromConfig(w.as("AKIAOWNER"))
		if _, err := client.CreateGrant(t.Context(), &kms.CreateGrantInput{
			KeyId:            &w.key,
			GranteePrincipal: aws.String("arn:aws:iam::111122223333:role/reader"),
			Operations:       []kmstypes.GrantOperation{kmstypes.GrantOperationDecrypt},
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.EnableKeyRotation(t.Context(),
			&kms.EnableKeyRotationInput{KeyId: &w.key}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(time.Minute)
			if err := w.decrypt("AKIAAPP"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		r := w.round(ours)
		if u := r.Keys[0].LastUsage; r.Status != watch.Used || u.By != watch.ByOther ||
			u.Caller != "arn:aws:iam::111122223333:user/AKIAAPP" {
			t.Errorf("%s, the last use is %+v", r.Status, u)
		}
		w.golden("used", r)
	})
}

// TestRefused: a caller needs the key after it was disabled. Its role is the issuer of the
// session. The calls before do not hide the refused ones.
func TestRefused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ours := own(w.move())
		time.Sleep(24 * time.Hour)
		w.disable()
		for range 2 {
			time.Sleep(time.Hour)
			if w.decrypt("AKIAAPP") == nil {
				t.Fatal("a disabled key decrypts")
			}
		}
		w.move2(t)
		r := w.round(ours)
		k := r.Keys[0]
		if r.Status != watch.Refused || !k.Disabled.Equal(ours.Last.Add(24*time.Hour)) {
			t.Errorf("%s, disabled at %s", r.Status, k.Disabled)
		}
		w.golden("refused", r)
	})
}

// move2 tries to encrypt to the disabled key, which is the destination of the request.
func (w *world) move2(t *testing.T) {
	blob, err := w.server.KMS().Encrypt(w.other, []byte("text"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kms.NewFromConfig(w.as("AKIAWRITER")).ReEncrypt(t.Context(),
		&kms.ReEncryptInput{CiphertextBlob: blob, DestinationKeyId: &w.key}); err == nil {
		t.Fatal("a disabled key encrypts")
	}
}

// TestDisabledQuiet: no call was refused for 21 days.
func TestDisabledQuiet(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.disable()
		time.Sleep(21 * 24 * time.Hour)
		r := w.round(watch.Own{})
		if r.Status != watch.Quiet || !r.Since.Equal(r.Keys[0].Disabled) {
			t.Errorf("%s since %s, disabled at %s", r.Status, r.Since, r.Keys[0].Disabled)
		}
		w.golden("disabled", r)
	})
}

// TestTooEarly: less than an hour after the last request of rotator, KMS may not know of a later
// use. The result states when to ask again; then the use is there.
func TestTooEarly(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.server.KMS().SetUsageDelay(time.Hour)
		w.server.CloudTrail().SetDelay(15 * time.Minute)
		ours := own(w.move())
		time.Sleep(time.Minute)
		if err := w.decrypt("AKIAAPP"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Minute)
		first := w.round(ours)
		u := first.Keys[0].LastUsage
		if first.Status != watch.Quiet || !u.Early || !u.AskAgain.Equal(ours.Last.Add(time.Hour)) {
			t.Errorf("after 10 minutes: %s, %+v", first.Status, u)
		}
		w.golden("early", first)
		time.Sleep(time.Until(u.AskAgain) + time.Minute)
		again := w.round(ours)
		if u := again.Keys[0].LastUsage; again.Status != watch.Used || u.Early ||
			u.By != watch.ByOther {
			t.Errorf("an hour later: %s, %+v", again.Status, u)
		}
	})
}

// TestUnknownRequests: without the ids of rotator's requests, its last use is not that of another
// caller, but not its own either. Without any record of the job, every use counts.
func TestUnknownRequests(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.move()
		time.Sleep(time.Minute)
		last := time.Now()
		time.Sleep(2 * time.Hour)
		r := w.round(watch.Own{Last: last})
		if tr := r.Keys[0].Trail; tr.OwnByAgent != 0 || len(tr.Callers) != 0 {
			t.Errorf("before the period: %+v", tr)
		}
		if r.Status != watch.Quiet || r.Keys[0].LastUsage.By != watch.ByUnknown {
			t.Errorf("with the time of the last request: %s, %+v", r.Status, r.Keys[0].LastUsage)
		}
		w.config.Since = last.Add(-time.Hour)
		tr := w.round(watch.Own{Last: last}).Keys[0].Trail
		if tr.OwnByAgent != 1 || len(tr.Callers) != 0 {
			t.Errorf("in the period: %+v", tr)
		}
		w.config.Since = time.Time{}
		r = w.round(watch.Own{})
		if c := r.Keys[0].Trail.Callers; len(c) != 1 || !c[0].Rotator {
			t.Errorf("without records, the callers are %+v", c)
		}
		if r.Status != watch.Used || r.Keys[0].LastUsage.By != watch.ByUnknown {
			t.Errorf("without records: %s, %+v", r.Status, r.Keys[0].LastUsage)
		}
	})
}

// TestRightAfterRotator: the period begins at present if rotator has just sent its last request,
// whose time is rounded up to a second. Earlier calls of others are not in it.
func TestRightAfterRotator(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		if err := w.decrypt("AKIAAPPLICATION00000"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		ours := own(w.move())
		ours.Last = ours.Last.Add(900 * time.Millisecond)
		time.Sleep(10 * time.Millisecond)
		if r := w.round(ours); r.Status != watch.Quiet || !r.Since.Equal(r.Asked) {
			t.Errorf("%s since %s: %s", r.Status, r.Since, r.Keys[0].Sentence)
		}
		ours.Last = ours.Last.Add(time.Hour)
		r := w.round(ours)
		if text := r.Keys[0].Sentence; r.Status != watch.Used ||
			!strings.Contains(text, "called Decrypt 1 time") {
			t.Errorf("with a clock that is ahead: %s since %s: %s", r.Status, r.Since, text)
		}
	})
}

// TestGaps: a use at a time of which not all requests of rotator are known can be one of them.
func TestGaps(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.move()
		used := time.Now()
		time.Sleep(time.Minute)
		ours := own("another request")
		time.Sleep(2 * time.Hour)
		for gaps, want := range map[time.Time]watch.By{
			{}:                    watch.ByOther,
			used:                  watch.ByOther,
			used.Add(time.Second): watch.ByUnknown,
		} {
			ours.Gaps = gaps
			if by := w.round(ours).Keys[0].LastUsage.By; by != want {
				t.Errorf("gaps until %s: the last use is by %q, want %q", gaps, by, want)
			}
		}
	})
}

// TestPages: rotator reads at most --pages pages, two a second, and states that there are more.
// The newest events are read first.
func TestPages(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ours := own()
		if err := w.decrypt("AKIAAPP"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.encrypts(w.other, 170)
		w.config.Pages = 3
		began := time.Now()
		r := w.round(ours)
		tr := r.Keys[0].Trail
		if !tr.Partial || tr.Why != "more-pages" || tr.Pages != 3 || tr.Events != 150 ||
			tr.From.Before(ours.Last.Add(time.Minute)) || len(tr.Callers) != 0 {
			t.Errorf("with 3 pages: %+v", tr)
		}
		if lasted := time.Since(began); lasted < 2*500*time.Millisecond {
			t.Errorf("3 pages took %s, which is more than 2 requests a second", lasted)
		}
		if r.Status != watch.Used { // by its last use
			t.Errorf("the status is %s", r.Status)
		}
		w.golden("pages", r)
		w.config.Pages = 20
		if tr := w.round(ours).Keys[0].Trail; tr.Partial || len(tr.Callers) != 1 {
			t.Errorf("with 20 pages: %+v", tr)
		}
	})
}

// TestFaults: each call alone is denied, throttled, cut, or fails. The status stays, and the
// result has an entry for what could not be seen, with the permission.
func TestFaults(t *testing.T) {
	kinds := map[string]fault.Fault{
		"denied": {Kind: fault.Refusal, Answer: fault.Answer{
			Code:    "AccessDeniedException",
			Message: "User: x is not authorized to perform the call",
		}},
		"throttled": {Kind: fault.Throttle},
		"cut":       {Kind: fault.HalfResponse},
		"reset":     {Kind: fault.Reset},
		"failing":   {Kind: fault.InternalError},
	}
	reasons := map[string]string{"denied": "access-denied", "throttled": "throttled",
		"cut": "no-answer", "reset": "no-answer", "failing": "no-answer"}
	for _, operation := range []string{"kms:DescribeKey", "kms:GetKeyLastUsage",
		"kms:ListGrants", "kms:ListAliases", "kms:GetKeyRotationStatus", "kms:ListKeyRotations",
		"cloudtrail:LookupEvents"} {
		for kind, f := range kinds {
			t.Run(operation+"/"+kind, func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					ours := own(w.move())
					w.config.Keys[0].ARN = w.key // as records have it
					time.Sleep(2 * time.Hour)
					w.server.Faults().Set(operation, f)
					began := time.Now()
					r := w.round(ours)
					k := r.Keys[0]
					if r.Status != watch.Quiet || k.Blind() {
						t.Errorf("the status is %s, %s", r.Status, k.Sentence)
					}
					if len(k.CannotSee) != 1 || k.CannotSee[0].Permission != operation ||
						k.CannotSee[0].Reason != reasons[kind] {
						t.Errorf("cannot see %+v", k.CannotSee)
					}
					if lasted := time.Since(began); lasted > 15*time.Second {
						t.Errorf("the round took %s", lasted)
					}
					if kind == "denied" {
						w.golden("denied-"+strings.ReplaceAll(operation, ":", "-"), r)
					}
				})
			})
		}
	}
}

// TestCutLater: CloudTrail stops answering after the first page. What was read is kept, and the
// period begins where reading ended.
func TestCutLater(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ours := own()
		w.encrypts(w.other, 60)
		time.Sleep(time.Minute)
		oldest := time.Now() // of the first page, which has 50 events
		w.encrypts(w.other, 60)
		time.Sleep(time.Minute)
		if err := w.decrypt("AKIAAPP"); err != nil {
			t.Fatal(err)
		}
		w.server.Faults().Set("cloudtrail:LookupEvents", fault.Fault{Kind: fault.Throttle, Skip: 1})
		r := w.round(ours)
		tr := r.Keys[0].Trail
		if tr.Pages != 1 || !tr.Partial || tr.Why != "throttled" || len(tr.Callers) != 1 ||
			!tr.From.Equal(oldest) || r.Status != watch.Used {
			t.Errorf("%s, %+v", r.Status, tr)
		}
		w.golden("cut", r)
	})
}

// TestBlind: with neither source, nothing is known, which is not quiet.
func TestBlind(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		denied := fault.Fault{Kind: fault.Refusal, Answer: fault.Answer{
			Code: "AccessDeniedException"}}
		w.server.Faults().Set("cloudtrail:LookupEvents", denied)
		w.server.Faults().Set("kms:GetKeyLastUsage", denied)
		r := w.round(own())
		if r.Status != watch.Unknown || !r.Keys[0].Blind() {
			t.Errorf("%s: %s", r.Status, r.Keys[0].Sentence)
		}
		w.golden("blind", r)
	})
}

// TestEndsTheRound: refused credentials and a key that does not exist end the round.
func TestEndsTheRound(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.config.Keys = []watch.Source{{Given: "alias/none"}}
		_, err := watch.New(w.config).Round(t.Context(), own())
		if missing := (*watch.NoKeyError)(nil); !errors.As(err, &missing) ||
			missing.Given != "alias/none" {
			t.Errorf("a missing key: %v", err)
		}
		w.config.Keys = []watch.Source{{Given: "alias/old"}}
		w.server.Expire("AKIAWATCH")
		if _, err := watch.New(w.config).Round(t.Context(), own()); err == nil {
			t.Error("expired credentials are no error")
		}
	})
}

// TestMovedAlias: an alias that was moved to another key does not change which key is watched, if
// the records of the job have its ARN.
func TestMovedAlias(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		if err := w.server.KMS().SetAlias("alias/old", w.other); err != nil {
			t.Fatal(err)
		}
		w.config.Keys[0].ARN = w.key
		if k := w.round(own()).Keys[0]; k.ARN != w.key || len(k.Aliases) != 0 {
			t.Errorf("key %s, aliases %v, want %s without aliases", k.ARN, k.Aliases, w.key)
		}
	})
}

// TestNoContextIsKept: encryption contexts, which CloudTrail records in clear, are in no result.
func TestNoContextIsKept(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		if _, err := kms.NewFromConfig(w.as("AKIAAPP")).Encrypt(t.Context(), &kms.EncryptInput{
			KeyId:             &w.key,
			Plaintext:         []byte("text"),
			EncryptionContext: map[string]string{"patient": "secret-name"},
		}); err != nil {
			t.Fatal(err)
		}
		r := w.round(watch.Own{})
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if found := fmt.Sprintf("%s %+v", text, r); strings.Contains(found, "secret-name") ||
			strings.Contains(found, "patient") {
			t.Errorf("the result has the context: %s", found)
		}
		if len(r.Keys[0].Trail.Callers) != 1 {
			t.Errorf("the callers are %+v", r.Keys[0].Trail.Callers)
		}
	})
}
