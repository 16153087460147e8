package ciphertext

import (
	"fmt"
	"strings"
)

// targetContext is the compiled encryption context of a target: contexts with
// references, and contexts by name from a file.
type targetContext struct {
	context, destination rule
	hasContext           bool // the target sets a context, which may be empty
	hasDestination       bool // the target sets a separate destination context
	file                 *ContextFile
	name                 []part
}

// fill returns the contexts of one item. The context comes from the entry of the file
// with the item's name, otherwise from the entry "*", otherwise from the context of the
// target. If there is none of these, the item is refused: that items have no context
// must be stated in the job, never assumed.
func (t targetContext) fill(
	find lookup,
) (context, destination map[string]string, refused *Refused) {
	context, found, refused := t.byName(find)
	if refused == nil && !found {
		context, refused = t.context.fill(find)
	}
	if refused != nil {
		return nil, nil, refused
	}
	destination = context
	if t.hasDestination {
		destination, refused = t.destination.fill(find)
	}
	if refused != nil {
		return nil, nil, refused
	}
	return context, destination, nil
}

// anyName is the entry of a context file for names that the file does not list.
const anyName = "*"

// byName looks up the context of the item in the context file.
func (t targetContext) byName(
	find lookup,
) (context map[string]string, found bool, refused *Refused) {
	if t.file == nil {
		return nil, false, nil
	}
	name, refused := fillText(t.name, find)
	if refused != nil {
		return nil, false, refused
	}
	if context, found = t.file.Contexts[name]; found {
		return context, true, nil
	}
	if context, found = t.file.Contexts[anyName]; found {
		return context, true, nil
	}
	if !t.hasContext {
		return nil, false, &Refused{
			Reason: "missing-context",
			Detail: fmt.Sprintf("%s has no context for the name %q; add it, or add an entry \"*\" "+
				"for names that are not listed, or set a context for them at the target, such as "+
				"context: {}", t.file.File, strings.ToValidUTF8(name, "\ufffd")),
		}
	}
	return nil, false, nil
}
