package ciphertext

import (
	"bytes"
	"unicode/utf8"

	"rotator/internal/scan"
)

// formatBiscuit reads files of biscuit (github.com/dcoker/biscuit, store/store.go
// and keymanager/awskms.go): a YAML mapping of names to lists, each entry of which
// is the same secret under another key: key_ciphertext is its data key in base64,
// key_id the ARN of the key, from which biscuit takes the Region. The name is the
// encryption context, SecretName. _keys lists the keys for names that are added.
const formatBiscuit = "biscuit"

const biscuitKeys = "_keys"

func newBiscuit(c *compiler) binder {
	name := c.def.name
	return func(b binding) Format {
		key := b.destination
		return &bodyFormat{name: name, sites: orUnread(func(object *scan.Object) []editSite {
			return biscuitSites(object.Body, key)
		}, markedBiscuit)}
	}
}

// recogniseBiscuit: a data key in an entry that names KMS and an algorithm.
func recogniseBiscuit(_ Format, object *scan.Object) bool {
	if !bytes.Contains(object.Body, []byte("key_ciphertext:")) {
		return false
	}
	for _, s := range yamlSections(object.Body) {
		list, _ := yamlNode(object.Body, s, s.name)
		if list == nil {
			continue
		}
		for _, entry := range list.elements {
			manager, _ := entry.get("key_manager")
			algorithm, _ := entry.get("algorithm")
			blob, _ := entry.get("key_ciphertext")
			if blob != nil && algorithm != nil && manager != nil && manager.text == "kms" {
				return true
			}
		}
	}
	return false
}

func biscuitSites(body []byte, key string) []editSite {
	sections := yamlSections(body)
	times := map[string]int{}
	for _, s := range sections {
		times[s.name]++
	}
	keys, refused := biscuitTemplate(body, sections)
	if refused == nil && times[biscuitKeys] > 1 {
		refused = &Refused{Reason: "ambiguous", Detail: "the file has _keys twice"}
	}
	var sites []editSite
	for _, s := range sections {
		if s.name == biscuitKeys {
			continue
		}
		path := stepPath("", Step{Name: s.name})
		list, wrong := yamlNode(body, s, path)
		switch {
		case wrong == nil && list == nil:
			continue
		case wrong == nil && times[s.name] > 1:
			wrong = &Refused{Reason: "ambiguous", Detail: "the file has " + path + " twice"}
		case wrong == nil && list.kind != nodeList:
			wrong = &Refused{Reason: "wrong-type", Detail: path + " is not a list, as it is in a file of biscuit"}
		case wrong == nil:
			wrong = refused
		}
		if wrong != nil {
			sites = append(sites, refusedSite(path, wrong))
			continue
		}
		for _, entry := range list.elements {
			sites = append(sites, biscuitEntry(s.name, entry, keys, key)...)
		}
	}
	return sites
}

// biscuitTemplate returns the entries of _keys.
func biscuitTemplate(body []byte, sections []section) ([]*node, *Refused) {
	for _, s := range sections {
		if s.name == biscuitKeys {
			list, refused := yamlNode(body, s, biscuitKeys)
			if list == nil {
				return nil, refused
			}
			return list.elements, nil
		}
	}
	return nil, nil
}

// biscuitEntry is one secret under one key; none when it is not under KMS.
func biscuitEntry(name string, entry *node, keys []*node, key string) []editSite {
	manager, refused := entry.get("key_manager")
	if refused != nil {
		return []editSite{refusedSite(entry.path, refused)}
	}
	if entry.kind != nodeMap {
		return []editSite{refusedSitef(entry.path, "wrong-type", "%s is not a map that can be read", entry.path)}
	}
	if manager == nil || manager.text != "kms" {
		return nil
	}
	blob, refused := entry.replaceable("key_ciphertext")
	if refused != nil {
		return []editSite{refusedSite(entry.path+".key_ciphertext", refused)}
	}
	id, refused := entry.replaceable("key_id")
	if refused == nil && !utf8.ValidString(name) {
		refused = &Refused{Reason: "not-utf8", Detail: "the name of the secret is not UTF-8, and so cannot be sent to KMS as it is"}
	}
	if refused != nil {
		return []editSite{refusedSite(blob.path, refused)}
	}
	siblings := []edit{id.replaced(key)}
	for _, k := range keys {
		same, refused := k.get("key_id")
		if refused == nil && same != nil && same.text == id.text {
			if same, refused = k.replaceable("key_id"); refused == nil {
				siblings = append(siblings, same.replaced(key))
			}
		}
		if refused != nil {
			return []editSite{refusedSite(blob.path, refused)}
		}
	}
	return []editSite{blob.blobSite(map[string]string{"SecretName": name}, siblings...)}
}
