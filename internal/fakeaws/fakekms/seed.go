package fakekms

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// What follows reaches the service without HTTP: to set up many ciphertexts
// quickly and to look at what became of them. Policy, quota and key state do
// not apply, nothing is counted, and no key is marked as used.

// CreateKey makes an enabled key for encryption and returns its ARN. The spec
// must be one of the constants of this package; SM2 needs Config.SM2 and a China
// Region.
func (s *Service) CreateKey(spec KeySpec) (arn string, err error) {
	if !s.makes(spec) {
		return "", fmt.Errorf("create a key of spec %q in %s: unknown spec", spec, s.config.Region)
	}
	k, err := s.addKey(spec, encryptDecrypt, "", false)
	if err != nil {
		return "", err
	}
	return k.arn, nil
}

// SetAlias makes the alias ("alias/name") stand for the key from now on.
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

// SetState puts a key into any state.
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

// Delete does what KMS does when a waiting period ends: the key, its aliases
// and its material are gone, and no blob under it can be read again.
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
	maps.DeleteFunc(s.lies, func(_ string, m *material) bool { return m.key == k })
	return nil
}

// Rotate gives a symmetric key new current material and returns its id.
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

// Encrypt makes a blob as the operation of that name does. RSA keys encrypt with
// RSAES_OAEP_SHA_256, SM2 keys with SM2PKE; neither takes a context.
func (s *Service) Encrypt(keyARN string, plaintext []byte, context map[string]string) ([]byte, error) {
	k, err := s.find(keyARN, true)
	if err != nil {
		return nil, err
	}
	d := side{algorithm: symmetricDefault, context: context}
	if k.spec != Symmetric {
		algorithms := k.spec.algorithms()
		d.algorithm = algorithms[len(algorithms)-1]
		if len(context) > 0 {
			return nil, fmt.Errorf("encrypt under %s: an asymmetric key takes no encryption context", keyARN)
		}
	}
	blob, _, err := s.seal(k, d, byEncrypt, plaintext)
	return blob, err
}

// Decrypt reads a blob, to check it, whatever the state of its key. keyARN pins
// the key; it may be empty for a blob under a symmetric key. For an RSA key both
// algorithms are tried. It returns the ARN of the key that fitted.
func (s *Service) Decrypt(keyARN string, blob []byte, context map[string]string) (plaintext []byte, underARN string, err error) {
	var k *key
	if keyARN != "" {
		if k, err = s.find(keyARN, true); err != nil {
			return nil, "", err
		}
	} else {
		m, ok := s.maker(blob)
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
