package page

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"rotator/internal/copies"
	"rotator/internal/plural"
	"rotator/internal/report"
	"rotator/internal/report/document"
	"rotator/internal/verdict"
	"rotator/internal/watch"
)

// maxRows is the maximum number of rows of a table, except for exceptions.
const maxRows = 100

// maxVerdicts is the maximum number of verdicts.
const maxVerdicts = 20

// view is what the template shows.
type view struct {
	*document.Document
	Style    template.CSS
	Policy   string
	Title    string
	Accounts string
	Verdicts []verdictView
	Facts    []fact
	Flow     []picture
	Calendar []picture
	Timeline []picture
	Holdings []document.Holding
	Before   string // sum of the inventory before
	Places   []placeView
	Known    []knownRow
	Samples  []string
	Reasons  []reasonView
	Copied   []copyView
	Uses     []useView
	Steps    []passView
	// Left has the number of rows that each table leaves out, by the name of its section.
	Left map[string]int
}

// viewOf returns what the page shows of a document.
func viewOf(d *document.Document) *view {
	v := &view{
		Document: d,
		Style:    template.CSS(style), // a constant
		Policy:   policy(),
		Left:     map[string]int{},
	}
	v.setVerdicts()
	v.setFacts()
	v.setInventory()
	v.setPlaces()
	v.setKnown()
	v.setReasons()
	v.setCopies()
	v.setUses()
	v.setPasses()
	return v
}

// firstRows returns at most the given number of rows, and counts the others.
func firstRows[T any](v *view, section string, list []T, most int) []T {
	if n := len(list) - most; n > 0 {
		v.Left[section] = n
		return list[:most]
	}
	return list
}

// verdictView is a verdict with its sentence in parts.
type verdictView struct {
	verdict.Verdict
	Class            string // of its colours and its sign
	Name, Head, Rest string
	Level            int // 1 for the heading of the page
	Delete           string
}

func (v *view) setVerdicts() {
	list := slices.Clone(v.Document.Verdicts)
	slices.SortStableFunc(list, func(a, b verdict.Verdict) int {
		return cmp.Compare(b.Exit, a.Exit)
	})
	for i, one := range firstRows(v, "verdicts", list, maxVerdicts) {
		head, rest := halves(one.Sentence)
		name, head, found := strings.Cut(head, " ")
		if !found {
			name, head = "", name
		}
		view := verdictView{
			Verdict: one,
			Class:   classOf(one),
			Name:    name,
			Head:    head,
			Rest:    rest,
			Level:   2,
			Delete:  one.Delete.Sentence,
		}
		if i == 0 {
			view.Level = 1
			v.Title = name + " " + head
		}
		v.Verdicts = append(v.Verdicts, view)
	}
	if len(list) == 0 {
		v.Title = "No verdict: no source key is known."
	}
}

// classOf returns the class of the colours of a verdict.
func classOf(v verdict.Verdict) string {
	switch v.Exit {
	case 0:
		return "ok"
	case verdict.Cannot.Exit():
		return "bad"
	}
	return "unsure"
}

// fact is one of the numbers at the top of the page.
type fact struct {
	Number, Unit, Text string
	Class              string
	Link               string
}

func (v *view) setFacts() {
	before, after, known := int64(0), int64(0), true
	for _, h := range v.Inventory {
		if h.Role != document.Source {
			continue
		}
		after += h.After
		if h.Before == nil {
			known = false
			continue
		}
		before += *h.Before
	}
	under := fact{
		Number: plural.Digits(after),
		Unit:   "of " + plural.Digits(v.Slots.Seen),
		Text:   "ciphertexts are under a source key.",
		Link:   "inventory",
	}
	if known {
		under.Text += fmt.Sprintf(" The first complete pass found %s.", plural.Digits(before))
	}
	if after > 0 {
		under.Class = "bad"
	}
	v.Before = "not known"
	if total, all := v.before(); all {
		v.Before = plural.Digits(total)
	}
	v.Facts = append(v.Facts, under, v.exceptionFact(), v.copyFact(), v.checkFact())
}

// before returns the number of slots that the first complete pass found, if it is known.
func (v *view) before() (total int64, known bool) {
	for _, h := range v.Inventory {
		if h.Before == nil {
			return 0, false
		}
		total += *h.Before
	}
	return total, true
}

