package document

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"rotator/internal/checkpoint"
	"rotator/internal/copies"
	"rotator/internal/plural"
	"rotator/internal/report"
	"rotator/internal/watch"
)

// Stored is a stored pass, or the pass of the report itself.
type Stored struct {
	Summary  *report.Summary
	Hosts    []string
	Version  string // "" if runs of several versions worked on the pass
	Exact    bool
	OtherJob bool
	Reported bool
	Logs     []checkpoint.AuditLog
}

// Input is what New needs besides the result itself.
type Input struct {
	Now        time.Time
	Passes     []Stored                 // in the order of time; the one of the report too
	Exceptions []checkpoint.LedgerEntry // at most MaxListed are used
	Copies     *copies.Result           // nil if AWS was not asked
	Use        *watch.Result            // nil if AWS was not asked
	// Unread names stored passes that cannot be read, each with the cause.
	Unread []string
}

// New returns the document of a result.
func New(s *report.Summary, in Input) *Document {
	d := &Document{
		Schema:    Schema,
		Kind:      Kind,
		Generated: in.Now.UTC().Truncate(time.Second),
		Summary:   *s,
		Inventory: []Holding{},
		Passes:    []Pass{},
		Timeline:  []Point{},
		Logs:      []Log{},
	}
	for _, p := range in.Passes {
		d.addPass(p)
	}
	d.setInventory(s, in.baseline(s))
	d.setExceptions(in.Exceptions)
	d.setCopies(in.Copies)
	d.setScope(in.Unread)
	d.setKeyUse(in.Use)
	d.setBound()
	d.setTimeline()
	return d
}

// baseline returns the first complete pass of the same job file, or nil. The result itself is a
// baseline only if it moved ciphertexts.
func (in Input) baseline(s *report.Summary) *report.Summary {
	for _, p := range in.Passes {
		itself := p.Reported && s.Slots.Rotated == 0
		if p.Summary.Status == report.Complete && !p.OtherJob && !itself {
			return p.Summary
		}
		if p.Reported {
			break
		}
	}
	return nil
}

func (d *Document) addPass(p Stored) {
	s := p.Summary
	one := Pass{
		Kind:     checkpoint.KindPass,
		Number:   s.Pass,
		Command:  s.Command,
		Status:   s.Status,
		Began:    s.AsOf,
		Ended:    s.Ended,
		Caller:   s.Caller,
		Account:  s.Account,
		Hosts:    p.Hosts,
		Version:  p.Version,
		Exact:    p.Exact,
		OtherJob: p.OtherJob,
		Reported: p.Reported,
		Slots:    s.Slots,
		KMS:      s.KMS,
	}
	if s.Pass == 0 {
		one.Kind, one.Number = checkpoint.KindReadPass, s.ReadPass
	}
	one.Found, one.Left = s.UnderSource()
	d.Passes = append(d.Passes, one)
	for _, l := range p.Logs {
		d.Logs = append(d.Logs, Log{
			Pass:  s.Pass,
			Host:  l.Host,
			Name:  l.Name,
			Lines: l.Lines,
			Head:  l.Head,
		})
	}
}

// setInventory sets the inventory after the pass, and before it if there is a baseline.
func (d *Document) setInventory(s, before *report.Summary) {
	type cell struct{ target, key string }
	at := map[cell]int{}
	holding := func(target, key string) *Holding {
		i, known := at[cell{target, key}]
		if !known {
			i = len(d.Inventory)
			at[cell{target, key}] = i
			d.Inventory = append(d.Inventory, d.emptyHolding(target, key))
		}
		return &d.Inventory[i]
	}
	for _, n := range s.Holdings() {
		h := holding(n.Target, n.Key)
		h.After, h.Found, h.ByHeader = n.Left, n.Found, n.ByHeader
	}
	if before == nil {
		d.sortInventory()
		return
	}
	for _, n := range before.Holdings() {
		if d.hasTarget(n.Target) {
			found := n.Found
			holding(n.Target, n.Key).Before = &found
		}
	}
	for i := range d.Inventory {
		if d.Inventory[i].Before == nil {
			d.Inventory[i].Before = new(int64)
		}
	}
	d.sortInventory()
}

func (d *Document) hasTarget(name string) bool {
	return slices.ContainsFunc(d.Targets, func(t report.Target) bool { return t.Name == name })
}

func (d *Document) emptyHolding(target, key string) Holding {
	h := Holding{Key: key, Alias: d.AliasOf(key), Role: d.RoleOf(key), Target: target}
	for _, t := range d.Targets {
		if t.Name == target && t.Location != nil {
			h.Place, h.Kind = report.PlaceText(*t.Location), t.Location.Kind
			h.Format = t.Location.Format
		}
	}
	return h
}

