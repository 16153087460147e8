package columns

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"rotator/internal/printable"
)

// Table is a table of text. If a line of it has more than 80 characters, each row becomes a block:
// its first cell, and below it the other cells with their headings. Cells are escaped.
type Table struct {
	head []string
	rows [][]string
}

// NewTable returns an empty table with the headings of its columns.
func NewTable(head ...string) *Table { return &Table{head: head} }

// Row adds a row with one cell for each heading.
func (t *Table) Row(cells ...any) {
	row := make([]string, len(cells))
	for i, cell := range cells {
		row[i] = printable.Text(fmt.Sprint(cell))
	}
	t.rows = append(t.rows, row)
}

// Text writes the table. It writes nothing if there is no row.
func (t *Table) Text(w io.Writer) error {
	if len(t.rows) == 0 {
		return nil
	}
	var b strings.Builder
	out := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, row := range append([][]string{t.head}, t.rows...) {
		_, _ = fmt.Fprintln(out, strings.Join(row, "\t"))
	}
	_ = out.Flush()
	text := b.String()
	for line := range strings.Lines(text) {
		if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > Width {
			text = t.blocks()
			break
		}
	}
	_, err := io.WriteString(w, text)
	return err
}

// Tables writes tables, each after an empty line. It leaves out those without rows.
func Tables(w io.Writer, tables ...*Table) error {
	for _, t := range tables {
		if len(t.rows) == 0 {
			continue
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		if err := t.Text(w); err != nil {
			return err
		}
	}
	return nil
}

// blocks returns the rows as blocks. A cell is broken only if it is longer than a line.
func (t *Table) blocks() string {
	var b strings.Builder
	for _, row := range t.rows {
		b.WriteString(row[0] + "\n")
		line := ""
		for i, cell := range row[1:] {
			if cell == "" || cell == "-" {
				continue
			}
			part := strings.ToLower(t.head[i+1]) + ": " + cell
			if line != "" && utf8.RuneCountInString(line+"  "+part) > Width-2 {
				b.WriteString("  " + line + "\n")
				line = ""
			}
			if line != "" {
				line += "  "
			}
			line += part
			if utf8.RuneCountInString(line) > Width-2 {
				wrapped := WrapAt(line, Width-2)
				b.WriteString("  " + strings.ReplaceAll(wrapped, "\n", "\n  ") + "\n")
				line = ""
			}
		}
		if line != "" {
			b.WriteString("  " + line + "\n")
		}
	}
	return b.String()
}
