package harness

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// window is how much of a canary is enough to recognise it, in bytes of text.
const window = 16

// headerLen is how many bytes at the start of a blob name its key, and so are the
// same in all blobs of it; a multiple of three, so that base64 of the rest is a
// piece of the base64 of all.
const headerLen = 39

// secrets are canaries: pieces of text that must not be anywhere.
type secrets struct {
	mu     sync.Mutex
	pieces map[[window]byte]canary // what each is a piece of
}

// canary is a secret, and how it was dressed.
type canary struct {
	what  string
	blob  bool // a ciphertext: it may be in requests
	dress int
}

func (c canary) String() string { return fmt.Sprintf("%s (dress %d)", c.what, c.dress) }

func newSecrets() *secrets { return &secrets{pieces: map[[window]byte]canary{}} }

// add makes a canary of the beginning of a secret text, in every dress in which it
// could get out.
func (s *secrets) add(what, secret string) { s.dress(what, false, []byte(secret), 0) }

// addBlob makes a canary of a ciphertext, behind the header that is no secret.
func (s *secrets) addBlob(what string, blob []byte) {
	if len(blob) > headerLen+window {
		s.dress(what, true, blob, headerLen)
	}
}

func (s *secrets) dress(what string, blob bool, secret []byte, skip int) {
	rest := secret[skip:min(len(secret), skip+4*window)]
	list := strings.Trim(fmt.Sprint(rest), "[]")
	forms := []string{
		string(rest), hex.EncodeToString(rest), strings.ToUpper(hex.EncodeToString(rest)),
		list, strings.ReplaceAll(list, " ", ","), strings.ReplaceAll(list, " ", ", "),
		fmt.Sprintf("% x", rest), url.QueryEscape(string(rest)),
		base32.StdEncoding.EncodeToString(rest)}
	for shift := range 4 { // a rune may begin before the rest
		quoted := strconv.Quote(string(rest[shift:]))
		forms = append(forms, quoted[1:len(quoted)-1])
	}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		// as a part of something longer; what follows decides about the last characters
		for shift := range 3 {
			text := encoding.EncodeToString(rest[shift:])
			forms = append(forms, text[:max(0, len(text)-2)])
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, form := range forms {
		if len(form) >= window {
			s.pieces[[window]byte([]byte(form))] = canary{what, blob, i}
		}
	}
}

// find returns which canaries are in a text.
func (s *secrets) find(text string) (found []canary) {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := map[string]bool{}
	for i := 0; i+window <= len(text); i++ {
		if c, ok := s.pieces[[window]byte([]byte(text[i:i+window]))]; ok && !told[c.what] {
			told[c.what] = true
			found = append(found, c)
		}
	}
	return found
}

// AddSecret makes a canary of one more text, 16 bytes at least: a plaintext, a
// credential.
func (w *Watcher) AddSecret(what, secret string) { w.secrets.add(what, secret) }

// Printed keeps what a command printed, for Outputs.
func (w *Watcher) Printed(texts ...string) {
	w.watching.Lock()
	defer w.watching.Unlock()
	w.printed = append(w.printed, texts...)
}

// Outputs says which secrets are in what commands printed, and in the files below
// places, whatever they are: checkpoint, ledger, audit log, report. The job file is
// the user's. A place without a file in it is an error, and so is silence.
func (w *Watcher) Outputs(t testing.TB, places ...string) {
	t.Helper()
	texts := map[string]string{}
	w.watching.Lock()
	if strings.Join(w.printed, "") == "" {
		t.Error("no command printed anything, so there is nothing to search")
	}
	for i, text := range w.printed {
		texts[fmt.Sprintf("output %d", i+1)] = text
	}
	w.watching.Unlock()
	for _, place := range places {
		before := len(texts)
		if keep(t, texts, place); len(texts) == before {
			t.Errorf("%s holds no file, so there is nothing to search", place)
		}
	}
	w.search(t, texts)
}

func (w *Watcher) search(t testing.TB, texts map[string]string) {
	t.Helper()
	for name, text := range texts {
		for _, c := range w.secrets.find(text) {
			t.Errorf("%s holds %s", name, c)
		}
	}
}

// keep reads every file below a place but the job file.
func keep(t testing.TB, texts map[string]string, place string) {
	err := filepath.WalkDir(place, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "job.yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		texts[path] = string(text)
		return err
	})
	if err != nil {
		t.Errorf("read what the worker keeps: %v", err)
	}
}

// AddSecret makes a canary of one more text, 16 bytes at least: a grant token.
func (w *Env) AddSecret(what, secret string) { w.secrets.add(what, secret) }

// Secrets says which secrets are in texts, in all that the worker has printed, or
// in what it keeps beside the job file.
func (w *Env) Secrets(t testing.TB, texts ...string) {
	t.Helper()
	all := w.shared(t)
	keep(t, all, w.Dir)
	for i, text := range texts {
		all[fmt.Sprintf("text %d", i+1)] = text
	}
	w.guard.watching.Lock()
	for i, text := range w.guard.printed {
		all[fmt.Sprintf("what command %d printed", i/2+1)] += text
	}
	w.guard.watching.Unlock()
	w.guard.search(t, all)
}
