package ciphertext

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"rotator/internal/scan"
)

// formatSops is the format of files of sops (github.com/getsops/sops, stores/stores.go and
// kms/keysource.go). The stanza "sops" holds the data key of the file once per recipient.
// Recipients of AWS KMS are in kms, or in key_groups[*].kms if the data key is split into
// shares. Each has the ciphertext in enc, the key in arn, which sops sends to Decrypt as
// KeyId, and the encryption context in context. The MAC of the file does not cover them. It
// does cover lastmodified, which therefore must not change.
const formatSops = "sops"

func newSops(c *compiler) binder {
	name := c.def.name
	return func(b binding) Format {
		key := b.destination
		return &bodyFormat{name: name, sites: func(object *scan.Object) []editSite {
			stanzas, refused := sopsStanzas(object)
			if refused != nil {
				return []editSite{refusedSite("sops", refused)}
			}
			if len(stanzas) == 0 {
				if refused := markedSops(object.Body); refused != nil {
					return []editSite{refusedSite("sops", refused)}
				}
			}
			var sites []editSite
			for _, stanza := range stanzas {
				sites = append(sites, sopsSites(stanza, key)...)
			}
			return sites
		}}
	}
}

// recogniseSops reports whether a file has a stanza with mac and lastmodified.
func recogniseSops(_ Format, object *scan.Object) bool {
	stanzas, refused := sopsStanzas(object)
	if refused != nil {
		return len(sopsTypes(object.Body)) > 0
	}
	for _, stanza := range stanzas {
		mac, _ := stanza.get("mac")
		modified, _ := stanza.get("lastmodified")
		if mac != nil && modified != nil {
			return true
		}
	}
	return false
}

// sopsStanzas returns the stanzas of a file. YAML has one per document; other files have at
// most one.
func sopsStanzas(object *scan.Object) ([]*node, *Refused) {
	kinds := sopsTypes(object.Body)
	kind := sopsType("")
	switch {
	case len(kinds) == 1:
		kind = kinds[0]
	case len(kinds) > 1:
		// The content is ambiguous, so the extension decides, as in sops
		// (cmd/sops/formats).
		kind = sopsNamed(object.Key)
		if !slices.Contains(kinds, kind) {
			return nil, refuse("ambiguous", "the content matches more than one type of sops file "+
				"(%v), and the extension of the name is of none of them", kinds)
		}
	case bytes.Contains(object.Body, []byte("ENC[AES256_GCM,")):
		return nil,
			refuse("unknown-format", "the file has values that sops encrypted, but no sops "+
				"stanza at the top level of a YAML, JSON, env or INI file")
	}
	switch kind {
	case sopsJSON:
		return jsonStanza(object.Body)
	case sopsYAML:
		return yamlStanzas(object.Body)
	case sopsEnv:
		return oneStanza(envStanza(object.Body))
	case sopsINI:
		return iniStanza(object.Body)
	}
	return nil, nil
}

func oneStanza(stanza *node, refused *Refused) ([]*node, *Refused) {
	if stanza == nil {
		return nil, refused
	}
	return []*node{stanza}, nil
}

// sopsType is the syntax of a sops file. A binary file is JSON.
type sopsType string

const (
	sopsJSON sopsType = "json"
	sopsYAML sopsType = "yaml"
	sopsEnv  sopsType = "env"
	sopsINI  sopsType = "ini"
)

