package ciphertext

import (
	"fmt"
	"strings"
)

// given is what a target says of encryption contexts, compiled: contexts with
// references, and contexts by name.
type targetContext struct {
	context, destination rule
	listed               bool // there is a context, be it an empty one
	differs              bool // there is a destination context of its own
	named                *ContextFile
	name                 []part
}

// fill makes the contexts of one item. A name that the file has gives the context;
// one that it does not have falls back on the entry "*" of the file, then on the
// context of the target, and is refused without either: that an item has no context
// must be said, not taken for granted.
func (t targetContext) fill(find lookup) (context, destination map[string]string, refused *Refused) {
	context, found, refused := t.byName(find)
	if refused == nil && !found {
		context, refused = t.context.fill(find)
	}
	if refused != nil {
		return nil, nil, refused
	}
	destination = context
	if t.differs {
		destination, refused = t.destination.fill(find)
	}
	if refused != nil {
		return nil, nil, refused
	}
	return context, destination, nil
}

// anyName is the entry of a file for the names that it does not have.
const anyName = "*"

// byName looks the item up in the file.
func (t targetContext) byName(find lookup) (context map[string]string, found bool, refused *Refused) {
	if t.named == nil {
		return nil, false, nil
	}
	name, refused := fillText(t.name, find)
	if refused != nil {
		return nil, false, refused
	}
	if context, found = t.named.Contexts[name]; found {
		return context, true, nil
	}
	if context, found = t.named.Contexts[anyName]; found {
		return context, true, nil
	}
	if !t.listed {
		return nil, false, &Refused{Reason: "missing-context", Detail: fmt.Sprintf(
			"%s has no context for the name %q; add it there, or an entry \"*\" for names that are not listed, or give the target a context for them, such as context: {}",
			t.named.File, strings.ToValidUTF8(name, "\ufffd"))}
	}
	return nil, false, nil
}
