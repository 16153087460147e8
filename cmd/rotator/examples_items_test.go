package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// exampleItem is the item of a target of an example: a row, or objects by key.
type exampleItem struct {
	key     []types.AttributeDefinition
	row     attributes
	objects map[string]written
}

type builder = func(t *testing.T, s *stage) exampleItem

func rowItem(key string, row attributes) exampleItem {
	return exampleItem{key: stringKey(key), row: row}
}

func bodyItem(key, body string) exampleItem {
	return exampleItem{objects: map[string]written{key: {body: []byte(body)}}}
}

// exampleItems returns a builder of an item by location and format of the target, or by example and
// location if examples differ.
func exampleItems() map[string]builder {
	all := rowExamples()
	maps.Copy(all, moreRowExamples())
	maps.Copy(all, objectExamples())
	maps.Copy(all, textExamples())
	maps.Copy(all, clientExamples())
	return all
}

func rowExamples() map[string]builder {
	return map[string]builder{
		"customers raw": func(t *testing.T, s *stage) exampleItem {
			return rowItem("id", attributes{
				"id":        textOf("1"),
				"tenant_id": textOf("t1"),
				"ssn":       binaryOf(s.seal(t, "tenant", "t1", "purpose", "pii")),
			})
		},
		"cross-account.yaml customers": func(t *testing.T, s *stage) exampleItem {
			return rowItem("id", attributes{
				"id":        textOf("1"),
				"tenant_id": numberOf("7"),
				"ssn":       binaryOf(s.seal(t, "tenant", "7")),
			})
		},
		"profiles base64": func(t *testing.T, s *stage) exampleItem {
			part := func() types.AttributeValue {
				return &types.AttributeValueMemberM{
					Value: attributes{"key": textOf(std64(s.seal(t, "tenant", "t1", "v", "1")))},
				}
			}
			return rowItem("id", attributes{
				"id":        textOf("1"),
				"tenant_id": textOf("t1"),
				"profile": &types.AttributeValueMemberM{Value: attributes{
					"docs": &types.AttributeValueMemberL{
						Value: []types.AttributeValue{part(), part()},
					}, "pin": binaryOf(s.seal(t, "tenant", "t1", "v", "1"))}},
			})
		},
	}
}

func moreRowExamples() map[string]builder {
	return map[string]builder{
		"legacy hex": func(t *testing.T, s *stage) exampleItem {
			return rowItem("id", attributes{
				"id":      textOf("1"),
				"user_id": textOf("u1"),
				"pin":     textOf(hex.EncodeToString(s.seal(t, "user", "u1"))),
			})
		},
		"documents length-prefixed-u32le": func(t *testing.T, s *stage) exampleItem {
			blob := s.seal(t, "tenant", "t1")
			return rowItem("id", attributes{
				"id":        textOf("1"),
				"tenant_id": textOf("t1"),
				"sealed": binaryOf(append(binary.LittleEndian.AppendUint32(nil,
					uint32(len(blob))), append(blob, "rest"...)...)),
			})
		},
		"documents tink-envelope": func(t *testing.T, s *stage) exampleItem {
			return rowItem("id", attributes{
				"id":   textOf("1"),
				"body": binaryOf([]byte(tinkEnvelope(t, s))),
			})
		},
		"sm2.yaml intake": func(t *testing.T, s *stage) exampleItem {
			return rowItem("id", attributes{"id": textOf("1"), "sealed": binaryOf(s.seal(t))})
		},
		"intake raw": func(t *testing.T, s *stage) exampleItem {
			return rowItem("id", attributes{
				"id":      textOf("1"),
				"form_id": textOf("f1"),
				"sealed":  binaryOf(s.seal(t)),
			})
		},
	}
}

func tinkEnvelope(t *testing.T, s *stage) string {
	blob := s.seal(t)
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(blob)))) + string(blob) + "sealed"
}

