package ciphertext

import (
	"bytes"
	"unicode/utf8"

	"rotator/internal/scan"
)

// formatBiscuit is the format of files of biscuit (github.com/dcoker/biscuit, store/store.go
// and keymanager/awskms.go): a YAML mapping of names to lists. Each entry of a list holds
// the same secret under another key: key_ciphertext is the data key in base64, and key_id is
// the ARN of the key, from which biscuit takes the Region. The encryption context has the
// name as SecretName. _keys lists the keys for new names.
const formatBiscuit = "biscuit"

const biscuitKeys = "_keys"

func newBiscuit(c *compiler) binder {
	name := c.def.name
	return func(b binding) Format {
		key := b.destination
		return &bodyFormat{name: name, sites: orUnreadable(func(object *scan.Object) []editSite {
			return biscuitSites(object.Body, key)
		}, markedBiscuit)}
	}
}

// recogniseBiscuit reports whether a file has an entry with a data key, KMS and an algorithm.
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
		refused = duplicate(biscuitKeys)
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
			wrong = duplicate(path)
		case wrong == nil && list.kind != nodeList:
			wrong = refuse("wrong-type", "%s is not a list, as required in a file of biscuit", path)
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

// biscuitEntry returns the site of one secret under one key, or none if the key is not in
// KMS.
func biscuitEntry(name string, entry *node, keys []*node, key string) []editSite {
	manager, refused := entry.get("key_manager")
	if refused != nil {
		return []editSite{refusedSite(entry.path, refused)}
	}
	if entry.kind != nodeMap {
		return []editSite{refusedSitef(entry.path, "wrong-type",
			"%s is not a map that rotator can read", entry.path)}
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
		refused = notUTF8("the name of the secret")
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
