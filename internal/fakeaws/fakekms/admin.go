package fakekms

import (
	"strconv"
	"time"
)

// epoch is a time in the form of the JSON protocols: seconds since 1970.
type epoch time.Time

// MarshalJSON implements json.Marshaler.
func (e epoch) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(time.Time(e).UnixMilli())/1000, 'f', 3, 64), nil
}

// ref returns t, or nil for the zero time, which omits the element.
func ref(t time.Time) *epoch {
	if t.IsZero() {
		return nil
	}
	e := epoch(t)
	return &e
}

type createKeyInput struct {
	KeySpec               KeySpec
	CustomerMasterKeySpec KeySpec // deprecated name of KeySpec
	KeyUsage              string
	Description           string
	MultiRegion           bool
	Origin                string
}

// createKey is API_CreateKey, for keys with material from KMS. It accepts key policies and
// tags but ignores them.
func (s *Service) createKey(r request, in createKeyInput) (any, error) {
	if err := s.authorize(r, Call{Action: "kms:CreateKey", KeyARN: "*"}); err != nil {
		return nil, err
	}
	if in.KeySpec == "" {
		in.KeySpec = in.CustomerMasterKeySpec
	}
	if in.KeySpec == "" {
		in.KeySpec = Symmetric
	}
	if in.KeySpec == Symmetric && in.KeyUsage == "" {
		in.KeyUsage = encryptDecrypt
	}
	switch {
	case !s.makes(in.KeySpec) || (in.Origin != "" && in.Origin != "AWS_KMS"):
		return nil, fail("UnsupportedOperationException", "the fake KMS supports "+
			"SYMMETRIC_DEFAULT, RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256 and ECC_NIST_P384 "+
			"with origin AWS_KMS, and SM2 in China Regions")
	case in.KeyUsage == "":
		return nil, fail("ValidationException", "KeyUsage is required for an asymmetric key")
	case in.KeyUsage == encryptDecrypt && len(in.KeySpec.algorithms()) == 0,
		in.KeyUsage == signVerify && in.KeySpec == Symmetric,
		in.KeyUsage != encryptDecrypt && in.KeyUsage != signVerify:
		return nil, fail("ValidationException", "key usage %s is not valid for key spec %s",
			in.KeyUsage, in.KeySpec)
	}
	k, err := s.addKey(in.KeySpec, in.KeyUsage, in.Description, in.MultiRegion)
	if err != nil {
		return nil, err
	}
	return describeKeyOutput{s.metadata(k)}, nil
}

// keyMetadata is API_KeyMetadata.
type keyMetadata struct {
	AWSAccountID             string `json:"AWSAccountId"`
	KeyID                    string `json:"KeyId"`
	ARN                      string `json:"Arn"`
	CreationDate             *epoch
	Enabled                  bool
	Description              string
	KeyUsage                 string
	KeyState                 KeyState
	DeletionDate             *epoch `json:",omitempty"`
	Origin                   string
	KeyManager               string
	KeySpec                  KeySpec
	CustomerMasterKeySpec    KeySpec
	EncryptionAlgorithms     []algorithm        `json:",omitempty"`
	SigningAlgorithms        []signingAlgorithm `json:",omitempty"`
	CurrentKeyMaterialID     string             `json:"CurrentKeyMaterialId,omitempty"`
	MultiRegion              bool
	MultiRegionConfiguration *multiRegionConfiguration `json:",omitempty"`
}

type multiRegionConfiguration struct {
	MultiRegionKeyType string
	PrimaryKey         struct {
		ARN    string `json:"Arn"`
		Region string
	}
	ReplicaKeys []struct{}
}

type describeKeyOutput struct{ KeyMetadata keyMetadata }

func (s *Service) metadata(k *key) keyMetadata {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := keyMetadata{
		AWSAccountID:          s.config.Account,
		KeyID:                 k.id,
		ARN:                   k.arn,
		CreationDate:          ref(k.created),
		Enabled:               k.state == Enabled,
		Description:           k.description,
		KeyUsage:              k.usage,
		KeyState:              k.state,
		DeletionDate:          ref(k.deletion),
		Origin:                "AWS_KMS",
		KeyManager:            "CUSTOMER",
		KeySpec:               k.spec,
		CustomerMasterKeySpec: k.spec,
		MultiRegion:           k.multiRegion,
	}
	if k.usage == encryptDecrypt {
		m.EncryptionAlgorithms = k.spec.algorithms()
	} else {
		m.SigningAlgorithms = k.spec.signingAlgorithms()
	}
	if k.spec == Symmetric {
		m.CurrentKeyMaterialID = k.current().id
	}
	if k.multiRegion {
		c := &multiRegionConfiguration{MultiRegionKeyType: "PRIMARY", ReplicaKeys: []struct{}{}}
		c.PrimaryKey.ARN, c.PrimaryKey.Region = k.arn, s.config.Region
		m.MultiRegionConfiguration = c
	}
	return m
}

type publicKeyInput struct {
	KeyID       string `json:"KeyId"`
	GrantTokens []string
}

