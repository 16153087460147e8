package rotate_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/checkpoint"
	"rotator/internal/ciphertext"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/reencrypt"
	"rotator/internal/scan"
)

// withAttributes adds other attributes to a row with a slot.
func withAttributes(slot []byte, others map[string]scan.Value) map[string]scan.Value {
	row := map[string]scan.Value{"slot": {Kind: scan.KindB, Bytes: slot}}
	maps.Copy(row, others)
	return row
}

func text(s string) scan.Value { return scan.Value{Kind: scan.KindS, Text: s} }

// unlistedSlots returns the places, "REF: PATH under KEY", of the ciphertexts that no slot names,
// from the ledger of the last pass.
func unlistedSlots(t *testing.T, b *testPass) (places []string) {
	t.Helper()
	last, err := b.passes.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for chunk, err := range b.passes.Ledger(t.Context(), last) {
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range chunk.Entries {
			if e.Reason == "unrecognised-ciphertext" {
				places = append(places, fmt.Sprintf("%s: %s under %s", e.Ref, e.Path, e.Key))
			}
		}
	}
	slices.Sort(places)
	return places
}

// unlistedKeys are two source keys, the destination key and another key.
type unlistedKeys struct{ old, old2, new, third string }

// rowsWithUnlisted returns rows with ciphertexts outside the slot, under the keys of k.
func rowsWithUnlisted(
	k unlistedKeys, blob func(key string) []byte,
) map[string]map[string]scan.Value {
	b64 := base64.StdEncoding.EncodeToString
	copied := blob(k.old)
	return map[string]map[string]scan.Value{
		"a-clean": withAttributes(blob(k.old), map[string]scan.Value{"note": text("nothing here")}),
		"b-raw": withAttributes(blob(k.old),
			map[string]scan.Value{"backup": {Kind: scan.KindB, Bytes: blob(k.old)}}),
		"c-copy": withAttributes(copied, map[string]scan.Value{
			"a": {Kind: scan.KindB, Bytes: copied},
		}),
		"d-deep": withAttributes(blob(k.new),
			map[string]scan.Value{"doc": {Kind: scan.KindM, Map: map[string]scan.Value{
				"list": {
					Kind: scan.KindL,
					List: []scan.Value{text("x"), text(b64(blob(k.old2)))},
				}}}}),
		"e-part": withAttributes(blob(k.old),
			map[string]scan.Value{"url": text("vault:v1:" + b64(blob(k.old)) + ";")}),
		"f-hex": {"note": text(strings.ToUpper(hex.EncodeToString(blob(k.old))))},
		"g-set": {"all": {
			Kind:  scan.KindSS,
			Texts: []string{"x", base64.RawURLEncoding.EncodeToString(blob(k.old))},
		}},
		"h-other": {"note": text(b64(blob(k.third))), "new": text(b64(blob(k.new)))},
		"i-cut":   {"note": {Kind: scan.KindB, Bytes: blob(k.old)[:60]}},
		"j-name": {"doc": {Kind: scan.KindM, Map: map[string]scan.Value{
			b64(blob(k.old)): text("label"),
		}}},
	}
}

// TestCiphertextsThatNoSlotNames: a ciphertext under a source key that no slot names is a failed
// slot, at any place that was read and in any encoding. A ciphertext that a slot names, or under
// another key, is not. A copy of the ciphertext of a slot does not belong to that slot.
func TestCiphertextsThatNoSlotNames(t *testing.T) {
	cloud := newCloud(t)
	old, new, third := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric),
		cloud.key(t, fakekms.Symmetric)
	old2 := cloud.key(t, fakekms.Symmetric)
	context := map[string]string{"app": "a"}
	blob := func(key string) []byte { return cloud.encrypt(t, key, "secret", context) }
	target := newMemory()
	target.rows = rowsWithUnlisted(unlistedKeys{old, old2, new, third}, blob)
	want := []string{
		"b-raw: backup, byte 0 under " + old, "c-copy: a, byte 0 under " + old,
		"d-deep: doc.list[1], byte 0 under " + old2, "e-part: url, byte 9 under " + old,
		"f-hex: note, byte 0 under " + old, "g-set: all{1}, byte 0 under " + old,
		"i-cut: note, byte 0 under " + old, "j-name: doc, a name in it, byte 0 under " + old,
	}
	for _, exact := range []bool{false, true} {
		for _, any := range []bool{false, true} {
			request := reencrypt.KeyRequest{Destination: new, Sources: []string{old, old2}}
			wanted := slices.Clone(want)
			if any {
				request = reencrypt.KeyRequest{Destination: new, Any: true}
				wanted = append(wanted, "h-other: note, byte 0 under "+third)
			}
			b := &testPass{
				cloud:  cloud,
				keys:   cloud.resolve(t, request),
				format: format(t, context, nil),
				exact:  exact,
				target: &memoryTarget{rows: maps.Clone(target.rows)},
				store:  checkpoint.NewMemory(),
			}
			counts, err := b.run(t)
			if err != nil {
				t.Fatal(err)
			}
			found := unlistedSlots(t, b)
			// KMS does not name the key of a truncated ciphertext, or of one with another context
			if exact || any {
				wanted, found = places(wanted), places(found)
			}
			slices.Sort(wanted)
			if diff := cmp.Diff(wanted, found); diff != "" {
				t.Errorf("exact %v, any %v (-want +got):\n%s", exact, any, diff)
			}
			if n := counts.Slots; n.Rotated != 4 || n.Failed != int64(len(wanted)) ||
				counts.Search.Items != 10 {
				t.Errorf("exact %v, any %v: counted %+v", exact, any, counts)
			}
		}
	}
}

