//go:build mutants

package e2e

// contentMutants remove protections of the content digest.
func contentMutants() []mutant {
	digest := []string{"./internal/contentdigest"}
	script := []string{"./cmd/rotator", "-run", "TestScripts/contentdigest$"}
	targets := []string{"./cmd/rotator", "-run", "TestContentDigest$"}
	return []mutant{
		{"slots are part of the content digest", "internal/ciphertext/mask.go",
			"\tif masked == 0 {", "\tif true {",
			[]string{"./internal/ciphertext", "-run", "TestMask|TestGolden|TestRowVectors"}},
		{"the mask has base64 padding", "internal/ciphertext/mask.go", `"PPPPPP"`, `"PPPPP"`,
			[]string{"./internal/ciphertext", "-run", "TestMask|TestRowLaws|TestS3EC"}},
		{"an item that cannot be read is skipped silently", "internal/rotate/rotator.go",
			"\t\tif t.content != nil {",
			"\t\tif t.content != nil && t.content.NotCovered == \"\" {", script},
		{"a pass that begins again counts items twice", "cmd/rotator/audit.go",
			"s.contents.Restart()", "error(nil)", script},
		{"attributes without a slot are not read", "cmd/rotator/wire.go",
			"config.SearchAll && !w.whole", "config.SearchAll", script},
		{"bodies behind metadata are not read", "cmd/rotator/wire.go", "w.whole,\n\t}\n",
			"false,\n\t}\n", targets},
		{"properties are not part of the content digest", "internal/rotate/content.go",
			"\t\treturn properties, err\n", "\t\treturn nil, err\n", targets},
		{"tags are not part of the content digest", "internal/scan/s3scan/content.go",
			`found["tags"], _, err =`, "_, _, err =", targets},
		{"the mode is not part of the content digest", "internal/scan/filescan/content.go",
			"uint64(now.mode)", "uint64(0)", targets},
		{"the sum is an XOR", "internal/contentdigest/sum.go", "s.lanes[i] += binary",
			"s.lanes[i] ^= binary", digest},
		{"a text has no length", "internal/contentdigest/encode.go", "\te.number(len(s))\n", "",
			digest},
		{"a changed file of digests is accepted", "internal/contentdigest/list.go",
			"if end.Lines != r.lines || end.SHA256 != hex.EncodeToString(r.sum.Sum(nil)) {",
			"if false {", digest},
		{"digests that do not cover everything are equal", "internal/checkpoint/content.go",
			"case now.Uncovered() > 0 || c.NotCovered > 0:", "case false:",
			[]string{"./internal/checkpoint", "-run", "TestCompareContent"}},
	}
}
