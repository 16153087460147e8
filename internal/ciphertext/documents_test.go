package ciphertext

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rotator/internal/scan"
)

const (
	goldenKeys        = "arn:aws:kms:eu-west-1:111122223333:key/"
	goldenSource      = goldenKeys + "1234abcd-12ab-34cd-56ef-1234567890ab"
	goldenDestination = goldenKeys + "0987dcba-09fe-87dc-65ba-ab0987654321"
)

// goldenBlob returns the i-th old or new blob of the golden files. Number 7 is under a key that is
// not a source key.
func goldenBlob(kind string, i int) []byte {
	out := []byte{1, 2, 2, 0, 0x78}
	for j := range 5 {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %d.%d", kind, i, j))
		out = append(out, sum[:]...)
	}
	return out
}

// documentFormats returns the formats that find their slots in documents themselves.
var documentFormats = []string{formatSops, formatPulumi, formatBiscuit, formatEJSON,
	formatTinkKeyset}

// golden returns the files of a format, without those that contain the expected result.
func golden(t testing.TB, format string) (files []string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join("testdata", format, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		if !strings.Contains(file, ".rotated") && filepath.Base(file) != "README.md" {
			files = append(files, file)
		}
	}
	if len(files) == 0 {
		t.Fatalf("there are no golden files of %s", format)
	}
	return files
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// TestGolden: files that real software wrote become, byte for byte, the files that the same
// software writes with the new ciphertexts and the new key.
func TestGolden(t *testing.T) {
	for _, format := range documentFormats {
		compiled := compile(t, Spec{Format: format, Kind: Files})
		for _, file := range golden(t, format) {
			item := object(filepath.Base(file), string(read(t, file)), nil)
			var blobs [][]byte
			moved := 0
			for _, s := range compiled.Find(item) {
				blobs = append(blobs, nil)
				for i := range 7 {
					if bytes.Equal(s.Blob, goldenBlob("old", i)) {
						blobs[len(blobs)-1] = goldenBlob("new", i)
						moved++
					}
				}
				if s.Refused != nil {
					t.Errorf("%s: slot %s: %v", file, s.Path, s.Refused)
				}
			}
			ext := filepath.Ext(file)
			want := read(t, strings.TrimSuffix(file, ext)+".rotated"+ext)
			checkMask(t, compiled, item, object(filepath.Base(file), string(want), nil).Payload)
			if diff := cmp.Diff(string(want),
				string(spliced(t, compiled, item, blobs))); diff != "" || moved == 0 {
				t.Errorf("%s: %d slots (-want +got):\n%s", file, moved, diff)
			}
		}
	}
}

// TestRecognise: each format recognises its own files and no others.
func TestRecognise(t *testing.T) {
	for _, format := range append(documentFormats, formatTinkEnvelope) {
		for _, file := range golden(t, format) {
			o := object(filepath.Base(file), string(read(t, file)), nil).Payload.(*scan.Object)
			for _, e := range formats() {
				if e.recognise == nil {
					continue
				}
				f := compile(t, Spec{Format: e.name, Kind: Objects}).Format
				if got := e.recognise(f, o); got != (e.name == format) {
					t.Errorf("%s recognised as %s: %v", file, e.name, got)
				}
			}
		}
	}
}

// TestContexts: the encryption context that each format derives, and the paths of its slots.
func TestContexts(t *testing.T) {
	var got []string
	for _, file := range []string{"sops/yaml-groups.yaml", "sops/env-mixed.env",
		"sops/ini-mixed.ini", "sops/binary-one.bin",
		"pulumi-state/arn-context.json", "pulumi-state/Pulumi.prod.yaml",
		"pulumi-state/alias.json", "biscuit/secrets.yaml", "ejson-kms/secrets.json",
		"ejson-kms/no-context.json"} {
		format, _, _ := strings.Cut(file, "/")
		compiled := compile(t, Spec{Format: format, Kind: Objects})
		for _, s := range compiled.Find(object(file,
			string(read(t, filepath.Join("testdata", file))), nil)) {
			if diff := cmp.Diff(s.Context, s.DestinationContext); diff != "" {
				t.Errorf("%s: %s: the destination context differs: %s", file, s.Path, diff)
			}
			context, _ := json.Marshal(s.Context)
			got = append(got, fmt.Sprintf("%s %s %s", file, s.Path, context))
		}
	}
	want := []string{
		`sops/yaml-groups.yaml sops.key_groups[0].kms[0].enc null`,
		`sops/yaml-groups.yaml sops.key_groups[1].kms[0].enc {"app":"pay"}`,
		`sops/yaml-groups.yaml sops.key_groups[2].kms[0].enc null`,
		`sops/yaml-groups.yaml document 2: sops.key_groups[0].kms[0].enc null`,
		`sops/yaml-groups.yaml document 2: sops.key_groups[1].kms[0].enc {"app":"pay"}`,
		`sops/yaml-groups.yaml document 2: sops.key_groups[2].kms[0].enc null`,
		`sops/env-mixed.env sops.kms[0].enc {"Stage":"prod/eu","app":"pay"}`,
		`sops/env-mixed.env sops.kms[1].enc {"app":"pay"}`,
		`sops/ini-mixed.ini sops.kms[0].enc {"Stage":"prod/eu","app":"pay"}`,
		`sops/ini-mixed.ini sops.kms[1].enc {"app":"pay"}`,
		`sops/binary-one.bin sops.kms[0].enc null`,
		`pulumi-state/arn-context.json checkpoint.latest.secrets_providers.state.encryptedkey ` +
			`{"app":"pay","stage":"prod/eu"}`,
		`pulumi-state/Pulumi.prod.yaml encryptedkey {"app":"pay"}`,
		`pulumi-state/alias.json checkpoint.latest.secrets_providers.state.encryptedkey null`,
		`biscuit/secrets.yaml ["db/password"][0].key_ciphertext {"SecretName":"db/password"}`,
		`biscuit/secrets.yaml ["db/password"][1].key_ciphertext {"SecretName":"db/password"}`,
		`biscuit/secrets.yaml ["api.token"][0].key_ciphertext {"SecretName":"api.token"}`,
		`ejson-kms/secrets.json secrets[0].ciphertext {"App":"pay","Secret":"password",` +
			`"Stage":"prod"}`,
		`ejson-kms/secrets.json secrets[1].ciphertext {"App":"pay","Secret":"api_key",` +
			`"Stage":"prod"}`,
		`ejson-kms/no-context.json secrets[0].ciphertext {"Secret":"secret"}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("contexts (-want +got):\n%s", diff)
	}
	compiled := compile(t, Spec{
		Format:             formatTinkKeyset,
		Kind:               Objects,
		Context:            map[string]string{"associatedData": "617070"},
		DestinationContext: map[string]string{},
	})
	slots := compiled.Find(object("k", string(read(t, "testdata/tink-keyset/keyset.json")), nil))
	if len(slots) != 1 || slots[0].Context["associatedData"] != "617070" ||
		len(slots[0].DestinationContext) != 0 {
		t.Errorf("keyset: %v", summary(slots))
	}
}

// refusalCase is a document and the summary of its slots.
type refusalCase struct{ format, body, want string }

func sopsRefusals() []refusalCase {
	blob := std64("A")
	return []refusalCase{
		{formatSops, "a: b\n", ""},
		{formatSops, "a: ENC[AES256_GCM,data:x]\n", "sops unknown-format"},
		{formatSops, `{"sops": 3}`, "sops wrong-type"},
		{formatSops, `{"sops": {"kms": null}}`, ""},
		{formatSops, `{"sops": {"mac": "x", "pgp": [{"enc": "x"}]}}`, ""},
		{formatSops, `{"sops": {"kms": [{"enc": "` + blob + `"}]}}`,
			"sops.kms[0].enc missing-sibling"},
		{formatSops, `{"sops": {"kms": [{"arn": "a", "enc": 1}]}}`, "sops.kms[0].enc wrong-type"},
		{formatSops, `{"sops": {"kms": [{"arn": "a", "enc": "!"}]}}`, "sops.kms[0].enc not-base64"},
		{formatSops,
			`{"sops": {"kms": [{"arn": "a", "enc": "` + blob + `", "context": {"a": 1}}]}}`,
			"sops.kms[0].enc wrong-type"},
		{formatSops,
			`{"sops": {"kms": [{"arn": "a", "enc": "` + blob + `", "context": {"a": "1", "a": ` +
				`"2"}}]}}`, "sops.kms[0].enc ambiguous"},
		{formatSops, `{"sops": {"kms": [{"arn": "a", "arn": "b", "enc": "` + blob + `"}]}}`,
			"sops.kms[0].enc ambiguous"},
		{formatSops, `{"sops": {}, "sops": {}}`, "sops ambiguous"},
		{formatSops, "sops:\n  mac: x\nsops:\n  mac: y\n", "sops ambiguous"},
		{formatSops, "sops: [\n", "sops not-yaml"},
		{formatSops, "[sops]\nmac=x\n[sops]\nmac=y\n", "sops ambiguous"},
		{formatSops, "[sops]\nmac=x\nsops: y\n", "sops ambiguous"},
		{formatSops, "sops_kms__list_0__map_enc=x\nsops_kms__list_0__map_enc=y\n",
			"sops ambiguous"},
		{formatSops, "sops_kms__list_1__map_enc=x\n", "sops ambiguous"},
	}
}

func sopsYAMLRefusals() []refusalCase {
	blob := std64("A")
	entry := func(more string) string { return "sops:\n  kms:\n  - " + more + "\n  mac: x\n" }
	return []refusalCase{
		{formatSops, entry(`arn: &x a` + "\n    enc: " + blob), "sops.kms[0].enc wrong-type"},
		{formatSops, entry("arn: a\n    enc: |-\n      " + blob), "sops.kms[0].enc unwritable"},
		{formatSops, entry("arn: a\n    enc: >-\n      " + blob + "\n    context: {a: 'b'}"),
			"sops.kms[0].enc unwritable"},
		{formatSops, entry("arn: \"\\x61\"\n    enc: " + blob), "sops.kms[0].enc unwritable"},
		{formatSops, entry("arn: a\n    <<: {enc: " + blob + "}"), "sops.kms[0] wrong-type"},
		{formatSops, entry("arn: a\n    enc: " + blob + "\n    context: {a: 1}"),
			"sops.kms[0].enc wrong-type"},
		{formatSops,
			entry("arn: 'a'  # of the team\n    enc: \"" + blob + "\"\n    context: {\"a b\": " +
				"\"x\\ty\"}"), "sops.kms[0].enc A map[a b:x\ty] map[a b:x\ty]"},
	}
}

func otherRefusals() []refusalCase {
	blob := std64("A")
	return []refusalCase{
		{formatPulumi, "\x1f\x8b\x08", " compressed"},
		{formatPulumi, "{", " not-json"},
		{formatPulumi,
			`{"checkpoint":{"latest":{"secrets_providers":{"type":"passphrase",` +
				`"state":{"salt":"x"}}}}}`, ""},
		{formatPulumi,
			`{"deployment":{"secrets_providers":{"type":"cloud","state":{"url":"gcpkms://x",` +
				`"encryptedkey":"x"}}}}`, ""},
		{formatPulumi,
			`{"deployment":{"secrets_providers":{"type":"cloud","state":{"url":"awskms:\/\/x",` +
				`"encryptedkey":"` + blob + `"}}}}`,
			"deployment.secrets_providers.state.encryptedkey unwritable"},
		{formatPulumi,
			"secretsprovider: awskms://x?context_a=1&context_a=2\nencryptedkey: " + blob + "\n",
			"encryptedkey ambiguous"},
		{formatPulumi, "secretsprovider: awskms://x?context_a=%zz\nencryptedkey: " + blob + "\n",
			"encryptedkey wrong-type"},
		{formatPulumi, "secretsprovider: awskms://x\n", ""},
		{formatPulumi,
			"secretsprovider: awskms://x\nencryptedkey: " + blob + "\nencryptedkey: " + blob +
				"\n", " ambiguous"},
		{formatBiscuit, "a:\n- key_manager: kms\n  key_ciphertext: " + blob + "\n",
			"a[0].key_ciphertext missing-sibling"},
		{formatBiscuit, "a:\n- key_manager: testing\n  key_ciphertext: x\nb: c\n", "b wrong-type"},
		{formatBiscuit, "a: []\na: []\n", "a ambiguous; a ambiguous"},
		{formatEJSON, "x", " not-json"},
		{formatEJSON, `{"secrets": [{"name": "n", "ciphertext": "EJK2;a;b"}], "kms_key_id": "k"}`,
			"secrets[0].ciphertext unknown-format"},
		{formatEJSON, `{"secrets": [{"name": "n", "ciphertext": "EJK1;` + blob + `;b"}]}`,
			"secrets[0].ciphertext missing-sibling"},
		{formatEJSON, `{"secrets": [{"ciphertext": "EJK1;` + blob + `;b"}], "kms_key_id": "k"}`,
			"secrets[0].ciphertext missing-sibling"},
		{formatEJSON,
			`{"encryption_context": {"Secret": "x"}, "secrets": [{"name": "n", "ciphertext": ` +
				`"EJK1;` + blob + `;b"}], "kms_key_id": "k"}`, "secrets[0].ciphertext ambiguous"},
		{formatTinkKeyset, "\x08\x01", "encryptedKeyset not-json"},
		{formatTinkKeyset, `{"primaryKeyId": 1}`, ""},
		{formatTinkKeyset, `{"encryptedKeyset": 1}`, "encryptedKeyset wrong-type"},
		{formatTinkEnvelope, "\x00\x00\x00\x01A", " not-tink-envelope"},
		{formatTinkEnvelope, "\x00\x00\x10\x01" + strings.Repeat("x", 5000), " too-large"},
		{formatTinkEnvelope, "\x00\x00\x00\x01Ap", " A map[] map[]"},
		{formatTinkEnvelope, "\x00\x00\x00\x00p", " empty"},
	}
}

// TestDocumentRefusals: ciphertexts that cannot be moved safely are refused with a reason.
// Documents of other formats have no slot.
func TestDocumentRefusals(t *testing.T) {
	for _, test := range slices.Concat(sopsRefusals(), sopsYAMLRefusals(), otherRefusals()) {
		compiled := compile(t, Spec{Format: test.format, Kind: Objects})
		got := strings.Join(summary(compiled.Find(object("key", test.body, nil))), "; ")
		if got != test.want {
			t.Errorf("%s: slots of %q are %q, want %q", test.format, test.body, got, test.want)
		}
	}
}

// TestSopsName: the extension of the name determines the type of a file whose content matches two
// types.
func TestSopsName(t *testing.T) {
	body := "sops:\n  kms:\n  - arn: a\n    enc: QQ==\n[sops]\nkms__list_0__map_enc = Qg==\n" +
		"kms__list_0__map_arn = b\n"
	compiled := compile(t, Spec{Format: formatSops, Kind: Objects})
	for key, want := range map[string]string{
		"a/b.ini": "sops.kms[0].enc B map[] map[]",
		"c.env":   "sops ambiguous",
		"d":       "sops ambiguous",
	} {
		if got := strings.Join(summary(compiled.Find(object(key, body, nil))), "; "); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
}

// TestSopsByHand: in files that were edited by hand, with syntax that sops itself does not write,
// line endings, comments, quotes, flow collections and escapes are preserved.
func TestSopsByHand(t *testing.T) {
	old, now := base64.StdEncoding.EncodeToString(goldenBlob("old", 0)),
		base64.StdEncoding.EncodeToString(goldenBlob("new", 0))
	for _, body := range []string{
		"a: b # ü\r\nsops:\r\n  # keys\r\n  kms: # two\r\n  -   enc:   OLD   # here\r\n" +
			"      note: |\r\n        arn: ARN\r\n\r\n        enc: x\r\n      arn: ARN\r\n" +
			"  mac: m\r\nz: 1\r\n",
		"sops:\n  kms: [{note: \"ünï\", enc: OLD, arn: 'ARN'}, {enc: 'OLD', \"arn\": \"ARN\", " +
			"context: {ä: 'it''s'}}]\n  mac: m\n",
		"'sops' :\n\n  \"kms\":\n  - {\"enc\":\"OLD\",\"arn\":\"ARN\"}\n# the end\n---\n" +
			"other: document\n...\n",
		"---\ntext: |\n  sops:\n    kms: [{enc: x, arn: y}]\nsops:\n    kms:\n" +
			"        - arn: ARN\n          enc: OLD",
		"{\"a\": \"sops:\\n\",\t\"sops\": {\"kms\": [{\"enc\"\n:\n" +
			"\"OLD\", \"arn\": \"ARN\", \"context\": {}}], \"mac\": \"m\"}}\n\n",
		"; x\n[a]\nkms__list_0__map_enc = no\n\n[sops]\r\n# keys\nkms__list_0__map_enc:OLD  \n" +
			"\tkms__list_0__map_arn = `ARN`\n`kms__list_0__map_context__map_a:b` = c\n[z]\nk=v\n",
		"A=b\r\nsops_kms__list_0__map_arn=ARN\r\n#sops_kms__list_0__map_arn=x\n" +
			"sops_kms__list_0__map_enc=OLD\r\nsops_mac=m",
	} {
		body = strings.NewReplacer("OLD", old, "ARN", goldenSource).Replace(body)
		compiled := compile(t, Spec{Format: formatSops, Kind: Files})
		item := object("k", body, nil)
		var blobs [][]byte
		for _, s := range compiled.Find(item) {
			blobs = append(blobs, goldenBlob("new", 0))
			if s.Refused != nil {
				t.Errorf("%q: %s: %v", body, s.Path, s.Refused)
			}
		}
		want := strings.NewReplacer(old, now, "arn: "+goldenSource+"\r\n\r\n",
			"arn: "+goldenSource+"\r\n\r\n", goldenSource, goldenDestination).Replace(body)
		if got := string(spliced(t, compiled, item, blobs)); got != want || len(blobs) == 0 {
			t.Errorf("%d slots (-want +got):\n%s", len(blobs), cmp.Diff(want, got))
		}
	}
}

// TestTinkContext: a context that no keyset can have is a problem of the job file.
func TestTinkContext(t *testing.T) {
	for _, test := range []struct {
		context map[string]string
		ok      bool
	}{
		{nil, true}, {map[string]string{}, true},
		{map[string]string{"additionalData": "00ff"}, true},
		{map[string]string{"associatedData": "${key}"}, true},
		{map[string]string{"associatedData": "00FF"}, false},
		{map[string]string{"associatedData": "app"}, false},
		{map[string]string{"associatedData": ""}, false},
		{map[string]string{"app": "00"}, false},
		{map[string]string{"associatedData": "00", "additionalData": "00"}, false},
	} {
		if _, err := Compile(Spec{
			Format:  formatTinkKeyset,
			Kind:    Objects,
			Context: test.context,
		}); (err == nil) != test.ok {
			t.Errorf("%v: %v", test.context, err)
		}
	}
}

// TestLines: every line is a separate document. An invalid line does not affect the others.
func TestLines(t *testing.T) {
	body := `{"t":"1","s":"QQ=="}` + "\r\n\n" + `{"s":"Qg=="}` + "\n{broken\n" + ` {"t":2, "s" ` +
		`: "\u0051w=="}  `
	compiled := compile(t, Spec{
		Format: formatJSONL,
		Kind:   Objects,
		Slots: []SlotSpec{{
			Path:    "s",
			Context: map[string]string{"t": "${body.t}", "k": "${key}"},
		}},
	})
	item := object("key", body, nil)
	want := []string{"line 1: s A map[k:key t:1] map[k:key t:1]", "line 3: s missing-context",
		"line 4: s not-json", "line 5: s C map[k:key t:2] map[k:key t:2]"}
	if diff := cmp.Diff(want, summary(compiled.Find(item))); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
	got := string(spliced(t, compiled, item, [][]byte{[]byte("new"), nil, nil, []byte("newer")}))
	wantBody := strings.NewReplacer("QQ==", std64("new"), `\u0051w==`, std64("newer")).Replace(body)
	if got != wantBody {
		t.Errorf("spliced body %q, want %q", got, wantBody)
	}
}

// TestText: every match of every pattern is a slot. A text that two patterns match is one refused
// slot.
func TestText(t *testing.T) {
	body := "A=QQ==\n# B=QUFB\nexport B=4142\nC='_-8' C=\"QQ\"\nD=QQ==\nnothing=here\n"
	compiled := compile(t, Spec{Format: formatText, Kind: Files, Slots: []SlotSpec{
		{Pattern: `(?m)^A=(\S+)`, Context: map[string]string{"k": "${key}"}},
		{Pattern: `(?m)^export B=(\S+)`, Format: "hex"},
		{Pattern: `C=['"]([^'"]*)`, Format: "base64url"}, {Pattern: `D=(\S+)`},
		{Pattern: `D=(QQ)`}, {Pattern: `nothing(x)?`}}})
	item := object("f", body, nil)
	want := []string{"slots[0], match 1 A map[k:f] map[k:f]", "slots[1], match 1 AB map[] map[]",
		"slots[2], match 1 \xff\xef map[] map[]", "slots[2], match 2 A map[] map[]",
		"slots[4], match 1 ambiguous"}
	if diff := cmp.Diff(want, summary(compiled.Find(item))); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
	got := string(spliced(t, compiled, item,
		[][]byte{[]byte("xyz"), []byte("\xab\xcd"), []byte("\xff\xfe\xfd"), nil, nil}))
	wantBody := strings.NewReplacer("A=QQ==", "A=eHl6", "4142", "abcd", "_-8", "__79").Replace(body)
	if got != wantBody {
		t.Errorf("spliced body %q, want %q", got, wantBody)
	}
	for _, pattern := range []string{"", "(", "a", "(a)(b)"} {
		if _, err := Compile(Spec{
			Format: formatText,
			Kind:   Files,
			Slots:  []SlotSpec{{Pattern: pattern}},
		}); err == nil {
			t.Errorf("pattern %q is accepted", pattern)
		}
	}
}

