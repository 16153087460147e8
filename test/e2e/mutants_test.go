//go:build mutants

package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// mutant removes one protection from a copy of the source.
type mutant struct {
	name     string
	file     string
	old, new string // old must occur in the file exactly once; new replaces it
	// tests are the arguments of go test. At least one test must fail.
	tests []string
}

func mutants() []mutant {
	return slices.Concat(sourceMutants(), checkpointMutants(), recordMutants(), engineMutants(),
		logMutants(), uploadMutants(), requestMutants(), evidenceMutants(), verdictMutants(),
		watchMutants(), copiesMutants(), reportMutants(), commandMutants(), placeMutants(),
		contentMutants(), packMutants())
}

// packMutants remove protections of evidence packs.
func packMutants() []mutant {
	pack := []string{"./internal/evidence/pack"}
	return []mutant{
		{"a pack is written in place", "internal/evidence/pack/directory.go",
			"temp, err := os.MkdirTemp(temporary(path))",
			"temp, err := path, os.MkdirAll(path, 0o700)", pack},
		{"VERIFY.sh ignores a file", "internal/evidence/pack/VERIFY.sh",
			`.digest.sha256 + "  " + .name'`,
			`select(.name != "inventory.csv") | .digest.sha256 + "  " + .name'`, pack},
		{"VERIFY.sh goes on after an error", "internal/evidence/pack/VERIFY.sh",
			">/dev/null 2>&1 || refuse \"the signature",
			">/dev/null 2>&1 || : \"the signature", pack},
		{"a file that is not listed is accepted", "internal/evidence/pack/check.go",
			"if !listed[entry.Name()] {", "if false {", pack},
		{"the key in the bundle is not that of the statement",
			"internal/evidence/pack/check.go",
			"s.Predicate.Signer.Key != b.VerificationMaterial.PublicKey.Hint",
			"s.Predicate.Signer.Key == \"\"", pack},
		{"a short address is replaced within words", "internal/report/hashrefs/hash.go",
			"const shortest = 4", "const shortest = 1", []string{"./internal/report/hashrefs"}},
		{"a salt does not matter", "internal/report/hashrefs/hash.go",
			"hmac.New(sha256.New, h.salt)", "hmac.New(sha256.New, nil)",
			[]string{"./internal/report/hashrefs"}},
		{"an address is replaced in times and sentences", "internal/report/hashrefs/hash.go",
			"case m.namesRefs():", "default:", []string{"./internal/report/hashrefs"}},
		{"a pack is signed with a source key", "cmd/rotator/pack.go",
			"slices.Contains(job.Source.Keys, f.sign)", `slices.Contains(job.Source.Keys, "")`,
			[]string{"./cmd/rotator", "-run", "TestEvidenceKeys"}},
	}
}

// watchMutants remove protections of the report on the use of source keys.
func watchMutants() []mutant {
	watched := []string{"./internal/watch"}
	return []mutant{
		{"a refused call counts for nothing", "internal/watch/trail.go",
			`return code != "" && code != "DryRunOperationException"`, "return false", watched},
		{"a cut event history counts as complete", "internal/watch/trail.go",
			"\t\tt.Partial, t.From = true, r.oldest.UTC()\n", "\t\tt.Partial = true\n", watched},
		{"the last use of rotator is that of another caller", "internal/watch/watch.go",
			"\tcase o.RequestIDs[u.RequestID]:\n\t\treturn ByRotator\n", "", watched},
		{"a last use that is read too early counts", "internal/watch/watch.go",
			"asked.Before(own.Last.Add(UsageDelay))", "false", watched},
		{"no answer is quiet", "internal/watch/sentence.go",
			"k.Trail.Asked.IsZero() && (u.Asked.IsZero() || u.Early || k.unusable())", "false",
			watched},
		{"a use before all request ids are known is that of another caller",
			"internal/watch/watch.go", " || u.At.Before(o.Gaps))", ")", watched},
		{"events that are delivered late are lost", "internal/watch/history.go",
			"h.until.Add(-TrailOverlap)", "h.until", watched},
		{"a round after a failure reads only what is new", "internal/watch/history.go",
			"if r.unseen != nil || len(h.events) > maxKept {", "if len(h.events) > maxKept {",
			watched},
		{"the requests of an audit have no ids", "internal/reencrypt/asker.go",
			"\t\ta.note(response)\n", "",
			[]string{"./cmd/rotator", "-run", "TestScripts/own-requests$"}},
		{"the requests in the audit log are not read", "cmd/rotator/own_requests.go",
			"\t\t\to.ids[request.ID] = true\n", "",
			[]string{"./cmd/rotator", "-run", "TestScripts/own-requests$"}},
	}
}

