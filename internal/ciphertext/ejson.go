package ciphertext

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"rotator/internal/scan"
)

// formatEJSON reads files of ejson-kms (github.com/adrienkohlbecker/ejson-kms,
// model and crypto): secrets[*].ciphertext is "EJK1;KEY;SECRET", where KEY is the
// ciphertext of a data key in base64. Its encryption context is encryption_context
// of the file and the name of the secret. kms_key_id of the file is the key for
// secrets that are added; Decrypt is called without it.
const formatEJSON = "ejson-kms"

const ejsonMark = "EJK1;"

func newEJSON(c *compiler) binder {
	name := c.def.name
	return func(b binding) Format {
		key := b.destination
		return &bodyFormat{name: name, sites: orUnread(func(object *scan.Object) []editSite {
			if !isDocument(object.Body) {
				return []editSite{refusedSitef("", "not-json", "it is not one JSON document, or nests deeper than %d levels", maxDepth)}
			}
			file, refused := jsonNode(object.Body)
			if refused != nil {
				return []editSite{refusedSite("", refused)}
			}
			return ejsonSites(object.Body, file, key)
		}, markedEJSON)}
	}
}

// recogniseEJSON: a ciphertext with the mark of this format, in a file that names
// its key.
func recogniseEJSON(_ Format, object *scan.Object) bool {
	if !bytes.Contains(object.Body, []byte(ejsonMark)) || !opensObject(object.Body) || !isDocument(object.Body) {
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
	rest, ours := strings.CutPrefix(ciphertext.text, ejsonMark)
	length := strings.Index(rest, ";")
	if !ours || length < 0 {
		return refusedSitef(path, "unknown-format", "%s does not begin with %s and a data key", path, ejsonMark)
	}
	start, end, ok := ciphertext.within(body, len(ejsonMark), len(ejsonMark)+length)
	if !ok {
		return refusedSitef(path, "unwritable", "%s has escapes in its data key", path)
	}
	part := &node{kind: nodeText, path: path, text: rest[:length], start: start, end: end, write: func(text string) []byte { return []byte(text) }}
	return part.blobSite(context, id.replaced(key))
}

// ejsonContext is that of the file, and the name of the secret.
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
		return nil, &Refused{Reason: "ambiguous", Detail: "encryption_context has an entry Secret, where ejson-kms puts the name of each secret"}
	}
	if !utf8.ValidString(name.text) {
		return nil, &Refused{Reason: "not-utf8", Detail: name.path + " is not UTF-8, and so cannot be sent to KMS as it is"}
	}
	if context == nil {
		context = map[string]string{}
	}
	context["Secret"] = name.text
	return context, nil
}
