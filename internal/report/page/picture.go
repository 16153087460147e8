package page

import "fmt"

// picture is an inline SVG. The layout functions make pictures; they are pure functions.
type picture struct {
	ID            string // unique in the page
	Narrow        bool   // shown on narrow screens, instead of the other one
	Width, Height int
	Title         string
	Describe      string // the content in words
	Shapes        []shape
}

// shape is one element of a picture. Its class sets its colour.
type shape struct {
	Kind          string // rect, line, path or text
	Class         string
	X, Y          string
	X2, Y2        string // of a line
	Width, Height string // of a rect
	Path          string
	Strong, Text  string // of a text; Strong comes first, in bold
	Faint         string // of a text; comes last
}

// at formats a coordinate.
func at(x float64) string { return fmt.Sprintf("%.1f", x) }

func rect(class string, x, y, width, height float64) shape {
	return shape{Kind: "rect", Class: class, X: at(x), Y: at(y), Width: at(width),
		Height: at(height)}
}

func line(class string, x1, y1, x2, y2 float64) shape {
	return shape{Kind: "line", Class: class, X: at(x1), Y: at(y1), X2: at(x2), Y2: at(y2)}
}

func path(class, d string) shape { return shape{Kind: "path", Class: class, Path: d} }

func text(class string, x, y float64, words string) shape {
	return shape{Kind: "text", Class: class, X: at(x), Y: at(y), Text: words}
}

// anchored adds the class of texts that end at their X, if end is true.
func anchored(class string, end bool) string {
	if end {
		return class + " end"
	}
	return class
}
