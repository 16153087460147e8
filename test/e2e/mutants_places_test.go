//go:build mutants

package e2e

// placeMutants remove protections against data that leaves a verdict without being read.
func placeMutants() []mutant {
	tests := []string{"./internal/verdict"}
	scripts := []string{"./cmd/rotator", "-run", "TestScripts/places$"}
	return []mutant{
		{"another account is the same place", "internal/verdict/place.go",
			"return p.Account == q.Account", "return true", tests},
		{"another role without an account is the same place", "internal/verdict/place.go",
			"return p.Role == q.Role", "return true", tests},
		{"another directory is the same place", "internal/verdict/place.go",
			"case different(p.Path, now.Path):", "case false:", tests},
		{"the role is not compared with the job file", "cmd/rotator/earlier_passes.go",
			`where.Reach = reachOf(target, "")`, "where.Reach = nil", scripts},
		{"passes do not record their role and account", "cmd/rotator/wire.go",
			"p.where.Reach = reachOf(target, w.account)", "p.where.Reach = nil", scripts},
		{"a removed target is clean", "internal/verdict/left.go",
			"return d.blocks() && d.known() > 0", "return false", tests},
		{"failed slots of a removed target are forgotten", "internal/verdict/left.go",
			"return d.blocks() && d.mayBe() > 0", "return false", tests},
		{"a narrower prefix reads the same", "internal/verdict/place.go",
			"case !strings.HasPrefix(p.Prefix, now.Prefix):", "case false:", tests},
		{"a filter reads the same", "internal/verdict/place.go",
			`now.Complete == "" && p.filteredBy(now, same)`, "same && false", tests},
		{"a removed slot does not matter", "internal/verdict/place.go",
			"if !now.uses(rule) {", "if false {", tests},
		{"an older pass shows that data is gone", "internal/verdict/left.go",
			"after := q.Started.After(p.Started) && !q.Started.Before(p.Ended)", "after := true",
			tests},
		{"a statement covers later passes", "internal/verdict/left.go",
			" && p.Started.Before(g.Before)", "", tests},
		{"another job file clears what later passes found", "internal/verdict/table.go",
			"if f.base != nil && p != f.base &&", "if false &&", tests},
		{"earlier passes are not read", "cmd/rotator/earlier_passes.go",
			"if !slices.ContainsFunc(read.Readings(), e.isNewest) {",
			"if slices.ContainsFunc(read.Readings(), e.isNewest) {", scripts},
		{"a pass with other source keys has read the data", "internal/verdict/left.go",
			"if isRead(p) && f.asked(p) {", "if isRead(p) {", tests},
		{"an older run hides a newer audit", "internal/checkpoint/reach.go",
			"return ok && !began.Before(one.Began)", "_ = began\n\treturn ok", scripts},
		{"an audit that ended after the proof began is ignored", "internal/verdict/facts.go",
			"if p.ReadOnly && overlaps && f.counts[p].under > 0 {", "if overlaps && false {",
			tests},
		{"prune deletes the last pass that read a target", "internal/checkpoint/prune.go",
			"\tdecideTargets(r.Items)\n", "",
			[]string{"./internal/checkpoint", "-run", "TestPruneKeepsTargets"}},
		{"a pass that reads two accounts is evidence", "cmd/rotator/other_places.go",
			"if len(doubts) == 0 {", "if true {",
			[]string{"./cmd/rotator", "-run", "TestResumedElsewhere"}},
	}
}