// TestFramed: the length changes with the blob, in a body and in an attribute. A blob that is too
// long for the length field is an error.
func TestFramed(t *testing.T) {
	for format, encode := range map[string]func(n int) []byte{
		"length-prefixed-u8": func(n int) []byte { return []byte{byte(n)} },
		"length-prefixed-u16be": func(n int) []byte {
			return binary.BigEndian.AppendUint16(nil, uint16(n))
		},
		"length-prefixed-u16le": func(n int) []byte {
			return binary.LittleEndian.AppendUint16(nil, uint16(n))
		},
		"length-prefixed-u32be": func(n int) []byte {
			return binary.BigEndian.AppendUint32(nil, uint32(n))
		},
		"length-prefixed-u32le": func(n int) []byte {
			return binary.LittleEndian.AppendUint32(nil, uint32(n))
		},
		formatTinkEnvelope: func(n int) []byte {
			return binary.BigEndian.AppendUint32(nil, uint32(n))
		},
	} {
		framed := func(blob string) string { return string(encode(len(blob))) + blob + "payload" }
		before, after := strings.Repeat("b", 200), strings.Repeat("a", 250)
		slots := []SlotSpec{{}}
		if format == formatTinkEnvelope {
			slots = nil
		}
		body := compile(t, Spec{Format: format, Kind: Objects, Slots: slots})
		item := object("k", framed(before), nil)
		if got := string(spliced(t, body, item, [][]byte{[]byte(after)})); got != framed(after) {
			t.Errorf("%s: the body became %q", format, got)
		}
		attribute := compile(t, Spec{
			Format: formatRaw,
			Kind:   Rows,
			Slots:  []SlotSpec{{Path: "p", Format: format}, {Path: "s", Format: format}},
		})
		row := row(map[string]scan.Value{"p": blob(framed(before)), "s": text(framed(before))})
		if got := summary(attribute.Find(row)); len(got) != 2 || got[1] != "s wrong-type" {
			t.Errorf("%s: %v", format, got)
		}
		payload, err := attribute.Splice(row, [][]byte{[]byte(after), nil})
		if err != nil || string(payload.(*scan.Row).Attributes["p"].Bytes) != framed(after) {
			t.Errorf("%s: the attribute became %v, %v", format, payload, err)
		}
		if format == "length-prefixed-u8" {
			checkTooLong(t, body, item, attribute, row)
		}
	}
}

