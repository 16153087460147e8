package s3scan

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rotator/internal/fakeaws/fakes3"
	"rotator/internal/scan"
)

// FuzzKeys checks that a bucket lists exactly the keys that it stores, also from any cursor
// in a new process. Each object is loaded and rewritten under its own key. No other object is
// changed or created. If the server does not encode keys, a key that XML cannot represent
// ends the listing with an error.
func FuzzKeys(f *testing.F) {
	server := newKeyServer(f)
	f.Fuzz(func(t *testing.T, first, second, third string, prefixLen uint, plain, hosted bool) {
		keys := sortedKeys(first, second, third)
		if len(keys) == 0 {
			return
		}
		if isNamedProbe(keys) {
			return // probe objects are not listed
		}
		b := server.bucket(t, plain, hosted)
		for i, key := range keys {
			b.put(key, fmt.Sprintf("body %d", i))
		}
		prefix := prefixOf(keys[0], prefixLen)
		want := slices.DeleteFunc(slices.Clone(keys), func(key string) bool {
			return !strings.HasPrefix(key, prefix)
		})
		refs, err := b.walk(prefix)
		if plain && slices.ContainsFunc(want, notInXML) {
			if missing := (*scan.MissingError)(nil); !errors.As(err, &missing) {
				t.Fatalf("listed %q as %q, %v", want, refs, err)
			}
			refs = nil
		} else if err != nil || len(refs) != len(want) {
			t.Fatalf("listed %q as %q, %v", want, refs, err)
		}
		for i, ref := range refs {
			b.move(prefix, ref, want[i], fmt.Sprintf("body %d", slices.Index(keys, want[i])))
		}
		for i, key := range keys {
			body := fmt.Sprintf("body %d", i)
			if len(refs) > 0 && slices.Contains(want, key) {
				body = "rewritten " + body
			}
			if got := b.request(http.MethodGet, key, ""); got != body {
				t.Fatalf("key %q holds %q, want %q", key, got, body)
			}
		}
		b.clear(keys)
	})
}

// sortedKeys returns the distinct keys of a valid length in the order of S3. They can contain
// invalid UTF-8, which S3 refuses but other servers accept.
func sortedKeys(keys ...string) []string {
	keys = slices.DeleteFunc(keys, func(key string) bool { return key == "" || len(key) > 1024 })
	slices.Sort(keys)
	return slices.Compact(keys)
}

func isNamedProbe(keys []string) bool {
	return slices.ContainsFunc(keys, func(key string) bool {
		return strings.Contains(key, probeName)
	})
}

// prefixOf returns a prefix of the key that is valid UTF-8, as in a job file.
func prefixOf(key string, length uint) string {
	prefix := key[:length%uint(len(key)+1)]
	if !utf8.ValidString(prefix) {
		return ""
	}
	return prefix
}

// notInXML reports whether XML text may not preserve the key.
func notInXML(key string) bool {
	if !utf8.ValidString(key) {
		return true
	}
	return strings.ContainsFunc(key, func(r rune) bool {
		return r < ' ' && r != '\t' && r != '\r' || r == '\ufffd' || r == '\ufffe' || r == '\uffff'
	})
}

// keyServer is a fake S3 for path-style and virtual-hosted-style requests.
type keyServer struct {
	url    string
	client *http.Client // connects to the server for any host name
	made   atomic.Int64
}

func newKeyServer(f *testing.F) *keyServer {
	fake := fakes3.New(fakes3.Config{Region: "eu-west-1", Account: "111122223333"})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.Clone(r.Context())
		if bucket, ok := strings.CutSuffix(r.Host, ".s3.test"); ok {
			r.URL.Path = "/" + bucket + r.URL.Path
		}
		if query := r.URL.Query(); strings.HasPrefix(r.URL.Path, "/plain") &&
			query.Has("list-type") {
			query.Del("encoding-type")
			r.URL.RawQuery = query.Encode()
		}
		fake.ServeHTTP(w, r)
	}))
	f.Cleanup(server.Close)
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
		},
	}
	f.Cleanup(transport.CloseIdleConnections)
	return &keyServer{url: server.URL, client: &http.Client{Transport: transport}}
}

// keyBucket is one bucket of a keyServer.
type keyBucket struct {
	t      *testing.T
	server *keyServer
	name   string
	sdk    *s3.Client
}

func (s *keyServer) bucket(t *testing.T, plain, hosted bool) *keyBucket {
	name := "coded"
	if plain {
		name = "plain"
	}
	b := &keyBucket{t: t, server: s, name: fmt.Sprintf("%s-%d", name, s.made.Add(1))}
	endpoint := "http://s3.test"
	if !hosted {
		endpoint = s.url
	}
	b.sdk = s3.NewFromConfig(aws.Config{
		Region:       "eu-west-1",
		BaseEndpoint: &endpoint,
		HTTPClient:   s.client,
		Credentials:  credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		Retryer:      func() aws.Retryer { return aws.NopRetryer{} },
	}, func(o *s3.Options) { o.UsePathStyle = !hosted })
	b.request(http.MethodPut, "", "")
	return b
}

