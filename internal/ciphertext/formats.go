package ciphertext

import (
	"slices"

	"rotator/internal/scan"
)

// The formats that rules of the job file are about; every other one has its name
// in its own file.
const (
	formatRaw       = "raw"
	formatBase64    = "base64"
	formatBase64URL = "base64url"
	formatHex       = "hex"
	formatJSON      = "json"
)

// entry is what a format is to the compiler.
type formatDef struct {
	name  string
	kinds []Kind
	// slots says how the entries of slots look; noSlots is a format that knows
	// its own places.
	slots slotShape
	// codecs are the formats that a slot may have, the default first; none where
	// that is the format of the target.
	codecs []string
	// body: contexts may take ${body.PATH} from the JSON document of the item.
	body bool
	// takes says what the target may say of contexts.
	contexts contextSupport
	// build makes the Format of a Spec without problems, or adds to them. It may
	// set reads, writes, whole and needsBody of the compiler.
	build func(c *compiler) Format
	// recognise reports for format auto whether an object is of this format, which
	// build has made: only by marks of the format, never by guessing. It is nil
	// for a format without marks.
	recognise func(format Format, object *scan.Object) bool
}

// slotShape is how the entries of slots look.
type slotShape int

const (
	noSlots slotShape = iota
	wholeSlot
	pathSlots
	patternSlots
)

// takes is what a target with a format that knows its own places may say of
// contexts.
type contextSupport int

const (
	contextNone     contextSupport = iota
	contextInline                  // context and destination_context
	contextFromFile                // these, and context_file
)

// formats is every format there is: the one list to which a new one is added.
func formats() []formatDef {
	rows, bodies := []Kind{Rows}, []Kind{Objects, Files}
	single := []string{formatRaw, formatBase64, formatBase64URL, formatHex}
	inRows := append(framedFormats(), single...)
	texts := []string{formatBase64, formatBase64URL, formatHex}
	list := []formatDef{
		{name: formatJSON, kinds: bodies, slots: pathSlots, codecs: texts, body: true, build: newJSON},

		{name: formatS3EC, kinds: bodies, build: newS3EC, recognise: recogniseS3EC},
		{name: formatAuto, kinds: bodies, contexts: contextInline, build: newAuto},

		{name: formatJSONL, kinds: bodies, slots: pathSlots, codecs: texts, body: true, build: newJSONL},
		{name: formatText, kinds: bodies, slots: patternSlots, codecs: texts, build: newText},
		{name: formatSops, kinds: bodies, build: newSops, recognise: recogniseSops},
		{name: formatPulumi, kinds: bodies, build: newPulumi, recognise: recognisePulumi},
		{name: formatBiscuit, kinds: bodies, build: newBiscuit, recognise: recogniseBiscuit},
		{name: formatEJSON, kinds: bodies, build: newEJSON, recognise: recogniseEJSON},
		{name: formatTinkKeyset, kinds: bodies, contexts: contextInline, build: newTinkKeyset, recognise: recogniseTinkKeyset},
		{name: formatTinkEnvelope, kinds: bodies, build: newFramed},

		{name: formatCredstash, kinds: rows, contexts: contextFromFile, build: newCredstash},
		{name: formatCredsmash, kinds: rows, contexts: contextFromFile, build: newCredsmash},
		{name: formatConfidant, kinds: rows, build: newConfidant},
		{name: formatBranchKeystore, kinds: rows, contexts: contextInline, build: newBranchKeystore},
		{name: formatDDBEncryption, kinds: rows, contexts: contextInline, build: newDDBEncryption},
	}
	for _, name := range single {
		list = append(list,
			formatDef{name: name, kinds: rows, slots: pathSlots, codecs: append([]string{name}, inRows...), build: newRows},
			formatDef{name: name, kinds: bodies, slots: wholeSlot, codecs: []string{name}, build: newWholeBody})
	}
	for _, name := range framedFormats() {
		list = append(list, formatDef{name: name, kinds: rows, slots: pathSlots, codecs: append([]string{name}, inRows...), build: newRows})
		if name != formatTinkEnvelope {
			list = append(list, formatDef{name: name, kinds: bodies, slots: wholeSlot, codecs: []string{name}, build: newFramed})
		}
	}
	return list
}

// formatOf finds a format by its name, among those for one kind of items.
func formatOf(name string, kind Kind) (found formatDef, known []string) {
	for _, e := range formats() {
		if !slices.Contains(e.kinds, kind) {
			continue
		}
		known = append(known, e.name)
		if e.name == name {
			found = e
		}
	}
	slices.Sort(known)
	return found, known
}