func (v *view) exceptionFact() fact {
	f := fact{
		Number: plural.Digits(v.Exceptions.Total),
		Unit:   plural.Form(v.Exceptions.Total, "exception", "exceptions"),
		Text:   "No slot failed, is foreign or kept changing.",
		Link:   "exceptions",
	}
	if v.Exceptions.Total > 0 {
		f.Text = fmt.Sprintf("%s failed, %s foreign, %s kept changing.",
			plural.Digits(v.Slots.Failed), plural.Digits(v.Slots.Foreign),
			plural.Digits(v.Slots.Conflict))
	}
	return f
}

func (v *view) copyFact() fact {
	f := fact{Number: "?", Unit: "copies", Link: "copies", Class: "mind",
		Text: "AWS was not asked about copies of old ciphertexts."}
	if v.Copies == nil {
		return f
	}
	counted, open, hidden := 0, 0, 0
	for _, row := range v.Copies {
		switch {
		case row.State == copies.CannotSee || row.State == copies.NotLookedAt:
			hidden++
		case row.State == copies.Counted:
			counted++
			if row.Until.IsZero() {
				open++
			}
		}
	}
	f.Number = fmt.Sprint(counted)
	f.Unit = plural.Form(int64(counted), "kind of copy", "kinds of copies")
	f.Text = fmt.Sprintf("can contain old ciphertexts, %d without a known end. %s could not be "+
		"checked.", open, plural.Count(hidden, "kind"))
	if counted == 0 {
		f.Class = ""
	}
	return f
}

func (v *view) checkFact() fact {
	s := v.Sample
	f := fact{
		Number: plural.Digits(s.Disagreed),
		Unit:   "of " + plural.Digits(s.Checked) + " checks",
		Text:   "disagreed with a ciphertext header.",
		Link:   "known",
	}
	switch {
	case s.Population == 0:
		f.Number, f.Unit = plural.Digits(v.Slots.Seen), "by KMS"
		f.Text = "KMS named the key of every ciphertext whose key is known."
	case s.Disagreed > 0:
		f.Class = "bad"
	default:
		if bound := v.Bound; bound != nil && bound.AtMostWrong != nil {
			f.Text += fmt.Sprintf(" At most %s of %s headers are wrong (95%% confidence).",
				plural.Digits(*bound.AtMostWrong), plural.Digits(bound.Population))
		}
	}
	return f
}

// roleText names the role of a key.
func roleText(r document.Role) string {
	return map[document.Role]string{
		document.Source:      "source key",
		document.Destination: "destination key",
		document.Foreign:     "another key",
		document.NoKey:       "no key is known",
	}[r]
}

func classOfRole(r document.Role) string {
	return map[document.Role]string{
		document.Source:      "old",
		document.Destination: "new",
		document.Foreign:     "third",
		document.NoKey:       "none",
	}[r]
}

// maxFlowKeys is the maximum number of keys in the picture. The others are one node.
const maxFlowKeys = 7

func (v *view) setInventory() {
	v.Holdings = firstRows(v, "inventory", v.Inventory, maxRows)
	nodes, known := v.flowNodes()
	if !known || len(nodes) == 0 {
		return
	}
	for _, size := range []flowSizes{wideFlow(), narrowFlow()} {
		p := layoutFlow(nodes, size)
		p.ID = fmt.Sprintf("flow%d", len(v.Flow))
		v.Flow = append(v.Flow, p)
	}
}

