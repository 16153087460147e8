package rotate_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"rotator/internal/checkpoint"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/reencrypt"
	"rotator/internal/retry"
)

// wrongAnswers returns changes of a response of KMS that make it wrong for its request.
func wrongAnswers(c *cloud, third string) map[string]func(reencrypt.Request, *reencrypt.Response) {
	var mu sync.Mutex
	var first reencrypt.Response
	once := func(q reencrypt.Request, use func(a *reencrypt.Response)) func(a *reencrypt.Response) {
		return func(a *reencrypt.Response) {
			if q.Source.ARN == a.Destination { // the check of the first new ciphertext
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if first.Blob == nil {
				first = *a
				return
			}
			use(a)
		}
	}
	seal := func(key string, context map[string]string) []byte {
		blob, err := c.fake.Encrypt(key, []byte("x"), context)
		if err != nil {
			panic(err)
		}
		return blob
	}
	return map[string]func(reencrypt.Request, *reencrypt.Response){
		"the ciphertext of another response": func(q reencrypt.Request, a *reencrypt.Response) {
			once(q, func(a *reencrypt.Response) { a.Blob = first.Blob })(a)
		},
		"the request id of another response": func(q reencrypt.Request, a *reencrypt.Response) {
			once(q, func(a *reencrypt.Response) { a.RequestID = first.RequestID })(a)
		},
		"the ciphertext of the request": func(q reencrypt.Request, a *reencrypt.Response) {
			a.Blob = q.Blob
		},
		"more bytes than a ciphertext can have": func(_ reencrypt.Request, a *reencrypt.Response) {
			a.Blob = make([]byte, 6145)
		},
		"fewer bytes than a ciphertext can have": func(_ reencrypt.Request, a *reencrypt.Response) {
			a.Blob = a.Blob[:20]
		},
		"a ciphertext of a longer plaintext": func(_ reencrypt.Request, a *reencrypt.Response) {
			a.Blob, _ = c.fake.Encrypt(a.Destination, make([]byte, 200), nil)
		},
		"a truncated ciphertext": func(_ reencrypt.Request, a *reencrypt.Response) {
			a.Blob = a.Blob[:len(a.Blob)-1]
		},
		"a ciphertext under another key": func(q reencrypt.Request, a *reencrypt.Response) {
			a.Blob = seal(third, q.DestinationContext)
		},
		"a ciphertext with another context": func(_ reencrypt.Request, a *reencrypt.Response) {
			a.Blob = seal(a.Destination, map[string]string{"app": "another"})
		},
		"an RSA ciphertext of another key size": func(_ reencrypt.Request, a *reencrypt.Response) {
			a.Blob = append(a.Blob, make([]byte, max(384-len(a.Blob), 0))...)
		},
	}
}

// TestWrongAnswers: a response of KMS that cannot belong to its request stops the run. Nothing
// from such a response is written.
func TestWrongAnswers(t *testing.T) {
	// changes that cannot be detected under some keys
	undetectable := map[string]func(fakekms.KeySpec) bool{
		"a ciphertext with another context": func(s fakekms.KeySpec) bool {
			return s != fakekms.Symmetric
		},
		"a ciphertext of a longer plaintext": func(s fakekms.KeySpec) bool {
			return s == fakekms.RSA2048
		},
	}
	for _, spec := range []fakekms.KeySpec{fakekms.Symmetric, fakekms.RSA2048, fakekms.SM2} {
		cloud := newCloud(t)
		old, new, third := cloud.key(t, fakekms.Symmetric), cloud.key(t, spec), cloud.key(t, spec)
		for name, spoil := range wrongAnswers(cloud, third) {
			if undetectable[name] != nil && undetectable[name](spec) {
				continue
			}
			t.Run(fmt.Sprintf("%s, %s", spec, name), func(t *testing.T) {
				tryWrongAnswer(t, cloud, old, new, spec, spoil)
			})
		}
	}
}

func tryWrongAnswer(t *testing.T, cloud *cloud, old, new string, spec fakekms.KeySpec,
	spoil func(reencrypt.Request, *reencrypt.Response)) {
	request := reencrypt.KeyRequest{Destination: new, Sources: []string{old}}
	context := map[string]string{"app": "pay"}
	to := context
	if spec != fakekms.Symmetric {
		request.DestinationAlgorithm, to = algorithmOf(spec), nil
	}
	target := newMemory()
	for i := range 20 {
		target.put(fmt.Sprintf("item-%02d", i), cloud.encrypt(t, old, "x", context))
	}
	var mu sync.Mutex
	var corrupted [][]byte
	b := &testPass{
		cloud:  cloud,
		keys:   cloud.resolve(t, request),
		format: format(t, context, nil),
		target: target,
		store:  checkpoint.NewMemory(),
		wrong: &wrongKMS{corrupt: func(q reencrypt.Request, a *reencrypt.Response) {
			mu.Lock()
			defer mu.Unlock()
			before := *a
			if spoil(q, a); a.RequestID != before.RequestID || !bytes.Equal(a.Blob, before.Blob) {
				corrupted = append(corrupted, a.Blob)
			}
		}},
	}
	counts, err := b.run(t)
	exceptions := counts.Slots.Failed + counts.Slots.Foreign
	if got := stopKind(t, err); got != retry.StopAnswer || exceptions > 0 {
		t.Fatalf("stopped for %q (%v) with %+v", got, err, counts.Slots)
	}
	readable := 0
	for name := range target.rows {
		for _, key := range []string{old, new} {
			given := context
			if key == new {
				given = to
			}
			plaintext, _, err := cloud.fake.Decrypt(key, target.blob(name), given)
			if err == nil && string(plaintext) == "x" {
				readable++
			}
		}
	}
	if readable != 20 || len(corrupted) == 0 {
		t.Errorf("%d of 20 items can be decrypted after %d wrong responses", readable,
			len(corrupted))
	}
	b.wrong = nil
	if counts, err = b.run(t); err != nil || counts.Slots.Rotated+counts.Slots.Current != 20 {
		t.Errorf("the next run: %+v, %v", counts.Slots, err)
	}
}

// TestRotatedWhileMoving: if the destination key is rotated during a run, new ciphertexts have
// another header token. This is not an error. KMS is asked about each token once.
func TestRotatedWhileMoving(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	target := newMemory()
	for i := range 40 {
		target.put(fmt.Sprintf("item-%02d", i), cloud.encrypt(t, old, "x", nil))
	}
	answers := 0
	var mu sync.Mutex
	keys := cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}})
	b := &testPass{cloud: cloud, keys: keys, format: format(t, nil, nil), target: target,
		wrong: &wrongKMS{corrupt: func(reencrypt.Request, *reencrypt.Response) {
			mu.Lock()
			defer mu.Unlock()
			if answers++; answers == 20 {
				_, _ = cloud.fake.Rotate(new)
			}
		}}}
	counts, err := b.run(t)
	sent, _, _ := b.engine.Requests()
	if err != nil || counts.Slots.Rotated != 40 || sent != 42 {
		t.Errorf("%+v, %v, with %d requests, want 40 rotated with 42", counts.Slots, err, sent)
	}
}

// TestOneAnswerTwice: the same response to the same request is not an error.
func TestOneAnswerTwice(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	blob := cloud.encrypt(t, old, "data key", nil)
	target := newMemory()
	for i := range 20 {
		target.put(fmt.Sprintf("item-%02d", i), blob)
	}
	var mu sync.Mutex
	var first *reencrypt.Response
	keys := cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}})
	b := &testPass{
		cloud:  cloud,
		keys:   keys,
		exact:  true,
		format: format(t, nil, nil),
		target: target,
		wrong: &wrongKMS{corrupt: func(q reencrypt.Request, a *reencrypt.Response) {
			mu.Lock()
			defer mu.Unlock()
			if !bytes.Equal(q.Blob, blob) {
				return
			}
			if first == nil {
				kept := *a
				first = &kept
			}
			*a = *first
		}},
	}
	if counts, err := b.run(t); err != nil || counts.Slots.Rotated != 20 {
		t.Errorf("%+v, %v, want 20 rotated", counts.Slots, err)
	}
}
