package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// objectTarget returns a target of all objects of a case, with further lines.
func objectTarget(lines ...string) string {
	return "  - s3: { bucket: field, prefix: NAME/ }\n    " + strings.Join(lines, "\n    ") + "\n"
}

func objectsOf(bodies map[string]string) (objects []fieldObject) {
	for _, key := range slices.Sorted(maps.Keys(bodies)) {
		objects = append(objects, fieldObject{key: key, body: bodies[key]})
	}
	return objects
}

// refusedWith returns the result of a case in which n slots are refused.
func refusedWith(reason string, n int64, texts string) fieldWant {
	return fieldWant{
		run:     exitExceptions,
		reasons: map[string]int64{reason: n},
		texts:   []string{texts},
	}
}

// utf16LE encodes a text like > in PowerShell 5.
func utf16LE(text string) []byte {
	out := []byte{0xff, 0xfe}
	for _, unit := range utf16.Encode([]rune(text)) {
		out = binary.LittleEndian.AppendUint16(out, unit)
	}
	return out
}

func gzipped(text string) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write([]byte(text)) // a buffer accepts all writes
	_ = w.Close()
	return out.Bytes()
}

// objectCases returns bodies that are only a ciphertext, texts, keys and job files.
func objectCases() []fieldCase {
	return slices.Concat(
		bareCases(), keyCases(), textCases(), jobFileCases(), []fieldCase{contextsOdd()},
	)
}

func bareCases() []fieldCase {
	unsealer := fieldContexts{before: map[string]string{"Tool": "vault-unsealer"}}
	header := s3.PutObjectInput{
		ContentType: aws.String("application/x-vault"),
		Metadata:    map[string]string{"owner": "bank-vaults"},
	}
	return []fieldCase{
		{
			name: "bank-vaults-s3",
			targets: objectTarget("format: raw",
				"slots: [{ context: { Tool: vault-unsealer } }]"),
			objects: []fieldObject{
				{key: "vault-root", body: "<raw:26>", contexts: unsealer, header: header},
				{key: "vault-unseal-0", body: "<raw:66>", contexts: unsealer, header: header},
			},
		},
		{
			name:    "base64-unknown-padding",
			to:      "new-rsa",
			targets: objectTarget("format: base64", "slots: [{}]"),
			objects: objectsOf(map[string]string{
				"1": "<base64:1>", "2": "<base64:2>", "3": "<base64:3>", "4": "<base64:4>",
				"5": "<base64:5>", "6": "<base64:6>",
			}),
		},
		{
			name:    "base64-unknown-padding-always",
			to:      "new-rsa",
			targets: objectTarget("format: base64", "slots: [{ padding: always }]"),
			objects: objectsOf(map[string]string{"1": "<base64:1>", "4": "<base64:4>"}),
		},
		{
			name:    "double-base64",
			targets: objectTarget("format: base64", "slots: [{}]"),
			objects: objectsOf(map[string]string{"secret": "<!twice:32>", "plain": "<base64:32>"}),
			want: refusedWith("encoded-twice", 1,
				"the decoded value is again base64.* format base64 instead of raw.* Kubernetes"),
		},
		{
			name:    "powershell-utf16-base64",
			targets: objectTarget("format: base64", "slots: [{}]"),
			objects: []fieldObject{{key: "f", body: "<base64:32>\r\n", encode: utf16LE}},
			want:    refusedWith("not-utf8", 1, "UTF-16"),
		},
	}
}

// keyCases returns cases with unusual keys of objects.
func keyCases() []fieldCase {
	odd := map[string]string{}
	for _, key := range []string{
		"a+b", "100%", "//", "a/./b", "a/../b", "line\r\nbreak", "\U0001f512",
		`q"uo'te`, " spaces ",
		strings.Repeat("k", 1024-len("s3-odd-keys/")),
	} {
		odd[key] = "<base64:5>"
	}
	return []fieldCase{
		{
			name:    "s3-folder-marker",
			targets: objectTarget("format: base64", "slots: [{}]"),
			objects: objectsOf(map[string]string{
				"": "", "sub/": "", "sub_$folder$": "", "a": "<base64:5>",
			}),
		},
		{
			name:    "s3-odd-keys",
			targets: objectTarget("format: base64", "slots: [{}]"),
			objects: objectsOf(odd),
		},
	}
}

