package config

import (
	"regexp"

	"go.yaml.in/yaml/v4"
)

// scalar is the type of a YAML scalar.
type scalar int

const (
	text scalar = iota
	null
	boolean
	whole    // a decimal number, without leading zeros
	fraction // a number with a point or an exponent
	number   // any other number of YAML 1.1 or 1.2, such as 0x10, 010, 1_000 or .inf
	// doubtful is text in YAML 1.2, but a bool, date or number in YAML 1.1.
	doubtful
)

// plain lists the plain scalars that are not text in the core schema of YAML 1.2.2 (10.3.2)
// or in the types of YAML 1.1 (yaml.org/type), which PyYAML and others use.
var plain = []struct {
	is   scalar
	form *regexp.Regexp
}{
	{null, regexp.MustCompile(`^(~|null|Null|NULL|)$`)},
	{boolean, regexp.MustCompile(`^(true|True|TRUE|false|False|FALSE)$`)},
	{whole, regexp.MustCompile(`^[-+]?(0|[1-9][0-9]*)$`)},
	{fraction, regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)},
	{number, regexp.MustCompile(`^[-+]?(0o?[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+|[0-9][0-9_]*)$`)},
	{number, regexp.MustCompile(`^[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?$`)},
	{number, regexp.MustCompile(`^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$`)},
	{doubtful, regexp.MustCompile(`^(yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF|=|<<)$`)},
	{doubtful, regexp.MustCompile(`^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$`)},
	{doubtful, regexp.MustCompile(`^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?$`)},
}

// scalarOf returns the type of a scalar node. A scalar in quotes or in a block is text.
func scalarOf(node *yaml.Node) scalar {
	const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle |
		yaml.LiteralStyle | yaml.FoldedStyle
	if node.Style&quoted != 0 {
		return text
	}
	for _, p := range plain {
		if p.form.MatchString(node.Value) {
			return p.is
		}
	}
	return text
}
