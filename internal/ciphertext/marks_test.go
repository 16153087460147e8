package ciphertext

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"strings"
	"testing"

	"rotator/internal/scan"
)

// pulumiFile is a Pulumi file, and the reason with which format pulumi-state refuses it, or "".
type pulumiFile struct{ body, refused string }

// pulumiFiles returns files with the URL of a secrets provider and a data key.
func pulumiFiles(url, blob string) map[string]pulumiFile {
	yaml := func(form string) string {
		return strings.NewReplacer("URL", url, "BLOB", blob).Replace(form)
	}
	return map[string]pulumiFile{
		"plain": {yaml("secretsprovider: URL\nencryptedkey: BLOB\nconfig:\n  a: b\n"),
			""},
		"byte order mark": {byteOrderMark + yaml("secretsprovider: URL\nencryptedkey: BLOB\n"), ""},
		"settings in JSON": {
			yaml(`{"config": {}, "secretsprovider": "URL", "encryptedkey": "BLOB"}`), ""},
		"folded": {yaml("secretsprovider: >-\n  URL\nencryptedkey: >-\n  BLOB\n"), ""},
		"folded, CRLF": {
			yaml("secretsprovider: >-\r\n  URL\r\nencryptedkey: >-\r\n  BLOB\r\nconfig: {}\r\n"),
			""},
		"literal": {yaml("encryptedkey: |\n    BLOB\nsecretsprovider: |-\n    URL"), ""},
		"quotes":  {yaml("'secretsprovider': \"URL\"\n\"encryptedkey\": 'BLOB' # key\n"), ""},
		"document marks": {yaml("%YAML 1.2\n---\nsecretsprovider: URL\nencryptedkey: BLOB\n...\n"),
			""},
		"folded over lines": {
			yaml("secretsprovider: URL\nencryptedkey: >-\n  " + blob[:40] + "\n  " + blob[40:] +
				"\n"), "unwritable"},
		"quoted over lines": {
			yaml("secretsprovider: URL\nencryptedkey: \"" + blob[:40] + "\\\n  " + blob[40:] +
				"\"\n"), "unwritable"},
		"anchor": {yaml("secretsprovider: &p URL\nencryptedkey: BLOB\n"), "unknown-format"},
		"alias": {yaml("x: &p URL\nsecretsprovider: *p\nencryptedkey: BLOB\n"),
			"unknown-format"},
		"tag": {yaml("secretsprovider: !!str URL\nencryptedkey: BLOB\n"),
			"unknown-format"},
		"tag on the key": {yaml("secretsprovider: URL\nencryptedkey: !!str BLOB\n"), "wrong-type"},
		"indented": {yaml("  secretsprovider: URL\n  encryptedkey: BLOB\n"),
			"unknown-format"},
		"explicit key": {yaml("? secretsprovider\n: URL\n? encryptedkey\n: BLOB\n"),
			"unknown-format"},
		"flow": {yaml("{secretsprovider: URL, encryptedkey: BLOB}\n"), "not-json"},
		"merge": {
			yaml("x: &m {secretsprovider: \"URL\", encryptedkey: \"BLOB\"}\n<<: *m\n"),
			"unknown-format"},
		"escapes in names": {
			yaml("\"secretspro\\x76ider\": URL\n\"encrypted\\u006bey\": BLOB\n"), "unknown-format"},
		"escapes in the URL": {yaml("secretsprovider: \"awskms:\\/\\/x\"\nencryptedkey: BLOB\n"),
			"unwritable"},
		"names in other case": {yaml(`{"SecretsProvider": "URL", "EncryptedKey": "BLOB"}`),
			"unknown-format"},
		"journal entry": {
			yaml(
				`{"newSnapshot": {"secrets_providers": {"type": "cloud", ` +
					`"state": {"url": "URL", "encryptedkey": "BLOB"}}}}`), "unknown-format"},
	}
}

