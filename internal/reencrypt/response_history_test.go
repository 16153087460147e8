package reencrypt

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
)

// TestResponseHistory compares the history with a map of the last responses, for several times the
// number of responses that the history stores, and measures the memory that it uses.
func TestResponseHistory(t *testing.T) {
	if testing.Short() {
		t.Skip("it measures memory")
	}
	const n = 3*rememberedResponses + 17
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	h := newResponseHistory()
	random := rand.New(rand.NewPCG(1, 2))
	response := func(i int) (Request, Response) {
		context := map[string]string{"a": "b", "c": fmt.Sprint(i)}
		return Request{Blob: fmt.Appendf(nil, "question %d", i), Context: context},
			Response{Blob: fmt.Appendf(nil, "blob %d", i), RequestID: fmt.Sprint("id ", i)}
	}
	for i := range n {
		q, a := response(i)
		if blob, request := h.add(q, a); blob || request {
			t.Fatalf("response %d was seen before", i)
		}
		if i < 1000 || random.IntN(100) > 0 {
			continue
		}
		back := random.IntN(min(i, 2*rememberedResponses))
		_, a = response(i - back)
		probe := Request{Blob: []byte("another")}
		blob, request := h.inOtherResponseOf(probe, a)
		if want := back < rememberedResponses; blob != want || request != want {
			t.Fatalf("the response %d before %d: blob %v, request id %v, want %v",
				back, i, blob, request, want)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("%d responses take %d bytes", rememberedResponses, grown)
	}
	runtime.KeepAlive(h)
}

// inOtherResponseOf is like add, but does not store the response.
func (a *responseHistory) inOtherResponseOf(q Request, response Response) (blob, request bool) {
	one := a.digest(q, response)
	return a.inOtherResponse(one, 0), a.inOtherResponse(one, 1)
}

func BenchmarkResponseHistory(b *testing.B) {
	h := newResponseHistory()
	context := map[string]string{"tenant": "t"}
	q := Request{Blob: make([]byte, 184), Context: context, DestinationContext: context}
	a := Response{Blob: make([]byte, 184), RequestID: "b0d4f1f6-5f2f-4f2f-9f2f-5f2f4f2f9f2f"}
	var ids []string
	for i := range 1 << 18 {
		ids = append(ids, fmt.Sprintf("b0d4f1f6-5f2f-4f2f-9f2f-%012x", i))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		q.Blob[0], q.Blob[1], q.Blob[2] = byte(i), byte(i>>8), byte(i>>16)
		a.Blob[0], a.Blob[1], a.Blob[2] = byte(i), byte(i>>8), byte(i>>16)
		a.RequestID = ids[i%len(ids)]
		h.add(q, a)
	}
}
