package fakekms

import "slices"

// dryRun holds the dry-run parameters of Decrypt and ReEncrypt (API_ReEncrypt, DryRun and
// DryRunModifiers).
type dryRun struct {
	DryRun          bool
	DryRunModifiers []string
}

// ignoreCiphertext reports whether the request checks only the permissions. The modifiers
// apply to dry runs only.
func (d dryRun) ignoreCiphertext() bool {
	return d.DryRun && slices.Contains(d.DryRunModifiers, "IGNORE_CIPHERTEXT")
}

// check refuses a request that lacks a required parameter.
func (d dryRun) check(blob []byte, keyID string) error {
	for _, m := range d.DryRunModifiers {
		if m != "IGNORE_CIPHERTEXT" {
			return fail("ValidationException", "%q is not a dry run modifier", m)
		}
	}
	if d.ignoreCiphertext() {
		if keyID == "" {
			return fail("ValidationException",
				"the key that decrypts must be named when the ciphertext is ignored")
		}
		if len(blob) == 0 {
			return nil
		}
	}
	if len(blob) == 0 || len(blob) > maxBlob {
		return fail("ValidationException", "the ciphertext must have 1 to %d bytes", maxBlob)
	}
	return nil
}

type decryptInput struct {
	CiphertextBlob      []byte
	KeyID               string `json:"KeyId"`
	EncryptionAlgorithm algorithm
	EncryptionContext   map[string]string
	GrantTokens         []string
	dryRun
}

type decryptOutput struct {
	KeyID               string `json:"KeyId"`
	KeyMaterialID       string `json:"KeyMaterialId,omitempty"`
	Plaintext           []byte
	EncryptionAlgorithm algorithm
}

// decrypt is API_Decrypt.
func (s *Service) decrypt(r request, in decryptInput) (any, error) {
	if err := in.check(in.CiphertextBlob, in.KeyID); err != nil {
		return nil, err
	}
	d := side{
		action:    "kms:Decrypt",
		keyID:     in.KeyID,
		algorithm: in.EncryptionAlgorithm,
		context:   in.EncryptionContext,
		tokens:    in.GrantTokens,
	}
	if err := d.defaults(); err != nil {
		return nil, err
	}
	k, err := s.source(r, d, in.CiphertextBlob)
	if err != nil {
		return nil, err
	}
	if in.ignoreCiphertext() {
		return nil, errDryRun()
	}
	plaintext, m, err := s.unseal(k, d, in.CiphertextBlob)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, errDryRun()
	}
	k.used(r)
	return decryptOutput{
		KeyID:               k.arn,
		KeyMaterialID:       m.name(),
		Plaintext:           plaintext,
		EncryptionAlgorithm: d.algorithm,
	}, nil
}

// name returns the id of the material, "" for the nil material of an asymmetric key.
func (m *material) name() string {
	if m == nil {
		return ""
	}
	return m.id
}

type reEncryptInput struct {
	CiphertextBlob                 []byte
	SourceKeyID                    string `json:"SourceKeyId"`
	SourceEncryptionAlgorithm      algorithm
	SourceEncryptionContext        map[string]string
	DestinationKeyID               string `json:"DestinationKeyId"`
	DestinationEncryptionAlgorithm algorithm
	DestinationEncryptionContext   map[string]string
	GrantTokens                    []string
	dryRun
}

func (in reEncryptInput) sides() (from, to side, err error) {
	from = side{
		action: "kms:ReEncryptFrom", keyID: in.SourceKeyID, algorithm: in.SourceEncryptionAlgorithm,
		context: in.SourceEncryptionContext, tokens: in.GrantTokens,
	}
	to = side{
		action:    "kms:ReEncryptTo",
		keyID:     in.DestinationKeyID,
		algorithm: in.DestinationEncryptionAlgorithm,
		context:   in.DestinationEncryptionContext, tokens: in.GrantTokens,
	}
	if err = from.defaults(); err == nil {
		err = to.defaults()
	}
	return from, to, err
}

type reEncryptOutput struct {
	CiphertextBlob                 []byte
	SourceKeyID                    string `json:"SourceKeyId"`
	KeyID                          string `json:"KeyId"`
	SourceEncryptionAlgorithm      algorithm
	DestinationEncryptionAlgorithm algorithm
	SourceKeyMaterialID            string `json:"SourceKeyMaterialId,omitempty"`
	DestinationKeyMaterialID       string `json:"DestinationKeyMaterialId,omitempty"`
}

// reEncrypt is API_ReEncrypt. It finds and authorizes both keys before it reads the
// ciphertext. The documentation does not say which error takes precedence if several apply. A
// dry run reads the ciphertext unless IGNORE_CIPHERTEXT is set.
func (s *Service) reEncrypt(r request, in reEncryptInput) (any, error) {
	if err := in.check(in.CiphertextBlob, in.SourceKeyID); err != nil {
		return nil, err
	}
	from, to, err := in.sides()
	if err != nil {
		return nil, err
	}
	old, err := s.source(r, from, in.CiphertextBlob)
	if err != nil {
		return nil, err
	}
	next, err := s.destination(r, to)
	if err != nil {
		return nil, err
	}
	if in.ignoreCiphertext() {
		return nil, errDryRun()
	}
	plaintext, oldMaterial, err := s.unseal(old, from, in.CiphertextBlob)
	if err != nil {
		return nil, err
	}
	blob, nextMaterial, err := s.seal(next, to, byEncrypt, plaintext)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, errDryRun()
	}
	old.used(r)
	next.used(r)
	return reEncryptOutput{
		CiphertextBlob:                 blob,
		SourceKeyID:                    old.arn,
		KeyID:                          next.arn,
		SourceEncryptionAlgorithm:      from.algorithm,
		DestinationEncryptionAlgorithm: to.algorithm,
		SourceKeyMaterialID:            oldMaterial.name(),
		DestinationKeyMaterialID:       nextMaterial.name(),
	}, nil
}