// TestPulumiSyntax: for each syntax of a Pulumi file, the data key is replaced, or the file is
// refused with a reason. Format auto replaces or refuses the same files.
func TestPulumiSyntax(t *testing.T) {
	blob, url := std64(string(kmsBlob("old"))), "awskms:///"+goldenSource+"?context_a=b"
	for name, test := range pulumiFiles(url, blob) {
		for _, format := range []string{formatPulumi, formatAuto} {
			f := compile(t, Spec{Format: format, Kind: Files})
			item := object("Pulumi.prod.yaml", test.body, nil)
			found := f.Find(item)
			if len(found) != 1 {
				t.Errorf("%s, %s: %v", format, name, summary(found))
				continue
			}
			if refused := found[0].Refused; test.refused != "" {
				// auto cannot distinguish the reasons
				if refused == nil || format == formatPulumi && refused.Reason != test.refused {
					t.Errorf("%s, %s: %v", format, name, refused)
				}
				continue
			}
			if found[0].Refused != nil || found[0].Context["a"] != "b" {
				t.Errorf("%s, %s: %v, %v", format, name, found[0].Refused, found[0].Context)
				continue
			}
			fresh := kmsBlob("another one")
			want := strings.NewReplacer(blob, std64(string(fresh)), goldenSource,
				goldenDestination).Replace(test.body)
			if got := string(spliced(t, f, item, [][]byte{fresh})); got != want {
				t.Errorf("%s, %s: %q, want %q", format, name, got, want)
			}
		}
	}
}

// TestUnreadableMarks: a body with the marks of a format always has a slot, in that format and in
// auto.
func TestUnreadableMarks(t *testing.T) {
	blob := std64(string(kmsBlob("1")))
	sops := "kms:\n  - arn: " + goldenSource + "\n    enc: " + blob + "\nlastmodified: x\nmac: m\n"
	biscuit := "- key_id: " + goldenSource + "\n  key_manager: kms\n  key_ciphertext: " + blob +
		"\n  algorithm: a\n"
	indent := func(text string) string {
		return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") + "\n"
	}
	instruction := `{"x-amz-key-v2":"` + blob +
		`","x-amz-iv":"i","x-amz-wrap-alg":"kms","x-amz-matdesc":"{}"}`
	for _, test := range []struct{ name, format, key, body string }{
		{"sops, indented", formatSops, "x.yaml", " sops:\n" + indent(sops)},
		{"sops, explicit key", formatSops, "x.yaml", "? sops\n:\n" + indent(sops)},
		{"sops, anchor on the name", formatSops, "x.yaml", "&s sops:\n" + indent(sops)},
		{"biscuit, indented", formatBiscuit, "x.yaml", " name:\n" + indent(biscuit)},
		{"biscuit, explicit key", formatBiscuit, "x.yaml", "? name\n:\n" + indent(biscuit)},
		{"ejson-kms, nested", formatEJSON, "x.json",
			`{"a":{"secrets":[{"name":"n","ciphertext":"EJK1;` + blob + `;s"}]}}`},
		{"tink, in a list", formatTinkKeyset, "x.json",
			`[{"encryptedKeyset":"` + blob + `","keysetInfo":{}}]`},
		{"instruction file, cut off", formatS3EC, "x.instruction",
			instruction[:len(instruction)-2]},
		{"instruction file, nested", formatS3EC, "x.instruction", `{"a":` + instruction + `}`},
	} {
		for _, format := range []string{test.format, formatAuto} {
			found := compile(t, Spec{Format: format, Kind: Objects}).
				Find(object(test.key, test.body, nil))
			// With auto, a body that only its name marks as an instruction file is an
			// ordinary body.
			anyBody := format == formatAuto && test.format == formatS3EC
			if !anyBody && (len(found) == 0 || found[0].Refused == nil) {
				t.Errorf("%s in format %s: %v", test.name, format, summary(found))
			}
		}
	}
}