// flowNodes sums up the inventory by key. known is false without figures of an earlier pass.
func (v *view) flowNodes() (nodes []flowNode, known bool) {
	at := map[string]int{}
	list := slices.Clone(v.Inventory)
	roles := []document.Role{document.Source, document.Destination, document.Foreign,
		document.NoKey}
	slices.SortStableFunc(list, func(a, b document.Holding) int {
		return cmp.Compare(slices.Index(roles, a.Role), slices.Index(roles, b.Role))
	})
	before, after := int64(0), int64(0)
	for _, h := range list {
		if h.Before == nil {
			return nil, false
		}
		i, found := at[h.Key]
		if !found {
			label := cmp.Or(h.Alias, shortKey(h.Key), "no known key")
			i = len(nodes)
			if i == maxFlowKeys {
				i--
				nodes[i].Label, nodes[i].Sub = "other keys", ""
			} else {
				nodes = append(nodes, flowNode{Label: label, Sub: roleText(h.Role),
					Class: classOfRole(h.Role)})
			}
			at[h.Key] = i
		}
		nodes[i].Before += *h.Before
		nodes[i].After += h.After
		before, after = before+*h.Before, after+h.After
	}
	switch {
	case before > after:
		nodes = append(nodes, flowNode{Label: "no longer found", Class: "none",
			After: before - after})
	case after > before:
		nodes = append(nodes, flowNode{Label: "not found before", Class: "none",
			Before: after - before})
	}
	return nodes, true
}

// spark is the bar of the outcomes of a target.
type spark struct {
	X, Width float64
	Class    string
}

// placeView is a target with the bar of its outcomes.
type placeView struct {
	report.Target
	Where  string
	Sparks []spark
	Text   string
}

func (v *view) setPlaces() {
	for _, t := range firstRows(v, "places", v.Targets, maxRows) {
		p := placeView{Target: t, Where: "not recorded by an earlier version"}
		if t.Location != nil {
			p.Where = report.PlaceText(*t.Location)
		}
		p.Sparks, p.Text = sparksOf(t.Slots)
		v.Places = append(v.Places, p)
	}
}

// sparksOf returns the bar of the outcomes, 120 wide, and its description.
func sparksOf(s report.Slots) (list []spark, text string) {
	x := 0.0
	var parts []string
	for _, one := range []struct {
		name, class string
		n           int64
	}{
		{"under the destination key", "o-current", s.Current + s.Rotated},
		{"under a source key", "o-remaining", s.Remaining},
		{"foreign", "o-foreign", s.Foreign},
		{"failed or changing", "o-failed", s.Failed + s.Conflict},
	} {
		if one.n == 0 {
			continue
		}
		width := max(1.5, 120*float64(one.n)/float64(max(s.Seen, 1)))
		width = min(width, 120-x)
		list = append(list, spark{X: x, Width: width, Class: one.class})
		x += width
		parts = append(parts, plural.Digits(one.n)+" "+one.name)
	}
	return list, cmp.Or(strings.Join(parts, ", "), "no slot")
}

// knownRow states how the keys of some slots are known.
type knownRow struct {
	How   string
	Slots int64
	Error string
}

func (v *view) setKnown() {
	s := v.Sample
	header := int64(0)
	for _, h := range v.Inventory {
		header += h.ByHeader
	}
	alone := max(0, header-s.Checked)
	checked := header - alone
	named := int64(0)
	for _, k := range v.Keys {
		named += k.Slots
	}
	rows := []knownRow{{"KMS named the key", named - header, "none"}}
	if checked > 0 {
		rows = append(rows, knownRow{"a header named the key, and KMS checked it", checked,
			fmt.Sprintf("%s of %s disagreed", plural.Digits(s.Disagreed),
				plural.Digits(s.Checked))})
	}
	if alone > 0 {
		rows = append(rows, knownRow{"a header named the key", alone, "see the sentence below"})
	}
	if rest := v.Slots.Seen - named; rest > 0 {
		rows = append(rows, knownRow{"the key is not known", rest, "listed as exceptions"})
	}
	v.Known = rows
	if text := v.BoundSentence(); text != "" {
		v.Samples = []string{text}
		return
	}
	for _, one := range v.Document.Verdicts {
		for _, why := range one.Why {
			if strings.HasPrefix(why, "KMS named the key of") && !slices.Contains(v.Samples, why) {
				v.Samples = append(v.Samples, why)
			}
		}
	}
}

// reasonView is a reason with what it means for the source keys.
type reasonView struct {
	report.Reason
	Needs string
}

func (v *view) setReasons() {
	for _, r := range firstRows(v, "reasons", v.Document.Reasons, maxRows) {
		v.Reasons = append(v.Reasons, reasonView{r, needs(r, v.Exceptions.Listed, v.Document)})
	}
}

