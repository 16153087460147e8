package verdict

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const waiverHeader = "target,ref,path,blob_sha256,reason,by,until\n"

func TestReadWaivers(t *testing.T) {
	got, err := ReadWaivers(strings.NewReader("\ufeff" + waiverHeader +
		`customers,"{""id"":{""S"":""7""}}",ssn,` + blob +
		",\"test row,\nof 2019\",j.doe,2026-12-29\r\n" +
		"vault,prod/a,," + blob + ",junk,j.doe,2026-12-29T12:00:00+01:00\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Waiver{
		{Target: "customers", Ref: `{"id":{"S":"7"}}`, Path: "ssn", Blob: blob,
			Reason: "test row,\nof 2019", By: "j.doe", Line: 2,
			Until: time.Date(2026, 12, 30, 0, 0, 0, 0, time.UTC)},
		{Target: "vault", Ref: "prod/a", Blob: blob, Reason: "junk", By: "j.doe", Line: 4,
			Until: time.Date(2026, 12, 29, 11, 0, 0, 0, time.UTC)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the waivers differ (-want +got):\n%s", diff)
	}
	if got, err := ReadWaivers(strings.NewReader(waiverHeader)); err != nil || len(got) != 0 {
		t.Errorf("a file without waivers: %v, %v", got, err)
	}
}

func TestReadWaiversRefuses(t *testing.T) {
	line := "vault,prod/a,," + blob + ",junk,j.doe,2026-12-29\n"
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "line 1: the file is empty; it must begin with the line target,ref,path," +
			"blob_sha256,reason,by,until"},
		{"no header", line, "line 1: the first line must be target,ref,path,blob_sha256,reason," +
			"by,until"},
		{"a missing field", waiverHeader + line + "vault,prod/a\n", "line 3: it has 2 fields, " +
			"but " +
			"must have 7 (target,ref,path,blob_sha256,reason,by,until)"},
		{"no reason", waiverHeader + "vault,prod/a,," + blob + ", ,j.doe,2026-12-29\n",
			"line 2: reason is empty"},
		{"no digest", waiverHeader + "vault,prod/a,,,junk,j.doe,2026-12-29\n",
			"line 2: blob_sha256 is empty"},
		{"a short digest", waiverHeader + "vault,prod/a,,abcd,junk,j.doe,2026-12-29\n",
			"line 2: blob_sha256 must have 64 hexadecimal digits in lower case, as in the ledger"},
		{"upper case", waiverHeader + strings.ToUpper(line), "line 2: blob_sha256 must have 64 " +
			"hexadecimal digits in lower case, as in the ledger"},
		{"a date of another form", waiverHeader + strings.Replace(line, "2026-12-29", "29.12.2026",
			1), `line 2: until is "29.12.2026", but must be a date such as 2027-01-31 or a time ` +
			"such as 2027-01-31T12:00:00Z"},
		{"twice", waiverHeader + line + line, "line 3: line 2 waives the same ciphertext"},
		{"a quote", waiverHeader + "vault,prod/\"a,x\n",
			`line 2: it is not CSV: bare " in non-quoted-field (column 12)`},
		{"not UTF-8", waiverHeader + line + "\xff", "line 3: it is not UTF-8; save the file as " +
			"UTF-8"},
		{"two mistakes", waiverHeader + "a\n" + line + "b\n", "line 2: it has 1 fields, but must " +
			"have 7 (target,ref,path,blob_sha256,reason,by,until)\nline 4: it has 1 fields, but " +
			"must have 7 (target,ref,path,blob_sha256,reason,by,until)"},
	} {
		waivers, err := ReadWaivers(strings.NewReader(test.text))
		if err == nil {
			t.Errorf("%s: read as %+v", test.name, waivers)
			continue
		}
		if diff := cmp.Diff(test.want, err.Error()); diff != "" {
			t.Errorf("%s: the error differs (-want +got):\n%s", test.name, diff)
		}
	}
}

// A waiver counts for one ciphertext at one place, until its date has passed.
func TestWaivers(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Input)
		code   Code
		note   string
	}{
		{"the same ciphertext", func(*Input) {}, CanBeDisabled, ""},
		{"another ciphertext", func(in *Input) {
			proof(in).Exceptions[0].Blob = strings.Repeat("b", 64)
		}, NotProven, "the slot now has another value than the one that was waived"},
		{"no digest", func(in *Input) {
			in.Waivers[0].Blob, proof(in).Exceptions[0].Blob = "", ""
		}, NotProven, ""},
		{"another place", func(in *Input) { in.Waivers[0].Path = "other" }, NotProven,
			"no such slot failed"},
		{"its last moment", func(in *Input) { in.Waivers[0].Until = in.Now.Add(1) }, CanBeDisabled,
			""},
		{"its date has passed", func(in *Input) { in.Waivers[0].Until = in.Now }, NotProven,
			"its date has passed"},
		{"more failed slots", func(in *Input) { failedSlots(proof(in), oldKey, 1) }, NotProven, ""},
		{"a slot under the key", func(in *Input) { under(proof(in), 0, 1) }, Cannot, ""},
	} {
		in := clean()
		failing(proof(&in))
		in.Waivers = []Waiver{waiver()}
		test.change(&in)
		if v := Decide(in); v.Code != test.code {
			t.Errorf("%s: %s, %s, want %s", test.name, v.Code, v.Reason, test.code)
		}
		var want []string
		if test.note != "" {
			want = []string{"the waiver on line 2 has no effect (customers " +
				in.Waivers[0].Ref + " " + in.Waivers[0].Path + "): " + test.note}
		}
		got := NotesOn(in.Waivers, proof(&in).Exceptions, in.Now)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: the notes differ (-want +got):\n%s", test.name, diff)
		}
	}
}

func FuzzReadWaivers(f *testing.F) {
	f.Add(waiverHeader + "vault,prod/a,," + blob + ",junk,j.doe,2026-12-29\n")
	f.Add("\ufeff" + waiverHeader + "a,b\n\"")
	f.Fuzz(func(t *testing.T, text string) {
		waivers, err := ReadWaivers(strings.NewReader(text))
		for _, w := range waivers {
			if w.Blob == "" || w.Until.IsZero() || w.By == "" || w.Reason == "" {
				t.Errorf("read an incomplete waiver %+v (%v)", w, err)
			}
		}
	})
}