// reportMutants remove protections of saved and rendered reports.
func reportMutants() []mutant {
	saved := []string{"./internal/report/document"}
	return []mutant{
		{"a report of a newer version is read", "internal/report/document/read.go",
			"\tcase major != own:\n", "\tcase false:\n", saved},
		{"a report with wrong sums is read", "internal/report/document/read.go",
			"if err := d.Check(); err != nil {", "if err := error(nil); err != nil {", saved},
		{"a verdict that its pass does not support is read",
			"internal/report/document/check_verdicts.go",
			"case p.Slots.Seen != basis.Slots:", "case false:", saved},
		{"a verdict of a merged report needs no pass that supports it",
			"internal/report/document/check_verdicts.go",
			"named, err = true, unsupported", "named, err = true, nil", saved},
		{"equal names of jobs stay equal in a merged report", "internal/report/document/merge.go",
			"list = distinct(list)", "_ = distinct", saved},
		{"a free text is read as a verdict", "internal/verdict/check.go",
			"return strings.HasPrefix(v.Sentence, b)", "return true", saved},
		{"what other jobs found under a key does not count", "internal/report/document/merge.go",
			"foreign.add(s.Document.after(key), s.Document.Job)", "_ = foreign.add", saved},
		{"old versions of other jobs do not count", "internal/report/document/merge.go",
			"versions.add(s.Document.versionsUnder(key), s.Document.Job)", "_ = versions.add",
			saved},
		{"a root with a slash at its end is another directory",
			"internal/report/document/merge.go", "path.Clean(root)", `path.Join("") + root`,
			saved},
		{"a place counts twice in a merged report", "internal/report/document/merge.go",
			"if err := overlap(list); err != nil {", "if err := overlap(nil); err != nil {", saved},
		{"the best verdict of several reports counts", "internal/report/document/merge.go",
			"first || v.Exit > worst.Exit", "first || v.Exit < worst.Exit", saved},
		{"more ciphertexts under a source key are as before", "internal/report/document/diff.go",
			"d.Grew = grown > 0", "d.Grew = false", saved},
		{"a page lists every row", "internal/report/page/view.go", "const maxRows = 100\n",
			"const maxRows = 1 << 20\n", []string{"./internal/report/page"}},
		{"a page may load something", "internal/report/page/page.go",
			"\"default-src 'none'; style-src", "\"style-src", []string{"./internal/report/page"}},
		{"the bound of a merged report is that of one sample", "internal/report/document/use.go",
			"d.Bound = verdict.Joint(parts)", "d.Bound = verdict.Joint(parts[:min(1, len(parts))])",
			saved},
		{"a bound of headers is not checked", "internal/report/document/check.go",
			"if d.Bound == nil {", "if true {", saved},
		{"an unwatched key is deactivated", "internal/report/document/use.go",
			"case quiet < quietTime:", "case quiet < 0:", saved},
		{"keys are no cryptographic assets", "internal/report/cbom/cbom.go", "encoder.Encode(bom)",
			"encoder.EncodeVersion(bom, cyclonedx.SpecVersion1_6)",
			[]string{"./internal/report/cbom"}},
		{"any page is a report", "internal/artifact/forms.go",
			"string(policy[1])) != digest", `string(policy[1])) == digest+"x"`,
			[]string{"./internal/artifact"}},
		{"any table with the head of a table is a report", "internal/artifact/forms.go",
			"return !isRow(head, row)", "return false", []string{"./internal/artifact"}},
		{"a cell is a formula", "internal/report/sheet/sheet.go",
			"return \"'\" + text", "return text", []string{"./internal/report/sheet"}},
		{"a name is a table cell in Markdown", "internal/report/markdown/markdown.go",
			"\"|\", `\\|`, ", "", []string{"./internal/report/markdown"}},
	}
}

// copiesMutants remove protections of the report on copies of old ciphertexts.
func copiesMutants() []mutant {
	copied := []string{"./internal/copies"}
	return []mutant{
		{"versions under delete markers are not counted", "internal/copies/versions.go",
			"\tcase w.marked:\n\t\tc = &w.deleted\n",
			"\tcase w.marked:\n\t\treturn\n", copied},
		{"a page ends the versions of a key", "internal/copies/versions.go",
			"if !w.begun || e.key != w.key {", "if true {", copied},
		{"a lifecycle rule for another prefix counts", "internal/copies/lifecycle.go",
			"case !strings.HasPrefix(prefix, of):", "case false:", copied},
		{"a lifecycle rule with a tag counts", "internal/copies/lifecycle.go",
			"\tcase tags:\n", "\tcase tags && false:\n", copied},
		{"a call that failed found nothing", "internal/copies/ask.go",
			"r.State, r.MissingPermission, r.Detail = CannotSee,",
			"r.State, r.MissingPermission, r.Detail = None,", copied},
		{"a backup without an expiry has an end", "internal/copies/dynamodb.go",
			"r.NoEnd = r.NoEnd || i.Until.IsZero()\n", "\n", copied},
		{"a recovery point whose end cannot be seen has none", "internal/copies/backup.go",
			"\tcase e.why != nil:\n", "\tcase false:\n", copied},
		{"the retention of a stream that cannot be seen is 0", "internal/copies/kinesis.go",
			"\t\tif why != nil {\n", "\t\tif false {\n", copied},
		{"a version under a legal hold has an end", "internal/copies/locks.go",
			"\tcase held > 0:\n", "\tcase false:\n", copied},
		{"recovery counts from now", "internal/copies/dynamodb.go",
			"f.moved.AddDate(0, 0, days)", "f.now.AddDate(0, 0, days)", copied},
		{"a retry moves nothing", "internal/checkpoint/last_move.go",
			"\t\t\tmoved = true\n\t\t\traise(chunk.Retried)\n", "",
			[]string{"./internal/checkpoint", "-run", "TestLastMove"}},
	}
}