func objectExamples() map[string]builder {
	blobAt := func(key string, context ...string) builder {
		return func(t *testing.T, s *stage) exampleItem {
			return bodyItem(key, string(s.seal(t, context...)))
		}
	}
	textAt := func(key string, context ...string) builder {
		return func(t *testing.T, s *stage) exampleItem {
			return bodyItem(key, std64(s.seal(t, context...))+"\n")
		}
	}
	return map[string]builder{
		"example-archive auto":          blobAt("t1/x", "tenant", "t1"),
		"job-file.md#0 example-archive": blobAt("blobs/x", "app", "archive"),
		"example-archive base64":        textAt("x"),
		"example-secrets base64":        textAt("tokens/x"),
		"example-vault base64":          textAt("prod/x.b64", "app", "vault"),
		"example-tokens base64":         textAt("t1/x", "tenant", "t1"),
		"example-secrets raw":           blobAt("prod/x", "app", "pay"),
		"vault base64":                  textAt("t1/a/x.enc", "tenant", "t1"),
		"example-payloads length-prefixed-u16be": func(t *testing.T, s *stage) exampleItem {
			blob := s.seal(t, "tenant", "t1")
			return bodyItem("t1/x",
				string(binary.BigEndian.AppendUint16(nil, uint16(len(blob))))+string(blob)+"rest")
		},
		"example-services json": func(t *testing.T, s *stage) exampleItem {
			return bodyItem("live/x.json",
				fmt.Sprintf(`{"service": "s1", "database": {"password": %q}, "api_keys": `+
					`[{"value": %q}]}`,
					std64(s.seal(t, "service", "s1")),
					base64.RawURLEncoding.EncodeToString(s.seal(t))))
		},
		"secrets base64": textAt("prod/x", "app", "pay"),
		"example-configs json": func(t *testing.T, s *stage) exampleItem {
			text := func() string { return std64(s.seal(t, "service", "s1")) }
			return exampleItem{
				objects: map[string]written{
					"services/x.json": {metadata: map[string]string{"service": "s1"},
						body: fmt.Appendf(nil,
							`{"database": {"password": %q}, "api_keys": [{"value": %q}, `+
								`{"value": %q}]}`, text(), text(), text())},
				},
			}
		},
	}
}

func textExamples() map[string]builder {
	return map[string]builder{
		"jsonl.yaml example-exports": func(t *testing.T, s *stage) exampleItem {
			return bodyItem("customers/x.jsonl",
				fmt.Sprintf(`{"tenant":"t1","ssn":%q,"documents":[{"key":%q}]}`+"\n",
					std64(s.seal(t, "tenant", "t1", "purpose", "pii")),
					base64.RawURLEncoding.EncodeToString(s.seal(t))))
		},
		"example-exports jsonl": func(t *testing.T, s *stage) exampleItem {
			return bodyItem("customers/x.jsonl",
				fmt.Sprintf(`{"tenant":"t1","ssn":%q}`+"\n", std64(s.seal(t, "tenant", "t1"))))
		},
		"files-jsonl.yaml export": func(t *testing.T, s *stage) exampleItem {
			return bodyItem("data/a/x.json",
				fmt.Sprintf(`{"Item":{"tenant_id":{"S":"t1"},"ssn":{"B":%q}}}`+"\n",
					std64(s.seal(t, "tenant", "t1"))))
		},
		"export jsonl": func(t *testing.T, s *stage) exampleItem {
			return bodyItem("data/a/x.jsonl",
				fmt.Sprintf(`{"tenant":"t1","secret":%q}`+"\n", std64(s.seal(t, "tenant", "t1"))))
		},
		"text.yaml example-settings": func(t *testing.T, s *stage) exampleItem {
			return bodyItem("pay/x",
				fmt.Sprintf("A=b\nDB_PASSWORD=%s\nciphertext_blob = \"%s\"\n'\\x%s'\n",
					std64(s.seal(t, "app", "pay")), std64(s.seal(t)),
					hex.EncodeToString(s.seal(t))))
		},
		"example-settings text": func(t *testing.T, s *stage) exampleItem {
			return bodyItem("x", fmt.Sprintf("A=b\nDB_PASSWORD=%s\n", std64(s.seal(t))))
		},
	}
}

// clientExamples returns items of known software, like those of the mixed bucket and of the tables
// of the row clients.
func clientExamples() map[string]builder {
	all := map[string]builder{
		"example-lake s3-encryption-client": likeVariety("s3ec-v3", "x"),
		"example-config sops":               likeVariety("sops-yaml", "services/x.yaml"),
		"example-pulumi pulumi-state":       likeVariety("pulumi", ".pulumi/stacks/x.json"),
		"example-secrets ejson-kms":         likeVariety("ejson", "ejson/x.json"),
		"example-secrets biscuit":           likeVariety("biscuit", "biscuit/x.yml"),
		"example-envelopes tink-envelope": func(t *testing.T, s *stage) exampleItem {
			return bodyItem("x", tinkEnvelope(t, s))
		},
	}
	addKeysets(all)
	addCredentials(all)
	addClientRows(all)
	return all
}

