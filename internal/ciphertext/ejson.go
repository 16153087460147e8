package ciphertext

import (
	"strings"
	"unicode/utf8"

	"rotator/internal/scan"
)

// formatEJSON is the format of files of ejson-kms (github.com/adrienkohlbecker/ejson-kms,
// model and crypto): secrets[*].ciphertext is "EJK1;KEY;SECRET", where KEY is the ciphertext
// of a data key in base64. The encryption context consists of encryption_context of the file
// and the name of the secret. kms_key_id of the file is the key for new secrets; Decrypt is
// called without it.
const formatEJSON = "ejson-kms"

const ejsonMark = "EJK1;"

func newEJSON(c *compiler) binder {
	name := c.def.name
	return func(b binding) Format {
		key := b.destination
		return &bodyFormat{name: name, sites: orUnreadable(func(object *scan.Object) []editSite {
			if !isDocument(object.Body) {
				return []editSite{refusedSite("", notJSON())}
			}
			file, refused := jsonNode(object.Body)
			if refused != nil {
				return []editSite{refusedSite("", refused)}
			}
			return ejsonSites(object.Body, file, key)
		}, markedEJSON)}
	}
}

// recogniseEJSON reports whether a file has a ciphertext with the mark of this format, a list
// of secrets and a key.
func recogniseEJSON(_ Format, object *scan.Object) bool {
	if !has(object.Body, ejsonMark) || !opensObject(object.Body) || !isDocument(object.Body) {
		return false
	}
	file, _ := jsonNode(object.Body)
	secrets, _ := file.get("secrets")
	id, _ := file.get("kms_key_id")
	return secrets != nil && id != nil && secrets.kind == nodeList
}

func ejsonSites(body []byte, file *node, key string) []editSite {
	secrets, refused := file.get("secrets")
	switch {
	case refused != nil:
		return []editSite{refusedSite("secrets", refused)}
	case secrets == nil:
		return nil
	case secrets.kind != nodeList:
		return []editSite{refusedSitef("secrets", "wrong-type", "secrets is not a list")}
	}
	var sites []editSite
	for _, secret := range secrets.elements {
		sites = append(sites, ejsonSite(body, file, secret, key))
	}
	return sites
}

func ejsonSite(body []byte, file, secret *node, key string) editSite {
	ciphertext, refused := secret.replaceable("ciphertext")
	if refused != nil {
		return refusedSite(secret.path+".ciphertext", refused)
	}
	path := ciphertext.path
	id, refused := file.replaceable("kms_key_id")
	if refused != nil {
		return refusedSite(path, refused)
	}
	context, refused := ejsonContext(file, secret)
	if refused != nil {
		return refusedSite(path, refused)
	}
	rest, marked := strings.CutPrefix(ciphertext.text, ejsonMark)
	length := strings.Index(rest, ";")
	if !marked || length < 0 {
		return refusedSitef(path, "unknown-format", "%s does not start with %s and a data key",
			path,
			ejsonMark)
	}
	start, end, ok := ciphertext.within(body, len(ejsonMark), len(ejsonMark)+length)
	if !ok {
		return refusedSitef(path, "unwritable", "%s has escapes in its data key", path)
	}
	part := &node{
		kind:  nodeText,
		path:  path,
		text:  rest[:length],
		start: start,
		end:   end,
		write: func(text string) []byte { return []byte(text) },
	}
	return part.blobSite(context, id.replaced(key))
}

// ejsonContext returns the context of the file with the name of the secret.
func ejsonContext(file, secret *node) (map[string]string, *Refused) {
	shared, refused := file.get("encryption_context")
	if refused != nil {
		return nil, refused
	}
	name, refused := secret.replaceable("name")
	if refused != nil {
		return nil, refused
	}
	context, refused := shared.strings()
	if refused != nil {
		return nil, refused
	}
	if _, taken := context["Secret"]; taken {
		return nil,
			refuse("ambiguous", "encryption_context has an entry Secret, which ejson-kms uses "+
				"for the name of each secret")
	}
	if !utf8.ValidString(name.text) {
		return nil, notUTF8(name.path)
	}
	if context == nil {
		context = map[string]string{}
	}
	context["Secret"] = name.text
	return context, nil
}