// sopsTypes returns the types in which a body has a stanza. A JSON object is also YAML with
// the same meaning, but is returned only as JSON.
func sopsTypes(body []byte) []sopsType {
	var types []sopsType
	if !bytes.Contains(body, []byte("sops")) {
		return nil // most bodies
	}
	if opensObject(body) && isDocument(body) {
		if stanza, refused := jsonNode(body, "sops"); stanza != nil || refused != nil {
			types = append(types, sopsJSON)
		}
		return types
	}
	has := map[sopsType]bool{}
	for line := range bytes.Lines(body) {
		line = line[:min(len(line), 64)] // no mark is longer
		text := string(bytes.TrimRight(line, " \t\r\n"))
		name, _ := sectionName(line)
		has[sopsYAML] = has[sopsYAML] || name == "sops"
		has[sopsINI] = has[sopsINI] || text == "[sops]"
		has[sopsEnv] = has[sopsEnv] || strings.HasPrefix(text, "sops_mac=") ||
			strings.HasPrefix(text, "sops_kms__list_") ||
			strings.HasPrefix(text, "sops_key_groups__list_")
	}
	for _, t := range []sopsType{sopsYAML, sopsEnv, sopsINI} {
		if has[t] {
			types = append(types, t)
		}
	}
	return types
}

// sopsNamed returns the type for the extension of a name.
func sopsNamed(key string) sopsType {
	switch path.Ext(key) {
	case ".yaml", ".yml":
		return sopsYAML
	case ".json":
		return sopsJSON
	case ".env":
		return sopsEnv
	case ".ini":
		return sopsINI
	}
	return ""
}

func jsonStanza(body []byte) ([]*node, *Refused) { return oneStanza(jsonNode(body, "sops")) }

func yamlStanzas(body []byte) ([]*node, *Refused) {
	var stanzas []*node
	document := -1
	for _, s := range yamlSections(body) {
		if s.name != "sops" {
			continue
		}
		if s.document == document {
			return nil, duplicate("sops")
		}
		name := "sops"
		if document = s.document; document > 0 {
			name = fmt.Sprintf("document %d: sops", document+1)
		}
		stanza, refused := yamlNode(body, s, name)
		if refused != nil {
			return nil, refused
		}
		if stanza != nil {
			stanzas = append(stanzas, stanza)
		}
	}
	return stanzas, nil
}

// sopsSites returns the slots of a stanza: its entries for AWS KMS.
func sopsSites(stanza *node, key string) []editSite {
	if stanza.kind != nodeMap {
		return []editSite{refusedSitef(stanza.path, "wrong-type",
			"%s is not a map that rotator can "+
				"read; it cannot read anchors, tags and merge keys", stanza.path)}
	}
	sites := sopsKeys(stanza, key)
	groups, refused := stanza.get("key_groups")
	switch {
	case refused != nil:
		return append(sites, refusedSite(stanza.path+".key_groups", refused))
	case groups == nil:
		return sites
	case groups.kind != nodeList:
		return append(sites, notAList(groups))
	}
	for _, group := range groups.elements {
		sites = append(sites, sopsKeys(group, key)...)
	}
	return sites
}

// notAList refuses a value of another type.
func notAList(n *node) editSite {
	return refusedSitef(n.path, "wrong-type", "%s is not a list", n.path)
}

// sopsKeys returns the slots of the list kms of a stanza or a key group.
func sopsKeys(group *node, key string) []editSite {
	list, refused := group.get("kms")
	switch {
	case refused != nil:
		return []editSite{refusedSite(group.path+".kms", refused)}
	case list == nil:
		return nil
	case list.kind != nodeList:
		return []editSite{notAList(list)}
	}
	var sites []editSite
	for _, entry := range list.elements {
		sites = append(sites, sopsKey(entry, key))
	}
	return sites
}

// sopsKey returns the slot of one recipient.
func sopsKey(entry *node, key string) editSite {
	if entry.kind != nodeMap {
		return refusedSitef(entry.path, "wrong-type", "%s is not a map that rotator can read",
			entry.path)
	}
	enc, refused := entry.replaceable("enc")
	if refused != nil {
		return refusedSite(entry.path+".enc", refused)
	}
	arn, refused := entry.replaceable("arn")
	if refused != nil {
		return refusedSite(enc.path, refused)
	}
	entries, refused := entry.get("context")
	if refused != nil {
		return refusedSite(enc.path, refused)
	}
	context, refused := entries.strings()
	if refused != nil {
		return refusedSite(enc.path, refused)
	}
	return enc.blobSite(context, arn.replaced(key))
}
