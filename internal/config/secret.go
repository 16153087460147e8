package config

import "fmt"

const redacted = "[redacted]"

// GrantTokens are secrets: whoever holds one can use the grant. They print and
// marshal as "[redacted]" with every verb; only code that ranges over them, or
// assigns them to a []string, sees the tokens.
type GrantTokens []string

func (g GrantTokens) String() string {
	if len(g) == 0 {
		return ""
	}
	return redacted
}

// Format hides the tokens from every verb of fmt.
func (g GrantTokens) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, g.String()) }

// MarshalText hides the tokens from JSON, YAML and structured logs.
func (g GrantTokens) MarshalText() ([]byte, error) { return []byte(g.String()), nil }