// contextsOdd returns a case with a target for each kind of context that KMS allows.
func contextsOdd() fieldCase {
	many, same := map[string]string{}, map[string]string{"App": "1", "app": "2", "APP": "3"}
	for i := range 60 {
		many[fmt.Sprintf("name-%02d", i)] = fmt.Sprint(i)
	}
	c := fieldCase{name: "contexts-odd"}
	for i, context := range []map[string]string{
		{"empty": ""}, {"größe": "日本語 \U0001f512"}, many, {"long": strings.Repeat("x", 3000)},
		{" with spaces ": "  two  "}, same, {"aws:lambda:FunctionArn": "arn:aws:lambda:x: #y"},
	} {
		var pairs []string
		for _, name := range slices.Sorted(maps.Keys(context)) {
			pairs = append(pairs, fmt.Sprintf("%q: %q", name, context[name]))
		}
		c.targets += fmt.Sprintf(
			"  - s3: { bucket: field, prefix: NAME/%d/ }\n    format: base64\n"+
				"    slots: [{ context: { %s } }]\n", i, strings.Join(pairs, ", "))
		c.objects = append(c.objects, fieldObject{
			key:      fmt.Sprintf("%d/a", i),
			body:     "<base64:9>",
			contexts: fieldContexts{before: context},
		})
	}
	return c
}

func textCases() []fieldCase {
	return []fieldCase{
		{
			name: "text-dumps",
			targets: textTarget("sql/", `'\\\\x([0-9a-f]+)'`, "hex") +
				textTarget("env/", `0x([0-9a-f]+)`, "hex") +
				textTarget("rb/", `v1:([A-Za-z0-9+/=]+)`, "base64") +
				textTarget("cfg/", `(?m)^(?:us-east-1_password=|payload = ")([\w+/=]+)`, "base64") +
				textTarget("taupage/", `aws:kms:([A-Za-z0-9+/=]+)`, "base64"),
			objects: objectsOf(map[string]string{
				"sql/a": "INSERT INTO t VALUES (1, '\\\\x<hex:9>'),\n(2, '\\\\x<hex:10>');\n",
				"env/a": "KEY=0x<hex:16>\n",
				"rb/a":  "encrypted: 'v1:<base64:32>'\nother: 'v1:<base64:31>'\n",
				"cfg/a": "[Bless CA]\nus-east-1_password=<base64:20>\n" +
					"payload = \"<base64:21>\"\n",
				"taupage/a": "environment:\r\n  A: \"aws:kms:<base64:8>\"\r\n",
			}),
		},
		{
			name:    "text-pattern-leaves-padding",
			to:      "new-rsa",
			targets: textTarget("", `(?m)^A\d=([A-Za-z0-9+/]+)`, "base64"),
			objects: objectsOf(map[string]string{"env": "A1=<!base64:2>\nA2=<!base64:3>\n"}),
			want:    refusedWith("part-of-text", 2, "padding follows the group"),
		},
		{
			name:    "hiera-eyaml-kms-block",
			targets: textTarget("", `ENC\[KMS,([^\]]+)\]`, "base64"),
			objects: []fieldObject{{
				key:    "common.eyaml",
				body:   "---\npassword: >\n    ENC[KMS,<base64:12>]\n",
				encode: func(text string) []byte { return []byte(eyamlBlock(text)) },
			}},
			want: refusedWith("indented-base64", 1,
				"block form of hiera-eyaml.*store it on one line"),
		},
		{
			name:    "spring-cipher-context",
			targets: textTarget("", `\{cipher\}(\S+)'`, "base64"),
			objects: []fieldObject{{
				key:  "application.yml",
				body: "password: '{cipher}(Country=QnJhemls,Code=ODQ=)<!base64:12>'\n",
				contexts: fieldContexts{
					before: map[string]string{"Country": "Brazil", "Code": "84"}},
			}},
			want: refusedWith("spring-cipher-context", 1, "Add one slot per context"),
		},
		{
			name:    "opentofu-state",
			targets: objectTarget("format: auto"),
			objects: []fieldObject{{
				key:    "terraform.tfstate",
				body:   "<base64:32>",
				encode: openTofuState,
			}},
			want: refusedWith("opentofu-state", 1, "fallback block, and run tofu apply"),
		},
	}
}

