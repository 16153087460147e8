package pack

import (
	"archive/zip"
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// BrokenError is the error of a pack that was changed or is not complete.
type BrokenError struct{ Detail string }

func (e *BrokenError) Error() string { return "the pack is not intact: " + e.Detail }

func broken(format string, args ...any) error {
	return &BrokenError{fmt.Sprintf(format, args...)}
}

// Open returns the files of the pack at a path, which is a directory or a zip archive. The caller
// must close it.
func Open(path string) (fs.FS, io.Closer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if info.IsDir() {
		root, err := os.OpenRoot(path)
		if err != nil {
			return nil, nil, err
		}
		return root.FS(), root, nil
	}
	archive, err := zip.OpenReader(path)
	if errors.Is(err, zip.ErrFormat) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil, broken("%s is neither a directory nor a complete zip archive", path)
	}
	if err != nil {
		return nil, nil, err
	}
	return archive, archive, nil
}

// ParseKey reads a public key in PEM.
func ParseKey(text []byte) (crypto.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New("it is not a public key in PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("it is not a public key: %w", err)
	}
	return key, nil
}

// Check verifies the signature and all files of a pack. Without a key, it uses the one in the pack.
// signed is false if the pack has no signature, so that no key can be checked. The error is a
// *BrokenError if the pack was changed.
func Check(files fs.FS, key crypto.PublicKey) (s *Statement, signed bool, err error) {
	if err := onlyFiles(files); err != nil {
		return nil, false, err
	}
	payload, signed, err := payloadOf(files, key)
	if err != nil {
		return nil, false, err
	}
	s = &Statement{}
	if json.Unmarshal(payload, s) != nil || s.Type != statementType ||
		s.PredicateType != PredicateType || len(s.Subject) == 0 {
		return nil, false, broken("its statement is not that of an evidence pack")
	}
	return s, signed, checkFiles(files, s)
}

// onlyFiles returns an error if a pack contains anything but regular files. To open a named pipe
// would block, and the content of a symbolic link can change outside of the pack.
func onlyFiles(files fs.FS) error {
	entries, err := fs.ReadDir(files, ".")
	if _, zipped := files.(*zip.ReadCloser); err != nil && zipped {
		return broken("%v", err) // the directory of an archive is in memory
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			return broken("%s is not a regular file", entry.Name())
		}
	}
	return nil
}

// payloadOf returns the statement, after the signature was verified.
func payloadOf(files fs.FS, key crypto.PublicKey) (payload []byte, signed bool, err error) {
	text, err := read(files, BundleName)
	if errors.Is(err, fs.ErrNotExist) {
		payload, err = read(files, StatementName)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, false, broken("it has neither %s nor %s", BundleName, StatementName)
		}
		return payload, false, err
	}
	if err != nil {
		return nil, false, err
	}
	b, err := parseBundle(text)
	if err != nil {
		return nil, false, err
	}
	if _, err := fs.Stat(files, StatementName); err == nil {
		return nil, false, broken("it has two statements")
	}
	if key == nil {
		text, err := read(files, KeyName)
		if err == nil {
			key, err = ParseKey(text)
		}
		if err != nil {
			return nil, false, broken("%s: %v", KeyName, err)
		}
	}
	digest := sha256.Sum256(b.Envelope.encoded())
	if err := verify(key, digest[:], b.Envelope.Signatures[0].Sig); err != nil {
		return nil, false, broken("%v: it is by another key, or the statement was changed", err)
	}
	return b.Envelope.Payload, true, nil
}

// parseBundle reads a bundle. It refuses every other form than the one that Seal writes.
func parseBundle(text []byte) (b bundle, err error) {
	refused := broken("%s is not a signed statement, or was changed", BundleName)
	if json.Unmarshal(text, &b) != nil {
		return b, refused
	}
	same, err := b.text()
	s := Statement{}
	if err != nil || !bytes.Equal(same, text) || b.MediaType != bundleType ||
		b.Envelope.PayloadType != payloadType || len(b.Envelope.Signatures) != 1 ||
		json.Unmarshal(b.Envelope.Payload, &s) != nil || s.Predicate.Signer == nil ||
		s.Predicate.Signer.Key != b.VerificationMaterial.PublicKey.Hint {
		return b, refused
	}
	return b, nil
}

// checkFiles compares the files with the subjects of the statement.
func checkFiles(files fs.FS, s *Statement) error {
	listed := map[string]bool{BundleName: true, StatementName: true} // never both
	for _, subject := range s.Subject {
		listed[subject.Name] = true
		digest, err := digestOf(files, subject.Name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return broken("%s is missing", subject.Name)
		case errors.Is(err, zip.ErrChecksum), errors.Is(err, fs.ErrInvalid):
			return broken("%s: %v", subject.Name, err)
		case err != nil:
			return err
		case digest != subject.Digest.SHA256:
			return broken("%s was changed", subject.Name)
		}
	}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !listed[entry.Name()] {
			return broken("%s is not listed in the statement", entry.Name())
		}
	}
	return nil
}

// digestOf returns the SHA-256 of a file in hex.
func digestOf(files fs.FS, name string) (string, error) {
	file, err := files.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// maxStatement is the maximum size of a statement, a bundle or a key in bytes.
const maxStatement = 16 << 20

// read returns the content of a small file.
func read(files fs.FS, name string) ([]byte, error) {
	file, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxStatement+1))
	if errors.Is(err, zip.ErrChecksum) || len(text) > maxStatement {
		return nil, broken("%s is damaged or too large", name)
	}
	return text, err
}
