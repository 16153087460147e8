package rotate_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/smithy-go"

	"rotator/internal/reencrypt"
	"rotator/internal/scan"
)

// dice answer chance questions by the seed and by what is asked, never by when or
// in which order: so a seed means the same history each time.
type dice struct{ seed uint64 }

// number is from 0 to below n.
func (d dice) number(n int, about ...any) int {
	h := fnv.New64a()
	fmt.Fprint(h, d.seed, about)
	x := h.Sum64() // FNV mixes its low bits poorly
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return int(x % uint64(n))
}

// chance returns true in perMille of 1,000 cases.
func (d dice) chance(perMille int, about ...any) bool { return d.number(1000, about...) < perMille }

func (d dice) span(most time.Duration, about ...any) time.Duration {
	return time.Duration(d.number(int(most), about...)) + 1
}

// The keys of the universe.
const (
	oldKey   = "arn:aws:kms:us-east-1:111122223333:key/old"
	newKey   = "arn:aws:kms:us-east-1:111122223333:key/new"
	otherKey = "arn:aws:kms:us-east-1:111122223333:key/other"
)

// cipher is what a blob of the universe says of itself: a ciphertext that needs no
// cryptography, since only the fake KMS looks inside. Its header is that of a real
// one, with the token of its key, or of another in Posing.
type cipher struct{ Key, Plaintext, Context, Serial, Posing string }

func (c cipher) blob() []byte {
	text, _ := json.Marshal(c)
	token, random := sha256.Sum256([]byte(cmp.Or(c.Posing, c.Key))), sha256.Sum256(text)
	blob := append([]byte{1, 2, 2, 0, 0x78}, token[:]...)
	blob = append(append(blob, 1), random[:16]...)
	return append(binary.BigEndian.AppendUint32(blob, uint32(len(text))), text...)
}

// headerLen is how long the header of a blob is.
const headerLen = 5 + 32 + 1 + 16 + 4

func open(blob []byte) (c cipher, ok bool) {
	return c, len(blob) > headerLen && json.Unmarshal(blob[headerLen:], &c) == nil && c.Key != ""
}

// thing is one item of the universe, with what must be true of it.
type thing struct {
	name string
	part int
	// owner is what its encryption context says: its own name, or that of some items
	// which began with one data key.
	owner string
	// slot is what is stored, nil when the item was deleted; note is another
	// attribute.
	slot []byte
	note int
	// plaintext is what the application stored last, and key the key that it
	// used; "" for what no key can open.
	plaintext, key string
	// stray is true when its context is not what the job file says.
	stray      bool
	generation int
	// writes counts those of workers since the application wrote.
	writes int
}

// universe is the target, KMS and the truth, in memory and in virtual time.
type universe struct {
	dice
	began time.Time

	// ask says how much KMS is asked of each slot. lies is true when some headers do
	// not tell the truth, or some contexts are wrong.
	ask  asking
	lies bool
	// tidy is true when no slot is an exception, so that passes can converge.
	tidy bool
	// shares is true if some items have the same data key. All processes that wait for one
	// answer continue at the same moment, so such a history cannot be reproduced exactly.
	shares bool
	// pace is the longest time that KMS takes before it does something, and after.
	pace time.Duration

	mu     sync.Mutex
	things []*thing
	serial int
	trace  []string       // what was applied, and when
	faults []string       // what was broken against a rule
	met    map[string]int // how often what kind of operation went wrong
}

const (
	simPartitions = 4
	simPage       = 4
	// latency is the longest time that any other service takes.
	latency = 20 * time.Millisecond
)

// asking is a way to use headers and to share answers.
type asking struct {
	exact  bool
	sample reencrypt.Sample
}

// asking draws one. Headers that lie are found for certain when all are checked, which
// is what a sample of 1,000 does here.
func (d dice) asking(lies bool) asking {
	ways := []asking{
		{exact: true},
		{},
		{sample: reencrypt.Sample{Share: 0.3}},
		{sample: reencrypt.Sample{Share: 1e-9, Least: 1}},
	}
	if lies {
		return ways[d.number(3, "asking")]
	}
	return ways[d.number(4, "asking")]
}

