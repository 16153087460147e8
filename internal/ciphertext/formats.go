package ciphertext

import (
	"slices"

	"rotator/internal/scan"
)

// The formats whose slots the job file names. All other names of formats are declared in
// the files of the formats.
const (
	formatRaw       = "raw"
	formatBase64    = "base64"
	formatBase64URL = "base64url"
	formatHex       = "hex"
	formatJSON      = "json"
)

// formatDef defines a format for the compiler.
type formatDef struct {
	name  string
	kinds []Kind
	// slots is the form of entries of slots in the job file; noSlots for a format
	// that finds its slots itself.
	slots slotShape
	// codecs are the formats that a slot may have, the default first. It is empty if
	// slots have no format of their own.
	codecs []string
	// body reports whether contexts may use ${body.PATH}, from the JSON document of
	// the item.
	body     bool
	contexts contextSupport
	// build returns the binder of a Spec without problems, or adds problems. It may
	// set reads, writes, whole, needsBody and ruleNames of the compiler.
	build func(c *compiler) binder
	// recognise reports, for format auto, whether an object is in this format. It must
	// use only marks of the format and never guess. format is a result of build. It is
	// nil for a format without marks.
	recognise func(format Format, object *scan.Object) bool
}

// slotShape is the form of entries of slots in the job file.
type slotShape int

const (
	noSlots slotShape = iota
	wholeSlot
	pathSlots
	patternSlots
)

// contextSupport is which fields for encryption contexts a target may set if its format
// finds its slots itself.
type contextSupport int

const (
	contextNone     contextSupport = iota
	contextInline                  // context and destination_context
	contextFromFile                // also context_file
)

// formats returns all formats. It is the one list to which a new format is added.
func formats() []formatDef {
	bodies := []Kind{Objects, Files}
	list := []formatDef{
		inDocuments(formatJSON, newJSON),
		inDocuments(formatJSONL, newJSONL),
		{name: formatText, kinds: bodies, slots: patternSlots, codecs: texts(), build: newText},
		{name: formatAuto, kinds: bodies, contexts: contextInline, build: newAuto},
		{name: formatTinkEnvelope, kinds: bodies, build: newFramed},

		marked(formatS3EC, contextNone, newS3EC, recogniseS3EC),
		marked(formatSops, contextNone, newSops, recogniseSops),
		marked(formatPulumi, contextNone, newPulumi, recognisePulumi),
		marked(formatBiscuit, contextNone, newBiscuit, recogniseBiscuit),
		marked(formatEJSON, contextNone, newEJSON, recogniseEJSON),
		marked(formatTinkKeyset, contextInline, newTinkKeyset, recogniseTinkKeyset),

		oneInRow(formatCredstash, contextFromFile, newCredstash),
		oneInRow(formatCredsmash, contextFromFile, newCredsmash),
		oneInRow(formatConfidant, contextNone, newConfidant),
		oneInRow(formatBranchKeystore, contextInline, newBranchKeystore),
		oneInRow(formatDDBEncryption, contextInline, newDDBEncryption),
	}
	single := append(framedFormats(), formatRaw, formatBase64, formatBase64URL, formatHex)
	for _, name := range single {
		list = append(list, formatDef{
			name:   name,
			kinds:  []Kind{Rows},
			slots:  pathSlots,
			codecs: append([]string{name}, single...),
			build:  newRows,
		})
		if name == formatTinkEnvelope {
			continue // a whole body in this format has no entry of slots: see above
		}
		whole := formatDef{
			name:   name,
			kinds:  bodies,
			slots:  wholeSlot,
			codecs: []string{name},
			build:  newWholeBody,
		}
		if isFramed(name) {
			whole.build = newFramed
		}
		list = append(list, whole)
	}
	return list
}

// texts returns the formats of a slot that is part of a text.
func texts() []string { return []string{formatBase64, formatBase64URL, formatHex} }

// inDocuments defines a format of a body that consists of JSON documents.
func inDocuments(name string, build func(*compiler) binder) formatDef {
	return formatDef{
		name:   name,
		kinds:  []Kind{Objects, Files},
		slots:  pathSlots,
		codecs: texts(),
		body:   true,
		build:  build,
	}
}

// marked defines a format of a body that format auto can recognise.
func marked(
	name string,
	contexts contextSupport,
	build func(*compiler) binder,
	recognise func(Format, *scan.Object) bool,
) formatDef {
	return formatDef{
		name:      name,
		kinds:     []Kind{Objects, Files},
		contexts:  contexts,
		build:     build,
		recognise: recognise,
	}
}

// oneInRow defines a format of a row whose client stores one ciphertext per row.
func oneInRow(name string, contexts contextSupport, build func(*compiler) binder) formatDef {
	return formatDef{name: name, kinds: []Kind{Rows}, contexts: contexts, build: build}
}

// formatOf finds a format by its name, among those for one kind of items.
func formatOf(name string, kind Kind) (found formatDef, known []string) {
	for _, def := range formats() {
		if !slices.Contains(def.kinds, kind) {
			continue
		}
		known = append(known, def.name)
		if def.name == name {
			found = def
		}
	}
	slices.Sort(known)
	return found, known
}
