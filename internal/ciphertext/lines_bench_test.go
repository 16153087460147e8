package ciphertext

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
)

// BenchmarkLines finds the slots of a JSONL body of 4 MiB, with a context of two members. It also
// reports the memory that the slots keep in use, per byte of the body.
func BenchmarkLines(b *testing.B) {
	var body bytes.Buffer
	for n := 0; body.Len() < 4<<20; n++ {
		fmt.Fprintf(&body, `{"id":%d,"tenant":"acme","secret":"%s"}`+"\n", n,
			std64(string(bytes.Repeat([]byte{byte(n), 7}, 75))))
	}
	compiled := compile(b, Spec{
		Format: formatJSONL,
		Kind:   Objects,
		Slots: []SlotSpec{{Path: "secret",
			Context: map[string]string{"tenant": "${body.tenant}", "object": "${key}"}}},
	})
	item := object("key", body.String(), nil)
	var before, after runtime.MemStats
	b.ReportAllocs()
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		slots := compiled.Find(item)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(body.Len()), "kept/byte")
		b.ReportMetric(float64(len(slots)), "slots")
	}
}
