package fakekms

import "strconv"

// maxRotations is the maximum number of on-demand rotations of a key (API_RotateKeyOnDemand).
const maxRotations = 25

// rotateKeyOnDemand is API_RotateKeyOnDemand. Unlike KMS, which rotates asynchronously, it
// makes the new material current before it returns.
func (s *Service) rotateKeyOnDemand(r request, in keyInput) (any, error) {
	k, err := s.named(r, in.KeyID)
	if err != nil {
		return nil, err
	}
	if k.spec != Symmetric {
		return nil, errNoRotation(k)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.state != Enabled {
		return nil, errState(k, k.state)
	}
	if len(k.materials) > maxRotations {
		return nil, fail("LimitExceededException",
			"%s has reached the limit of %d on-demand rotations", k.arn, maxRotations)
	}
	if _, err := s.addMaterial(k); err != nil {
		return nil, err
	}
	return keyOutput{k.arn}, nil
}

func errNoRotation(k *key) error {
	return fail("UnsupportedOperationException",
		"%s has key spec %s, which does not support rotation", k.arn, k.spec)
}

type listKeyRotationsInput struct {
	KeyID              string `json:"KeyId"`
	IncludeKeyMaterial string
	pageInput
}

type rotation struct {
	KeyID            string `json:"KeyId"`
	KeyMaterialID    string `json:"KeyMaterialId"`
	KeyMaterialState string
	RotationDate     *epoch `json:",omitempty"`
	RotationType     string `json:",omitempty"`
}

type listKeyRotationsOutput struct {
	Rotations []rotation
	pageOutput
}

// listKeyRotations is API_ListKeyRotations, newest first. The first material is listed only
// with ALL_KEY_MATERIAL, because no rotation made it.
func (s *Service) listKeyRotations(r request, in listKeyRotationsInput) (any, error) {
	k, err := s.named(r, in.KeyID)
	if err != nil {
		return nil, err
	}
	if k.spec != Symmetric {
		return nil, errNoRotation(k)
	}
	var all []rotation
	switch in.IncludeKeyMaterial {
	case "", "ROTATIONS_ONLY", "ALL_KEY_MATERIAL":
	default:
		return nil, fail("ValidationException", "%q is not a valid value of IncludeKeyMaterial",
			in.IncludeKeyMaterial)
	}
	s.mu.RLock()
	for i := len(k.materials) - 1; i >= 0; i-- {
		m := k.materials[i]
		entry := rotation{KeyID: k.id, KeyMaterialID: m.id, KeyMaterialState: "NON_CURRENT"}
		if m == k.current() {
			entry.KeyMaterialState = "CURRENT"
		}
		if i > 0 {
			entry.RotationDate, entry.RotationType = ref(m.made), "ON_DEMAND"
		} else if in.IncludeKeyMaterial != "ALL_KEY_MATERIAL" {
			continue
		}
		all = append(all, entry)
	}
	s.mu.RUnlock()
	out := listKeyRotationsOutput{}
	out.Rotations, out.pageOutput, err = page(all, in.pageInput, 100)
	return out, err
}

// pageInput and pageOutput are the paging parameters of the list operations.
type pageInput struct {
	Limit  *int
	Marker string
}

type pageOutput struct {
	NextMarker string `json:",omitempty"`
	Truncated  bool
}

// page returns one page of all. The marker is the number of entries before the page.
func page[T any](all []T, in pageInput, limit int) ([]T, pageOutput, error) {
	start := 0
	if in.Marker != "" {
		var err error
		if start, err = strconv.Atoi(in.Marker); err != nil || start < 1 || start > len(all) {
			return nil, pageOutput{}, fail("InvalidMarkerException",
				"the marker is not one that this list returned")
		}
	}
	if in.Limit != nil {
		limit = *in.Limit
	}
	if limit < 1 || limit > 1000 {
		return nil, pageOutput{}, fail("ValidationException", "the limit must be 1 to 1000")
	}
	all = all[start:]
	if len(all) <= limit {
		return all, pageOutput{}, nil
	}
	return all[:limit], pageOutput{NextMarker: strconv.Itoa(start + limit), Truncated: true}, nil
}

type rotationPeriodInput struct {
	KeyID                string `json:"KeyId"`
	RotationPeriodInDays *int
}

// The periods of API_EnableKeyRotation, in days.
const (
	minPeriod     = 90
	maxPeriod     = 2560
	defaultPeriod = 365
)

// enableKeyRotation is API_EnableKeyRotation. The fake never rotates a key by itself.
func (s *Service) enableKeyRotation(r request, in rotationPeriodInput) (any, error) {
	days := defaultPeriod
	if in.RotationPeriodInDays != nil {
		days = *in.RotationPeriodInDays
	}
	if days < minPeriod || days > maxPeriod {
		return nil, fail("ValidationException", "the rotation period must be %d to %d days",
			minPeriod, maxPeriod)
	}
	k, err := s.named(r, in.KeyID)
	if err != nil {
		return nil, err
	}
	if k.spec != Symmetric {
		return nil, errNoRotation(k)
	}
	if state, _ := s.snapshot(k); state != Enabled {
		return nil, errState(k, state)
	}
	k.rotationDays.Store(int64(days))
	return nil, nil
}

type rotationStatusOutput struct {
	KeyID                string `json:"KeyId"` // an ARN
	KeyRotationEnabled   bool
	RotationPeriodInDays int    `json:",omitempty"`
	NextRotationDate     *epoch `json:",omitempty"`
}

// getKeyRotationStatus is API_GetKeyRotationStatus. It accepts every key state. The status of a
// key that is pending deletion is false.
func (s *Service) getKeyRotationStatus(r request, in keyInput) (any, error) {
	k, err := s.named(r, in.KeyID)
	if err != nil {
		return nil, err
	}
	if k.spec != Symmetric {
		return nil, errNoRotation(k)
	}
	out := rotationStatusOutput{KeyID: k.arn}
	days := int(k.rotationDays.Load())
	if state, _ := s.snapshot(k); days > 0 && state != PendingDeletion {
		out.KeyRotationEnabled = true
		out.RotationPeriodInDays = days
		out.NextRotationDate = ref(k.created.AddDate(0, 0, days))
	}
	return out, nil
}
