package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rotator/internal/report/document"
	"rotator/internal/report/sheet"
)

// TestReportUse: with --watch, a report has what AWS stated about the source keys, and each form of
// the saved report shows it. Without --watch, the forms state that AWS was not asked.
func TestReportUse(t *testing.T) {
	t.Parallel()
	b := proven(t, "")
	_, saved, _ := b.rotator(t, exitDone, "report", "--watch")
	path := filepath.Join(b.dir, "saved.json")
	if err := os.WriteFile(path, []byte(saved), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := document.Read(path, strings.NewReader(saved))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.KeyUse) != 1 {
		t.Fatalf("the report has the use of %d keys, want 1", len(d.KeyUse))
	}
	k := d.KeyUse[0]
	if k.ARN != b.old || k.State != "Enabled" || k.NIST != document.Active ||
		k.LastUsage.RequestID == "" || k.Refused == nil || len(k.Materials) == 0 {
		t.Errorf("the use of the key is %+v", k)
	}
	for _, form := range [][]string{
		{"-o", "text"}, {"-o", "md"}, {"-o", "html"}, {"-o", "csv", "--table", sheet.Keys},
	} {
		out := b.saved(t, append([]string{"--from", path}, form...)...)
		for _, want := range []string{k.LastUsage.RequestID, string(k.NIST)} {
			if !strings.Contains(out, want) {
				t.Errorf("%v: %q is missing:\n%s", form, want, out)
			}
		}
	}
	_, plain, _ := b.rotator(t, exitDone, "report")
	if strings.Contains(plain, "key_use") {
		t.Errorf("AWS was asked without --watch:\n%s", plain)
	}
}

// saved runs report about saved reports and returns its output.
func (b *crashBench) saved(t *testing.T, args ...string) string {
	t.Helper()
	cmd, stdout, stderr := b.command(t.Context(), append([]string{"report"}, args...)...)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, stderr)
	}
	return stdout.String()
}