// simulation are the arguments of go test for the simulation and the crash sweep.
func simulation() []string {
	return []string{"./internal/rotate", "-run", "TestSimulation$|TestCrashSweep", "-args",
		"-seeds=150", "-every=3"}
}

// divisions are the arguments of go test for the histories of divisions of the rate.
func divisions() []string {
	return []string{"./internal/rotate", "-run", "TestTheSumKeepsToTheRate", "-args",
		"-divisions=60"}
}

// sourceMutants remove protections of the sources and formats.
func sourceMutants() []mutant {
	tables, objects := []string{"./internal/scan/dynamoscan"}, []string{"./internal/scan/s3scan"}
	return []mutant{
		{"a key that a listing repeats is two items", "internal/scan/s3scan/list.go",
			"case key == last:\n\t\t\tcontinue\n", "case false:\n",
			[]string{"./internal/scan/s3scan", "-run", "TestListingOutOfOrder"}},
		{
			"no condition on a batched write",
			"internal/scan/dynamoscan/write.go",
			"\t\tu.shape = t.shapeOf(u)\n",
			"\t\tu.checks = nil\n\t\tu.shape = t.shapeOf(u)\n",
			tables,
		},
		{"a statement that a server misreads is a conflict", "internal/scan/dynamoscan/batch.go",
			"len(failed.Item) == 0 || u.holds(failed.Item)", "false", tables},
		{"the probe sets one field", "internal/scan/dynamoscan/statement.go",
			"\tif s.sets > 1 {\n", "\tif false {\n", tables},
		{"no probe of the item itself", "internal/scan/dynamoscan/probe.go",
			"learned.usable() && !t.onAWS()", "false", tables},
		{"no condition on a single write", "internal/scan/dynamoscan/write.go",
			"aws.String(condition)",
			`aws.String(condition + " OR attribute_not_exists(no_such_attribute)")`, tables},
		{"no presence in the condition", "internal/ciphertext/rowreader.go",
			"\tif r.notes == nil {\n", "\tif r.notes == nil || state != scan.Equal {\n",
			[]string{"./internal/ciphertext", "-run", "TestRowGuards"}},
		{"no condition on a PUT", "internal/scan/s3scan/put.go",
			"IfMatch:                          &p.etag,", "", objects},
		{"no condition on the destination of a copy", "internal/scan/s3scan/copy.go",
			"in.IfMatch = &read.properties.etag", "in.IfMatch = nil", objects},
		{"one comparison is not probed", "internal/scan/dynamoscan/probe.go",
			"compared := onAWS || ", "compared := true || onAWS || ",
			[]string{"./internal/scan/dynamoscan", "-run", "TestIgnoredComparison"}},
	}
}

