package page

import (
	"fmt"
	"strings"
	"time"
)

// calendarRow is one kind of copy.
type calendarRow struct {
	Label, Sub string
	Until      time.Time // zero without an end, or if the end is not known
	NoEnd      bool
}

// end returns until when the copies exist, in words.
func (r calendarRow) end() string {
	switch {
	case r.NoEnd:
		return "no end"
	case r.Until.IsZero():
		return "end not known"
	}
	return "until " + date(r.Until)
}

// calendarSizes are the sizes of a picture.
type calendarSizes struct {
	width       float64
	left, right float64 // of the axis
	row         float64
	label       int // runes
	ticks       int
	above       bool // labels are above the bars
}

func wideCalendar() calendarSizes {
	return calendarSizes{width: 1000, left: 330, right: 880, row: 38, label: 44, ticks: 7}
}

func narrowCalendar() calendarSizes {
	return calendarSizes{width: 360, left: 2, right: 340, row: 54, label: 32, ticks: 4, above: true}
}

const (
	calendarTop = 40.0
	barHigh     = 16.0
	endWidth    = 140.0 // of the words at the end of a bar
	day         = 24 * time.Hour
)

// layoutCalendar draws a bar for each row, on an axis of dates that begins at from.
func layoutCalendar(rows []calendarRow, from time.Time, s calendarSizes) picture {
	p := picture{
		Narrow: s.above,
		Width:  int(s.width),
		Title:  "Until when copies of old ciphertexts exist",
	}
	last := time.Time{}
	var words []string
	for _, r := range rows {
		words = append(words, cell(r.Label)+": "+r.end())
		if r.Until.After(last) {
			last = r.Until
		}
	}
	p.Describe = strings.Join(words, "; ") + "."
	days := 7.0
	if !last.IsZero() {
		days = max(7, last.Sub(from).Hours()/24*1.08)
	}
	place := func(t time.Time) float64 {
		return s.left + max(0, t.Sub(from).Hours()/24)*(s.right-s.left)/days
	}
	bottom := calendarTop + float64(len(rows))*s.row
	p.Height = int(bottom) + 24
	p.Shapes = s.axis(from, days, bottom)
	if !last.IsZero() {
		x := place(last)
		head := text("t-head end", x+4, 16, "the last known copy exists until "+date(last))
		if s.above {
			head = text("t-head", s.left, 16, "the last known copy: "+shortDate(last))
		}
		p.Shapes = append(p.Shapes, line("lead", x, 24, x, bottom), head)
	}
	for i, r := range rows {
		p.Shapes = append(p.Shapes, s.bar(r, calendarTop+float64(i)*s.row, place)...)
	}
	return p
}

// axis draws the dates.
func (s calendarSizes) axis(from time.Time, days, bottom float64) (list []shape) {
	step := tickDays(days, s.ticks)
	for d := 0; float64(d) <= days; d += step {
		t := from.Add(time.Duration(d) * day)
		x := s.left + float64(d)*(s.right-s.left)/days
		class := "t-sub mid"
		if d == 0 && s.above {
			class = "t-sub"
		}
		if x > s.width-24 {
			class = "t-sub end"
		}
		words := t.UTC().Format("2 Jan")
		if days > 300 {
			words = t.UTC().Format("Jan 2006")
		}
		list = append(list, line("grid", x, 30, x, bottom), text(class, x, bottom+17, words))
	}
	return list
}

// bar draws one row at y.
func (s calendarSizes) bar(r calendarRow, y float64, place func(time.Time) float64) (list []shape) {
	top := y + 6
	if s.above {
		top = y + 20
		list = append(list, text("t-lab", s.left, y+13, elide(r.Label, s.label)))
	} else {
		list = append(list, text("t-lab end", s.left-14, y+13, elide(r.Label, s.label)),
			text("t-sub end", s.left-14, y+28, elide(r.Sub, s.label+4)))
	}
	if r.Until.IsZero() {
		class := "none fade"
		if r.NoEnd {
			class = "open"
		}
		list = append(list, rect(class, s.left, top, s.right-s.left, barHigh))
		if r.NoEnd {
			list = append(list, path("tip", fmt.Sprintf("M%.1f,%.1f L%.1f,%.1f L%.1f,%.1f Z",
				s.right, top-4, s.right+13, top+barHigh/2, s.right, top+barHigh+4)))
		}
		if s.above {
			return append(list, text("t-sub end halo", s.right, y+13, r.end()))
		}
		return append(list, text("t-lab", s.right+20, top+13, r.end()))
	}
	width := max(3, place(r.Until)-s.left)
	list = append(list, rect("old", s.left, top, width, barHigh))
	if s.above {
		return append(list, text("t-sub end halo", s.right, y+13, shortDate(r.Until)))
	}
	if x := s.left + width + 8; x+endWidth < s.right {
		return append(list, text("t-sub", x, top+13, r.end()))
	}
	return append(list, text("t-in end", s.left+width-8, top+12.5, r.end()))
}

// shortDate returns a date as 2 Jan 2006, in UTC.
func shortDate(t time.Time) string { return t.UTC().Format("2 Jan 2006") }

// tickDays returns the distance of ticks in days, with at most n distances.
func tickDays(days float64, n int) int {
	for _, step := range []int{1, 2, 7, 14, 30, 61, 91, 182, 365, 730, 1825, 3650} {
		if days/float64(step) <= float64(n) {
			return step
		}
	}
	return int(days)/n + 1
}