func textTarget(key, pattern, format string) string {
	return fmt.Sprintf("  - s3: { bucket: field, prefix: NAME/%s }\n    format: text\n"+
		"    slots: [{ pattern: '%s', format: %s }]\n",
		key, strings.ReplaceAll(pattern, "'", "''"), format)
}

// eyamlBlock breaks a long line like hiera-eyaml.
func eyamlBlock(text string) string {
	head, blob, _ := strings.Cut(text, "ENC[KMS,")
	var lines []string
	for line := range slices.Chunk([]byte("ENC[KMS,"+blob), 60) {
		lines = append(lines, string(line))
	}
	return head + strings.Join(lines, "\n    ")
}

// openTofuState returns an encrypted state whose data key is wrapped by KMS.
func openTofuState(blob string) []byte {
	provider := fmt.Sprintf(`{"ciphertext_blob":%q}`, blob)
	return fmt.Appendf(nil, `{"serial":1,"lineage":"l","meta":{"key_provider.aws_kms.main":%q},`+
		`"encrypted_data":"c2VjcmV0","encryption_version":"v0"}`, std64([]byte(provider)))
}

func jobFileCases() []fieldCase {
	single := objectTarget("format: base64", "slots: [{}]")
	return []fieldCase{
		{
			name:    "job-arn-in-flow-list",
			head:    "source: { keys: [OLD] }\ndestination: { key: NEW }\n",
			targets: single,
			objects: objectsOf(map[string]string{"a": "<base64:5>"}),
		},
		{
			name: "job-flow-destination-context",
			targets: objectTarget("format: base64",
				"slots: [{ context: {}, destination_context: { app:tenant: t1 } }]"),
			objects: []fieldObject{{
				key:      "a",
				body:     "<base64:5>",
				contexts: fieldContexts{after: map[string]string{"app:tenant": "t1"}},
			}},
		},
		{
			name: "s3-access-point-arn",
			targets: "  - s3: { bucket: arn:aws:s3:us-east-1:111122223333:accesspoint/ap1 }\n" +
				"    format: base64\n    slots: [{}]\n",
			want: fieldWant{
				run:   exitJob,
				texts: []string{`job.yaml:5:19: targets\[0\].s3.bucket: an access point`},
			},
		},
	}
}

// documentCases returns documents whose formats determine the locations of ciphertexts.
func documentCases() []fieldCase {
	return slices.Concat(jsonCases(), sopsCases(), []fieldCase{
		gzipCase(),
		{
			name: "s3ec-suffix-without-mark",
			targets: objectTarget("format: s3-encryption-client",
				"instruction_suffix: .envelope"),
			objects: objectsOf(map[string]string{
				"a": "sealed by the client", "a.envelope": instruction,
			}),
		},
		{
			name:    "s3ec-suffix-that-no-option-names",
			targets: objectTarget("format: auto"),
			objects: objectsOf(map[string]string{
				"a":          "sealed by the client",
				"a.envelope": strings.Replace(instruction, "<", "<!", 1),
			}),
			want: refusedWith("unknown-format", 1, "set instruction_suffix at the target"),
		},
	})
}

// instruction is an instruction file as the clients for PHP and Ruby write it: without
// x-amz-crypto-instr-file in its metadata.
const instruction = `{"x-amz-key-v2":"<base64:32>","x-amz-iv":"aXY=","x-amz-matdesc":"{}",` +
	`"x-amz-wrap-alg":"kms","x-amz-cek-alg":"AES/GCM/NoPadding","x-amz-tag-len":"128"}`

