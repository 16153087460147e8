package fakekms

import (
	"slices"
)

// The limits of API_Encrypt, API_Decrypt and API_ReEncrypt.
const (
	maxBlob        = 6144 // bytes
	maxPlaintext   = 4096 // bytes
	maxDataKey     = 1024 // bytes
	maxGrantTokens = 10
)

// side is a key and how a request uses it: the source or the destination of a ReEncrypt, or
// the only key of another operation.
type side struct {
	action    string // "kms:ReEncryptFrom"
	keyID     string // any identifier; empty: the key that the blob names
	algorithm algorithm
	context   map[string]string
	tokens    []string
}

// defaults sets the default algorithm and checks what does not depend on the key.
func (d *side) defaults() error {
	if d.algorithm == "" {
		d.algorithm = symmetricDefault
	}
	if !slices.Contains([]algorithm{symmetricDefault, oaepSHA1, oaepSHA256, sm2}, d.algorithm) {
		return fail("ValidationException", "%q is not an encryption algorithm", d.algorithm)
	}
	if len(d.tokens) > maxGrantTokens {
		return fail("ValidationException", "%d grant tokens exceed the maximum of %d",
			len(d.tokens), maxGrantTokens)
	}
	return nil
}

// use checks that the caller may use the key in this way. It checks the permission first,
// then the state, usage, algorithm and context.
func (s *Service) use(r request, k *key, d side) error {
	err := s.authorize(r, Call{
		Action:            d.action,
		KeyARN:            k.arn,
		EncryptionContext: d.context,
		GrantTokens:       d.tokens,
	})
	if err != nil {
		return err
	}
	// A multi-Region primary key in state Updating still encrypts and decrypts.
	if state, _ := s.snapshot(k); state != Enabled && state != Updating {
		return errState(k, state)
	}
	if k.usage != encryptDecrypt {
		return fail("InvalidKeyUsageException", "%s key usage is %s which is not valid for %s.",
			k.arn, k.usage, r.operation)
	}
	if !slices.Contains(k.spec.algorithms(), d.algorithm) {
		return fail("InvalidKeyUsageException", "Algorithm %s is incompatible with key spec %s.",
			d.algorithm, k.spec)
	}
	if k.spec != Symmetric && len(d.context) > 0 {
		return fail("ValidationException",
			"an encryption context requires a symmetric key; %s is asymmetric", k.arn)
	}
	return nil
}

// source returns the key that decrypts the blob, after the checks of use: the key that the
// request names, otherwise the key that the header of the blob names.
func (s *Service) source(r request, d side, blob []byte) (*key, error) {
	if err := s.checkBlob(d, blob); err != nil {
		return nil, err
	}
	if d.keyID != "" {
		k, err := s.find(d.keyID, true)
		if err != nil {
			return nil, err
		}
		return k, s.use(r, k, d)
	}
	if d.algorithm != symmetricDefault {
		return nil, fail("ValidationException", "the key id is required with %s", d.algorithm)
	}
	m, ok := s.materialOf(blob)
	if !ok {
		return nil, errCiphertext()
	}
	if m == nil {
		return nil, errUnknownKey()
	}
	err := s.use(r, m.key, d)
	if e, ok := err.(*Error); ok && e.Code == "AccessDeniedException" {
		r.trace.resources = nil
		return nil, errUnknownKey()
	}
	return m.key, err
}

