// Package cbom writes the keys of a report as a cryptography bill of materials: CycloneDX 1.6, one
// component of the type related-crypto-material for each key.
package cbom

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/CycloneDX/cyclonedx-go"

	"rotator/internal/report/document"
)

// Write writes the bill of materials of a document. The text depends on nothing else.
func Write(w io.Writer, d *document.Document) error {
	components := []cyclonedx.Component{}
	for _, k := range keysOf(d) {
		components = append(components, k.component())
	}
	bom := cyclonedx.NewBOM()
	// The conversion of the library to a version turns the type of cryptographic assets into
	// application. All members that are used exist in 1.6.
	bom.SpecVersion = cyclonedx.SpecVersion1_6
	bom.JSONSchema = "http://cyclonedx.org/schema/bom-1.6.schema.json"
	bom.SerialNumber = serialOf(d)
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: d.Generated.UTC().Format(time.RFC3339),
		Component: &cyclonedx.Component{
			Type:    cyclonedx.ComponentTypeApplication,
			Name:    "rotator job " + d.Job,
			BOMRef:  "job",
			Version: d.Version,
		},
	}
	bom.Components = &components
	encoder := cyclonedx.NewBOMEncoder(w, cyclonedx.BOMFileFormatJSON).SetPretty(true)
	if err := encoder.Encode(bom); err != nil {
		return fmt.Errorf("write the bill of materials: %w", err)
	}
	return nil
}

// serialOf returns a serial number that two documents have in common only if they are of the same
// job and second. It is a UUID of version 8.
func serialOf(d *document.Document) string {
	sum := sha256.Sum256([]byte(d.Job + "\x00" + d.Account + "\x00" +
		d.Generated.UTC().Format(time.RFC3339)))
	id := sum[:16]
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// key is one key of a report with the slots under it.
type key struct {
	arn, alias  string
	role        document.Role
	found, left int64
	places      []string
	use         *document.KeyUse // nil if AWS was not asked about the key
}

// keysOf returns the keys of the inventory, and the source and destination keys that have no slots,
// sorted by ARN.
func keysOf(d *document.Document) []*key {
	known := map[string]*key{}
	of := func(arn string) *key {
		if known[arn] == nil {
			known[arn] = &key{arn: arn, alias: d.AliasOf(arn), role: d.RoleOf(arn)}
		}
		return known[arn]
	}
	for _, s := range d.SourceKeys {
		of(s.Key)
	}
	if d.DestinationKey != "" {
		of(d.DestinationKey)
	}
	for _, h := range d.Inventory {
		if h.Key == "" {
			continue
		}
		k := of(h.Key)
		k.found, k.left = k.found+h.Found, k.left+h.After
		place := strings.TrimSuffix(h.Target+": "+h.Place, ": ")
		if h.After > 0 && !slices.Contains(k.places, place) {
			k.places = append(k.places, place)
		}
	}
	for i, use := range d.KeyUse {
		if use.ARN != "" {
			of(use.ARN).use = &d.KeyUse[i]
		}
	}
	var list []*key
	for _, k := range known {
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b *key) int { return cmp.Compare(a.arn, b.arn) })
	return list
}

// component returns the component of a key. The destination key encrypts and is therefore active.
// The state and the dates of a source key are those that AWS stated, if it was asked. Those of
// other keys are not part of a report.
func (k *key) component() cyclonedx.Component {
	material := &cyclonedx.RelatedCryptoMaterialProperties{
		Type:      cyclonedx.RelatedCryptoMaterialTypeKey,
		ID:        k.arn,
		SecuredBy: &cyclonedx.SecuredBy{Mechanism: "AWS KMS"},
	}
	if k.role == document.Destination {
		material.State = cyclonedx.CryptoKeyStateActive
	}
	properties := []cyclonedx.Property{
		{Name: "rotator:role", Value: string(k.role)},
		{Name: "rotator:slots_found", Value: strconv.FormatInt(k.found, 10)},
		{Name: "rotator:slots_after", Value: strconv.FormatInt(k.left, 10)},
	}
	for _, place := range k.places {
		properties = append(properties, cyclonedx.Property{Name: "rotator:place", Value: place})
	}
	if k.use != nil {
		properties = append(properties, k.stated(material)...)
	}
	return cyclonedx.Component{
		Type:   cyclonedx.ComponentTypeCryptographicAsset,
		BOMRef: k.arn,
		Name:   cmp.Or(k.alias, k.arn),
		CryptoProperties: &cyclonedx.CryptoProperties{
			AssetType:                       cyclonedx.CryptoAssetTypeRelatedCryptoMaterial,
			RelatedCryptoMaterialProperties: material,
		},
		Properties: &properties,
	}
}

// stated sets the state and the dates that AWS stated, and returns further facts. A key is used
// from its creation on. Its newest key material is an update, and its deletion the end.
func (k *key) stated(material *cyclonedx.RelatedCryptoMaterialProperties) []cyclonedx.Property {
	use := k.use
	material.State = cyclonedx.CryptoKeyState(use.NIST)
	material.CreationDate = moment(use.Created)
	material.ActivationDate = material.CreationDate
	material.ExpirationDate = moment(use.Deletion)
	var list []cyclonedx.Property
	add := func(name, value string) {
		if value != "" {
			list = append(list, cyclonedx.Property{Name: "rotator:" + name, Value: value})
		}
	}
	add("asked", moment(use.Asked))
	add("kms_state", use.State)
	add("spec", use.Spec)
	add("last_use", moment(use.LastUsage.At))
	for _, m := range use.Materials {
		if m.State == "CURRENT" {
			material.UpdateDate = moment(m.From)
		}
		add("key_material", strings.TrimSpace(m.ID+" "+m.State+" "+moment(m.From)))
	}
	return list
}

// moment returns a time in RFC 3339, or "" if it is not known.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
