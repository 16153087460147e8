package fakekms

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"
)

// alias is another name of a key. Guarded by Service.mu.
type alias struct {
	target           *key
	created, updated time.Time
}

func (s *Service) aliasARN(name string) string {
	return s.arn(name)
}

// checkAlias refuses names that a customer must not use (API_CreateAlias).
func checkAlias(name string) error {
	if len(name) > 256 || !regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]+$`).MatchString(name) {
		return fail("ValidationException",
			"an alias name must consist of alias/ and letters, digits, slashes, underscores and "+
				"dashes, and have at most 256 characters")
	}
	if strings.HasPrefix(name, "alias/aws/") {
		return fail("InvalidAliasNameException", "names that begin with alias/aws/ are reserved")
	}
	return nil
}

type aliasInput struct {
	AliasName   string
	TargetKeyID string `json:"TargetKeyId"`
}

// createAlias is API_CreateAlias.
func (s *Service) createAlias(r request, in aliasInput) (any, error) {
	k, err := s.aliasTarget(r, in)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.aliases[in.AliasName] != nil {
		return nil, fail("AlreadyExistsException", "An alias with the name %s already exists",
			s.aliasARN(in.AliasName))
	}
	if k.state == PendingDeletion {
		return nil, errState(k, k.state)
	}
	now := time.Now()
	s.aliases[in.AliasName] = &alias{target: k, created: now, updated: now}
	return nil, nil
}

// updateAlias is API_UpdateAlias. The new key must have the type and usage of the old one.
func (s *Service) updateAlias(r request, in aliasInput) (any, error) {
	k, err := s.aliasTarget(r, in)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.aliases[in.AliasName]
	if a == nil {
		return nil, fail("NotFoundException", "Alias %s is not found.", s.aliasARN(in.AliasName))
	}
	if k.state == PendingDeletion {
		return nil, errState(k, k.state)
	}
	if (a.target.spec == Symmetric) != (k.spec == Symmetric) || a.target.usage != k.usage {
		return nil, fail("ValidationException",
			"the current target of the alias has another key type or usage; delete and recreate "+
				"the alias")
	}
	a.target, a.updated = k, time.Now()
	return nil, nil
}

// aliasTarget checks the name of the alias and returns its target key.
func (s *Service) aliasTarget(r request, in aliasInput) (*key, error) {
	if err := checkAlias(in.AliasName); err != nil {
		return nil, err
	}
	return s.named(r, in.TargetKeyID)
}

// deleteAlias is API_DeleteAlias. The key stays.
func (s *Service) deleteAlias(r request, in aliasInput) (any, error) {
	if err := checkAlias(in.AliasName); err != nil {
		return nil, err
	}
	k, err := s.find(in.AliasName, true)
	if err != nil {
		return nil, err
	}
	if err := s.authorize(r, Call{Action: "kms:DeleteAlias", KeyARN: k.arn}); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.aliases, in.AliasName)
	return nil, nil
}

type listAliasesInput struct {
	KeyID string `json:"KeyId"`
	pageInput
}

type aliasEntry struct {
	AliasName       string
	AliasARN        string `json:"AliasArn"`
	TargetKeyID     string `json:"TargetKeyId"`
	CreationDate    *epoch
	LastUpdatedDate *epoch
}

type listAliasesOutput struct {
	Aliases []aliasEntry
	pageOutput
}

// listAliases is API_ListAliases, for all keys or one key, sorted by name.
func (s *Service) listAliases(r request, in listAliasesInput) (any, error) {
	if err := s.authorize(r, Call{Action: "kms:ListAliases", KeyARN: "*"}); err != nil {
		return nil, err
	}
	var only *key
	if in.KeyID != "" {
		var err error
		if only, err = s.find(in.KeyID, false); err != nil {
			return nil, err
		}
	}
	var all []aliasEntry
	s.mu.RLock()
	for name, a := range s.aliases {
		if only != nil && a.target != only {
			continue
		}
		all = append(all, aliasEntry{
			AliasName: name, AliasARN: s.aliasARN(name), TargetKeyID: a.target.id,
			CreationDate: ref(a.created), LastUpdatedDate: ref(a.updated),
		})
	}
	s.mu.RUnlock()
	slices.SortFunc(all, func(a, b aliasEntry) int { return cmp.Compare(a.AliasName, b.AliasName) })
	var out listAliasesOutput
	var err error
	out.Aliases, out.pageOutput, err = page(all, in.pageInput, 50)
	return out, err
}