func places(list []string) (cut []string) {
	for _, s := range list {
		place, _, _ := strings.Cut(s, " under ")
		cut = append(cut, place)
	}
	return cut
}

// TestSearchAsksOnceForEachToken: KMS is asked about one candidate of each token, and about none
// if it has
// named the key of the token for a slot. Two requests show that a key is the
// source key and that KMS compares keys.
func TestSearchAsksOnceForEachToken(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	others := []string{cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)}
	target := newMemory()
	for i := range 200 {
		key := append(others, old)[i%3]
		target.rows[fmt.Sprintf("item-%03d", i)] = map[string]scan.Value{
			"note": {
				Kind:  scan.KindB,
				Bytes: cloud.encrypt(t, key, "x", map[string]string{"i": fmt.Sprint(i)}),
			}}
	}
	b := &testPass{
		cloud:   cloud,
		keys:    cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}}),
		format:  format(t, nil, nil),
		target:  target,
		inspect: true,
	}
	counts, err := b.run(t)
	if err != nil || counts.Slots.Failed != 66 || counts.Search.OtherKeys != 134 {
		t.Fatalf("counts %+v, error %v", counts, err)
	}
	if sent, _, _ := b.engine.Requests(); sent > 4 {
		t.Errorf("%d requests for three tokens", sent)
	}
}

// TestAdviceOfTheSearch: the advice contains a path that is valid in a job file.
func TestAdviceOfTheSearch(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	blob := cloud.encrypt(t, old, "x", nil)
	separated := strings.TrimSpace(fmt.Sprintf("% x", blob))
	for name, c := range map[string]struct {
		value scan.Value
		want  string
	}{
		"alone": {scan.Value{Kind: scan.KindB, Bytes: blob}, "path: note and format: raw"},
		"set": {scan.Value{Kind: scan.KindBS, ByteSet: [][]byte{blob}},
			"path: note and format: raw"},
		"separated": {text(separated), "no format reads hex with separators"},
	} {
		target := newMemory()
		target.rows["a"] = map[string]scan.Value{"note": c.value}
		keys := cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}})
		b := &testPass{
			cloud:  cloud,
			keys:   keys,
			format: format(t, nil, nil),
			target: target,
			store:  checkpoint.NewMemory(),
		}
		if _, err := b.run(t); err != nil {
			t.Fatal(err)
		}
		last, err := b.passes.Last(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for chunk, err := range b.passes.Ledger(t.Context(), last) {
			if err != nil || len(chunk.Entries) != 1 ||
				!strings.Contains(chunk.Entries[0].Detail, c.want) {
				t.Errorf("%s: ledger %+v, error %v", name, chunk.Entries, err)
			}
		}
	}
}

