package trial

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
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
	pieces map[[window]byte]string // what each is a piece of
}

func newSecrets() *secrets { return &secrets{pieces: map[[window]byte]string{}} }

// add makes a canary of the beginning of a secret text, in every dress in which it
// could get out.
func (s *secrets) add(what, secret string) { s.dress(what, []byte(secret), 0) }

// addBlob makes a canary of a ciphertext, behind the header that is no secret.
func (s *secrets) addBlob(what string, blob []byte) {
	if len(blob) > headerLen+window {
		s.dress(what, blob, headerLen)
	}
}

func (s *secrets) dress(what string, secret []byte, skip int) {
	rest := secret[skip:min(len(secret), skip+4*window)]
	forms := []string{string(rest), hex.EncodeToString(rest), strings.ToUpper(hex.EncodeToString(rest)), strings.Trim(fmt.Sprint(rest), "[]")}
	for shift := range 4 { // a rune may begin before the rest
		quoted := strconv.Quote(string(rest[shift:]))
		forms = append(forms, quoted[1:len(quoted)-1])
	}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 { // as a part of something longer; what follows decides about the last characters
			text := encoding.EncodeToString(rest[shift:])
			forms = append(forms, text[:max(0, len(text)-2)])
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, form := range forms {
		if len(form) >= window {
			s.pieces[[window]byte([]byte(form))] = fmt.Sprintf("%s (dress %d)", what, i)
		}
	}
}

// find returns which canaries are in a text.
func (s *secrets) find(text string) (found []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := map[string]bool{}
	for i := 0; i+window <= len(text); i++ {
		if what, ok := s.pieces[[window]byte([]byte(text[i:i+window]))]; ok && !told[what] {
			told[what] = true
			found = append(found, what)
		}
	}
	return found
}

// AddSecret makes a canary of one more text, 16 bytes at least: a grant token.
func (w *World) AddSecret(what, secret string) { w.secrets.add(what, secret) }

// Secrets says which secrets are in texts, in all that the worker has printed, or
// in what it keeps beside the job file.
func (w *World) Secrets(t testing.TB, texts ...string) {
	t.Helper()
	for name, text := range w.texts(t) {
		for _, what := range w.secrets.find(text) {
			t.Errorf("%s holds %s", name, what)
		}
	}
	for _, text := range texts {
		for _, what := range w.secrets.find(text) {
			t.Errorf("a text holds %s", what)
		}
	}
}

func (w *World) texts(t testing.TB) map[string]string {
	texts := w.shared(t)
	w.mu.Lock()
	for i, text := range w.printed {
		texts[fmt.Sprintf("what command %d printed", i/2+1)] += text
	}
	w.mu.Unlock()
	err := filepath.WalkDir(w.Dir, func(path string, d fs.DirEntry, err error) error {
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
	return texts
}