// copyView is a row of the copies.
type copyView struct {
	copies.Row
	Name, Status, Class, End string
}

func (v *view) setCopies() {
	var bars []calendarRow
	for _, row := range v.Copies {
		one := copyView{Row: row, Name: row.Kind.Name()}
		switch row.State {
		case copies.None:
			one.Status, one.End = "none", "nothing to wait for"
		case copies.NotLookedAt:
			one.Status, one.Class, one.End = "not checked", "mind", "not known"
		case copies.CannotSee:
			one.Status, one.Class, one.End = "cannot see", "bad", "not known"
		case copies.Counted:
			one.Status, one.End = plural.Digits(row.Count), "end not known"
			if row.NoEnd {
				one.End = "no end"
			} else if !row.Until.IsZero() {
				one.End = date(row.Until)
			}
			bars = append(bars, calendarRow{
				Label: one.Name + " of " + cmp.Or(row.Place, row.Target),
				Sub:   cmp.Or(row.Detail, plural.Digits(row.Count)),
				Until: row.Until,
				NoEnd: row.NoEnd,
			})
		}
		v.Copied = append(v.Copied, one)
	}
	v.Copied = firstRows(v, "copies", v.Copied, maxRows)
	if len(bars) == 0 {
		return
	}
	bars = bars[:min(len(bars), 30)]
	for _, size := range []calendarSizes{wideCalendar(), narrowCalendar()} {
		p := layoutCalendar(bars, v.CopiesAsked, size)
		p.ID = fmt.Sprintf("calendar%d", len(v.Calendar))
		v.Calendar = append(v.Calendar, p)
	}
}

// useView is what AWS stated about a source key.
type useView struct {
	document.KeyUse
	Facts   []watch.Fact
	Callers []callerView
	Left    int // callers that are left out
}

// callerView is a caller with the result of its calls.
type callerView struct {
	watch.Caller
	Status string
}

// maxCallers is the maximum number of callers of one key.
const maxCallers = 50

func (v *view) setUses() {
	for _, k := range firstRows(v, "keys", v.KeyUse, maxVerdicts) {
		one := useView{KeyUse: k, Facts: k.AllFacts()}
		callers := k.Trail.Callers
		one.Left = max(0, len(callers)-maxCallers)
		for _, c := range callers[:len(callers)-one.Left] {
			one.Callers = append(one.Callers, callerView{c, document.Result(c)})
		}
		one.Facts = one.Facts[:min(len(one.Facts), maxRows)]
		one.Materials = k.Materials[:min(len(k.Materials), maxRows)]
		v.Uses = append(v.Uses, one)
	}
}

// passView is a pass with its name and what it shows.
type passView struct {
	document.Pass
	Name, Shows string
}

func (v *view) setPasses() {
	var list []timelinePass
	for _, p := range v.Passes {
		name := passName(p)
		v.Steps = append(v.Steps, passView{p, name, shows(p)})
		if !p.OtherJob && len(v.Parts) == 0 {
			list = append(list, timelinePass{name, p.Began, p.Found, p.Left})
		}
	}
	if n := len(v.Steps) - maxRows; n > 0 {
		v.Left["passes"], v.Steps = n, v.Steps[n:]
	}
	if len(list) < 2 {
		return
	}
	for _, size := range []timelineSizes{wideTimeline(), narrowTimeline()} {
		p := layoutTimeline(list, size)
		p.ID = fmt.Sprintf("timeline%d", len(v.Timeline))
		v.Timeline = append(v.Timeline, p)
	}
}

func passName(p document.Pass) string {
	switch {
	case p.Number == 0:
		return p.Command
	case p.Kind == "pass":
		return fmt.Sprintf("pass %d", p.Number)
	}
	return fmt.Sprintf("%s %d", p.Command, p.Number)
}

// shows states what a pass shows about the source keys.
func shows(p document.Pass) string {
	switch {
	case p.OtherJob:
		return "it belongs to another job file"
	case p.Status != report.Complete:
		return "nothing: it did not read all targets"
	case p.Slots.Rotated > 0:
		return "nothing yet: it moved ciphertexts"
	case p.Left > 0:
		return "ciphertexts are under a source key"
	}
	return "nothing is under a source key"
}