// TestSearchLooksAtTheLastCiphertext: the search checks the last of many ciphertexts in an item,
// and a ciphertext whose token also belongs to ciphertexts that KMS decrypts under no key.
func TestSearchLooksAtTheLastCiphertext(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	blob := func(key string) []byte {
		return cloud.encrypt(t, key, "x", map[string]string{"a": "b"})
	}
	var moved, unusable, many []byte
	for range 150 {
		moved = append(moved, blob(new)...)
		unknownOperation := blob(old)
		unknownOperation[2] = 9 // an operation that KMS does not know
		unusable = append(unusable, unknownOperation...)
		many = append(many, blob(old)...)
	}
	for _, exact := range []bool{false, true} {
		for name, c := range map[string]struct {
			value  []byte
			want   int64
			counts checkpoint.SearchCounts
		}{
			"moved":    {append(moved, blob(old)...), 1, checkpoint.SearchCounts{OtherKeys: 150}},
			"unusable": {append(unusable, blob(old)...), 1, checkpoint.SearchCounts{Unusable: 150}},
			"many":     {many, 100, checkpoint.SearchCounts{}}, // all that are listed
		} {
			target := newMemory()
			target.rows["a"] = map[string]scan.Value{"note": {Kind: scan.KindB, Bytes: c.value}}
			request := reencrypt.KeyRequest{Destination: new, Sources: []string{old}}
			b := &testPass{
				cloud:  cloud,
				keys:   cloud.resolve(t, request),
				format: format(t, nil, nil),
				target: target,
				exact:  exact,
			}
			counts, err := b.run(t)
			c.counts.Items, c.counts.Bytes = 1, int64(len(c.value))
			if err != nil || counts.Slots.Failed != c.want || counts.Search != c.counts {
				t.Errorf("%s, exact %v: counts %+v, error %v", name, exact, counts, err)
			}
			more := detailed(t, b, "; 50 more ciphertexts after it in this item were not checked")
			if more == 1 != (name == "many") {
				t.Errorf("%s, exact %v: %d slots state that more were not checked",
					name, exact, more)
			}
		}
	}
}

// detailed returns the number of entries in the ledger of the last pass whose detail
// contains a text.
func detailed(t *testing.T, b *testPass, text string) (n int) {
	t.Helper()
	last, err := b.passes.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for chunk, err := range b.passes.Ledger(t.Context(), last) {
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range chunk.Entries {
			if strings.Contains(e.Detail, text) {
				n++
			}
		}
	}
	return n
}

// TestSearchOfDamagedCiphertexts: a ciphertext that KMS decrypts under no key, and whose key KMS
// does not name, is not a slot, because no application can decrypt it. If it is truncated, it
// counts as a slot, because a complete copy may exist.
func TestSearchOfDamagedCiphertexts(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	damaged := cloud.encrypt(t, old, "x", nil)
	damaged[len(damaged)-1] ^= 1
	// a layout that the fake does not have
	of2014 := append([]byte{1, 1, 2, 0, 0x78}, damaged[5:37]...)
	of2014 = append(append(of2014, 0, 0, 0, 9, 0x30), "12345678"...)
	target := newMemory()
	target.rows = map[string]map[string]scan.Value{
		"a-damaged": {"note": {Kind: scan.KindB, Bytes: damaged}},
		"b-unknown": {"note": {Kind: scan.KindB, Bytes: of2014}},
	}
	b := &testPass{
		cloud:  cloud,
		keys:   cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}}),
		format: format(t, nil, nil),
		target: target,
		store:  checkpoint.NewMemory(),
	}
	counts, err := b.run(t)
	if err != nil || counts.Search.Unusable != 1 {
		t.Errorf("counts %+v, error %v", counts, err)
	}
	if diff := cmp.Diff([]string{"a-damaged: note, byte 0 under " + old},
		unlistedSlots(t, b)); diff != "" {
		t.Error(diff)
	}
	target.rows["b-unknown"]["note"] = scan.Value{Kind: scan.KindB, Bytes: of2014[:40]}
	b.store = checkpoint.NewMemory()
	if counts, err = b.run(t); err != nil || counts.Slots.Failed != 2 {
		t.Errorf("truncated: counts %+v, error %v", counts, err)
	}
}

// A policy that requires an encryption context denies the requests of the
// search. This does not end the run; the denied ciphertext becomes a slot.
func TestSearchThatIsDenied(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	context := map[string]string{"app": "a"}
	target := newMemory()
	for i := range 60 {
		name := fmt.Sprintf("item-%02d", i)
		if i%6 == 0 {
			if _, err := cloud.fake.Rotate(old); err != nil {
				t.Fatal(err)
			}
		}
		target.rows[name] = map[string]scan.Value{
			"note": {Kind: scan.KindB, Bytes: cloud.encrypt(t, old, "x", context)}}
	}
	keys := cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}})
	cloud.fake.SetPolicy(func(c fakekms.Call) bool { return len(c.EncryptionContext) > 0 })
	b := &testPass{
		cloud:   cloud,
		keys:    keys,
		format:  format(t, context, nil),
		target:  target,
		inspect: true,
	}
	counts, err := b.run(t)
	if err != nil || counts.Slots.Failed != 60 {
		t.Fatalf("counts %+v, error %v", counts, err)
	}
}

