package verdict

import (
	"fmt"

	"rotator/internal/plural"
)

// why returns further facts about a decision, one sentence each.
func (f *facts) why(code Code) (list []string) {
	add := func(n int64, format string, args ...any) {
		if n > 0 {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	if f.proof == nil {
		return nil
	}
	c := f.proven()
	if n := c.failed.ofKey; code == Cannot {
		add(n, "It is also the key of %s that KMS cannot decrypt.", count(n, "ciphertext"))
	}
	if code.Exit() != 0 {
		return append(list, f.waivedText()...)
	}
	add(c.foreign, "Slots under other keys: %s.", plural.Digits(c.foreign))
	add(c.failed.noKey, "Failed slots without a ciphertext header in a layout that rotator "+
		"knows: %s.", plural.Digits(c.failed.noKey))
	add(c.failed.other, "Failed slots whose ciphertext header identifies another key: %s.",
		plural.Digits(c.failed.other))
	list = append(list, f.waivedText()...)
	list = append(list, f.leftText()...)
	if text := f.sampleText(); text != "" {
		list = append(list, text)
	}
	list = append(list, "Values that were stored after that time are not covered.")
	add(c.rowsInPart, "Attributes that the job does not use were not searched: %s.",
		count(c.rowsInPart, "row"))
	add(c.bodies, "Bodies that the job does not use were not searched: %s.",
		count(c.bodies, "object"))
	return list
}

// waivedText names the waived slots, or is empty.
func (f *facts) waivedText() []string {
	if len(f.waived) == 0 {
		return nil
	}
	var names []string
	for _, w := range f.waived {
		names = append(names, fmt.Sprintf("%s %s %s (%s; by %s)", w.Target, w.Ref, w.Path, w.Reason,
			w.By))
	}
	n := int64(len(names))
	return []string{fmt.Sprintf("%s %s waived: %s.", count(n, "failed slot"),
		plural.Form(n, "is", "are"), listed(names))}
}
