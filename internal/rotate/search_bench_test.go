package rotate

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"

	"rotator/internal/ciphertext"
	"rotator/internal/scan"
)

// BenchmarkSearchItem measures the search in an item whose only ciphertext belongs to a slot.
func BenchmarkSearchItem(b *testing.B) {
	blob := append([]byte{1, 2, 2, 0, 0x78}, bytes.Repeat([]byte{0xa7}, 32)...)
	blob = append(append(blob, 1), bytes.Repeat([]byte{0x5c}, 16)...)
	blob = append(binary.BigEndian.AppendUint32(blob, 126), 0x30)
	blob = append(blob, bytes.Repeat([]byte{0xe9}, 125)...)
	text := base64.StdEncoding.EncodeToString(blob)
	row := func(v scan.Value) *scan.Row {
		return &scan.Row{Attributes: map[string]scan.Value{
			"id": {Kind: scan.KindS, Text: "customer-0000001"}, "slot": v,
			"note": {Kind: scan.KindS, Text: strings.Repeat("a few words of prose. ", 4)},
		}}
	}
	body := []byte(`{"id": 1, "key": "` + text + `", "data": "` +
		strings.Repeat("Lorem ipsum ", 300) + `"}`)
	for _, c := range []struct {
		name    string
		payload scan.Payload
	}{
		{"row, raw", row(scan.Value{Kind: scan.KindB, Bytes: blob})},
		{"row, base64", row(scan.Value{Kind: scan.KindS, Text: text})},
		{"body of 4 KB", &scan.Object{Body: body, Size: int64(len(body))}},
	} {
		b.Run(c.name, func(b *testing.B) {
			s, item := newSweep(), scan.Item{Ref: "item", Payload: c.payload}
			slots := []ciphertext.Slot{{Path: "slot", Blob: blob}}
			b.ReportAllocs()
			for b.Loop() {
				if found := s.search(item, slots, true); len(found) > 0 {
					b.Fatal(found)
				}
			}
		})
	}
}