// TestSearchUnderDisabledKeys: a disabled key does not end the run, whether it is a source key,
// which may be disabled in a read-only pass, or another key. Its ciphertexts count as slots.
func TestSearchUnderDisabledKeys(t *testing.T) {
	for _, any := range []bool{false, true} {
		cloud := newCloud(t)
		old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
		target := newMemory()
		target.rows["a"] = map[string]scan.Value{
			"note": {Kind: scan.KindB, Bytes: cloud.encrypt(t, old, "x", nil)}}
		request := reencrypt.KeyRequest{Destination: new, Sources: []string{old}}
		if any {
			request = reencrypt.KeyRequest{Destination: new, Any: true}
		}
		keys := cloud.resolve(t, request)
		if err := cloud.fake.SetState(old, fakekms.Disabled); err != nil {
			t.Fatal(err)
		}
		if !any {
			keys.Sources[0].Unusable.State = string(fakekms.Disabled)
		}
		b := &testPass{
			cloud:   cloud,
			keys:    keys,
			format:  format(t, nil, nil),
			target:  target,
			inspect: true,
		}
		if counts, err := b.run(t); err != nil || counts.Slots.Failed != 1 {
			t.Errorf("any %v: counts %+v, error %v", any, counts, err)
		}
	}
}

// With one key, a ciphertext on the current material is not a slot in a
// refresh. If the context changes, every ciphertext is a slot, because its
// context is unknown.
func TestSearchUnderOneKey(t *testing.T) {
	for mode, failed := range map[reencrypt.Mode]int64{
		reencrypt.ModeRefresh: 1,
		reencrypt.ModeContext: 2,
	} {
		cloud := newCloud(t)
		key := cloud.key(t, fakekms.Symmetric)
		b := &testPass{
			cloud:  cloud,
			target: newMemory(),
			format: format(t, nil, map[string]string{"v": "2"}),
		}
		store := func(name string) {
			blob := cloud.encrypt(t, key, "x", nil)
			b.target.rows[name] = map[string]scan.Value{"note": {Kind: scan.KindB, Bytes: blob}}
		}
		store("older")
		if _, err := cloud.fake.Rotate(key); err != nil {
			t.Fatal(err)
		}
		store("newest")
		b.keys = cloud.resolve(t,
			reencrypt.KeyRequest{Destination: key, Sources: []string{key}, Mode: mode})
		if counts, err := b.run(t); err != nil || counts.Slots.Failed != failed {
			t.Errorf("%s: counts %+v, error %v", mode, counts, err)
		}
	}
}

// The place of a refused slot is reported once. The key of the ciphertext there
// is still recorded, so that no rule can accept it.
func TestRefusedPlacesAreReportedOnce(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	blob := cloud.encrypt(t, old, "x", nil)
	target := newMemory()
	target.rows = map[string]map[string]scan.Value{
		"a-text": {"slot": text("vault:" + base64.StdEncoding.EncodeToString(blob))},
		"b-type": {"slot": {
			Kind: scan.KindM,
			Map:  map[string]scan.Value{"x": {Kind: scan.KindB, Bytes: blob}},
		}},
		"c-also": {"slot": text("no text can be raw"), "slot2": {Kind: scan.KindB, Bytes: blob}},
	}
	b := &testPass{
		cloud:  cloud,
		keys:   cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}}),
		format: format(t, nil, nil),
		target: target,
		store:  checkpoint.NewMemory(),
	}
	counts, err := b.run(t)
	if err != nil || counts.Slots.Failed != 4 || counts.Reasons["failed/wrong-type"] != 3 ||
		counts.Keys[old].Slots != 3 {
		t.Fatalf("counts %+v, error %v", counts, err)
	}
	if diff := cmp.Diff([]string{
		"c-also: slot2, byte 0 under " + old,
	}, unlistedSlots(t, b)); diff != "" {
		t.Error(diff)
	}
}

