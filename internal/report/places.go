package report

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"rotator/internal/checkpoint"
	"rotator/internal/verdict"
)

// PlaceOf returns the location of a target as verdicts compare it.
func PlaceOf(l checkpoint.Location) verdict.Place {
	p := verdict.Place{
		Kind:     l.Kind,
		Name:     cmp.Or(l.Table, l.Bucket),
		Prefix:   l.Prefix,
		Root:     l.Root,
		Region:   l.Region,
		Endpoint: l.Endpoint,
		Format:   l.Format,
	}
	if r := l.Reach; r != nil {
		p.Reached, p.Role, p.Account, p.Path = true, r.Role, r.Account, r.Path
		p.Include, p.Exclude = r.Include, r.Exclude
	}
	return p
}

// setRules sets the rules of a target, and those with which a ciphertext was found.
func setRules(p *verdict.Place, c checkpoint.Counts) {
	for _, name := range slices.SortedFunc(maps.Keys(c.Rules), compareRules) {
		rule := verdict.FormatRule + name
		switch {
		case checkpoint.IsIncludeRule(name):
			continue
		case strings.HasPrefix(name, "slots["):
			rule = "slot " + cmp.Or(c.Rules[name].Place, "body")
		}
		p.Rules = append(p.Rules, rule)
		if c.Rules[name].Found > 0 {
			p.FoundBy = append(p.FoundBy, rule)
		}
	}
}
