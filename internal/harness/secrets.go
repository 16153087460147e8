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

// pieceLen is the length in bytes of the pieces of secrets that are searched for.
const pieceLen = 16

// headerLen is the length in bytes of the header of a blob. The header identifies the key, is
// the same in all blobs under that key, and is not secret. The length is a multiple of three, so
// that the base64 text of the remaining bytes is a part of the base64 text of the blob.
const headerLen = 39

// secrets is a set of secrets. Outputs of rotator must not contain any piece of a secret.
type secrets struct {
	mu     sync.Mutex
	pieces map[[pieceLen]byte]canary // the secret that each piece belongs to
	// begins has a bit for the beginning of each piece. Most texts have no piece at most
	// places, and a lookup in the map for each place took much of the time of the tests.
	begins [1 << beginBits / 64]uint64
}

// beginBits is the number of bits of the index of begins.
const beginBits = 20

// begin returns the place of a piece in begins. piece must have at least eight bytes.
func begin(piece string) (word int, bit uint64) {
	b := piece[:8]
	first := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
	hash := first * 0x9e3779b97f4a7c15 >> (64 - beginBits)
	return int(hash / 64), 1 << (hash % 64)
}

// canary describes a secret in one encoding.
type canary struct {
	what     string
	blob     bool // a ciphertext, which requests may contain
	encoding int
}

func (c canary) String() string { return fmt.Sprintf("%s (encoding %d)", c.what, c.encoding) }

func newSecrets() *secrets { return &secrets{pieces: map[[pieceLen]byte]canary{}} }

// add adds the beginning of a secret text, in every encoding in which it could be printed.
func (s *secrets) add(what, secret string) { s.addEncodings(what, false, []byte(secret), 0) }

// addBlob adds a ciphertext without its header.
func (s *secrets) addBlob(what string, blob []byte) {
	if len(blob) > headerLen+pieceLen {
		s.addEncodings(what, true, blob, headerLen)
	}
}

func (s *secrets) addEncodings(what string, blob bool, secret []byte, skip int) {
	// A piece is the beginning of a form, and each form has at least one character a byte.
	data := secret[skip:min(len(secret), skip+2*pieceLen)]
	decimal := strings.Trim(fmt.Sprint(data), "[]")
	forms := []string{
		string(data), hex.EncodeToString(data), strings.ToUpper(hex.EncodeToString(data)),
		decimal, strings.ReplaceAll(decimal, " ", ","), strings.ReplaceAll(decimal, " ", ", "),
		fmt.Sprintf("% x", data), url.QueryEscape(string(data)),
		base32.StdEncoding.EncodeToString(data)}
	for shift := range 4 { // the data may begin in the middle of a rune
		quoted := strconv.Quote(string(data[shift:]))
		forms = append(forms, quoted[1:len(quoted)-1])
	}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		// The data may be part of a longer encoded text, whose next bytes would change the last
		// two characters.
		for shift := range 3 {
			text := encoding.EncodeToString(data[shift:])
			forms = append(forms, text[:max(0, len(text)-2)])
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, form := range forms {
		if len(form) >= pieceLen {
			s.pieces[[pieceLen]byte([]byte(form))] = canary{what, blob, i}
			word, bit := begin(form)
			s.begins[word] |= bit
		}
	}
}

// find returns the secrets that text contains.
func (s *secrets) find(text string) (found []canary) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reported := map[string]bool{}
	for i := 0; i+pieceLen <= len(text); i++ {
		if word, bit := begin(text[i:]); s.begins[word]&bit == 0 {
			continue
		}
		if c, ok := s.pieces[[pieceLen]byte([]byte(text[i:i+pieceLen]))]; ok && !reported[c.what] {
			reported[c.what] = true
			found = append(found, c)
		}
	}
	return found
}

// AddSecret adds a secret of at least 16 bytes, such as a plaintext or a credential.
func (w *Watcher) AddSecret(what, secret string) { w.secrets.add(what, secret) }

// Printed records the output of a command, for Outputs.
func (w *Watcher) Printed(texts ...string) {
	w.watcherMu.Lock()
	defer w.watcherMu.Unlock()
	w.printed = append(w.printed, texts...)
}

// Outputs fails the test for each secret in the recorded output of commands, and in the files
// below dirs: checkpoint, audit log, report. It ignores the job file, which the user wrote. It is
// an error if a directory has no file, or if no command printed anything.
func (w *Watcher) Outputs(t testing.TB, dirs ...string) {
	t.Helper()
	texts := map[string]string{}
	w.watcherMu.Lock()
	if strings.Join(w.printed, "") == "" {
		t.Error("no command printed anything, so there is nothing to search")
	}
	for i, text := range w.printed {
		texts[fmt.Sprintf("output %d", i+1)] = text
	}
	w.watcherMu.Unlock()
	for _, dir := range dirs {
		before := len(texts)
		if readFiles(t, texts, dir); len(texts) == before {
			t.Errorf("%s contains no file, so there is nothing to search", dir)
		}
	}
	w.search(t, texts)
}

func (w *Watcher) search(t testing.TB, texts map[string]string) {
	t.Helper()
	for name, text := range texts {
		for _, c := range w.secrets.find(text) {
			t.Errorf("%s contains %s", name, c)
		}
	}
}

// readFiles adds every file below dir to texts, except the job file.
func readFiles(t testing.TB, texts map[string]string, dir string) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "job.yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		texts[path] = string(text)
		return err
	})
	if err != nil {
		t.Errorf("read the files of the worker: %v", err)
	}
}

// AddSecret adds a secret of at least 16 bytes, such as a grant token.
func (w *Env) AddSecret(what, secret string) { w.secrets.add(what, secret) }

// Secrets fails the test for each secret in texts, in the output of all commands so far, in the
// checkpoint, and in the files beside the job file.
func (w *Env) Secrets(t testing.TB, texts ...string) {
	t.Helper()
	all := w.checkpointText(t)
	readFiles(t, all, w.Dir)
	for i, text := range texts {
		all[fmt.Sprintf("text %d", i+1)] = text
	}
	w.guard.watcherMu.Lock()
	for i, text := range w.guard.printed {
		all[fmt.Sprintf("output of command %d", i/2+1)] += text
	}
	w.guard.watcherMu.Unlock()
	w.guard.search(t, all)
}
