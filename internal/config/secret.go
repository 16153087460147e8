package config

import "fmt"

const redacted = "[redacted]"

// GrantTokens are secrets: a caller with a token can use the grant. They are printed and
// marshalled as "[redacted]". Only code that ranges over them, or converts them to []string,
// sees the tokens.
type GrantTokens []string

func (g GrantTokens) String() string {
	if len(g) == 0 {
		return ""
	}
	return redacted
}

// Format hides the tokens from all verbs of fmt.
func (g GrantTokens) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, g.String()) }

// MarshalText hides the tokens from JSON, YAML and structured logs.
func (g GrantTokens) MarshalText() ([]byte, error) { return []byte(g.String()), nil }
