package fakedynamodb

import (
	"strings"
	"unicode/utf8"
)

// tokenKind is the kind of a token.
type tokenKind int

const (
	tokenEnd    tokenKind = iota
	tokenName             // attribute, function or keyword
	tokenAlias            // #name
	tokenValue            // :value
	tokenQuoted           // "name" of PartiQL
	tokenText             // 'text' of PartiQL
	tokenNumber           // an index, or a number of PartiQL
	tokenMark             // ? of PartiQL
	tokenSign             // =, <>, <=, ( and others
)

type token struct {
	kind tokenKind
	text string
}

// lex splits an expression or a PartiQL statement into tokens.
func lex(text string) ([]token, error) {
	var tokens []token
	for text != "" {
		c := text[0]
		switch {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			text = text[1:]
			continue
		case c == '"' || c == '\'':
			content, rest, ok := unquote(text)
			if !ok {
				return nil, invalid("Syntax error; quote without end")
			}
			kind := tokenQuoted
			if c == '\'' {
				kind = tokenText
			}
			tokens, text = append(tokens, token{kind, content}), rest
			continue
		case c == '?':
			tokens, text = append(tokens, token{tokenMark, "?"}), text[1:]
			continue
		}
		n := word(text)
		if n == 0 {
			n = sign(text)
			if n == 0 {
				return nil, invalid("Syntax error; token: %q", text[:min(len(text), 20)])
			}
			tokens, text = append(tokens, token{tokenSign, text[:n]}), text[n:]
			continue
		}
		tokens, text = append(tokens, token{wordKind(text[:n]), text[:n]}), text[n:]
	}
	return append(tokens, token{kind: tokenEnd}), nil
}

func wordKind(text string) tokenKind {
	switch {
	case text[0] == '#':
		return tokenAlias
	case text[0] == ':':
		return tokenValue
	case text[0] >= '0' && text[0] <= '9':
		return tokenNumber
	}
	return tokenName
}

// word returns the length of the name, alias, value or number at the start.
func word(text string) int {
	n := 0
	if text[0] == '#' || text[0] == ':' {
		n = 1
	}
	for n < len(text) {
		r, size := utf8.DecodeRuneInString(text[n:])
		if r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') &&
			(r < 0x80 || r == utf8.RuneError) && (n == 0 || r != '-' || text[0] != '#') {
			break
		}
		n += size
	}
	if n == 1 && (text[0] == '#' || text[0] == ':') {
		return 0
	}
	return n
}

func sign(text string) int {
	for _, s := range []string{"<>", "<=", ">=", "!="} {
		if strings.HasPrefix(text, s) {
			return 2
		}
	}
	if strings.IndexByte("=<>(),.[]+-*", text[0]) >= 0 {
		return 1
	}
	return 0
}

// unquote reads a quoted text, in which a doubled quote stands for one quote.
func unquote(text string) (content, rest string, ok bool) {
	quote := text[0]
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		if text[i] != quote {
			b.WriteByte(text[i])
			continue
		}
		if i+1 < len(text) && text[i+1] == quote {
			b.WriteByte(quote)
			i++
			continue
		}
		return b.String(), text[i+1:], true
	}
	return "", "", false
}