// checkpointMutants remove protections of the checkpoint.
func checkpointMutants() []mutant {
	return []mutant{
		{"no fence", "internal/checkpoint/pass.go",
			"\t\te, err = p.store.Replace(ctx, before, data)\n",
			"\t\tif before, err = p.store.Fetch(ctx, id); err == nil {\n" +
				"\t\t\te, err = p.store.Replace(ctx, before, data)\n\t\t}\n",
			simulation()},
		{"no sync before a cursor moves", "internal/checkpoint/tracker.go",
			"if t.options.BeforeSave != nil {", "if false {", simulation()},
		{"an idle run has a share", "internal/checkpoint/member_list.go",
			"\t\tif m.Busy > 0 {\n\t\t\tn++\n", "\t\tif m.Heartbeat > 0 {\n\t\t\tn++\n",
			[]string{"./internal/checkpoint", "-run", "TestRunsWithoutWorkHaveNoRate"}},
		{"a share before other processes have read it", "internal/checkpoint/member_list.go",
			"m.Busy > 0 && m.Applied < me.Busy", "m.Busy > 0 && m.Applied < 0",
			divisions()},
		{"a late read is dated to its start", "internal/checkpoint/members.go",
			"\tnow := time.Now()\n\theartbeats := maps.Clone",
			"\tnow := began\n\theartbeats := maps.Clone",
			[]string{"./internal/checkpoint", "-run", "TestLateReadsExpireNoRun"}},
		{"hand-over without fence", "internal/checkpoint/tracker.go",
			"\tif s.releases {\n\t\tnext.Owner = \"\"\n\t}\n",
			"\tif s.releases {\n\t\tnext.Owner = \"\"\n" +
				"\t\ts.part.entry, _ = t.passes.store.Fetch(ctx, s.part.entry.ID)\n\t}\n",
			[]string{"./internal/checkpoint", "-run", "TestHandOverIsFenced"}},
		{"hand-over of the last work", "internal/checkpoint/hand_over.go",
			"return perSecond == 0 || left >=", "return true || left >=",
			[]string{"./internal/checkpoint", "-run", "TestLittleWorkIsNotHandedOver"}},
		{"division that is not confirmed", "internal/checkpoint/member_list.go",
			"me.Busy > 0 && m.Busy > me.Applied", "me.Busy > 0 && m.Busy > me.Busy && false",
			divisions()},
		{
			"hand-over of a page in progress",
			"internal/checkpoint/tracker.go",
			"return p.handingOver && p.scannerDone && len(p.open) == 0",
			"return p.handingOver && p.scannerDone",
			[]string{
				"./internal/checkpoint",
				"-run",
				"TestHandOverIsFenced|TestRunsSharePartitions",
			},
		},
		{"no ledger before a cursor moves", "internal/checkpoint/tracker.go",
			"\t\tif err := t.passes.put(ctx, id, \"ledger\", LedgerChunk{Entries: entries}); " +
				"err != nil {\n\t\t\treturn err\n\t\t}\n",
			"\t\t_, _ = id, entries\n", simulation()},
		{"no wait for the partitions of other processes", "internal/checkpoint/claim.go",
			"return !p.pending.Done && (!p.held || p.handingOver)\n",
			"return false && p.held\n", simulation()},
	}
}

// recordMutants remove protections of read-only passes and of their deletion.
func recordMutants() []mutant {
	stored := func(test string) []string {
		return []string{"./internal/checkpoint", "-run", test}
	}
	return []mutant{
		{"contradicting figures are stored", "internal/checkpoint/read_pass.go",
			"if err := read.Check(); err != nil {", "if err := read.Check(); false {",
			stored("TestReadPassSumsBalance")},
		{"an unknown outcome is not read again", "internal/checkpoint/read_pass.go",
			"bytes.Equal(now.Data, data)", "bytes.Equal(now.Data, nil)",
			stored("TestReadPassWithUnknownOutcome")},
		{"a read-only pass that is not stored", "internal/checkpoint/read_pass.go",
			"\treturn p.createOnce(ctx, p.readPassID(read.Number), \"read-pass\", read)\n",
			"\treturn nil\n", stored("TestCrashWhileReadPassIsStored")},
		{"prune deletes the last complete passes", "internal/checkpoint/prune.go",
			"case item.Number >= cut:", "case item.Number > cut+1:",
			stored("TestPruneKeepsWhatItMust")},
		{"prune deletes the last complete read-only pass", "internal/checkpoint/prune.go",
			"case item.Number == before:", "case before < 0:",
			stored("TestPruneKeepsWhatItMust")},
		{"prune ignores a concurrent change", "internal/checkpoint/prune.go",
			"_, err := p.swap(ctx, item.entry, item.entry.ID, prunedKind, pruned)",
			"err := p.put(ctx, item.entry.ID, prunedKind, pruned)", stored("TestPruneBesideRuns")},
		{"a run on a deleted pass is not fenced off", "internal/checkpoint/pass.go",
			"if isPruned(findPruned(before, err)) {", "if isPruned(err) {",
			stored("TestPruneBesideRuns")},
	}
}

