package ciphertext

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"rotator/internal/scan"
)

// formatSops reads files of sops (github.com/getsops/sops, stores/stores.go and
// kms/keysource.go): a stanza "sops" holds the data key of the file once for each
// recipient; those of AWS KMS are in kms, or in key_groups[*].kms where the data
// key is cut into shares. Each has the ciphertext in enc, the key in arn, which
// sops sends to Decrypt as KeyId, and the encryption context in context. Neither
// is covered by the MAC of the file; lastmodified is its additional data, and so
// never changes.
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

// recogniseSops: a stanza with a MAC and the time that the MAC covers.
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

// sopsStanzas reads the stanza of a file; YAML has one for each document.
func sopsStanzas(object *scan.Object) ([]*node, *Refused) {
	kinds := sopsTypes(object.Body)
	kind := sopsType("")
	switch {
	case len(kinds) == 1:
		kind = kinds[0]
	case len(kinds) > 1:
		// What the file says of itself is ambiguous, so its name decides, as it
		// does for sops (cmd/sops/formats).
		kind = sopsNamed(object.Key)
		if !slices.Contains(kinds, kind) {
			return nil, &Refused{Reason: "ambiguous", Detail: fmt.Sprintf("it reads as a sops file of more than one type (%v), and its name ends like none of them", kinds)}
		}
	case bytes.Contains(object.Body, []byte("ENC[AES256_GCM,")):
		return nil, &Refused{Reason: "unknown-format", Detail: "it holds values that sops encrypted, but no sops stanza at the top of a YAML, JSON, env or INI file"}
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

// sopsType is how a sops file is written. A binary file is JSON.
type sopsType string

const (
	sopsJSON sopsType = "json"
	sopsYAML sopsType = "yaml"
	sopsEnv  sopsType = "env"
	sopsINI  sopsType = "ini"
)

// sopsTypes says as what a body could be read, each by where it has its stanza. A
// JSON object is nothing else, although it is YAML too, and means the same there.
func sopsTypes(body []byte) []sopsType {
	var types []sopsType
	if !bytes.Contains(body, []byte("sops")) {
		return nil // most bodies, at the price of one look
	}
	if opensObject(body) && isDocument(body) {
		if stanza, refused := jsonNode(body, "sops"); stanza != nil || refused != nil {
			types = append(types, sopsJSON)
		}
		return types
	}
	has := map[sopsType]bool{}
	for line := range bytes.Lines(body) {
		line = line[:min(len(line), 64)] // longer than any mark
		text := string(bytes.TrimRight(line, " \t\r\n"))
		name, _ := sectionName(line)
		has[sopsYAML] = has[sopsYAML] || name == "sops"
		has[sopsINI] = has[sopsINI] || text == "[sops]"
		has[sopsEnv] = has[sopsEnv] || strings.HasPrefix(text, "sops_mac=") || strings.HasPrefix(text, "sops_kms__list_") || strings.HasPrefix(text, "sops_key_groups__list_")
	}
	for _, t := range []sopsType{sopsYAML, sopsEnv, sopsINI} {
		if has[t] {
			types = append(types, t)
		}
	}
	return types
}

// sopsNamed is the type that the name of a file tells.
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
			return nil, &Refused{Reason: "ambiguous", Detail: "the document has sops twice"}
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

// sopsSites finds the entries of AWS KMS in a stanza.
func sopsSites(stanza *node, key string) []editSite {
	if stanza.kind != nodeMap {
		return []editSite{refusedSitef(stanza.path, "wrong-type", "%s is not a map that can be read; anchors, tags and merged keys are not", stanza.path)}
	}
	sites := sopsKeys(stanza, key)
	groups, refused := stanza.get("key_groups")
	switch {
	case refused != nil:
		return append(sites, refusedSite(stanza.path+".key_groups", refused))
	case groups == nil:
		return sites
	case groups.kind != nodeList:
		return append(sites, refusedSitef(groups.path, "wrong-type", "%s is not a list", groups.path))
	}
	for _, group := range groups.elements {
		sites = append(sites, sopsKeys(group, key)...)
	}
	return sites
}

func sopsKeys(group *node, key string) []editSite {
	list, refused := group.get("kms")
	switch {
	case refused != nil:
		return []editSite{refusedSite(group.path+".kms", refused)}
	case list == nil:
		return nil
	case list.kind != nodeList:
		return []editSite{refusedSitef(list.path, "wrong-type", "%s is not a list", list.path)}
	}
	var sites []editSite
	for _, entry := range list.elements {
		sites = append(sites, sopsKey(entry, key))
	}
	return sites
}

// sopsKey is one recipient. Its role and profile are the reader's own.
func sopsKey(entry *node, key string) editSite {
	if entry.kind != nodeMap {
		return refusedSitef(entry.path, "wrong-type", "%s is not a map that can be read", entry.path)
	}
	enc, refused := entry.replaceable("enc")
	if refused != nil {
		return refusedSite(entry.path+".enc", refused)
	}
	arn, refused := entry.replaceable("arn")
	if refused != nil {
		return refusedSite(enc.path, refused)
	}
	given, refused := entry.get("context")
	if refused != nil {
		return refusedSite(enc.path, refused)
	}
	context, refused := given.strings()
	if refused != nil {
		return refusedSite(enc.path, refused)
	}
	return enc.blobSite(context, arn.replaced(key))
}