// sortInventory sorts by target in the order of the job file, and then by the role of the key.
func (d *Document) sortInventory() {
	order := map[string]int{}
	for i, t := range d.Targets {
		order[t.Name] = i
	}
	roles := []Role{Source, Destination, Foreign, NoKey}
	slices.SortStableFunc(d.Inventory, func(a, b Holding) int {
		return cmp.Or(
			cmp.Compare(order[a.Target], order[b.Target]),
			cmp.Compare(slices.Index(roles, a.Role), slices.Index(roles, b.Role)),
			cmp.Compare(b.After, a.After),
			cmp.Compare(a.Key, b.Key))
	})
}

// setExceptions lists exceptions by target and item: concurrent workers find them in any order.
func (d *Document) setExceptions(list []checkpoint.LedgerEntry) {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b checkpoint.LedgerEntry) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Ref, b.Ref),
			cmp.Compare(a.Path, b.Path))
	})
	d.Exceptions = Exceptions{Total: d.Slots.Exceptions(), Listed: []checkpoint.LedgerEntry{}}
	list = list[:min(len(list), MaxListed, int(min(d.Exceptions.Total, MaxListed)))]
	d.Exceptions.Listed = append(d.Exceptions.Listed, list...)
	d.Exceptions.LeftOut = d.Exceptions.Total - int64(len(list))
}

func (d *Document) setCopies(found *copies.Result) {
	if found == nil {
		return
	}
	d.Copies = append([]copies.Row{}, found.Rows...)
	d.CopiesAsked, d.LastMove = found.Asked, found.LastMove
}

// setScope sets what the report covers, what it does not cover, and what could not be read.
func (d *Document) setScope(unread []string) {
	s := Scope{LookedAt: []string{}, NotLookedAt: []string{}, CannotSee: []string{}}
	s.CannotSee = append(s.CannotSee, unread...)
	for _, t := range d.Targets {
		where := t.Name
		if t.Location != nil {
			where += ": " + report.PlaceText(*t.Location)
		}
		s.LookedAt = append(s.LookedAt, where)
	}
	not := func(format string, args ...any) {
		s.NotLookedAt = append(s.NotLookedAt, fmt.Sprintf(format, args...))
	}
	if d.Status != report.Complete {
		not("The pass did not read all targets to the end.")
	}
	not("Other tables, buckets, prefixes and directories than those above were not read.")
	not("Values that were stored after %s, when the pass began to read, are not covered.",
		d.AsOf.UTC().Format(time.RFC3339))
	d.notSearched(not)
	if d.Copies == nil {
		not("AWS was not asked about copies of old ciphertexts (rotator report --copies).")
	}
	for _, row := range d.Copies {
		if row.State == copies.CannotSee {
			s.CannotSee = append(s.CannotSee, strings.TrimSuffix(fmt.Sprintf("%s of %s: %s",
				row.Kind.Name(), row.Place, row.Detail), ": "))
		}
	}
	not("What AWS services encrypt with a key themselves, such as SSE-KMS objects and volumes, " +
		"is not counted.")
	d.Scope = s
}

func (d *Document) notSearched(not func(string, ...any)) {
	if n := d.Items.Excluded; n > 0 {
		not("include and exclude skipped %s.", plural.Count(n, "item"))
	}
	n := d.Search.NotSearched
	if n.Items > 0 {
		not("%s could not be searched for further ciphertexts.", plural.Count(n.Items, "item"))
	}
	if n.Bodies > 0 {
		not("The bodies of %s were not searched for further ciphertexts.",
			plural.Count(n.Bodies, "object"))
	}
	if n.RowsInPart > 0 {
		not("Unused attributes of %s were not searched for further ciphertexts.",
			plural.Count(n.RowsInPart, "row"))
	}
}

// setTimeline sets the slots under the source keys at the beginning and the end of each pass. A
// pass that did not end has no second point.
func (d *Document) setTimeline() {
	moved := int64(0)
	for i, p := range d.Passes {
		if p.OtherJob {
			continue
		}
		d.Timeline = append(d.Timeline, Point{At: p.Began, Under: p.Found, Moved: moved, Pass: i})
		moved += p.Slots.Rotated
		if !p.Ended.IsZero() {
			d.Timeline = append(d.Timeline,
				Point{At: p.Ended, Under: p.Left, Moved: moved, Pass: i})
		}
	}
	if more := len(d.Timeline) - maxPoints; more > 0 {
		d.Timeline = d.Timeline[more:]
	}
}

// maxPoints is the maximum number of points of a timeline. The newest ones are kept.
const maxPoints = 200
