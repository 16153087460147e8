package sheet_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"rotator/internal/checkpoint"
	"rotator/internal/report/document"
	"rotator/internal/report/reporttest"
	"rotator/internal/report/sheet"
)

// read writes a table and reads it again.
func read(t *testing.T, d *document.Document, table string) (text string, records [][]string) {
	t.Helper()
	var b bytes.Buffer
	if err := sheet.Write(&b, d, table); err != nil {
		t.Fatal(err)
	}
	text = b.String()
	records, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", table, err)
	}
	return text, records
}

// TestTables: each table has a head and one row for each entry of the document, and the inventory
// has the sums of the document.
func TestTables(t *testing.T) {
	t.Parallel()
	d := reporttest.Saved(t)
	for table, want := range map[string]int{
		sheet.Inventory:  len(d.Inventory),
		sheet.Exceptions: len(d.Exceptions.Listed),
		sheet.Copies:     len(d.Copies),
		sheet.Passes:     len(d.Passes),
		sheet.Keys:       len(d.KeyUse),
		sheet.Callers:    len(d.KeyUse[0].Trail.Callers),
	} {
		text, records := read(t, d, table)
		if len(records) != want+1 {
			t.Errorf("%s has %d rows, want %d and a head", table, len(records), want)
		}
		if strings.Count(text, "\r\n") != want+1 || strings.Count(text, "\n") != want+1 {
			t.Errorf("%s: a row does not end with CRLF", table)
		}
	}
	_, records := read(t, d, sheet.Inventory)
	sums := map[string]int64{}
	for _, row := range records[1:] {
		for i, name := range records[0] {
			if n, err := strconv.ParseInt(row[i], 10, 64); err == nil {
				sums[name] += n
			}
		}
	}
	if sums["slots_after"] != d.Slots.Seen || sums["slots_before"] != 22000 ||
		sums["by_kms"]+sums["by_header"] != 21950 {
		t.Errorf("the sums of the inventory are %v", sums)
	}
}

// TestEmpty: a table without entries has its head.
func TestEmpty(t *testing.T) {
	t.Parallel()
	for _, table := range sheet.Tables() {
		if _, records := read(t, &document.Document{}, table); len(records) != 1 {
			t.Errorf("%s has %d rows, want the head", table, len(records))
		}
	}
}

// counter counts what is written.
type counter struct{ n int }

func (c *counter) Write(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}

// TestStream: exceptions are written while they are read, so that their number does not matter.
func TestStream(t *testing.T) {
	t.Parallel()
	const entries = 100_000
	var out counter
	err := sheet.WriteExceptions(&out, func(yield func(checkpoint.LedgerEntry, error) bool) {
		for i := range entries {
			if held := i*len("t,ref,p") - out.n; held > 1<<16 {
				t.Errorf("%d bytes are held in memory", held)
				return
			}
			if !yield(checkpoint.LedgerEntry{Target: "t", Ref: "ref", Path: "p"}, nil) {
				return
			}
		}
	})
	if err != nil || out.n < entries {
		t.Errorf("%d bytes were written: %v", out.n, err)
	}
	broken := errors.New("cannot read")
	err = sheet.WriteExceptions(&out, func(yield func(checkpoint.LedgerEntry, error) bool) {
		yield(checkpoint.LedgerEntry{}, broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("the error is %v", err)
	}
}

// TestHarmless: no cell is a formula, and no cell has a character that must not be printed.
func TestHarmless(t *testing.T) {
	t.Parallel()
	d := reporttest.Attacked(t)
	for i, first := range []string{"=", "+", "-", "@", "\t=", "\r="} {
		d.Exceptions.Listed[i].Ref = first + "1+1"
	}
	for _, table := range sheet.Tables() {
		_, records := read(t, d, table)
		for _, row := range records {
			for _, text := range row {
				if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
					t.Errorf("%s: the cell %q is a formula", table, text)
				}
				for _, r := range text {
					if !unicode.IsPrint(r) {
						t.Errorf("%s: the cell %q has the character %U", table, text, r)
					}
				}
			}
		}
	}
}
