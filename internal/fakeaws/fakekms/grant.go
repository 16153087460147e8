package fakekms

import (
	"encoding/base64"
	"encoding/hex"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// grant is a permission in addition to the policy (API_CreateGrant). Only the field visible
// changes.
type grant struct {
	id, token   string
	key         *key
	grantee     string
	retiring    string
	name        string
	operations  []string
	constraints grantConstraints
	created     time.Time

	visible bool // the grant has an effect without its token; guarded by Service.mu
}

type grantConstraints struct {
	EncryptionContextEquals map[string]string `json:",omitempty"`
	EncryptionContextSubset map[string]string `json:",omitempty"`
}

// allow reports whether a call satisfies the constraints. They apply only to operations
// with an encryption context (API_GrantConstraints).
func (c grantConstraints) allow(call Call) bool {
	management := []string{"kms:DescribeKey", "kms:GetPublicKey", "kms:CreateGrant"}
	if slices.Contains(management, call.Action) {
		return true
	}
	context := call.EncryptionContext
	if len(c.EncryptionContextEquals) > 0 && !maps.Equal(c.EncryptionContextEquals, context) {
		return false
	}
	for name, value := range c.EncryptionContextSubset {
		if context[name] != value {
			return false
		}
	}
	return true
}

// HoldGrants simulates the eventual consistency of grants: a grant that is created while
// HoldGrants is on has no effect without its token until HoldGrants is turned off.
func (s *Service) HoldGrants(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holdGrants = on
	if !on {
		for _, g := range s.grants {
			g.visible = true
		}
	}
}

// granted reports whether a grant allows the call. It refuses tokens that KMS has not
// issued and tokens of grants that were revoked or retired.
func (s *Service) granted(c Call) (bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(c.GrantTokens)+len(s.grants) == 0 {
		return false, nil
	}
	for _, token := range c.GrantTokens {
		if s.grantOf(func(g *grant) bool { return g.token == token }) == nil {
			return false, fail("InvalidGrantTokenException", "a grant token is not valid.")
		}
	}
	return s.grantOf(func(g *grant) bool {
		return g.key.arn == c.KeyARN && (g.visible || slices.Contains(c.GrantTokens, g.token)) &&
			isGrantee(c.Principal, g.grantee) &&
			slices.Contains(g.operations, strings.TrimPrefix(c.Action, "kms:")) &&
			g.constraints.allow(c)
	}) != nil, nil
}

// grantOf returns the first grant for which is returns true, or nil. It must be called with
// s.mu held.
func (s *Service) grantOf(matches func(*grant) bool) *grant {
	if i := slices.IndexFunc(s.grants, matches); i >= 0 {
		return s.grants[i]
	}
	return nil
}

// isGrantee reports whether a caller is the grantee: the principal itself, or a session of its
// role.
func isGrantee(caller, grantee string) bool {
	if caller == grantee {
		return true
	}
	account, role, ok := strings.Cut(grantee, ":role/")
	return ok && strings.Contains(caller, ":assumed-role/"+path.Base(role)+"/") &&
		accountOf(caller) == accountOf(account+":")
}

// grantOperations returns the operations that a grant can allow on keys of the fake.
func grantOperations() []string {
	return []string{"CreateGrant", "Decrypt", "DescribeKey", "Encrypt", "GenerateDataKey",
		"GenerateDataKeyWithoutPlaintext", "GetPublicKey", "ReEncryptFrom", "ReEncryptTo",
		"RetireGrant", "Sign"}
}

type createGrantInput struct {
	KeyID             string `json:"KeyId"`
	GranteePrincipal  string
	RetiringPrincipal string
	Name              string
	Operations        []string
	Constraints       grantConstraints
}

type createGrantOutput struct {
	GrantID    string `json:"GrantId"`
	GrantToken string
}

// createGrant is API_CreateGrant. Unlike KMS, it does not look for a grant of the same name.
func (s *Service) createGrant(r request, in createGrantInput) (any, error) {
	k, err := s.named(r, in.KeyID)
	if err != nil {
		return nil, err
	}
	known := grantOperations()
	foreign := func(operation string) bool { return !slices.Contains(known, operation) }
	constrained := len(in.Constraints.EncryptionContextEquals) > 0 ||
		len(in.Constraints.EncryptionContextSubset) > 0
	switch {
	case len(in.Operations) == 0 || slices.ContainsFunc(in.Operations, foreign):
		return nil, fail("ValidationException", "the operations must be some of %v", known)
	case !strings.HasPrefix(in.GranteePrincipal, "arn:"):
		return nil, fail("InvalidArnException", "the grantee principal is not an ARN")
	case constrained && k.spec != Symmetric:
		return nil, fail("ValidationException", "%s has no encryption context", k.arn)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.state != Enabled {
		return nil, errState(k, k.state)
	}
	g := &grant{
		id:          hex.EncodeToString(random(32)),
		token:       base64.StdEncoding.EncodeToString(random(96)),
		key:         k,
		grantee:     in.GranteePrincipal,
		retiring:    in.RetiringPrincipal,
		name:        in.Name,
		operations:  slices.Sorted(slices.Values(in.Operations)),
		constraints: in.Constraints,
		created:     time.Now(),
		visible:     !s.holdGrants,
	}
	s.grants = append(s.grants, g)
	return createGrantOutput{g.id, g.token}, nil
}

type listGrantsInput struct {
	KeyID            string `json:"KeyId"`
	GrantID          string `json:"GrantId"`
	GranteePrincipal string
	pageInput
}

type grantListEntry struct {
	KeyID             string `json:"KeyId"` // an ARN
	GrantID           string `json:"GrantId"`
	Name              string `json:",omitempty"`
	CreationDate      *epoch
	GranteePrincipal  string
	RetiringPrincipal string `json:",omitempty"`
	IssuingAccount    string
	Operations        []string
	Constraints       *grantConstraints `json:",omitempty"`
}

type listGrantsOutput struct {
	Grants []grantListEntry
	pageOutput
}

// listGrants is API_ListGrants, for every key state, in order of creation. The list does not
// contain grants that are not visible yet.
func (s *Service) listGrants(r request, in listGrantsInput) (any, error) {
	k, err := s.named(r, in.KeyID)
	if err != nil {
		return nil, err
	}
	all := []grantListEntry{}
	s.mu.RLock()
	for _, g := range s.grants {
		if g.key != k || !g.visible || in.GrantID != "" && in.GrantID != g.id ||
			in.GranteePrincipal != "" && in.GranteePrincipal != g.grantee {
			continue
		}
		entry := grantListEntry{
			KeyID:             k.arn,
			GrantID:           g.id,
			Name:              g.name,
			CreationDate:      ref(g.created),
			GranteePrincipal:  g.grantee,
			RetiringPrincipal: g.retiring,
			IssuingAccount:    "arn:" + s.partition() + ":iam::" + s.config.Account + ":root",
			Operations:        g.operations,
		}
		if len(g.constraints.EncryptionContextEquals)+len(g.constraints.EncryptionContextSubset) >
			0 {
			entry.Constraints = &g.constraints
		}
		all = append(all, entry)
	}
	s.mu.RUnlock()
	var out listGrantsOutput
	out.Grants, out.pageOutput, err = page(all, in.pageInput, 50)
	return out, err
}

type revokeGrantInput struct {
	KeyID   string `json:"KeyId"`
	GrantID string `json:"GrantId"`
}

// revokeGrant is API_RevokeGrant.
func (s *Service) revokeGrant(r request, in revokeGrantInput) (any, error) {
	k, err := s.named(r, in.KeyID)
	if err != nil {
		return nil, err
	}
	return nil, s.endGrant(func(g *grant) bool { return g.key == k && g.id == in.GrantID })
}

type retireGrantInput struct {
	GrantToken string
	KeyID      string `json:"KeyId"`
	GrantID    string `json:"GrantId"`
}

// retireGrant is API_RetireGrant, for the retiring principal, and for the grantee if the
// grant allows it.
func (s *Service) retireGrant(r request, in retireGrantInput) (any, error) {
	may := func(g *grant) bool {
		return isGrantee(r.principal, g.retiring) || isGrantee(r.principal, g.grantee) &&
			slices.Contains(g.operations, "RetireGrant")
	}
	return nil, s.endGrant(func(g *grant) bool {
		named := in.GrantToken != "" && g.token == in.GrantToken ||
			in.GrantToken == "" && g.id == in.GrantID && g.key.arn == in.KeyID
		return named && may(g)
	})
}

func (s *Service) endGrant(matches func(*grant) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.grants, matches)
	if i < 0 {
		return fail("NotFoundException", "there is no such grant")
	}
	s.grants = slices.Delete(s.grants, i, i+1)
	return nil
}