// engineMutants remove protections of the engine.
func engineMutants() []mutant {
	return []mutant{
		{"no context in the condition", "internal/rotate/worker.go",
			"Guards:    t.guards(target),", "",
			[]string{"./cmd/rotator", "-run", "TestFaults/^29"}},
		{"no sync before a retry changes the ledger", "internal/rotate/retry_ledger.go",
			"if err := r.config.Recorder.Sync(); err != nil {",
			"if err := error(nil); err != nil {", simulation()},
		{"no share of the rate", "internal/rotate/rotator.go",
			"\tr.config.Limiter.Divide(share.Runs, share.Until)\n", "",
			[]string{"./internal/rotate", "-run", "TestRetrySharesTheRate"}},
		{"a retry that is fenced off succeeds", "internal/rotate/retry_ledger.go",
			"\t\t\tlife.stop(storeError(err))\n\t\t}\n\t\treturn nil\n\t}\n\tfor chunk",
			"\t\t}\n\t\treturn nil\n\t}\n\tfor chunk",
			[]string{"./internal/rotate", "-run", "TestRetryThatWaitsIsFencedOff"}},
		{"a page that has started is withdrawn", "internal/rotate/rotator.go",
			"pool.Submit(target.Name, handOver, i == 0, func",
			"pool.Submit(target.Name, handOver, i >= 0, func",
			[]string{"./internal/rotate", "-run", "TestWorkIsHandedOver"}},
		{"a log is accepted without its checkpoint", "internal/rotate/recover.go",
			"if !ok || trace.Record.After != found ||\n", "if !ok || false &&\n",
			[]string{"./internal/rotate", "-run", "TestLogIsEvidence"}},
		{"a hint of a log is accepted", "internal/rotate/recover.go",
			"if !trace.Kept {", "if false {",
			[]string{"./internal/rotate", "-run", "TestKMSDecidesAboutHints"}},
		{"nothing is searched", "internal/rotate/search_item.go",
			"if w.searcher == nil {", "if true {",
			[]string{"./internal/rotate", "-run", "TestCiphertextsThatNoSlotNames"}},
		{"a slow success does not keep a run from stopping", "internal/rotate/early.go",
			"f.deciding == 0 || f.alike.Slots+f.deciding < f.most", "true",
			[]string{"./internal/rotate", "-run", "TestFirstSlotsAlike"}},
		{"the success of the previous pass is ignored", "internal/rotate/early.go",
			"\tif e.proven(target, f) {", "\tif false {",
			[]string{"./cmd/rotator", "-run", "TestSuccessKeepsFromStopping"}},
	}
}

// logMutants remove protections of the audit log.
func logMutants() []mutant {
	const log = "internal/report/auditlog/"
	test := func(name string) []string { return []string{"./" + log, "-run", name} }
	return []mutant{
		{"a broken chain over segments is accepted", log + "reader.go",
			"\tif anywhere {\n", "\tif true {\n", test("TestLostAndDamagedSegments")},
		{"a torn segment is accepted", log + "segment.go",
			"case len(rest) > 0 || !r.closed:", "case len(rest) < 0:",
			test("TestLostAndDamagedSegments")},
		{"an open segment is emptied although it differs", log + "open.go",
			"if err == nil && !same {", "if err == nil && !same && false {",
			test("TestOpenSegmentDiffers")},
		{"a failed write moves the head", log + "auditlog.go",
			"return l.written.seq, string(l.written.head[:])",
			"return l.lines.seq, string(l.lines.head[:])", test("TestFailedWrite")},
	}
}

// uploadMutants remove protections of uploaded segments.
func uploadMutants() []mutant {
	const store = "internal/evidence/store.go"
	test := func(name string) []string { return []string{"./internal/evidence", "-run", name} }
	check := func(name string) []string { return []string{"./cmd/rotator", "-run", name} }
	return []mutant{
		{"an upload without If-None-Match", store,
			"\t\tIfNoneMatch: aws.String(\"*\"),\n", "", test("TestPut")},
		{"an object of another content counts as uploaded", store,
			"NewObject(o.Log, o.Number, content).Digest != o.Digest", "false",
			test("TestPut|TestGet")},
		{"a run starts although the bucket of uploads is missing", "cmd/rotator/storage.go",
			"\tif err := c.checkEvidence(ctx, job); err != nil {\n\t\treturn nil, err\n\t}\n", "",
			check("TestScripts/refusals$")},
		{"a missing segment is not reported", "internal/report/auditlog/verify.go",
			"\t\t\te.Gaps = append(e.Gaps, gap)\n", "", check("TestUploadsBelowTheCheckpoint")},
		{"a log that was not uploaded is not reported", "cmd/rotator/check_logs.go",
			"if len(lacking) == 0 {", "if len(lacking) >= 0 {",
			check("TestRefusedUploadsDoNotStopARun")},
		{"a count that no log proves is accepted", "internal/report/moved.go",
			"case m.Slots > l.Slots, m.Slots < l.Slots && m.Once",
			"case m.Slots < l.Slots && m.Once",
			[]string{"./internal/rotate", "-run", "TestCrashSweep$"}},
		{"a moved slot is not in the audit log", "internal/rotate/worker.go",
			"\treturn w.recordAll(records)\n}\n\n// record returns",
			"\treturn nil\n}\n\n// record returns",
			[]string{"./internal/rotate", "-run", "TestCrashSweep$"}},
		{"the log of a killed run is forgotten", "internal/checkpoint/pass.go",
			"\tp.Earlier = lastOf(append(p.Earlier, *before), maxEarlier)\n", "",
			[]string{"./internal/checkpoint", "-run", "TestLogsOfEarlierRuns"}},
	}
}