// materialOf returns the material that made a blob, or nil if it was deleted. It returns false if
// the blob does not have the layout.
func (s *Service) materialOf(blob []byte) (*material, bool) {
	t, ok := readToken(blob)
	if !ok {
		return nil, false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if m := s.falseHeaders[string(blob[:headerLen])]; m != nil {
		return m, true
	}
	return s.tokens[t], true
}

// errUnknownKey returns the error of KMS for a blob whose key does not exist in this account
// and Region or may not be used by the caller. The error does not distinguish these cases.
func errUnknownKey() error {
	return fail("AccessDeniedException",
		"The ciphertext refers to a customer master key that does not exist, does not exist in "+
			"this region, or you are not allowed to access.")
}

// errCiphertext returns the error of KMS for an invalid ciphertext, which has no message.
func errCiphertext() error { return fail("InvalidCiphertextException", "") }

// unseal decrypts a blob with the key that source returned. The material is nil for an
// asymmetric key.
func (s *Service) unseal(k *key, d side, blob []byte) ([]byte, *material, error) {
	if k.spec != Symmetric {
		pair, err := k.pair()
		if err != nil {
			return nil, nil, err
		}
		plaintext, ok := pair.open(d.algorithm, blob)
		if !ok {
			return nil, nil, errCiphertext()
		}
		return plaintext, nil, nil
	}
	m, ok := s.materialOf(blob)
	if !ok {
		return nil, nil, errCiphertext()
	}
	if m == nil || m.key != k {
		return nil, nil, fail("IncorrectKeyException",
			"The key ID in the request does not identify a CMK that can perform this operation.")
	}
	plaintext, ok := m.open(blob, d.context)
	if !ok {
		return nil, nil, errCiphertext()
	}
	return plaintext, m, nil
}

// seal encrypts with the key. It returns the current material, nil for an asymmetric key.
func (s *Service) seal(k *key, d side, op origin, plaintext []byte) ([]byte, *material, error) {
	if len(plaintext) > k.maxPlaintext(d.algorithm) {
		return nil, nil, fail("ValidationException",
			"a plaintext of %d bytes is longer than the %d that %s takes with %s",
			len(plaintext), k.maxPlaintext(d.algorithm), k.spec, d.algorithm)
	}
	if k.spec != Symmetric {
		pair, err := k.pair()
		if err != nil {
			return nil, nil, err
		}
		blob, err := pair.seal(d.algorithm, plaintext)
		return blob, nil, err
	}
	_, m := s.snapshot(k)
	named, hasFalseHeader := s.header(m)
	blob, err := m.seal(op, named, plaintext, d.context)
	if err == nil && hasFalseHeader {
		s.mu.Lock()
		s.falseHeaders[string(blob[:headerLen])] = m
		s.mu.Unlock()
	}
	return blob, m, err
}

// errDryRun returns the error of a successful dry run (DryRunOperationException).
func errDryRun() error {
	return fail("DryRunOperationException",
		"The request would have succeeded, but the DryRun option is set.")
}

// destination returns the key that encrypts, after the checks of use.
func (s *Service) destination(r request, d side) (*key, error) {
	k, err := s.find(d.keyID, true)
	if err != nil {
		return nil, err
	}
	return k, s.use(r, k, d)
}

type encryptInput struct {
	KeyID               string `json:"KeyId"`
	Plaintext           []byte
	EncryptionAlgorithm algorithm
	EncryptionContext   map[string]string
	GrantTokens         []string
	DryRun              bool
}

type encryptOutput struct {
	CiphertextBlob      []byte
	KeyID               string `json:"KeyId"`
	EncryptionAlgorithm algorithm
}

// encrypt is API_Encrypt.
func (s *Service) encrypt(r request, in encryptInput) (any, error) {
	if len(in.Plaintext) == 0 || len(in.Plaintext) > maxPlaintext {
		return nil, fail("ValidationException", "the plaintext must have 1 to %d bytes",
			maxPlaintext)
	}
	d := side{
		action:    "kms:Encrypt",
		keyID:     in.KeyID,
		algorithm: in.EncryptionAlgorithm,
		context:   in.EncryptionContext,
		tokens:    in.GrantTokens,
	}
	if err := d.defaults(); err != nil {
		return nil, err
	}
	k, err := s.destination(r, d)
	if err != nil {
		return nil, err
	}
	blob, _, err := s.seal(k, d, byEncrypt, in.Plaintext)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, errDryRun()
	}
	k.used(r)
	return encryptOutput{CiphertextBlob: blob, KeyID: k.arn, EncryptionAlgorithm: d.algorithm}, nil
}

type dataKeyInput struct {
	KeyID             string `json:"KeyId"`
	KeySpec           string
	NumberOfBytes     *int
	EncryptionContext map[string]string
	GrantTokens       []string
	DryRun            bool
}

// size returns the length of the data key in bytes.
func (in dataKeyInput) size() (int, error) {
	n, known := map[string]int{"AES_128": 16, "AES_256": 32}[in.KeySpec]
	switch {
	case (in.KeySpec == "") == (in.NumberOfBytes == nil):
		return 0, fail("ValidationException", "specify either NumberOfBytes or KeySpec")
	case known:
		return n, nil
	case in.KeySpec != "":
		return 0, fail("ValidationException", "%q is not a data key spec", in.KeySpec)
	case *in.NumberOfBytes < 1 || *in.NumberOfBytes > maxDataKey:
		return 0, fail("ValidationException", "a data key must have 1 to %d bytes", maxDataKey)
	}
	return *in.NumberOfBytes, nil
}

type dataKeyOutput struct {
	CiphertextBlob []byte
	Plaintext      []byte `json:",omitempty"`
	KeyID          string `json:"KeyId"`
	KeyMaterialID  string `json:"KeyMaterialId"`
}

// generateDataKey is API_GenerateDataKey.
func (s *Service) generateDataKey(r request, in dataKeyInput) (any, error) {
	return s.dataKey(r, in)
}

// generateDataKeyWithoutPlaintext is API_GenerateDataKeyWithoutPlaintext.
func (s *Service) generateDataKeyWithoutPlaintext(r request, in dataKeyInput) (any, error) {
	out, err := s.dataKey(r, in)
	if err != nil {
		return nil, err
	}
	out.Plaintext = nil
	return out, nil
}

func (s *Service) dataKey(r request, in dataKeyInput) (*dataKeyOutput, error) {
	n, err := in.size()
	if err != nil {
		return nil, err
	}
	d := side{
		action:  "kms:" + r.operation,
		keyID:   in.KeyID,
		context: in.EncryptionContext,
		tokens:  in.GrantTokens,
	}
	if err := d.defaults(); err != nil {
		return nil, err
	}
	k, err := s.destination(r, d) // refuses asymmetric keys: they do not support SYMMETRIC_DEFAULT
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, errDryRun()
	}
	plaintext := random(n)
	blob, m, err := s.seal(k, d, byGenerateDataKey, plaintext)
	if err != nil {
		return nil, err
	}
	k.used(r)
	return &dataKeyOutput{
		CiphertextBlob: blob,
		Plaintext:      plaintext,
		KeyID:          k.arn,
		KeyMaterialID:  m.id,
	}, nil
}
