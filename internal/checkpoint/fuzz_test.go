package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// FuzzRecord: a record of any kind decodes to the encoded value. With one bit changed it
// is refused as corrupt or of another schema. A record of another kind is refused too.
func FuzzRecord(f *testing.F) {
	f.Fuzz(func(
		t *testing.T,
		kind uint,
		name, detail string,
		cursor []byte,
		number int,
		nanoseconds int64,
		bit uint,
	) {
		name, detail = strings.ToValidUTF8(name, "?"), strings.ToValidUTF8(detail, "?")
		at := time.Unix(0, nanoseconds).UTC()
		counts := Counts{
			Slots: SlotCounts{Seen: nanoseconds, Failed: nanoseconds},
			Items: ItemCounts{Seen: int64(number)},
		}
		counts.AddKey(name, KeyCount{Slots: nanoseconds | 1, Header: int64(number)})
		counts.AddReason(detail, nanoseconds)
		switch kind % 5 {
		case 0:
			partition := Partition{Name: detail, Spec: json.RawMessage(`{"segment":1}`)}
			checkRecord(t, "pass", Pass{
				Number:      number,
				Fingerprint: detail,
				Destination: Key{Given: name, ARN: detail},
				Status:      Running,
				Started:     at,
				Targets:     []PassTarget{{Name: name, Partitions: []Partition{partition}}},
				Logs:        []AuditLog{{Host: name, Name: detail, Lines: nanoseconds}},
			}, bit)
		case 1:
			checkRecord(t, "progress", Progress{
				Cursor: cursor,
				Done:   number%2 == 0,
				Counts: counts,
				Chunks: []Chunks{{Epoch: nanoseconds, N: number}},
				Owner:  name,
				Saved:  at,
			}, bit)
		case 2:
			checkRecord(t, "ledger", LedgerChunk{Adjust: counts, Entries: []LedgerEntry{
				{
					Target:   name,
					Ref:      detail,
					Path:     name,
					Outcome:  "failed",
					Reason:   name,
					Detail:   detail,
					Attempts: number,
					At:       at,
				}, {Ref: name}}}, bit)
		case 3:
			checkRecord(t, "head", head{Pass: number}, bit)
		case 4:
			checkRecord(t, "roster",
				memberList{Pass: number, Workers: map[string]int64{name: nanoseconds, detail: 1}},
				bit)
		}
	})
}

func checkRecord[T any](t *testing.T, kind string, want T, bit uint) {
	data, err := Encode(kind, want)
	if err != nil {
		t.Fatal(err)
	}
	var got, other, changed T
	if err := Decode("id", kind, data, &got); err != nil {
		t.Fatalf("Decode(%q): %v", data, err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("decoded (-want +got):\n%s", diff)
	}
	if err := Decode("id", "another "+kind, data, &other); !refused(err) {
		t.Fatalf("as another kind: %v", err)
	}
	bit %= uint(8 * len(data))
	data[bit/8] ^= 1 << (bit % 8)
	if err := Decode("id", kind, data, &changed); !refused(err) {
		t.Fatalf("with bit %d changed: %v, want *CorruptError or *SchemaError\n%s", bit, err, data)
	}
}

func refused(err error) bool {
	corrupt, other := (*CorruptError)(nil), (*SchemaError)(nil)
	return errors.As(err, &corrupt) || errors.As(err, &other)
}

// FuzzDecode: any bytes are refused, or decode to a value that does not change when it is
// encoded and decoded again. The bytes are tried as a record, and as the content of a
// record with a correct checksum.
func FuzzDecode(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		checkDecode[Pass](t, "pass", data)
		checkDecode[Progress](t, "progress", data)
		checkDecode[LedgerChunk](t, "ledger", data)
		checkDecode[head](t, "head", data)
		checkDecode[memberList](t, "roster", data)
	})
}

func checkDecode[T any](t *testing.T, kind string, data []byte) {
	tries := [][]byte{data}
	if json.Valid(data) {
		sealed, err := Encode(kind, json.RawMessage(data))
		if err != nil {
			t.Fatal(err)
		}
		tries = append(tries, sealed)
	}
	for _, stored := range tries {
		var v, again T
		if err := Decode("id", kind, stored, &v); err != nil {
			if !refused(err) {
				t.Fatalf("Decode(%q): %v, want *CorruptError or *SchemaError", stored, err)
			}
			continue
		}
		first, err := Encode(kind, v)
		if err != nil {
			t.Fatalf("encode %+v, decoded from %q: %v", v, stored, err)
		}
		if err := Decode("id", kind, first, &again); err != nil {
			t.Fatalf("%q: %v", first, err)
		}
		if second, err := Encode(kind, again); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("encoded as %q first, and then as %q (%v)", first, second, err)
		}
	}
}
