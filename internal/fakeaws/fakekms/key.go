package fakekms

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// KeySpec is the kind of key material (API_CreateKey).
type KeySpec string

// The key specs that the fake supports.
const (
	Symmetric KeySpec = "SYMMETRIC_DEFAULT"
	RSA2048   KeySpec = "RSA_2048"
	RSA3072   KeySpec = "RSA_3072"
	RSA4096   KeySpec = "RSA_4096"
	SM2       KeySpec = "SM2"           // China Regions, with Config.SM2
	P256      KeySpec = "ECC_NIST_P256" // signatures only
	P384      KeySpec = "ECC_NIST_P384" // signatures only
)

// bits returns the length of the modulus of an RSA key, 0 for other key specs.
func (k KeySpec) bits() int {
	return map[KeySpec]int{RSA2048: 2048, RSA3072: 3072, RSA4096: 4096}[k]
}

// algorithms returns the encryption algorithms of the key spec.
func (k KeySpec) algorithms() []algorithm {
	switch k {
	case Symmetric:
		return []algorithm{symmetricDefault}
	case SM2:
		return []algorithm{sm2}
	case P256, P384:
		return nil
	}
	return []algorithm{oaepSHA1, oaepSHA256}
}

// KeyState is the state of a key (API_KeyMetadata).
type KeyState string

// The key states.
const (
	Creating               KeyState = "Creating"
	Enabled                KeyState = "Enabled"
	Disabled               KeyState = "Disabled"
	PendingDeletion        KeyState = "PendingDeletion"
	PendingImport          KeyState = "PendingImport"
	PendingReplicaDeletion KeyState = "PendingReplicaDeletion"
	Unavailable            KeyState = "Unavailable"
	Updating               KeyState = "Updating"
)

// The key usages that the fake supports.
const (
	encryptDecrypt = "ENCRYPT_DECRYPT"
	signVerify     = "SIGN_VERIFY"
)

// key is a KMS key. The fields above the blank line never change.
type key struct {
	id, arn      string
	spec         KeySpec
	usage        string
	description  string
	multiRegion  bool
	created      time.Time
	pair         func() (pair, error) // generates it once; nil for a symmetric key
	lastUse      atomic.Pointer[lastUse]
	rotationDays atomic.Int64 // period of automatic rotation; 0 without it

	// Guarded by Service.mu.
	state     KeyState
	deletion  time.Time   // only in state PendingDeletion
	materials []*material // oldest first; none for an asymmetric key
}

// current returns the material that encrypts.
func (k *key) current() *material { return k.materials[len(k.materials)-1] }

// material is one version of the secret of a symmetric key. It is immutable.
type material struct {
	key   *key
	id    string // 64 lower-case hexadecimal digits
	token token  // identifies the material in the header of blobs
	made  time.Time
	aead  cipher.AEAD
}

func newMaterial(k *key) (*material, error) {
	block, err := aes.NewCipher(random(32))
	if err != nil {
		return nil, fmt.Errorf("make key material: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("make key material: %w", err)
	}
	return &material{
		key:   k,
		id:    hex.EncodeToString(random(32)),
		token: token(random(32)),
		made:  time.Now(),
		aead:  aead,
	}, nil
}

// addKey creates a key. A key pair is generated when it is first used, because the generation
// of a large RSA key takes seconds.
func (s *Service) addKey(spec KeySpec, usage, description string, multiRegion bool) (*key, error) {
	id := newUUID()
	if multiRegion {
		id = "mrk-" + hex.EncodeToString(random(16))
	}
	k := &key{
		id:          id,
		arn:         s.arn("key/" + id),
		spec:        spec,
		usage:       usage,
		description: description,
		multiRegion: multiRegion,
		created:     time.Now(),
		state:       Enabled,
	}
	if spec != Symmetric {
		k.pair = sync.OnceValues(func() (pair, error) { return s.newPair(spec) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if spec == Symmetric {
		if _, err := s.addMaterial(k); err != nil {
			return nil, err
		}
	}
	s.keys[id] = k
	return k, nil
}

// partition returns the partition in the ARNs of the Region, such as aws-cn.
func (s *Service) partition() string {
	if strings.HasPrefix(s.config.Region, "cn-") {
		return "aws-cn"
	}
	return "aws"
}

// arn returns the ARN of a resource of the account.
func (s *Service) arn(resource string) string {
	return fmt.Sprintf("arn:%s:kms:%s:%s:%s", s.partition(), s.config.Region, s.config.Account,
		resource)
}

// addMaterial adds new current material to a symmetric key. It must be called with s.mu held.
func (s *Service) addMaterial(k *key) (*material, error) {
	m, err := newMaterial(k)
	if err != nil {
		return nil, err
	}
	k.materials = append(k.materials, m)
	s.tokens[m.token] = m
	return m, nil
}

// find returns the key with the identifier: a key id, a key ARN or, if aliases is true, an
// alias name or alias ARN.
func (s *Service) find(identifier string, aliases bool) (*key, error) {
	if identifier == "" {
		return nil, fail("ValidationException", "the key id is missing")
	}
	name := identifier
	if strings.HasPrefix(name, "arn:") {
		parts := strings.SplitN(name, ":", 6)
		if len(parts) != 6 || parts[2] != "kms" {
			return nil, fail("NotFoundException", "Invalid arn %s", identifier)
		}
		if parts[3] != s.config.Region {
			return nil, fail("NotFoundException", "Invalid arn %s: this endpoint serves %s",
				parts[3], s.config.Region)
		}
		if parts[4] != s.config.Account {
			return nil, fail("AccessDeniedException",
				"%s does not exist, or no policy of its account allows the request", identifier)
		}
		name = strings.TrimPrefix(parts[5], "key/")
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if strings.HasPrefix(name, "alias/") {
		if !aliases {
			return nil, fail("NotFoundException",
				"Invalid keyId %s: this operation takes a key id or a key ARN", identifier)
		}
		if a := s.aliases[name]; a != nil {
			return a.target, nil
		}
		return nil, fail("NotFoundException", "Alias %s is not found.", s.aliasARN(name))
	}
	if k := s.keys[name]; k != nil {
		return k, nil
	}
	return nil, fail("NotFoundException", "Key %s does not exist", identifier)
}

// named finds a key by key id or key ARN and authorizes the call.
func (s *Service) named(r request, identifier string) (*key, error) {
	k, err := s.find(identifier, false)
	if err != nil {
		return nil, err
	}
	return k, s.authorize(r, Call{Action: "kms:" + r.operation, KeyARN: k.arn})
}

// snapshot returns the state of a key and, for a symmetric one, its current
// material.
func (s *Service) snapshot(k *key) (KeyState, *material) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(k.materials) == 0 {
		return k.state, nil
	}
	return k.state, k.current()
}

// errState returns the error for an operation with a key in this state.
func errState(k *key, state KeyState) error {
	if state == Disabled {
		return fail("DisabledException", "%s is disabled.", k.arn)
	}
	return fail("KMSInvalidStateException", "%s is %s.", k.arn, state)
}
