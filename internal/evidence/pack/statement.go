package pack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// The types in a signed statement. They are part of the public interface (docs/evidence.md).
const (
	statementType = "https://in-toto.io/Statement/v1"
	payloadType   = "application/vnd.in-toto+json"
	bundleType    = "application/vnd.dev.sigstore.bundle.v0.3+json"
	// PredicateType identifies the predicate, and the version of its members.
	PredicateType = "urn:rotator:evidence:v1"
)

// Statement is an in-toto Statement v1 whose subjects are the files of a pack.
type Statement struct {
	Type          string    `json:"_type"`
	Subject       []Subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     Predicate `json:"predicate"`
}

// Subject is one file of a pack.
type Subject struct {
	Name   string `json:"name"`
	Digest Digest `json:"digest"`
}

// Digest is the digest of a file in lower-case hex.
type Digest struct {
	SHA256 string `json:"sha256"`
}

// Predicate is what the signer states about the files.
type Predicate struct {
	Job       string    `json:"job"`
	JobSHA256 string    `json:"job_sha256,omitempty"` // of the job file
	Created   time.Time `json:"created"`
	Version   string    `json:"version"` // of rotator
	Verdicts  []Verdict `json:"verdicts"`
	Logs      []Log     `json:"logs"`
	// Exceptions is nil in packs of earlier versions.
	Exceptions *Exceptions `json:"exceptions,omitempty"`
	// RefsHashed is true if addresses of items are replaced by salted digests.
	RefsHashed bool `json:"refs_hashed"`
	// Signer is the key, or nil in a pack without a signature.
	Signer *Signing `json:"signer,omitempty"`
}

// Verdict is the decision about one source key.
type Verdict struct {
	Key      string `json:"key"` // ARN
	Code     string `json:"code"`
	Reason   string `json:"reason"`
	Sentence string `json:"sentence"`
}

// Exceptions states how many of the exceptions are in exceptions.csv.
type Exceptions struct {
	Total  int64 `json:"total"`
	Listed int64 `json:"listed"`
}

// Log is one audit log of the pack.
type Log struct {
	File  string `json:"file,omitempty"` // in the pack; "" if the log is left out
	Host  string `json:"host,omitempty"`
	Name  string `json:"name,omitempty"` // of the log on its host
	Lines int64  `json:"lines"`
	Head  string `json:"head"` // hash of the last line
}

// Signing names the key of a signature and its algorithm, as AWS KMS does.
type Signing struct {
	Key       string `json:"key"` // ARN
	Algorithm string `json:"algorithm"`
}

// Signer signs digests.
type Signer interface {
	// Identity names the key and the algorithm.
	Identity() Signing
	// PublicKey returns the public key in PEM.
	PublicKey() []byte
	// Sign signs a SHA-256 digest. It returns the signature, in DER for ECDSA, and the id of the
	// request.
	Sign(ctx context.Context, digest []byte) (signature []byte, requestID string, err error)
}

// bundle is a Sigstore bundle v0.3 without an entry of a transparency log.
type bundle struct {
	MediaType            string       `json:"mediaType"`
	VerificationMaterial verification `json:"verificationMaterial"`
	Envelope             envelope     `json:"dsseEnvelope"`
}

type verification struct {
	PublicKey publicKeyHint `json:"publicKey"`
}

type publicKeyHint struct {
	Hint string `json:"hint"` // the ARN of the key
}

// envelope is a DSSE envelope. Its signatures have no keyid: verifiers compare a keyid with one
// that they compute themselves, and refuse another one.
type envelope struct {
	Payload     []byte      `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	Sig []byte `json:"sig"`
}

// encoded returns the pre-authentication encoding of DSSE, whose digest is signed.
func (e envelope) encoded() []byte {
	var b bytes.Buffer
	_, _ = fmt.Fprintf(&b, "DSSEv1 %d %s %d ", len(e.PayloadType), e.PayloadType, len(e.Payload))
	_, _ = b.Write(e.Payload)
	return b.Bytes()
}

// Seal adds the statement about all files that were added before: signed, or as it is if signer is
// nil. It returns the id of the signing request.
func (w *Writer) Seal(
	ctx context.Context, predicate Predicate, signer Signer,
) (requestID string, err error) {
	if signer != nil {
		identity := signer.Identity()
		predicate.Signer = &identity
		if err := w.Add(KeyName, written(signer.PublicKey())); err != nil {
			return "", err
		}
	}
	payload, err := json.MarshalIndent(Statement{
		Type:          statementType,
		Subject:       w.subjects,
		PredicateType: PredicateType,
		Predicate:     predicate,
	}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("format the statement: %w", err)
	}
	if signer == nil {
		_, err := w.add(StatementName, written(append(payload, '\n')))
		return "", err
	}
	sealed := envelope{Payload: payload, PayloadType: payloadType}
	digest := sha256.Sum256(sealed.encoded())
	signed, requestID, err := signer.Sign(ctx, digest[:])
	if err != nil {
		return "", err
	}
	sealed.Signatures = []signature{{Sig: signed}}
	text, err := bundle{
		MediaType:            bundleType,
		VerificationMaterial: verification{publicKeyHint{predicate.Signer.Key}},
		Envelope:             sealed,
	}.text()
	if err != nil {
		return "", err
	}
	_, err = w.add(BundleName, written(text))
	return requestID, err
}

// text returns the only form in which a bundle is written.
func (b bundle) text() ([]byte, error) {
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("format the bundle: %w", err)
	}
	return append(text, '\n'), nil
}

// written returns a function that writes text.
func written(text []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	}
}