// checkTooLong splices a blob that is too long for a length field of one byte.
func checkTooLong(
	t *testing.T,
	body *Compiled,
	object scan.Item,
	attribute *Compiled,
	row scan.Item,
) {
	t.Helper()
	long := bytes.Repeat([]byte("x"), 256)
	if _, err := body.Splice(object, [][]byte{long}); err == nil {
		t.Error("a body accepts a blob that is too long for its length field")
	}
	var spliceErr *SpliceError
	_, err := attribute.Splice(row, [][]byte{long, nil})
	if !errors.As(err, &spliceErr) || len(spliceErr.Failures) != 1 ||
		spliceErr.Failures[0].Index != 0 || spliceErr.Failures[0].Path != "p" {
		t.Errorf("an attribute accepts a blob that is too long for its length field: %v", err)
	}
}

// TestTinkEnvelope: the blob of an envelope that Tink wrote is found.
func TestTinkEnvelope(t *testing.T) {
	envelope := read(t, "testdata/tink-envelope/envelope.bin")
	found := compile(t, Spec{Format: formatTinkEnvelope, Kind: Objects}).Find(object("k",
		string(envelope), nil))
	if len(found) != 1 || !bytes.Equal(found[0].Blob, goldenBlob("old", 0)) {
		t.Errorf("slots of the envelope: %v", summary(found))
	}
}