// requestMutants remove protections of requests and responses.
func requestMutants() []mutant {
	return []mutant{
		{"a share that does not lapse", "internal/flowcontrol/token_bucket.go",
			"b.closed || !b.until.IsZero() && !now.Before(b.until)", "b.closed",
			divisions()},
		{"no tokens for late timers", "internal/flowcontrol/token_bucket.go",
			"burst = 1 + b.perSecond*lateBy.Seconds()", "burst = 1",
			[]string{"./internal/flowcontrol", "-run", "TestLateTimersLoseLittleOfTheRate"}},
		{"no check of what headers predicted", "internal/reencrypt/key_hints.go",
			"h.pending.lowest(h.due())", "h.pending.lowest(0)", simulation()},
		{"responses are shared across contexts", "internal/reencrypt/slot_id.go",
			"[]map[string]string{slot.Context, slot.DestinationContext}",
			"[]map[string]string{}",
			[]string{"./internal/reencrypt", "-run", "TestSlotIDs"}},
		{"a KMS response to another request is accepted",
			"internal/reencrypt/response_check.go",
			"\t\tcase blob:\n", "\t\tcase blob && false:\n",
			[]string{"./internal/rotate", "-run", "TestWrongAnswers"}},
		{"an outage is not reported", "internal/outage/notice.go",
			"\tout := s.reportedGates(now)\n", "\tvar out []*Gate\n\ts.reportedGates(now)\n",
			[]string{"./internal/outage", "-run", "TestOutage$"}},
		{"every worker asks during an outage", "internal/outage/outage.go",
			"if g.opens != nil && !g.mayAsk(now) {", "if false {",
			[]string{"./internal/outage", "-run", "TestOutage$"}},
		{"a proxy's page counts as an answer", "internal/outage/foreign.go",
			"return page || !succeeded &&", "return false && page && !succeeded &&",
			[]string{"./internal/outage", "-run", "TestForeignResponses"}},
		{"throttling is not reported", "internal/flowcontrol/throttling.go",
			"case now.Sub(t.belowSince) < throttledAfter:", "case true:",
			[]string{"./internal/flowcontrol", "-run", "TestThrottlingIsReported"}},
		{"one slot of an unknown key stops the run", "internal/reencrypt/slot_key.go",
			"if a.jobKeys.exist(ctx) {", "if false {",
			[]string{"./internal/rotate", "-run", "TestValuesOfAnUnknownKey"}},
		{"no limit on answers", "internal/answerlimit/answerlimit.go",
			"if int64(len(p)) > r.left {", "if false {",
			[]string{"./internal/fastkms", "-run", "TestEndlessAnswers"}},
	}
}

// evidenceMutants remove protections of results and outputs.
func evidenceMutants() []mutant {
	return []mutant{
		{"wrong headers do not block the proof", "internal/report/summary.go",
			" && !s.doubtful", "", []string{"./cmd/rotator", "-run", "TestScripts/headers"}},
		{"a rule without a match is accepted", "internal/report/summary.go",
			" && len(s.NotProven) == 0", "",
			[]string{"./cmd/rotator", "-run", "TestScripts/proof"}},
		{"a moved slot is not counted under its key", "internal/rotate/rotator.go",
			"\t\tn.Rotated = 1\n", "", simulation()},
		{"an exception has no reason", "internal/rotate/rotator.go",
			`counts.AddReason(string(v.Outcome)+"/"+v.Reason, 1)`, "_ = counts", simulation()},
		{"a retry does not count what it moved under its key", "internal/checkpoint/counts.go",
			"if k == (KeyCount{}) {", "if k.Slots == 0 {", simulation()},
		{"a retry counts a slot twice", "internal/rotate/retry_ledger.go",
			"\t\tadjust.Subtract(before)\n", "", simulation()},
		{"a result with wrong sums is printed", "cmd/rotator/session.go",
			"if err := s.summary.Check(); err != nil {", "if err := error(nil); err != nil {",
			[]string{"./cmd/rotator", "-run", "TestWrongSumsAreNotPrinted"}},
		{"stored figures with wrong sums give a verdict", "cmd/rotator/report.go",
			"if err := summary.Check(); err != nil {", "if err := error(nil); err != nil {",
			[]string{"./cmd/rotator", "-run", "TestGateRefusesRecords"}},
		{"a slot of an unknown key does not block the answer on a key", "internal/report/keys.go",
			"case unknown+uncounted > 0:", "case false:", []string{"./internal/report"}},
		{"a foreign file is truncated", "internal/report/auditlog/open.go",
			"err != nil && json.Valid(text) {\n\t\treturn false",
			"err != nil || !json.Valid(text) {\n\t\treturn true",
			[]string{"./internal/report/auditlog", "-run", "TestForeignFilesAreNotChanged"}},
		{"an accept rule covers a slot under a source key", "internal/accept/accept.go",
			"return key, !t.keys.IsSource(key)", "return key, true",
			[]string{"./cmd/rotator", "-run", "TestScripts/accept"}},
		{"no redaction", "internal/redact/redact.go",
			"\tcut := 0\n\tif len(s) > maxRead {",
			"\tif cut := 0; cut == 0 {\n\t\treturn s\n\t}\n\tcut := 0\n\tif len(s) > maxRead {",
			[]string{"./cmd/rotator", "-run", "TestFaults/.*repeat"}},
	}
}