func jsonCases() []fieldCase {
	wrapped := objectTarget("format: json", "slots: [{ path: wrapped }]")
	lines := objectTarget("format: jsonl", "slots: [{ path: wrapped }]")
	return []fieldCase{
		{
			name:    "json-bom",
			targets: wrapped,
			objects: objectsOf(map[string]string{
				"a.json": "\ufeff{\"wrapped\": \"<base64:7>\"}\r\n"}),
		},
		{
			name:    "json-bom-lines",
			targets: lines,
			objects: objectsOf(map[string]string{
				"a.jsonl": "\ufeff{\"wrapped\":\"<base64:7>\"}\r\n{\"wrapped\":\"<base64:8>\"}\r\n",
			}),
		},
		{
			name:    "json-escapes",
			targets: wrapped,
			objects: objectsOf(map[string]string{
				"a.json": "{\"n\" : 1.50e+01,\r\n\t\"u\\u00e9\\/\": \"\\u002B\", " +
					"\"wrapped\":\"<json:32>\" ,\r\n" +
					"\"big\": 123456789012345678901234567890, \"wrapped2\": null}\r\n",
			}),
		},
		{
			name:    "json-key-id-beside",
			targets: wrapped,
			objects: objectsOf(map[string]string{
				"a.json": `{"keyArn": "OLD", "wrapped": "<base64:32>"}`,
				"b.json": `{"keyArn": "OLD", "wrapped": "<base64:16>"}`,
			}),
			want: fieldWant{texts: []string{
				`The ID of a source key is stored next to 2 ciphertexts`,
				`first: keyArn of json-key-id-beside/[ab].json`,
			}},
		},
		{
			name:    "ruby-encode64",
			targets: wrapped,
			objects: objectsOf(map[string]string{
				"a.json": `{"wrapped":"<json-lines:32>","other":1}` + "\n",
			}),
		},
	}
}

// gzipCase returns compressed bodies, with and without a Content-Encoding header.
func gzipCase() fieldCase {
	return fieldCase{
		name:    "gzip-jsonl",
		targets: objectTarget("format: jsonl", "slots: [{ path: wrapped }]"),
		objects: []fieldObject{
			{
				key:    "2024/x.jsonl.gz",
				body:   strings.Repeat("{\"wrapped\":\"<base64:9>\"}\n", 55),
				encode: gzipped,
			},
			{
				key:    "2024/y.jsonl",
				body:   "{\"wrapped\":\"<base64:9>\"}\n",
				header: s3.PutObjectInput{ContentEncoding: aws.String("gzip")},
				encode: gzipped,
			},
		},
		want: refusedWith("compressed", 2, "gzip"),
	}
}

// sopsStanza is the metadata that sops stores for a data key, in YAML.
const sopsStanza = `sops:
    kms:
        - arn: <was OLD now NEW>
          created_at: "2024-03-01T12:00:00Z"
          enc: <base64:32>
          aws_profile: ""
    lastmodified: "2024-03-01T12:00:01Z"
    mac: ENC[AES256_GCM,data:bWFj,iv:aXY=,tag:dGFn,type:str]
    version: 3.9.0
`

const sopsData = "ENC[AES256_GCM,data:ZGF0YQ==,iv:aXY=,tag:dGFn,type:str]"

func sopsCases() []fieldCase {
	yaml := "a: " + sopsData + "\nlist:\n    - " + sopsData + "\n" + sopsStanza
	json := `{"data": "` + sopsData + `", "sops": {"kms": [{"arn": "<was OLD now NEW>", ` +
		`"enc": "<base64:32>", "aws_profile": ""}], "lastmodified": "x", "mac": "m", ` +
		`"version": "3.9.0"}}`
	env := "A=" + sopsData + "\nsops_kms__list_0__map_arn=<was OLD now NEW>\n" +
		"sops_kms__list_0__map_enc=<base64:32>\nsops_lastmodified=x\nsops_mac=m\n" +
		"sops_version=3.9.0\n"
	ini := "[db]\npassword = " + sopsData +
		"\n\n[sops]\nkms__list_0__map_arn = <was OLD now NEW>\n" +
		"kms__list_0__map_enc = <base64:32>\nlastmodified = x\nmac = m\nversion = 3.9.0\n"
	crlf := func(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }
	context := strings.Replace(yaml, "          created_at", "          context:\n"+
		"            app: two words\n            Größe: \"0\"\n          created_at", 1)
	types := map[string]string{
		"a.yaml": yaml, "a.json": json, "a.env": env, "a.ini": ini, "a.bin": json,
	}
	odd := map[string]string{
		"crlf.yaml": crlf(yaml), "crlf.json": crlf(json), "crlf.ini": crlf(ini),
		"bom.yaml": "\ufeff" + yaml, "bom.ini": "\ufeff" + ini,
	}
	return []fieldCase{
		{
			name:    "sops-types",
			targets: objectTarget("format: sops"),
			objects: append(objectsOf(types), fieldObject{
				key:  "context.yaml",
				body: context,
				contexts: fieldContexts{
					before: map[string]string{"app": "two words", "Größe": "0"}},
			}),
		},
		{
			name:    "sops-crlf-and-bom",
			targets: objectTarget("format: sops"),
			objects: objectsOf(odd),
		},
		{
			name:    "sops-yaml-utf16",
			targets: objectTarget("format: sops"),
			objects: []fieldObject{
				{key: "a.yaml", body: yaml},
				{key: "b.yaml", body: yaml, encode: utf16LE},
			},
			want: refusedWith("not-utf8", 1, "UTF-16"),
		},
		{
			name:    "gzip-sops",
			targets: objectTarget("format: sops"),
			objects: []fieldObject{{key: "a.yaml.gz", body: yaml, encode: gzipped}},
			want:    refusedWith("compressed", 1, "gzip"),
		},
	}
}