type publicKeyOutput struct {
	KeyID                 string `json:"KeyId"`
	PublicKey             []byte
	KeySpec               KeySpec
	CustomerMasterKeySpec KeySpec
	KeyUsage              string
	EncryptionAlgorithms  []algorithm        `json:",omitempty"`
	SigningAlgorithms     []signingAlgorithm `json:",omitempty"`
}

// getPublicKey is API_GetPublicKey.
func (s *Service) getPublicKey(r request, in publicKeyInput) (any, error) {
	k, err := s.find(in.KeyID, true)
	if err != nil {
		return nil, err
	}
	call := Call{Action: "kms:GetPublicKey", KeyARN: k.arn, GrantTokens: in.GrantTokens}
	if err := s.authorize(r, call); err != nil {
		return nil, err
	}
	if state, _ := s.snapshot(k); state != Enabled {
		return nil, errState(k, state)
	}
	if k.pair == nil {
		return nil, fail("UnsupportedOperationException", "%s is symmetric and has no public key.",
			k.arn)
	}
	public, err := s.PublicKey(k.arn)
	if err != nil {
		return nil, err
	}
	out := publicKeyOutput{
		KeyID:                 k.arn,
		PublicKey:             public,
		KeySpec:               k.spec,
		CustomerMasterKeySpec: k.spec,
		KeyUsage:              k.usage,
	}
	if k.usage == encryptDecrypt {
		out.EncryptionAlgorithms = k.spec.algorithms()
	} else {
		out.SigningAlgorithms = k.spec.signingAlgorithms()
	}
	return out, nil
}

type describeKeyInput struct {
	KeyID       string `json:"KeyId"`
	GrantTokens []string
}

// describeKey is API_DescribeKey. It accepts every form of identifier and every key state.
func (s *Service) describeKey(r request, in describeKeyInput) (any, error) {
	k, err := s.find(in.KeyID, true)
	if err != nil {
		return nil, err
	}
	if err := s.authorize(r, Call{
		Action:      "kms:DescribeKey",
		KeyARN:      k.arn,
		GrantTokens: in.GrantTokens,
	}); err != nil {
		return nil, err
	}
	return describeKeyOutput{s.metadata(k)}, nil
}

type keyInput struct {
	KeyID string `json:"KeyId"`
}

// enableKey is API_EnableKey.
func (s *Service) enableKey(r request, in keyInput) (any, error) {
	return nil, s.switchTo(r, in.KeyID, Enabled)
}

// disableKey is API_DisableKey.
func (s *Service) disableKey(r request, in keyInput) (any, error) {
	return nil, s.switchTo(r, in.KeyID, Disabled)
}

// switchTo enables or disables a key that is enabled or disabled.
func (s *Service) switchTo(r request, keyID string, state KeyState) error {
	k, err := s.named(r, keyID)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.state != Enabled && k.state != Disabled {
		return errState(k, k.state)
	}
	k.state = state
	return nil
}

// The waiting periods of API_ScheduleKeyDeletion, in days.
const (
	minWindow     = 7
	maxWindow     = 30
	defaultWindow = 30
)

type scheduleKeyDeletionInput struct {
	KeyID               string `json:"KeyId"`
	PendingWindowInDays *int
}

type scheduleKeyDeletionOutput struct {
	KeyID               string `json:"KeyId"` // an ARN
	DeletionDate        *epoch
	KeyState            KeyState
	PendingWindowInDays int
}

// scheduleKeyDeletion is API_ScheduleKeyDeletion. The key stays in state PendingDeletion: the
// waiting period never ends.
func (s *Service) scheduleKeyDeletion(r request, in scheduleKeyDeletionInput) (any, error) {
	days := defaultWindow
	if in.PendingWindowInDays != nil {
		days = *in.PendingWindowInDays
	}
	if days < minWindow || days > maxWindow {
		return nil, fail("ValidationException", "the waiting period must be %d to %d days",
			minWindow, maxWindow)
	}
	k, err := s.named(r, in.KeyID)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.state == PendingDeletion || k.state == PendingReplicaDeletion || k.state == Creating ||
		k.state == Updating {
		return nil, errState(k, k.state)
	}
	k.setState(PendingDeletion, days)
	return scheduleKeyDeletionOutput{
		KeyID: k.arn, DeletionDate: ref(k.deletion), KeyState: k.state, PendingWindowInDays: days,
	}, nil
}

// setState sets the state and the deletion date. It must be called with Service.mu held.
func (k *key) setState(state KeyState, days int) {
	k.state, k.deletion = state, time.Time{}
	if state == PendingDeletion {
		k.deletion = time.Now().AddDate(0, 0, days)
	}
}

type keyOutput struct {
	KeyID string `json:"KeyId"` // an ARN
}

// cancelKeyDeletion is API_CancelKeyDeletion. It leaves the key in state Disabled.
func (s *Service) cancelKeyDeletion(r request, in keyInput) (any, error) {
	k, err := s.named(r, in.KeyID)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.state != PendingDeletion && k.state != PendingReplicaDeletion {
		return nil, fail("KMSInvalidStateException", "%s is not pending deletion.", k.arn)
	}
	k.setState(Disabled, 0)
	return keyOutput{k.arn}, nil
}