// TestNoMarks: a body that only mentions a format, or has its marks without KMS, has no slot.
func TestNoMarks(t *testing.T) {
	for name, test := range map[string]struct{ format, body string }{
		"sops configuration": {formatSops,
			"creation_rules:\n- kms: " + goldenSource + "\n  encrypted_regex: mac\n"},
		"sops with age": {formatSops,
			"role: " + goldenSource +
				"\nsops:\n  age:\n  - recipient: r\n    enc: e\n  lastmodified: x\n  mac: m\n"},
		"pulumi, passphrase": {formatPulumi, "encryptionsalt: v1:x\nconfig: {}\n"},
		"pulumi, no key yet": {formatPulumi, "secretsprovider: awskms://alias/x\n"},
		"biscuit, other":     {formatBiscuit, "a:\n- key_manager: testing\n  key_ciphertext: x\n"},
		"tink, no keyset":    {formatTinkKeyset, `{"primaryKeyId": 1, "encryptedKeyset": ""}`},
		"text on ejson-kms":  {formatAuto, "values begin with EJK1; and a data key"},
		"OpenTofu, no KMS": {formatAuto,
			`{"meta":{"key_provider.pbkdf2.main":"e30="},"encrypted_data":"x"}`},
		"OpenTofu, mentioned": {formatAuto, `{"note":"key_provider.aws_kms","encrypted_data":"x"}`},
		"Spring, own key": {formatAuto,
			"password: '{cipher}" + strings.Repeat("ab", 60) + "'\n"},
	} {
		for _, format := range []string{test.format, formatAuto} {
			found := compile(t, Spec{Format: format, Kind: Files}).Find(object("x", test.body, nil))
			for _, s := range found {
				if s.Refused != nil && (s.Refused.Reason == "unknown-format" ||
					s.Refused.Reason == "opentofu-state") {
					t.Errorf("%s in format %s: %v", name, format, s.Refused)
				}
			}
		}
	}
}

// misreadCase is a refused slot, its reason, and a text that its detail must contain.
type misreadCase struct {
	found        []Slot
	reason, help string
}

func slotsOfAttribute(t *testing.T, format string, v scan.Value) []Slot {
	f := compile(t, Spec{Format: format, Kind: Rows, Slots: []SlotSpec{{Path: "a"}}})
	return f.Find(row(map[string]scan.Value{"a": v}))
}

func slotsOfBody(t *testing.T, spec Spec, text string) []Slot {
	spec.Kind = Objects
	return compile(t, spec).Find(object("x", text, nil))
}

func misreadAttributes(t *testing.T, raw []byte) map[string]misreadCase {
	blob := base64.StdEncoding.EncodeToString(raw)
	pydynox := append(binary.BigEndian.AppendUint16([]byte{1}, uint16(len(raw))), raw...)
	pydynox = append(pydynox, "nonce and payload"...)
	return map[string]misreadCase{
		"prefix v1:": {slotsOfAttribute(t, formatBase64, text("v1:"+blob)), "text-around",
			"pattern"},
		"prefix and more": {slotsOfAttribute(t, formatBase64, text("v1."+blob+".bm9uY2U.Y3Q")),
			"text-around", "pattern"},
		"pydynox": {slotsOfAttribute(t, formatBase64, text("ENC:"+std64(string(pydynox)))),
			"pydynox",
			"write it again"},
		"plaintext": {slotsOfAttribute(t, formatBase64, text("hunter2!")), "not-base64",
			"never encrypted"},
		"hex, read as base64": {slotsOfAttribute(t, formatBase64, text(fmt.Sprintf("%x", raw))),
			"not-base64",
			"set format: hex"},
		"base64, read as hex": {slotsOfAttribute(t, formatHex, text(blob)), "not-hex",
			"set format: base64"},
		"base64 in B, read raw": {slotsOfAttribute(t, formatRaw,
			scan.Value{Kind: scan.KindB, Bytes: []byte(blob)}), "encoded-twice", "format base64"},
		"hex in B, read raw": {slotsOfAttribute(t, formatRaw,
			scan.Value{Kind: scan.KindB, Bytes: fmt.Appendf(nil, "%x", raw)}), "encoded-twice",
			"format hex"},
	}
}