// pulumiStack is the settings file of a stack.
const pulumiStack = "secretsprovider: awskms:///<was OLD now NEW>?region=us-east-1\n" +
	"encryptedkey: <base64:32>\nconfig:\n  a: b\n"

// pulumiCase returns a case with an unusual file and a usual one.
func pulumiCase(name, key, body string, want fieldWant) fieldCase {
	return fieldCase{
		name:    name,
		targets: objectTarget("format: pulumi-state"),
		objects: objectsOf(map[string]string{"a/Pulumi.prod.yaml": pulumiStack, key: body}),
		want:    want,
	}
}

func pulumiCases() []fieldCase {
	const dev = "Pulumi.dev.yaml"
	stays := strings.NewReplacer("<base64", "<!base64", "<was OLD now NEW>", "OLD").
		Replace(pulumiStack)
	anchor := strings.Replace(stays, "awskms", "&p awskms", 1)
	tag := strings.Replace(stays, "<!base64", "!!str <!base64", 1)
	folded := "secretsprovider: >-\n  awskms:///<was OLD now NEW>?region=us-east-1\n" +
		"encryptedkey: >-\n  <base64:32>\n"
	json := `{"encryptedkey": "<base64:32>", ` +
		`"secretsprovider": "awskms:///<was OLD now NEW>?region=us-east-1"}`
	utf16 := pulumiCase("pulumi-utf16", dev, "", refusedWith("not-utf8", 1, "UTF-16"))
	utf16.objects[0] = fieldObject{key: dev, body: pulumiStack, encode: utf16LE}
	return []fieldCase{
		utf16, pulumiForms(),
		pulumiCase("pulumi-bom", dev, "\ufeff"+pulumiStack, fieldWant{}),
		pulumiCase("pulumi-folded", dev, folded, fieldWant{}),
		pulumiCase("pulumi-settings-json", "Pulumi.dev.json", json, fieldWant{}),
		pulumiCase("pulumi-anchor-tag", dev, anchor,
			refusedWith("unknown-format", 1, "without indentation, anchors")),
		pulumiCase("pulumi-anchor-tag-key", dev, tag, refusedWith("wrong-type", 1, "encryptedkey")),
	}
}

// pulumiForms returns settings with an alias in the URL, and a state with a context in the URL.
func pulumiForms() fieldCase {
	settings := "# a stack\r\n'encryptedkey': \"<base64:32>\" # key\r\n" +
		"secretsprovider: 'awskms://<was alias/old now /NEW>?region=us-east-1'\r\n"
	state := `{"checkpoint":{"latest":{"secrets_providers":{"type":"cloud","state":{"url":` +
		`"awskms:///<was OLD now NEW>?context_a=b\u0026region=us-east-1",` +
		`"encryptedkey":"<base64:32>"}}}}}`
	c := pulumiCase("pulumi-forms", "Pulumi.dev.yaml", settings, fieldWant{})
	c.objects = append(c.objects, fieldObject{
		key:      "stack.json",
		body:     state,
		contexts: fieldContexts{before: map[string]string{"a": "b"}},
	})
	return c
}