// verdictMutants remove rows of the verdict on a source key.
func verdictMutants() []mutant {
	tests := []string{"./internal/verdict"}
	return []mutant{
		{"foreign slots count as remaining", "internal/verdict/facts.go",
			"c.under += left", "c.under += left + t.Slots.Foreign", tests},
		{"old versions that were not read prove something", "internal/verdict/facts.go",
			" && p.HasVersions(f.VersionsOf)", "",
			[]string{"./cmd/rotator", "-run", "TestScripts/versions$"}},
		{"current versions count as old ones", "internal/scan/s3scan/old_versions.go",
			"case aws.ToBool(version.IsLatest), isProbeKey", "case isProbeKey",
			[]string{"./internal/scan/s3scan", "-run", "TestOldVersions"}},
		{"verify ignores old versions under a source key", "cmd/rotator/audit.go",
			"return s.oldVersionsLeft()", "return nil",
			[]string{"./cmd/rotator", "-run", "TestScripts/versions$"}},
		{"a run that is working is ignored", "internal/verdict/facts.go",
			"case f.Working:", "case false:", tests},
		{"a run that is working is not looked for", "cmd/rotator/verdict.go",
			"if verdict.Worst(s.Verdicts) != exitDone {", "if true {",
			[]string{"./cmd/rotator", "-run", "TestGateKnowsLiveRuns"}},
		{"a proof of any age is accepted", "internal/verdict/facts.go",
			"case f.MaxAge == 0 || f.Now.Sub(began) <= f.MaxAge:", "case true:", tests},
		{"a proof that began before the last run ended", "internal/verdict/facts.go",
			"(p.Ended.IsZero() || p.Ended.After(f.proof.Started))", "p.Ended.IsZero()", tests},
		{"a stopped pass is a proof", "internal/verdict/facts.go",
			"return p.Complete && !p.Incremental", "return !p.Incremental", tests},
		{"what later passes found is ignored", "internal/verdict/table.go",
			"return f.later(isFound)", "return nil", tests},
		{"a pass that began with the proof is ignored", "internal/verdict/facts.go",
			"p != f.proof && !p.Started.Before(f.proof.Started)", "false", tests},
		{"a sample that disagrees is ignored", "internal/verdict/table.go",
			"case part.Disagreed > 0:", "case false:", tests},
		{"a sample that is too small is ignored", "internal/verdict/table.go",
			"part.Checked < sampleOf(part.Population)", "false", tests},
		{"the last wrong slots of merged samples are left out", "internal/verdict/bound.go",
			"best < 0 || left < cost-tolerance", "true", tests},
		{"a waiver for another ciphertext", "internal/verdict/waivers.go",
			" && w.Blob == e.Blob", "", tests},
		{"a waiver without end", "internal/verdict/waivers.go",
			" && now.Before(w.Until)", "", tests},
		{"copies that cannot be seen are ignored", "internal/verdict/deletion.go",
			"known = known && c.ends()", "_ = c.ends()", tests},
		{"copies do not delay a deletion", "internal/verdict/deletion.go",
			"c.State == CopiesCounted && c.Until.After(last)", "false", tests},
		{"a rule without ciphertexts proves something", "internal/verdict/table.go",
			"len(f.proof.Empty) > 0 || ", "", tests},
		{"no ciphertext at all proves something", "internal/verdict/table.go",
			" || f.proven().seen == 0", "", tests},
		{"the gate is always open", "cmd/rotator/verdict.go",
			"\treturn gateError(g)\n", "\treturn nil\n",
			[]string{"./cmd/rotator", "-run", "TestScripts/verdict"}},
		{"the gate ignores the state of a key", "cmd/rotator/verdict.go",
			"Key: verdict.Key{State: k.State, Disabled", "Key: verdict.Key{Disabled",
			[]string{"./cmd/rotator", "-run", "TestScripts/verdict"}},
		{"the gate ignores a pass of another job file", "cmd/rotator/stored_passes.go",
			"k.pass.OtherJob = !same\n\tk.provesFor(job)\n\tk.pass.Exceptions",
			"_ = same\n\tk.provesFor(job)\n\tk.pass.Exceptions",
			[]string{"./cmd/rotator", "-run", "TestScripts/verdict"}},
	}
}