func newUniverse(seed uint64) *universe {
	u := &universe{dice: dice{seed}, began: time.Now(), pace: latency, met: map[string]int{}}
	u.lies = u.chance(300, "lies")
	u.ask, u.tidy = u.asking(u.lies), u.chance(400, "tidy")
	u.shares = !u.ask.exact && u.chance(400, "shares")
	n := 24 + u.number(24, "items")
	for i := range n {
		t := &thing{name: fmt.Sprintf("item-%02d", i),
			part: u.number(simPartitions, "partition", i)}
		t.owner = t.name
		if u.shares && u.chance(300, "shares", i) {
			t.owner = fmt.Sprint("owner-", i%2)
		}
		switch roll := u.number(20, "kind", i); {
		case u.tidy && roll < 2:
			u.store(t, newKey, "current")
		case roll == 0:
			t.slot = []byte("poison " + t.name)
		case roll == 1:
			u.store(t, otherKey, "of another")
		case roll == 2:
			u.store(t, newKey, "current")
		default:
			u.store(t, oldKey, fmt.Sprintf("plaintext %d", i))
		}
		u.share(t)
		u.things = append(u.things, t)
	}
	return u
}

// share gives a thing the data key of another that has its owner and key.
func (u *universe) share(t *thing) {
	i := slices.IndexFunc(u.things, func(o *thing) bool {
		return o.owner == t.owner && o.key == t.key && t.key != ""
	})
	if i >= 0 {
		first := u.things[i]
		t.slot, t.plaintext, t.stray = first.slot, first.plaintext, first.stray
	}
}

// store is the application's write.
func (u *universe) store(t *thing, key, plaintext string) {
	u.serial++
	t.plaintext, t.key, t.writes = plaintext, key, 0
	t.generation++
	c := cipher{
		Key:       key,
		Plaintext: plaintext,
		Context:   contextOf(t.owner),
		Serial:    fmt.Sprint(u.serial),
	}
	if u.lies && u.chance(100, "posing", t.name, t.generation) {
		c.Posing = []string{oldKey, newKey, otherKey}[u.number(3, "as", t.name, t.generation)]
	}
	if t.stray = u.lies && !u.tidy && u.chance(50, "stray", t.name, t.generation); t.stray {
		c.Context = "astray"
	}
	t.slot = c.blob()
}

// contextOf is the encryption context of an item, as KMS of the universe knows it.
func contextOf(name string) string { return "name=" + name }

func (u *universe) violation(format string, args ...any) {
	u.faults = append(u.faults, fmt.Sprintf(format, args...))
}

// item returns the current state of the thing. It must be called with mu held.
func (t *thing) item() scan.Item {
	return scan.Item{Ref: scan.Ref(t.name), Payload: &scan.Row{Attributes: map[string]scan.Value{
		"name": {Kind: scan.KindS, Text: t.owner},
		"slot": {Kind: scan.KindB, Bytes: bytes.Clone(t.slot)},
		"note": {Kind: scan.KindN, Text: fmt.Sprint(t.note)},
	}}}
}

func (u *universe) find(ref scan.Ref) *thing {
	i := slices.IndexFunc(u.things, func(t *thing) bool { return t.name == string(ref) })
	if u.things[i].slot == nil {
		return nil
	}
	return u.things[i]
}

// page reads a page of a partition. What headers decide takes no time: so the last item
// is listed only, and has to be read, for each page to end at a time of its own.
func (u *universe) page(part int, cursor scan.Cursor) (page scan.Page) {
	u.mu.Lock()
	defer u.mu.Unlock()
	page.Last = true
	for _, t := range u.things {
		if t.part != part || t.name <= string(cursor) {
			continue
		}
		if len(page.Items) == simPage {
			page.Last = false
			break
		}
		page.Next = scan.Cursor(t.name)
		if t.slot != nil {
			page.Items = append(page.Items, t.item())
		}
	}
	if last := len(page.Items) - 1; last >= 0 && !u.ask.exact {
		page.Items[last].Payload = nil
	}
	return page
}

func (u *universe) load(ref scan.Ref) (scan.Item, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if t := u.find(ref); t != nil {
		return t.item(), nil
	}
	return scan.Item{}, scan.ErrGone
}

