package ciphertext

import (
	"bytes"
	"net/url"
	"strings"
	"unicode/utf8"

	"rotator/internal/scan"
)

// formatPulumi is the format of the files of a Pulumi stack whose secrets provider is an AWS
// KMS key (github.com/pulumi/pulumi, pkg/secrets/cloud/manager.go):
//   - the state of the stack in JSON, with encryptedkey and url in
//     checkpoint.latest.secrets_providers.state
//   - an export of the state, with deployment instead of checkpoint.latest
//   - Pulumi.STACK.yaml or .json, with encryptedkey and secretsprovider
//
// The URL is one of gocloud.dev/secrets/awskms: awskms:// and the key, with the encryption
// context in the query as context_NAME=VALUE.
const formatPulumi = "pulumi-state"

const awskms = "awskms://"

func newPulumi(c *compiler) binder {
	name := c.def.name
	return func(b binding) Format {
		key := b.destination
		return &bodyFormat{name: name, sites: orUnreadable(func(object *scan.Object) []editSite {
			blob, provider, refused := pulumiKey(object.Body)
			switch {
			case refused != nil:
				return []editSite{refusedSite("", refused)}
			case blob == nil:
				return nil
			}
			return []editSite{pulumiSite(object.Body, blob, provider, key)}
		}, markedPulumi)}
	}
}

func recognisePulumi(_ Format, object *scan.Object) bool {
	if !bytes.Contains(object.Body, []byte("encryptedkey")) {
		return false
	}
	blob, _, refused := pulumiKey(object.Body)
	return blob != nil && refused == nil
}

// pulumiKey returns the ciphertext and its URL. Both are nil if the stack has another secrets
// provider.
func pulumiKey(body []byte) (blob, provider *node, refused *Refused) {
	switch {
	case opensObject(body) && !isDocument(body):
		return nil, nil,
			refuse("not-json", "the body starts like JSON but is not one JSON document")
	case opensObject(body):
		return pulumiState(body)
	}
	blob, provider, refused = pulumiSettings(body)
	if refused == nil && blob == nil && provider != nil {
		return nil, nil, nil // no key yet
	}
	return blob, provider, refused
}

func pulumiState(body []byte) (blob, provider *node, refused *Refused) {
	for _, names := range [][]string{
		{"checkpoint", "latest", "secrets_providers"},
		{"deployment", "secrets_providers"},
	} {
		providers, refused := jsonNode(body, names...)
		if refused != nil {
			return nil, nil, refused
		}
		kind, refused := providers.get("type")
		if refused != nil {
			return nil, nil, refused
		}
		if kind == nil || kind.text != "cloud" {
			continue
		}
		state, refused := providers.get("state")
		if refused != nil {
			return nil, nil, refused
		}
		if state == nil || state.kind != nodeMap {
			continue
		}
		return pulumiPair(state, "encryptedkey", "url")
	}
	settings, refused := jsonNode(body)
	if refused != nil {
		return nil, nil, refused
	}
	return pulumiPair(settings, "encryptedkey", "secretsprovider")
}

// pulumiSettings reads the two entries of Pulumi.STACK.yaml.
func pulumiSettings(body []byte) (blob, provider *node, refused *Refused) {
	top := &node{kind: nodeMap, path: "the file"}
	for _, s := range yamlSections(body) {
		if s.name != "encryptedkey" && s.name != "secretsprovider" {
			continue
		}
		value, refused := yamlBlockNode(body, s, s.name)
		if refused != nil {
			return nil, nil, refused
		}
		if value != nil {
			top.members = append(top.members, member{s.name, value})
		}
	}
	return pulumiPair(top, "encryptedkey", "secretsprovider")
}

// pulumiPair returns a key and its URL, or nil if the URL is not of AWS KMS.
func pulumiPair(n *node, key, provider string) (*node, *node, *Refused) {
	address, refused := n.get(provider)
	if refused != nil {
		return nil, nil, refused
	}
	blob, refused := n.get(key)
	switch {
	case refused != nil:
		return nil, nil, refused
	case address == nil || !strings.HasPrefix(address.text, awskms) || blob == nil:
		return nil, nil, nil
	}
	if blob, refused = n.replaceable(key); refused != nil {
		return nil, nil, refused
	}
	return blob, address, nil
}

func pulumiSite(body []byte, blob, provider *node, key string) editSite {
	address, query, _ := strings.Cut(provider.text, "?")
	start, end, ok := provider.within(body, len(awskms), len(address))
	if !ok || strings.Contains(provider.text, "#") {
		return refusedSitef(blob.path, "unwritable",
			"%s has escapes before its query, or has a fragment, or spans several lines (>, |); "+
				"write it as one string on one line", provider.path)
	}
	context, refused := pulumiContext(provider.path, query)
	if refused != nil {
		return refusedSite(blob.path, refused)
	}
	// An ARN has colons, which a host cannot contain, so it is the path of the URL
	// (gocloud.dev/secrets/awskms, URLOpener).
	arn := constantly([]byte("/" + key))
	return blob.blobSite(context, edit{start: start, end: end, text: arn})
}

// pulumiContext returns the encryption context in the query, like
// addEncryptionContextFromURLParams of gocloud.dev/secrets/awskms.
func pulumiContext(path, query string) (map[string]string, *Refused) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, refuse("wrong-type", "%s is a URL with an invalid query", path)
	}
	var context map[string]string
	for name, list := range values {
		name, ok := strings.CutPrefix(name, "context_")
		switch {
		case !ok:
		case len(list) != 1:
			return nil, refuse("ambiguous", "%s has an entry of the encryption context twice", path)
		case !utf8.ValidString(name) || !utf8.ValidString(list[0]):
			return nil, refuse("not-utf8", "%s has an encryption context that is not UTF-8", path)
		default:
			if context == nil {
				context = map[string]string{}
			}
			context[name] = list[0]
		}
	}
	return context, nil
}