// commandMutants remove protections of the commands.
func commandMutants() []mutant {
	return []mutant{
		{"a preflight that ignores its share", "cmd/rotator/share.go",
			"m.onShare(func(s checkpoint.Share) { w.limiter.Divide(s.Runs, s.Until) })", "",
			[]string{"./cmd/rotator", "-run", "TestPreflightSharesTheRate"}},
		{"an audit that keeps its share", "cmd/rotator/share.go",
			"stop(rotate.CheckpointError(m.err))", "m.keep()",
			[]string{"./cmd/rotator", "-run", "TestShareOfAnAuditLapses"}},
		{"a second signal prints nothing", "cmd/rotator/stop.go",
			"\t\t\ts.print(line)\n\t\t\ts.exit(", "\t\t\ts.exit(",
			[]string{"./cmd/rotator", "-run", "TestSignals"}},
		{"a forwarded signal ends the run", "cmd/rotator/stop.go",
			"now.Sub(s.began) >= sameStop", "now.Sub(s.began) >= 0",
			[]string{"./cmd/rotator", "-run", "TestSignals"}},
		{"output that cannot be written is ignored", "cmd/rotator/output.go",
			"\tfailed := s.result.failure()\n", "\tvar failed error\n",
			[]string{"./cmd/rotator", "-run", "TestFullStdout"}},
		{"denied slots are not mentioned", "cmd/rotator/session.go",
			"\t\t\tdenied += r.Slots\n", "\t\t\tdenied += 0 * r.Slots\n",
			[]string{"./cmd/rotator", "-run", "TestDeniedSlotsInLedger"}},
		{"the chain of errors comes first", "cmd/rotator/exit.go",
			"return []string{s.secrets.Text(s.headline(err))}",
			"return []string{s.secrets.Text(err.Error())}",
			[]string{"./cmd/rotator", "-run", "TestMissingCredentials/unknown_profile"}},
	}
}

// TestMutantsMatch: the text that each mutant replaces occurs exactly once in its file. It fails
// in a second if a change of the source leaves a mutant behind.
func TestMutantsMatch(t *testing.T) {
	for _, m := range mutants() {
		text, err := os.ReadFile(filepath.Join("..", "..", m.file))
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		if n := strings.Count(string(text), m.old); n != 1 {
			t.Errorf("%s: %s has the text %d times, want once", m.name, m.file, n)
		}
	}
}

// TestMutants: the tests of each mutant pass on an unchanged copy of the source, and at least one
// of them fails on the copy with the mutant.
func TestMutants(t *testing.T) {
	unchanged := t.TempDir()
	if err := copySource(filepath.Join("..", ".."), unchanged); err != nil {
		t.Fatal(err)
	}
	// Several mutants have the same tests, which run once on the unchanged copy.
	passes := map[string]func() string{}
	for _, m := range mutants() {
		passes[m.arguments()] = sync.OnceValue(func() string {
			if out, err := testIn(unchanged, m.tests); err != nil {
				return fmt.Sprintf("%v\n%s", err, out)
			}
			return ""
		})
	}
	for _, m := range mutants() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel() // linkers use one processor
			if problem := passes[m.arguments()](); problem != "" {
				t.Fatalf("the tests fail without a mutant: %s", problem)
			}
			m.try(t)
		})
	}
}

// arguments returns the arguments of go test as one text.
func (m mutant) arguments() string { return strings.Join(m.tests, " ") }

// try checks that a test fails on a copy of the source with the mutant.
func (m mutant) try(t *testing.T) {
	dir := t.TempDir()
	if err := copySource(filepath.Join("..", ".."), dir); err != nil {
		t.Fatal(err)
	}
	m.apply(t, dir)
	out, err := testIn(dir, m.tests)
	if err == nil || !strings.Contains(out, "--- FAIL: ") {
		t.Fatalf("no test failed (%v)\n%s", err, out)
	}
	first := out[strings.Index(out, "--- FAIL: "):]
	t.Logf("detected by %s", strings.SplitN(first, "\n", 3)[:2])
}

// apply removes the protection from a copy of the source, which must still build.
func (m mutant) apply(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, m.file)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		t.Fatalf("%s has the text to replace %d times, want once", m.file, n)
	}
	changed := strings.Replace(string(text), m.old, m.new, 1)
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	// -trimpath lets the copies use the build cache of each other.
	if out, err := goIn(dir, "build", "-trimpath", "./"+filepath.Dir(m.file)); err != nil {
		t.Fatalf("the mutant does not build: %v\n%s", err, out)
	}
}

// testIn runs go test in dir and returns its output.
func testIn(dir string, args []string) (string, error) {
	flags := []string{"test", "-trimpath", "-vet=off", "-failfast", "-timeout", "300s"}
	return goIn(dir, slices.Concat(flags, args)...)
}

// goIn runs the go command in dir and returns its output.
func goIn(dir string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	// The tests of cmd/rotator build the program, which must use the same build cache.
	cmd.Env = append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" -trimpath")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func copySource(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		switch {
		case err != nil:
			return err
		case d.Name() == ".git" || d.Name() == "bin" || d.Name() == "node_modules":
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		case !d.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), text, 0o600)
	})
}