// formatsOfBodies returns each format of objects with slots that match nothing.
func formatsOfBodies() map[string][]ciphertext.SlotSpec {
	slot := []ciphertext.SlotSpec{{Path: "nothing.here"}}
	return map[string][]ciphertext.SlotSpec{
		"auto":                  nil,
		"sops":                  nil,
		"pulumi-state":          nil,
		"biscuit":               nil,
		"ejson-kms":             nil,
		"tink-keyset":           nil,
		"s3-encryption-client":  nil,
		"json":                  slot,
		"jsonl":                 slot,
		"text":                  {{Pattern: `NOTHING=(\S+)`}},
		"raw":                   {{}},
		"base64":                {{}},
		"base64url":             {{}},
		"hex":                   {{}},
		"length-prefixed-u16be": {{}},
		"length-prefixed-u32le": {{}},
		"tink-envelope":         nil,
	}
}

// TestObjectsThatNoFormatKnows: every format that reads bodies searches objects in which it finds
// no slot.
func TestObjectsThatNoFormatKnows(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	blob := func() string { return string(cloud.encrypt(t, old, "x", nil)) }
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	bodies := map[string]string{
		"export.jsonl": fmt.Sprintf("{\"id\":1,\"k\":%q}\n{\"id\":2,\"k\":%q}\n",
			b64(blob()), b64(blob())),
		"stream.bin":  blob() + strings.Repeat("\x93stream", 300),
		"newline.bin": blob() + "\n",
		"encrypt.json": fmt.Sprintf("{\n    \"CiphertextBlob\": %q,\n    \"KeyId\": %q\n}\n",
			b64(blob()), old),
		"digits.txt": hex.EncodeToString([]byte(blob())) + "\n",
	}
	for name, slots := range formatsOfBodies() {
		template, err := ciphertext.Compile(
			ciphertext.Spec{Format: name, Kind: ciphertext.Objects, Slots: slots})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		compiled := template.Bind(ciphertext.Keys{})
		target := newMemory()
		target.objects = map[string]*scan.Object{"unread": {Bucket: "b", Key: "unread", Size: 1000,
			Metadata: map[string]string{"k": b64(blob())}}}
		for key, body := range bodies {
			target.objects[key] = &scan.Object{
				Bucket: "b",
				Key:    key,
				Body:   []byte(body),
				Size:   int64(len(body)),
			}
		}
		for key := range target.objects {
			target.rows[key] = nil
		}
		b := &testPass{
			cloud: cloud,
			keys: cloud.resolve(t,
				reencrypt.KeyRequest{Destination: new, Sources: []string{old}}),
			format:  compiled,
			target:  target,
			inspect: true,
		}
		counts, err := b.run(t)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if counts.Items.WithoutSlot != 0 || counts.Slots.Failed+counts.Slots.Remaining < 6 ||
			counts.Keys[old].Slots < 6 {
			t.Errorf("%s: counts %+v", name, counts)
		}
		if n := counts.Search; n.Items != 6 || n.Bodies != 1 || n.BodyBytes != 1000 {
			t.Errorf("%s: the search counts %+v", name, n)
		}
	}
}

// The detail of a hit contains its place and the advice for the job file, but
// never the ciphertext.
func TestAdviceOnWhatWasFound(t *testing.T) {
	cloud := newCloud(t)
	old, new := cloud.key(t, fakekms.Symmetric), cloud.key(t, fakekms.Symmetric)
	blob := cloud.encrypt(t, old, "x", nil)
	b64 := base64.StdEncoding.EncodeToString(blob)
	target := newMemory()
	target.rows = map[string]map[string]scan.Value{
		"a": {"k[0]": text(b64)}, "b": {"k": text("v1." + b64)},
		"c": {"k": {
			Kind:  scan.KindB,
			Bytes: append([]byte{0, byte(len(blob))}, append(slices.Clone(blob), "payload"...)...),
		}},
	}
	want := map[string]string{
		"a": `'["k[0]"]' and format: base64`,
		"b": "with the application",
		"c": "length-prefixed-u16be",
	}
	b := &testPass{
		cloud:  cloud,
		keys:   cloud.resolve(t, reencrypt.KeyRequest{Destination: new, Sources: []string{old}}),
		format: format(t, nil, nil),
		target: target,
		store:  checkpoint.NewMemory(),
	}
	if _, err := b.run(t); err != nil {
		t.Fatal(err)
	}
	last, err := b.passes.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for chunk, err := range b.passes.Ledger(t.Context(), last) {
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range chunk.Entries {
			if !strings.Contains(e.Detail, want[e.Ref]) ||
				strings.Contains(fmt.Sprint(e), b64[:40]) {
				t.Errorf("the detail of %s is %q", e.Ref, e.Detail)
			}
			delete(want, e.Ref)
		}
	}
	if len(want) > 0 {
		t.Errorf("the expected advice is missing: %v", want)
	}
}
