package page

import (
	"fmt"
	"strings"
	"time"

	"rotator/internal/plural"
)

// timelinePass is one pass of the timeline.
type timelinePass struct {
	Name        string
	Began       time.Time
	Found, Left int64 // ciphertexts under a source key
}

// timelineSizes are the sizes of a picture.
type timelineSizes struct {
	width, left, high float64
	most              int // passes; earlier ones are left out
	narrow            bool
}

func wideTimeline() timelineSizes {
	return timelineSizes{width: 1000, left: 80, high: 170, most: 8}
}

func narrowTimeline() timelineSizes {
	return timelineSizes{width: 360, left: 56, high: 140, most: 4, narrow: true}
}

const (
	timelineTop = 46.0
	innerMargin = 0.16 // of a column, as a part of its width
)

// layoutTimeline draws the passes side by side: a column for each, whatever its duration. In a
// column, the line goes from the number that the pass found to the number that it left. Dashed
// lines connect the passes.
func layoutTimeline(passes []timelinePass, s timelineSizes) picture {
	passes = passes[max(0, len(passes)-s.most):]
	bottom := timelineTop + s.high
	p := picture{
		Narrow: s.narrow,
		Width:  int(s.width),
		Height: int(bottom) + 26,
		Title:  "Ciphertexts under a source key, from pass to pass",
	}
	most := int64(1)
	var words []string
	for _, one := range passes {
		most = max(most, one.Found, one.Left)
		words = append(words, fmt.Sprintf("%s found %s and left %s", one.Name,
			plural.Digits(one.Found),
			plural.Digits(one.Left)))
	}
	p.Describe = strings.Join(words, "; ") + "."
	step := niceStep(most)
	top := (most + step - 1) / step * step
	y := func(n int64) float64 { return bottom - s.high*float64(n)/float64(top) }
	width := (s.width - 8 - s.left) / float64(max(len(passes), 1))
	for i := 0; i < len(passes); i += 2 {
		p.Shapes = append(p.Shapes, rect("band", s.left+float64(i)*width, timelineTop-18, width,
			s.high+18))
	}
	for n := int64(0); n <= top; n += step {
		p.Shapes = append(p.Shapes, line("grid", s.left, y(n), s.width-8, y(n)),
			text("t-sub end", s.left-8, y(n)+4, plural.Digits(n)))
	}
	before, when := "", s.timeForm(passes)
	for i, one := range passes {
		x := s.left + float64(i)*width
		if before != "" {
			p.Shapes = append(p.Shapes, path("gap", fmt.Sprintf("M%s L%.1f,%.1f", before,
				x+width*innerMargin, y(one.Found))))
		}
		before = fmt.Sprintf("%.1f,%.1f", x+width*(1-innerMargin), y(one.Left))
		p.Shapes = append(p.Shapes, s.column(one, x, width, bottom, y)...)
		p.Shapes = append(p.Shapes, text("t-sub mid", x+width/2, bottom+18,
			one.Began.UTC().Format(when)))
	}
	return p
}

// timeForm returns the form of the times of passes. A narrow picture has room for either the date
// or the time.
func (s timelineSizes) timeForm(passes []timelinePass) string {
	if !s.narrow {
		return "2 Jan 15:04"
	}
	last := len(passes) - 1
	if last >= 0 && date(passes[0].Began) == date(passes[last].Began) {
		return "15:04"
	}
	return "2 Jan"
}

// column draws one pass.
func (s timelineSizes) column(
	p timelinePass, x, width, bottom float64, y func(int64) float64,
) (list []shape) {
	x1, x2, middle := x+width*innerMargin, x+width*(1-innerMargin), x+width/2
	edge := fmt.Sprintf("M%.1f,%.1f L%.1f,%.1f", x1, y(p.Found), x2, y(p.Left))
	list = append(list,
		path("area", fmt.Sprintf("%s L%.1f,%.1f L%.1f,%.1f Z", edge, x2, bottom, x1, bottom)),
		path("line", edge),
		text("t-head mid", middle, 20, elide(p.Name, 14)))
	if p.Found == p.Left {
		return append(list, text("t-lab t-strong mid", middle, y(p.Left)-8, plural.Digits(p.Left)))
	}
	return append(list, text("t-lab t-strong", x1, y(p.Found)-8, plural.Digits(p.Found)),
		text("t-lab t-strong end", x2, y(p.Left)-8, plural.Digits(p.Left)))
}

// niceStep returns the distance of the lines of an axis up to most: 1, 2 or 5 times a power of
// ten, with at most five lines above 0.
func niceStep(most int64) int64 {
	for power := int64(1); power < 1<<59; power *= 10 {
		for _, factor := range []int64{1, 2, 5} {
			if step := power * factor; (most+step-1)/step <= 5 {
				return step
			}
		}
	}
	return most
}