// likeVariety returns a builder of an object of a variety of the mixed bucket.
func likeVariety(name, key string) builder {
	return func(t *testing.T, s *stage) exampleItem {
		for _, v := range varieties() {
			if v.name == name {
				var context []string
				for n, value := range v.context {
					context = append(context, n, value)
				}
				return exampleItem{
					objects: map[string]written{key: v.write(s.seal(t, context...), s.keys[0])},
				}
			}
		}
		t.Fatalf("there is no variety %s", name)
		return exampleItem{}
	}
}

func addKeysets(all map[string]builder) {
	keyset := func(t *testing.T, s *stage, context ...string) written {
		return written{
			body: fmt.Appendf(nil,
				`{"encryptedKeyset":%q,"keysetInfo":{"primaryKeyId":1,"keyInfo":[]}}`,
				std64(s.seal(t, context...))),
		}
	}
	all["example-keysets tink-keyset"] = func(t *testing.T, s *stage) exampleItem {
		return exampleItem{
			objects: map[string]written{"x": keyset(t, s, "associatedData", "7061796d656e7473")},
		}
	}
	// Called once for each target of the example.
	all["tink-keyset.yaml example-keysets"] = func(t *testing.T, s *stage) exampleItem {
		if s.seals == 0 {
			return exampleItem{
				objects: map[string]written{
					"payments/x": keyset(t, s, "associatedData", "7061796d656e7473"),
				},
			}
		}
		return exampleItem{objects: map[string]written{"plain/x": keyset(t, s)}}
	}
}

func addCredentials(all map[string]builder) {
	credential := func(name string, context ...string) builder {
		return func(t *testing.T, s *stage) exampleItem {
			return exampleItem{
				key: stringKey("name", "version"),
				row: attributes{
					"name":     textOf(name),
					"version":  textOf("1"),
					"contents": textOf("qg=="),
					"key":      textOf(std64(s.seal(t, context...))),
				},
			}
		}
	}
	all["credential-store credstash"] = credential("db/password", "env", "prod", "role", "db")
	all["secret-store credsmash"] = credential("x", "env", "prod")
	confidant := func(t *testing.T, s *stage) exampleItem {
		return rowItem("id", attributes{
			"id":        textOf("c1"),
			"data_type": textOf("credential"),
			"data_key":  binaryOf([]byte(std64(s.seal(t, "id", "c1")))),
		})
	}
	all["confidant confidant"], all["confidant-archive confidant"] = confidant, confidant
}

func addClientRows(all map[string]builder) {
	all["keystore esdk-branch-keystore"] = func(t *testing.T, s *stage) exampleItem {
		made := attributes{
			"branch-key-id":     textOf("tenant-7"),
			"type":              textOf("branch:ACTIVE"),
			"kms-arn":           textOf(s.keys[0]),
			"hierarchy-version": numberOf("1"),
			"version":           textOf("branch:version:1"),
		}
		made["enc"] = binaryOf(s.seal(t, "tablename", "tenant-keys", "branch-key-id", "tenant-7",
			"type", "branch:ACTIVE", "kms-arn", s.keys[0], "hierarchy-version", "1", "version",
			"branch:version:1"))
		return exampleItem{key: stringKey("branch-key-id", "type"), row: made}
	}
	all["customers ddb-encryption-client"] = func(t *testing.T, s *stage) exampleItem {
		blob := s.seal(t, "*amzn-ddb-env-alg*", "AES/256", "*amzn-ddb-sig-alg*", "HmacSHA256/256",
			"*aws-kms-table*", "customers", "id", "1")
		return rowItem("id", attributes{
			"id": textOf("1"),
			"*amzn-ddb-map-desc*": binaryOf(describe("amzn-ddb-env-alg", "AES/256",
				"amzn-ddb-env-key", std64(blob), "amzn-ddb-sig-alg", "HmacSHA256/256",
				"amzn-ddb-wrap-alg", "kms")),
		})
	}
}