func misreadBodies(t *testing.T, raw []byte) map[string]misreadCase {
	blob := base64.StdEncoding.EncodeToString(raw)
	spring := "(Country=UG9y,Code=MQ==)" + blob
	eyaml := "ENC[KMS," + blob[:52] + "\n    " + blob[52:112] + "\n    " + blob[112:] + "]"
	tofu := `{"ciphertext_blob":"` + blob + `","plaintext":null}`
	state := `{"meta":{"key_provider.aws_kms.main":"` + std64(tofu) +
		`"},"encrypted_data":"x","encryption_version":"v0"}`
	pattern := func(p string) Spec {
		return Spec{Format: formatText, Slots: []SlotSpec{{Pattern: p}}}
	}
	auto := Spec{Format: formatAuto}
	return map[string]misreadCase{
		"raw, read as base64": {slotsOfBody(t, Spec{Format: formatBase64, Slots: []SlotSpec{{}}},
			string(raw)), "not-base64", "set format: raw"},
		"base64 twice": {slotsOfBody(t, pattern(`pw: (\S+)`), "pw: "+std64(blob)+"\n"),
			"encoded-twice",
			"encoded once"},
		"hiera-eyaml " +
			"block": {slotsOfBody(t, pattern(`ENC\[KMS,([^\]]+)\]`), "pw: >\n    "+eyaml+"\n"),
			"indented-base64", "one line"},
		"hiera-eyaml, auto": {slotsOfBody(t, auto, "pw: >\n    "+eyaml+"\n"), "unknown-format",
			"format text"},
		"Spring context": {slotsOfBody(t, pattern(`\{cipher\}(\S+)`), "pw={cipher}"+spring+"\n"),
			"spring-cipher-context", "one slot per context"},
		"Spring context, auto": {slotsOfBody(t, auto, "pw={cipher}"+spring+"\n"),
			"spring-cipher-context",
			"one slot per context"},
		"Spring, auto": {slotsOfBody(t, auto, "pw={cipher}"+blob+"\n"), "unknown-format",
			"format text"},
		"OpenTofu, auto": {slotsOfBody(t, auto, state), "opentofu-state", "fallback"},
		"OpenTofu, by its path": {
			slotsOfBody(t, Spec{
				Format: formatJSON,
				Slots:  []SlotSpec{{Path: `meta["key_provider.aws_kms.main"]`}},
			}, state), "opentofu-state", "fallback"},
		"instruction file, auto": {slotsOfBody(t, auto,
			`{"x-amz-key-v2":"`+blob+
				`","x-amz-iv":"i","x-amz-wrap-alg":"kms","x-amz-matdesc":"{}"}`), "unknown-format",
			"instruction_suffix"},
	}
}

// TestMisread: a value with a ciphertext in an unsupported form is refused with a reason of its own
// and advice. Plaintext is not mistaken for it.
func TestMisread(t *testing.T) {
	raw := kmsBlob(strings.Repeat("123", 30))
	blob := base64.StdEncoding.EncodeToString(raw)
	cases := misreadBodies(t, raw)
	maps.Copy(cases, misreadAttributes(t, raw))
	for name, test := range cases {
		if len(test.found) != 1 || test.found[0].Refused == nil {
			t.Errorf("%s: %v", name, summary(test.found))
			continue
		}
		if r := test.found[0].Refused; r.Reason != test.reason ||
			!strings.Contains(r.Detail, test.help) ||
			strings.Contains(r.Detail, blob[:20]) {
			t.Errorf("%s: %v", name, r)
		}
	}
}

// TestTextInRows: format text is refused for attributes, and the error names
// the alternatives.
func TestTextInRows(t *testing.T) {
	spec := Spec{Format: formatText, Kind: Rows, Slots: []SlotSpec{{Pattern: "v1:(.*)"}}}
	_, err := Compile(spec)
	if err == nil || !strings.Contains(err.Error(), "cannot be moved yet") {
		t.Error(err)
	}
}

// TestInstructionSuffix: instruction files can have a custom suffix and no mark in their metadata,
// as the clients for PHP and Ruby write them.
func TestInstructionSuffix(t *testing.T) {
	blob := std64(string(kmsBlob("1")))
	body := `{"x-amz-iv":"i","x-amz-key-v2":"` + blob +
		`","x-amz-matdesc":"{\"kms_cmk_id\":\"k\"}","x-amz-wrap-alg":"kms"}`
	for _, format := range []string{formatS3EC, formatAuto} {
		for _, kind := range []Kind{Objects, Files} {
			f := compile(t, Spec{Format: format, Kind: kind, InstructionSuffix: "-envelope"})
			for _, key := range []string{"a-envelope", "a.instruction"} {
				item := object(key, body, nil)
				found := f.Find(item)
				if len(found) != 1 || found[0].Refused != nil || !f.NeedsBody(key, nil) {
					t.Errorf("%s, %s: %v", format, key, summary(found))
					continue
				}
				checkObjectLaws(t, f, item)
			}
		}
	}
	if compile(t, Spec{Format: formatS3EC, Kind: Objects, InstructionSuffix: "-envelope"}).
		NeedsBody("a", nil) {
		t.Error("the body of an object without the suffix is read")
	}
	if _, err := Compile(Spec{
		Format:            formatSops,
		Kind:              Objects,
		InstructionSuffix: "-envelope",
	}); err == nil {
		t.Error("format sops accepts instruction_suffix")
	}
}
