package fakekms

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// The methods in this file call the service without HTTP, to create many ciphertexts quickly
// and to check results. Policy, quota and key state do not apply. The calls are not counted
// and do not mark a key as used.

// CreateKey creates an enabled key for encryption and returns its ARN; a key of a NIST curve is
// for signatures. spec must be one of the constants of this package; SM2 requires Config.SM2 and
// a China Region.
func (s *Service) CreateKey(spec KeySpec) (arn string, err error) {
	if !s.makes(spec) {
		return "", fmt.Errorf("create a key of spec %q in %s: unknown spec", spec, s.config.Region)
	}
	usage := encryptDecrypt
	if len(spec.algorithms()) == 0 {
		usage = signVerify
	}
	k, err := s.addKey(spec, usage, "", false)
	if err != nil {
		return "", err
	}
	return k.arn, nil
}

// SetAlias sets the target of the alias ("alias/name") and creates it if necessary.
func (s *Service) SetAlias(name, keyARN string) error {
	if err := checkAlias(name); err != nil {
		return err
	}
	k, err := s.find(keyARN, false)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.aliases[name] = &alias{target: k, created: now, updated: now}
	return nil
}

// SetState sets the state of a key. Every state is possible.
func (s *Service) SetState(keyARN string, state KeyState) error {
	k, err := s.find(keyARN, false)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k.setState(state, defaultWindow)
	return nil
}

// Delete deletes a key, its aliases and its material, as KMS does at the end of a waiting
// period. Blobs under the key can no longer be decrypted.
func (s *Service) Delete(keyARN string) error {
	k, err := s.find(keyARN, false)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, k.id)
	maps.DeleteFunc(s.aliases, func(_ string, a *alias) bool { return a.target == k })
	maps.DeleteFunc(s.tokens, func(_ token, m *material) bool { return m.key == k })
	s.grants = slices.DeleteFunc(s.grants, func(g *grant) bool { return g.key == k })
	maps.DeleteFunc(s.falseHeaders, func(_ string, m *material) bool { return m.key == k })
	return nil
}

// Rotate adds new current material to a symmetric key and returns the id of the material.
func (s *Service) Rotate(keyARN string) (materialID string, err error) {
	k, err := s.find(keyARN, false)
	if err != nil {
		return "", err
	}
	if k.spec != Symmetric {
		return "", errNoRotation(k)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.addMaterial(k)
	if err != nil {
		return "", err
	}
	return m.id, nil
}

// Encrypt encrypts as API_Encrypt does. RSA keys use RSAES_OAEP_SHA_256, SM2 keys SM2PKE; the
// context must be empty for both.
func (s *Service) Encrypt(
	keyARN string, plaintext []byte, context map[string]string,
) ([]byte, error) {
	k, err := s.find(keyARN, true)
	if err != nil {
		return nil, err
	}
	d := side{algorithm: symmetricDefault, context: context}
	if k.spec != Symmetric {
		algorithms := k.spec.algorithms()
		d.algorithm = algorithms[len(algorithms)-1]
		if len(context) > 0 {
			return nil, fmt.Errorf(
				"encrypt under %s: an asymmetric key takes no encryption context", keyARN,
			)
		}
	}
	blob, _, err := s.seal(k, d, byEncrypt, plaintext)
	return blob, err
}

// Decrypt decrypts a blob, to check it, in any state of its key. If keyARN is not empty, the
// blob must be under that key; it may be empty only for blobs under symmetric keys. For an
// RSA key, Decrypt tries both algorithms. It returns the ARN of the key of the blob.
func (s *Service) Decrypt(
	keyARN string, blob []byte, context map[string]string,
) (plaintext []byte, underARN string, err error) {
	var k *key
	if keyARN != "" {
		if k, err = s.find(keyARN, true); err != nil {
			return nil, "", err
		}
	} else {
		m, ok := s.materialOf(blob)
		if !ok {
			return nil, "", errCiphertext()
		}
		if m == nil {
			return nil, "", errUnknownKey()
		}
		k = m.key
	}
	for _, a := range k.spec.algorithms() {
		if plaintext, _, err = s.unseal(k, side{algorithm: a, context: context}, blob); err == nil {
			return plaintext, k.arn, nil
		}
	}
	return nil, "", err
}

// PublicKey returns the public key of an asymmetric key as API_GetPublicKey does.
func (s *Service) PublicKey(keyARN string) ([]byte, error) {
	k, err := s.find(keyARN, true)
	if err != nil {
		return nil, err
	}
	if k.pair == nil {
		return nil, fmt.Errorf("%s is symmetric and has no public key", keyARN)
	}
	pair, err := k.pair()
	if err != nil {
		return nil, err
	}
	return pair.public()
}