// request sends a request in which every byte of the key is escaped, independent of the SDK.
func (b *keyBucket) request(method, key, body string) string {
	b.t.Helper()
	address := b.server.url + "/" + b.name
	if key != "" {
		address += "/"
	}
	for i := range len(key) {
		address += fmt.Sprintf("%%%02X", key[i])
	}
	request, err := http.NewRequestWithContext(b.t.Context(), method, address,
		strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	response, err := b.server.client.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if _ = response.Body.Close(); err != nil || response.StatusCode >= 300 {
		b.t.Fatalf("%s of key %q: %s %s, %v", method, key, response.Status, text, err)
	}
	return string(text)
}

func (b *keyBucket) put(key, body string) { b.request(http.MethodPut, key, body) }

// source returns a new source, as in a new process.
func (b *keyBucket) source(prefix string) *Bucket {
	return New(Config{Client: b.sdk, Bucket: b.name, Prefix: prefix, PageLimit: 1})
}

// walk lists one page at a time. Each page is read by a new source with a cursor that was
// stored as JSON.
func (b *keyBucket) walk(prefix string) (refs []scan.Ref, err error) {
	var stored struct{ Cursor []byte }
	for range 5 {
		source := b.source(prefix)
		partitions, err := source.Partitions(b.t.Context())
		if err != nil {
			b.t.Fatal(err)
		}
		page, err := source.Page(b.t.Context(), partitions[0], stored.Cursor)
		if err != nil {
			return refs, err
		}
		for _, item := range page.Items {
			refs = append(refs, item.Ref)
		}
		if page.Last {
			return refs, nil
		}
		stored.Cursor = page.Next
		b.throughJSON(&stored)
	}
	b.t.Fatalf("the listing does not end after 5 pages: %q", refs)
	return nil, nil
}

func (b *keyBucket) throughJSON(v any) {
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// move loads and rewrites an object by its ref, after the ref was stored as JSON.
func (b *keyBucket) move(prefix string, ref scan.Ref, key, body string) {
	b.throughJSON(&ref)
	source := b.source(prefix)
	item, err := source.Load(b.t.Context(), ref)
	if err != nil {
		b.t.Fatalf("load %q: %v", ref, err)
	}
	object := item.Payload.(*scan.Object)
	if object.Key != key || !bytes.Equal(object.Body, []byte(body)) {
		b.t.Fatalf("key %q is listed as %q and loads as %q with %q, want %q", key, ref, object.Key,
			object.Body, body)
	}
	if r := source.Replace(b.t.Context(), []scan.Change{
		{Item: item, New: splice(object, []byte("rewritten "+body))},
	}); r[0].Err != nil {
		b.t.Fatalf("replace %q: %v", ref, r[0].Err)
	}
	b.moveMetadata(source, ref)
}

// moveMetadata does the same with a copy and with a multipart upload, whose source key is in
// a header.
func (b *keyBucket) moveMetadata(source *Bucket, ref scan.Ref) {
	source.config.NeedsBody = func(string, map[string]string) bool { return false }
	for i, write := range []func(context.Context, *scan.Object, *snapshot) error{source.copyWhole,
		source.copyParts} {
		item, err := source.Load(b.t.Context(), ref)
		if err != nil {
			b.t.Fatalf("load %q without its body: %v", ref, err)
		}
		object := *item.Payload.(*scan.Object)
		object.Metadata = map[string]string{"rewritten": fmt.Sprint(i)}
		if err := write(b.t.Context(), &object, item.Token.(*snapshot)); err != nil {
			b.t.Fatalf("copy %q: %v", ref, err)
		}
		if item, err = source.Load(b.t.Context(), ref); err != nil ||
			item.Payload.(*scan.Object).Metadata["rewritten"] != fmt.Sprint(i) {
			b.t.Fatalf("the metadata of %q was not replaced: %v", ref, err)
		}
	}
}

// clear deletes the keys and the bucket. S3 deletes only an empty bucket.
func (b *keyBucket) clear(keys []string) {
	for _, key := range keys {
		b.request(http.MethodDelete, key, "")
	}
	b.request(http.MethodDelete, "", "")
}

// FuzzRef checks that every key has a distinct Ref that JSON preserves, and that a Ref is
// either the Ref of one key or refused.
func FuzzRef(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		ref := refOf(text)
		if !utf8.ValidString(string(ref)) {
			t.Errorf("the Ref of %q is %q, which JSON does not preserve", text, ref)
		}
		if key, err := keyOf(ref); err != nil || key != text {
			t.Errorf("the Ref of %q is %q, whose key is %q, %v", text, ref, key, err)
		}
		key, err := keyOf(scan.Ref(text))
		if refused := (*scan.RefusedError)(nil); err != nil && !errors.As(err, &refused) {
			t.Errorf("Ref %q: %v, want a RefusedError", text, err)
		}
		if err == nil && utf8.ValidString(text) && refOf(key) != scan.Ref(text) {
			t.Errorf("the key of Ref %q is %q, whose Ref is %q", text, key, refOf(key))
		}
	})
}