// replace is a conditional write: of the slot alone, if it is still what was read.
func (u *universe) replace(change scan.Change) (result scan.Result) {
	u.mu.Lock()
	defer u.mu.Unlock()
	t := u.find(change.Item.Ref)
	if t == nil {
		return scan.Result{Err: scan.ErrGone}
	}
	was, is := change.Item.Payload.(*scan.Row).Attributes, change.New.(*scan.Row).Attributes
	if !bytes.Equal(t.slot, was["slot"].Bytes) {
		now := t.item()
		return scan.Result{Err: scan.ErrChanged, Current: &now}
	}
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if name != "slot" && is[name].Text != was[name].Text {
			u.violation("%s: attribute %s was written", t.name, name)
		}
	}
	before, _ := open(t.slot)
	after, ok := open(is["slot"].Bytes)
	switch {
	case !ok || after.Key != newKey || after.Plaintext != before.Plaintext ||
		after.Context != contextOf(t.owner):
		u.violation("%s: %v was written in the place of %v", t.name, after, before)
	case before.Key == newKey:
		u.violation("%s was written although it was current", t.name)
	case t.writes > 0:
		u.violation("%s was written twice", t.name)
	}
	t.writes++
	t.slot = bytes.Clone(is["slot"].Bytes)
	return scan.Result{}
}

func apiError(code string) error {
	return &smithy.GenericAPIError{Code: code, Message: "simulated"}
}

// reencrypt is KMS.
func (u *universe) reencrypt(q reencrypt.Request) (reencrypt.Response, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	c, ok := open(q.Blob)
	if !ok {
		return reencrypt.Response{}, apiError("InvalidCiphertextException")
	}
	if q.Source.ARN != "" && q.Source.ARN != c.Key {
		return reencrypt.Response{}, apiError("IncorrectKeyException")
	}
	if c.Context != "name="+q.Context["name"] {
		return reencrypt.Response{}, apiError("InvalidCiphertextException")
	}
	u.serial++
	next := cipher{
		Key:       newKey,
		Plaintext: c.Plaintext,
		Context:   "name=" + q.DestinationContext["name"],
		Serial:    fmt.Sprint(u.serial),
	}
	return reencrypt.Response{Blob: next.blob(), Source: c.Key, Destination: newKey}, nil
}

// application is one change that the application makes.
type application struct {
	at    time.Duration
	thing int
	what  string
}

// applications draws the changes of a seed, all within span.
func (u *universe) applications(span time.Duration) (list []application) {
	for i := range u.number(30, "changes") {
		what := []string{"old", "old", "new", "note", "note", "delete", "mend"}[u.number(7,
			"change", i)]
		list = append(list, application{
			u.span(span, "when", i),
			u.number(len(u.things), "which", i),
			what,
		})
	}
	slices.SortFunc(list, func(a, b application) int { return int(a.at - b.at) })
	return list
}

func (u *universe) apply(a application) {
	u.mu.Lock()
	defer u.mu.Unlock()
	t := u.things[a.thing]
	exception := t.key != oldKey && t.key != newKey
	if t.slot == nil || exception != (a.what == "mend") {
		return
	}
	switch a.what {
	case "old", "mend":
		u.store(t, oldKey, fmt.Sprintf("plaintext %s.%d", t.name, t.generation))
	case "new":
		u.store(t, newKey, fmt.Sprintf("plaintext %s.%d", t.name, t.generation))
	case "note":
		t.note++
	case "delete":
		t.slot = nil
	}
	u.note("application", a.what, t.name)
}

// note adds a line to the trace. It must be called with mu held.
func (u *universe) note(who, what, about string) {
	u.trace = append(u.trace, fmt.Sprintf("%12d %s %s %s", time.Since(u.began), who, what, about))
}

// check compares the end with the truth. With converged every slot that a key can
// open must be under the new one.
func (u *universe) check(converged bool) []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, t := range u.things {
		c, ok := open(t.slot)
		switch {
		case t.slot == nil:
		case t.key == "":
			if string(t.slot) != "poison "+t.name {
				u.violation("%s: the poison was changed", t.name)
			}
		case !ok || c.Plaintext != t.plaintext || c.Context != contextOf(t.owner) && !t.stray:
			u.violation("%s holds %+v, and %q was stored last", t.name, c, t.plaintext)
		case (t.key == otherKey || t.stray) && c.Key != t.key:
			u.violation("%s was moved, and it is foreign or cannot be", t.name)
		case converged && t.key != otherKey && !t.stray && c.Key != newKey:
			u.violation("%s is still under %s", t.name, c.Key)
		}
	}
	return u.faults
}

// history is what was applied, in the order of virtual time.
func (u *universe) history() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := slices.Clone(u.trace)
	slices.Sort(list)
	return strings.Join(list, "\n")
}
