package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// tableTarget returns the table of a case as a target, with further lines.
func tableTarget(lines ...string) string {
	return "  - dynamodb: { table: NAME }\n    " + strings.Join(lines, "\n    ") + "\n"
}

// ssnRow returns an item with the key id and one attribute ssn.
func ssnRow(id string, ssn types.AttributeValue) fieldRow {
	return fieldRow{item: attributes{"id": textOf(id), "ssn": ssn}}
}

func listOf(members ...types.AttributeValue) types.AttributeValue {
	return &types.AttributeValueMemberL{Value: members}
}

// rowCases returns items of tables.
func rowCases() []fieldCase {
	return slices.Concat(moreRows(), refusedRows(), []fieldCase{
		credstashShapes(), oddNames(), overlappingPaths(), largeItem(),
	})
}

// largeItem returns a case with an item of 400 KB, whose new ciphertext is longer.
func largeItem() fieldCase {
	const rest = len("id") + len("big") + len("ssn") + 256 + len("pad")
	big := ssnRow("big", binaryOf([]byte("<!raw:190>")))
	big.item["pad"] = binaryOf(bytes.Repeat([]byte{7}, 400<<10-rest))
	return fieldCase{
		name:    "ddb-400kb",
		from:    "old-rsa",
		targets: tableTarget("format: raw", "slots: [{ path: ssn }]"),
		rows:    []fieldRow{big, ssnRow("small", binaryOf([]byte("<raw:190>")))},
		want: fieldWant{
			run:     exitExceptions,
			verify:  exitRemaining,
			reasons: map[string]int64{"item-too-large": 1},
			texts:   []string{"limit of 400 KB.*make the item smaller"},
		},
	}
}

func moreRows() []fieldCase {
	text := tableTarget("format: base64", "slots: [{ path: ssn }]")
	return []fieldCase{
		{
			name:    "ruby-encode64-rows",
			targets: text,
			rows: []fieldRow{
				ssnRow("a", textOf("<lines:32>")), ssnRow("b", textOf("<lines:100>")),
			},
		},
		{
			name:    "ddb-mixed-plaintext",
			targets: text,
			rows: []fieldRow{
				ssnRow("encrypted", textOf("<base64:11>")),
				ssnRow("plain", textOf("078-05-1120")),
				ssnRow("word", textOf("hunter22")),
			},
			want: fieldWant{
				run:     exitExceptions,
				reasons: map[string]int64{"not-base64": 1, "invalid-ciphertext": 1},
				texts: []string{"if it is plaintext, it was never encrypted",
					"it may be plaintext"},
			},
		},
	}
}

// refusedRows returns rows that rotator cannot write yet.
func refusedRows() []fieldCase {
	text := tableTarget("format: base64", "slots: [{ path: ssn }]")
	return []fieldCase{
		{
			name:    "ddb-pydynox",
			targets: text,
			rows:    []fieldRow{ssnRow("a", textOf("<!pydynox:32>"))},
			want:    refusedWith("pydynox", 1, "write it again with pydynox under the new key"),
		},
		{
			name:    "ddb-text-prefix",
			targets: text,
			rows: []fieldRow{
				ssnRow("a", textOf("v1:<!base64:32>")),
				ssnRow("b", textOf("v1.<!base64:32>.bm9uY2U.Y3Q")),
			},
			want: refusedWith("text-around", 2,
				"Attributes with such a prefix cannot be moved yet"),
		},
		{
			name:    "ddb-text-prefix-pattern",
			targets: tableTarget("format: text", "slots: [{ pattern: 'v1:(.+)' }]"),
			rows:    []fieldRow{ssnRow("a", textOf("v1:<!base64:32>"))},
			want: fieldWant{
				run: exitJob,
				texts: []string{"format text applies only to objects and files. A " +
					"ciphertext with a prefix"},
			},
		},
		{
			name:    "double-base64-rows",
			targets: tableTarget("format: raw", "slots: [{ path: ssn }]"),
			rows:    []fieldRow{ssnRow("a", binaryOf([]byte("<!base64:32>")))},
			want: refusedWith("encoded-twice", 1,
				"If the value is binary, use format base64 instead of raw"),
		},
	}
}

func credstashShapes() fieldCase {
	row := func(name, version, key string, more attributes) fieldRow {
		item := attributes{
			"name": textOf(name), "version": textOf(version), "key": textOf(key),
			"contents": textOf("Y29udGVudHM="), "hmac": binaryOf([]byte("0b0b")),
		}
		for name, value := range more {
			item[name] = value
		}
		return fieldRow{item: item}
	}
	listed := row("db/password", "0000000000000000001", "<base64:64>", nil)
	listed.contexts.before = map[string]string{"env": "prod"}
	return fieldCase{
		name: "credstash-shapes",
		key:  stringKey("name", "version"),
		targets: tableTarget("format: credstash",
			`context_file: { path: contexts.csv, name: "${name}" }`),
		files: map[string]string{
			"contexts.csv": "name,key,value\ndb/password,env,prod\nplain,,\n",
		},
		rows: []fieldRow{
			listed,
			row("plain", "2", "<base64:64>",
				attributes{"hmac": textOf("0b0b"), "digest": textOf("SHA256")}),
			row("plain", "3", "<base64:64>\n", attributes{"created_at": numberOf("1437711748")}),
			row("plain", "4", "<lines:64>", nil),
		},
	}
}

func oddNames() fieldCase {
	item := attributes{
		"key":   binaryOf([]byte{0, 0xff, '\n'}),
		"range": numberOf("-0.00000015"),
		"size":  textOf("a reserved word"),
		"empty": &types.AttributeValueMemberM{Value: attributes{}},
		"set":   &types.AttributeValueMemberSS{Value: []string{"a", "b"}},
	}
	var paths []string
	for _, name := range []string{
		"a.b", "#n", ":v", `q"uo'te`, "two\nlines", "\U0001f512", "[0]", "select",
	} {
		item[name] = &types.AttributeValueMemberM{Value: attributes{name: listOf(
			textOf("stays"), textOf("<base64:16>"), numberOf("100"),
		)}}
		step := fmt.Sprintf("[%q]", name)
		paths = append(paths, "{ path: '"+strings.ReplaceAll(step+step+"[1]", "'", "''")+"' }")
	}
	return fieldCase{
		name: "ddb-odd-names",
		key: []types.AttributeDefinition{
			{AttributeName: aws.String("key"), AttributeType: types.ScalarAttributeTypeB},
			{AttributeName: aws.String("range"), AttributeType: types.ScalarAttributeTypeN},
		},
		targets: tableTarget("format: base64", "slots: ["+strings.Join(paths, ", ")+"]"),
		rows:    []fieldRow{{item: item}},
	}
}

// overlappingPaths returns a case with two rules for one value, which is refused. The other values
// are moved.
func overlappingPaths() fieldCase {
	return fieldCase{
		name: "ddb-overlapping-paths",
		targets: tableTarget("format: base64", "slots:",
			"  - { path: 'l[*]', context: {}, destination_context: { all: yes-all } }",
			"  - { path: 'l[0]', context: {}, destination_context: { first: yes-first } }"),
		rows: []fieldRow{{
			item: attributes{
				"id": textOf("a"),
				"l":  listOf(textOf("<!base64:5>"), textOf("<base64:6>")),
			},
			contexts: fieldContexts{after: map[string]string{"all": "yes-all"}},
		}},
		want: refusedWith("ambiguous", 1, `l\[0\]`),
	}
}
