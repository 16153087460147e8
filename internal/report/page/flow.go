package page

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"rotator/internal/plural"
)

// flowNode is the number of ciphertexts under one key, before and after.
type flowNode struct {
	Label, Sub    string
	Class         string // of its colour
	Before, After int64
}

// flowSizes are the sizes of a picture.
type flowSizes struct {
	width       float64
	left, right float64 // of the bars
	bar         float64 // width of a bar
	high        float64 // height of all ciphertexts
	label       int     // runes of a label
	inside      bool    // labels are between the columns
}

func wideFlow() flowSizes {
	return flowSizes{width: 1000, left: 300, right: 684, bar: 16, high: 200, label: 28}
}

func narrowFlow() flowSizes {
	return flowSizes{width: 360, left: 0, right: 348, bar: 12, high: 190, label: 15, inside: true}
}

const (
	flowTop  = 36.0
	flowGap  = 18.0
	flowMin  = 7.0  // height of a bar with few ciphertexts
	tallBar  = 58.0 // height of a bar that has room for a large number
	flowLine = 24.0 // distance of two labels
	// shortLabel is the length of a label in runes that leaves room for a second one.
	shortLabel = 18
)

// flowBar is one key in one column.
type flowBar struct{ y, height float64 }

// layoutFlow draws the keys as two columns of bars, and the ciphertexts that stayed or moved as
// bands between them. A bar with few ciphertexts is higher than its share.
func layoutFlow(nodes []flowNode, s flowSizes) picture {
	p := picture{
		Narrow: s.inside,
		Width:  int(s.width),
		Title:  "Ciphertexts by key, before and after",
	}
	before, after := make([]int64, len(nodes)), make([]int64, len(nodes))
	var words []string
	for i, n := range nodes {
		before[i], after[i] = n.Before, n.After
		words = append(words, fmt.Sprintf("%s: %s before, %s after", cell(n.Label),
			plural.Digits(n.Before), plural.Digits(n.After)))
	}
	p.Describe = strings.Join(words, "; ") + "."
	total := max(sum(before), sum(after), 1)
	left, bottom := s.column(before, total)
	right, other := s.column(after, total)
	p.Height = int(max(bottom, other)) + 4
	p.Shapes = s.bands(nodes, before, after, left, right)
	for _, column := range []struct {
		head   string
		x      float64
		toLeft bool
		bars   []flowBar
		counts []int64
	}{
		{"before", s.left, !s.inside, left, before},
		{"after", s.right, s.inside, right, after},
	} {
		x := s.textX(column.x, column.toLeft)
		p.Shapes = append(p.Shapes,
			text(anchored("t-head", column.toLeft), x, 18, column.head))
		for i, bar := range column.bars {
			n := nodes[i]
			p.Shapes = append(p.Shapes, rect(n.Class, column.x, bar.y, s.bar, bar.height))
			p.Shapes = append(p.Shapes, s.texts(n, bar, column.counts[i], x, column.toLeft)...)
		}
	}
	return p
}

// column places the bars of one column, and returns the lowest point.
func (s flowSizes) column(counts []int64, total int64) (bars []flowBar, bottom float64) {
	y := flowTop
	for _, n := range counts {
		height := 2.0
		if n > 0 {
			height = max(s.high*float64(n)/float64(total), flowMin)
		}
		bars = append(bars, flowBar{y, height})
		y += max(height+flowGap, flowLine)
	}
	return bars, y
}

// textX is where the texts of a column begin or end.
func (s flowSizes) textX(x float64, toLeft bool) float64 {
	if toLeft {
		return x - 12
	}
	return x + s.bar + 12
}

// texts draws the number and the name of a key.
func (s flowSizes) texts(
	n flowNode, bar flowBar, count int64, x float64, end bool,
) []shape {
	middle := bar.y + bar.height/2
	label, sub := elide(n.Label, s.label), elide(n.Sub, s.label)
	if bar.height < tallBar {
		one := text(anchored("t-lab", end), x, middle+5, label)
		one.Strong = plural.Digits(count)
		if s.inside {
			one.Class += " halo"
		} else if utf8.RuneCountInString(label) <= shortLabel {
			one.Faint = sub
		}
		return []shape{one}
	}
	return []shape{
		text(anchored("t-num", end), x, middle-6, plural.Digits(count)),
		text(anchored("t-lab", end), x, middle+13, label),
		text(anchored("t-sub", end), x, middle+30, sub),
	}
}

// bands draws the ciphertexts that stayed under their key or moved to another one.
func (s flowSizes) bands(
	nodes []flowNode, before, after []int64, left, right []flowBar,
) (list []shape) {
	usedLeft, usedRight := make([]float64, len(nodes)), make([]float64, len(nodes))
	for _, t := range transfers(before, after) {
		a, b := left[t.from], right[t.to]
		h1 := a.height * float64(t.n) / float64(before[t.from])
		h2 := b.height * float64(t.n) / float64(after[t.to])
		list = append(list, path("rib "+nodes[t.from].Class,
			ribbon(s.left+s.bar, a.y+usedLeft[t.from], h1, s.right, b.y+usedRight[t.to], h2)))
		usedLeft[t.from] += h1
		usedRight[t.to] += h2
	}
	return list
}

// ribbon returns a path between two vertical edges.
func ribbon(x1, y1, h1, x2, y2, h2 float64) string {
	middle := (x1 + x2) / 2
	return fmt.Sprintf("M%.1f,%.1f C%.1f,%.1f %.1f,%.1f %.1f,%.1f L%.1f,%.1f "+
		"C%.1f,%.1f %.1f,%.1f %.1f,%.1f Z", x1, y1, middle, y1, middle, y2, x2, y2, x2, y2+h2,
		middle, y2+h2, middle, y1+h1, x1, y1+h1)
}

// transfer is a number of ciphertexts that were under one key and are under another.
type transfer struct {
	from, to int
	n        int64
}

// transfers returns the fewest moves that explain both columns: what is under the same key before
// and after has stayed there. The sums of the columns must be the same. The transfers are sorted
// by their first key, and then by the second one, so that bands cross as little as possible.
func transfers(before, after []int64) (list []transfer) {
	surplus, lack := make([]int64, len(before)), make([]int64, len(before))
	for i := range before {
		stay := min(before[i], after[i])
		if stay > 0 {
			list = append(list, transfer{i, i, stay})
		}
		surplus[i], lack[i] = before[i]-stay, after[i]-stay
	}
	to := 0
	for from := range surplus {
		for surplus[from] > 0 && to < len(lack) {
			n := min(surplus[from], lack[to])
			if n == 0 {
				to++
				continue
			}
			list = append(list, transfer{from, to, n})
			surplus[from] -= n
			lack[to] -= n
		}
	}
	slices.SortStableFunc(list, func(a, b transfer) int {
		if a.from != b.from {
			return a.from - b.from
		}
		return a.to - b.to
	})
	return list
}

func sum(list []int64) (total int64) {
	for _, n := range list {
		total += n
	}
	return total
}
