package auditlog

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rotator/internal/reencrypt"
	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// maxBytesPerSlot is the maximum size of closed segments, per slot with a ref of 30 bytes.
const maxBytesPerSlot = 350

// fill writes a log of slots as a run writes them: chunks of 25 slots with refs of 30 bytes
// from several workers, with random digests and ids, and each slot rotated. It returns the
// bytes of its plain lines.
func fill(t testing.TB, log *Log, slots int) {
	t.Helper()
	random := rand.New(rand.NewChaCha8([32]byte{1}))
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const arn = "arn:aws:kms:us-east-1:111122223333:key/"
	var pending [][]rotate.Record
	record := func(records []rotate.Record) {
		at = at.Add(time.Duration(random.IntN(5e6)))
		for i := range records {
			records[i].At = at
		}
		if err := log.Record(records); err != nil {
			t.Fatal(err)
		}
	}
	for n := 0; n < slots; n += 25 {
		chunk := make([]rotate.Record, min(25, slots-n))
		at = at.Add(time.Duration(random.IntN(5e6)))
		for i := range chunk {
			sum := sha256.Sum256(strconv.AppendInt(nil, int64(n+i), 10))
			chunk[i] = rotate.Record{
				At:      at,
				Pass:    1,
				Target:  "customers",
				Ref:     scan.Ref(fmt.Sprintf(`{"k":{"S":"%x"}}`, sum[:8])),
				Path:    "ssn",
				From:    arn + "3d7ea89a-73d8-4e08-b19a-5671eb9193dd",
				To:      arn + "c093467b-dae3-4fe4-94e3-3b2019353ce3",
				Before:  randomHex(random),
				After:   randomHex(random),
				Binding: randomHex(random),
				Origin: reencrypt.Origin{
					RequestID:    randomID(random),
					FromMaterial: randomHexOf("from"),
					ToMaterial:   randomHexOf("to"),
				},
			}
			if len(chunk[i].Ref) != 30 {
				t.Fatalf("a ref of %d bytes", len(chunk[i].Ref))
			}
		}
		if err := log.Intend(chunk); err != nil {
			t.Fatal(err)
		}
		if pending = append(pending, chunk); len(pending) > 8 {
			i := random.IntN(len(pending))
			record(pending[i])
			pending = append(pending[:i], pending[i+1:]...)
		}
	}
	for _, chunk := range pending {
		record(chunk)
	}
}

func randomHex(random *rand.Rand) string {
	var sum [32]byte
	for i := range sum {
		sum[i] = byte(random.Uint32())
	}
	return hex.EncodeToString(sum[:])
}

func randomHexOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func randomID(random *rand.Rand) string {
	id := randomHex(random)
	return id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:32]
}

// TestBytesPerSlot: closed segments stay below the limit. ROTATOR_AUDIT_SLOTS sets the number
// of slots (make audit-log).
func TestBytesPerSlot(t *testing.T) {
	if testing.Short() {
		t.Skip("it measures sizes")
	}
	slots := 100_000
	if n, err := strconv.Atoi(os.Getenv("ROTATOR_AUDIT_SLOTS")); err == nil {
		slots = n
	}
	path := filepath.Join(t.TempDir(), "job.audit.jsonl")
	log, err := Open(path, "job")
	if err != nil {
		t.Fatal(err)
	}
	fill(t, log, slots)
	if err := log.closeNow(); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	var stored, plain counter
	numbers, err := closedSegments(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range numbers {
		info, err := os.Stat(segmentPath(path, n))
		if err != nil {
			t.Fatal(err)
		}
		stored += counter(info.Size())
	}
	if err := Export(path, &plain); err != nil {
		t.Fatal(err)
	}
	perSlot := float64(stored) / float64(slots)
	t.Logf("%d slots in %d segments: %d bytes, %.1f per slot; plain lines: %.0f per slot",
		slots, len(numbers), stored, perSlot, float64(plain)/float64(slots))
	if perSlot > maxBytesPerSlot {
		t.Errorf("%.1f bytes per slot, want at most %d", perSlot, maxBytesPerSlot)
	}
}

// closeNow closes the open segment.
func (l *Log) closeNow() error {
	l.closeAt, l.SegmentSize = 0, 0
	if err := l.closeFull(); err != nil {
		return err
	}
	return l.closing
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// BenchmarkVerifyFile reports the speed of report --check on one core in bytes of plain lines.
// At least 200 MB/s are expected.
func BenchmarkVerifyFile(b *testing.B) {
	path := filepath.Join(b.TempDir(), "job.audit.jsonl")
	log, err := Open(path, "job")
	if err != nil {
		b.Fatal(err)
	}
	fill(b, log, 100_000)
	lines, head := log.Head()
	var plain counter
	if err := Export(path, &plain); err != nil {
		b.Fatal(err)
	}
	_ = log.Close()
	b.SetBytes(int64(plain))
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		if _, err := VerifyFile(path, Mark{Lines: lines, Hash: head}); err != nil {
			b.Fatal(err)
		}
	}
	spent := cpuTime(b) - before
	b.ReportMetric(float64(plain)*float64(b.N)/1e6/spent.Seconds(), "MB/CPU-s")
}

// cpuTime returns the CPU time of the process, which other processes do not disturb much.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkAppend reports the time of the two lines of a slot.
func BenchmarkAppend(b *testing.B) {
	log, err := Open(filepath.Join(b.TempDir(), "job.audit.jsonl"), "job")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		fill(b, log, 25)
	}
	_ = log.Close()
}

// TestVerifyInLittleMemory: verification streams the log.
func TestVerifyInLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it measures memory")
	}
	path := filepath.Join(t.TempDir(), "job.audit.jsonl")
	log, err := Open(path, "job")
	if err != nil {
		t.Fatal(err)
	}
	fill(t, log, 60_000)
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	result := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := VerifyFile(path); err != nil {
				b.Fatal(err)
			}
		}
	})
	const most = 64 << 20 // the plain lines are larger
	if got := result.AllocedBytesPerOp(); got > most {
		t.Errorf("%d bytes are allocated", got)
	}
}
