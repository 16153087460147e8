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

// seededRandom makes random decisions that depend only on the seed and on the arguments, not on
// time or order. A seed therefore gives the same history in every run.
type seededRandom struct{ seed uint64 }

// number returns a random number in [0, n).
func (d seededRandom) number(n int, about ...any) int {
	h := fnv.New64a()
	fmt.Fprint(h, d.seed, about)
	x := h.Sum64() // FNV mixes its low bits poorly
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return int(x % uint64(n))
}

// chance returns true with a probability of perMille/1000.
func (d seededRandom) chance(perMille int, about ...any) bool {
	return d.number(1000, about...) < perMille
}

// span returns a random duration of at most most.
func (d seededRandom) span(most time.Duration, about ...any) time.Duration {
	return time.Duration(d.number(int(most), about...)) + 1
}

// The keys of the universe.
const (
	oldKey   = "arn:aws:kms:us-east-1:111122223333:key/old"
	newKey   = "arn:aws:kms:us-east-1:111122223333:key/new"
	otherKey = "arn:aws:kms:us-east-1:111122223333:key/other"
)

// cipher is the content of a simulated ciphertext. It is not encrypted, because only the
// simulated KMS reads it. Its header is like that of a real ciphertext. It has the token of Key
// or, if TokenOf is set, of that other key.
type cipher struct{ Key, Plaintext, Context, Serial, TokenOf string }

func (c cipher) blob() []byte {
	text, _ := json.Marshal(c)
	token, random := sha256.Sum256([]byte(cmp.Or(c.TokenOf, c.Key))), sha256.Sum256(text)
	blob := append([]byte{1, 2, 2, 0, 0x78}, token[:]...)
	blob = append(append(blob, 1), random[:16]...)
	return append(binary.BigEndian.AppendUint32(blob, uint32(len(text))), text...)
}

// headerLen is the length of the header of a blob.
const headerLen = 5 + 32 + 1 + 16 + 4

func open(blob []byte) (c cipher, ok bool) {
	return c, len(blob) > headerLen && json.Unmarshal(blob[headerLen:], &c) == nil && c.Key != ""
}

// simItem is one item and its expected state.
type simItem struct {
	name string
	part int
	// owner is in the encryption context: the name of the item, or a name that several items
	// share, which began with the same data key.
	owner string
	// slot is the stored blob, nil after the item was deleted. note is another attribute.
	slot []byte
	note int
	// plaintext is the last plaintext that the application stored, and key the key that it used.
	// key is "" if no key can decrypt the slot.
	plaintext, key string
	// wrongContext is true if the context of the blob is not that of the job file.
	wrongContext bool
	generation   int
	// writes is the number of writes of workers since the last write of the application.
	writes int
}

// universe simulates the target, KMS and the application in memory and in virtual time. It knows
// the expected state of every item.
type universe struct {
	seededRandom
	began time.Time

	// policy determines for which slots KMS is asked. wrongHeaders is true if some headers have
	// the token of another key, or some contexts are wrong.
	policy       requestPolicy
	wrongHeaders bool
	// noExceptions is true if no slot is an exception, so that passes can converge.
	noExceptions bool
	// shares is true if some items have the same data key. All processes that wait for one
	// answer continue at the same moment, so such a history cannot be reproduced exactly.
	shares bool
	// maxKMSDelay is the maximum delay of KMS before it processes a request, and after it.
	maxKMSDelay time.Duration

	mu          sync.Mutex
	items       []*simItem
	serial      int
	trace       []string       // the applied operations and their times
	violations  []string       // the rules that were violated
	occurrences map[string]int // the number of faults of each kind
}

const (
	simPartitions = 4
	simPage       = 4
	// latency is the maximum delay of the other services.
	latency = 20 * time.Millisecond
)

// requestPolicy determines which slots are decided without a separate request.
type requestPolicy struct {
	exact  bool
	sample reencrypt.Sample
}

// requestPolicy draws one. Headers that lie are found for certain when all are checked, which
// is what a sample of 1,000 does here.
func (d seededRandom) requestPolicy(wrongHeaders bool) requestPolicy {
	policies := []requestPolicy{
		{exact: true},
		{},
		{sample: reencrypt.Sample{Share: 0.3}},
		{sample: reencrypt.Sample{Share: 1e-9, Least: 1}},
	}
	if wrongHeaders {
		return policies[d.number(3, "policy")]
	}
	return policies[d.number(4, "policy")]
}

func newUniverse(seed uint64) *universe {
	u := &universe{
		seededRandom: seededRandom{seed},
		began:        time.Now(),
		maxKMSDelay:  latency,
		occurrences:  map[string]int{},
	}
	u.wrongHeaders = u.chance(300, "wrong headers")
	u.policy, u.noExceptions = u.requestPolicy(u.wrongHeaders), u.chance(400, "no exceptions")
	u.shares = !u.policy.exact && u.chance(400, "shares")
	n := 24 + u.number(24, "items")
	for i := range n {
		t := &simItem{name: fmt.Sprintf("item-%02d", i),
			part: u.number(simPartitions, "partition", i)}
		t.owner = t.name
		if u.shares && u.chance(300, "shares", i) {
			t.owner = fmt.Sprint("owner-", i%2)
		}
		switch roll := u.number(20, "kind", i); {
		case u.noExceptions && roll < 2:
			u.store(t, newKey, "current")
		case roll == 0:
			t.slot = []byte("poison " + t.name)
		case roll == 1:
			u.store(t, otherKey, "foreign")
		case roll == 2:
			u.store(t, newKey, "current")
		default:
			u.store(t, oldKey, fmt.Sprintf("plaintext %d", i))
		}
		u.share(t)
		u.items = append(u.items, t)
	}
	return u
}

// share gives an item the data key of another item with the same owner and key.
func (u *universe) share(t *simItem) {
	i := slices.IndexFunc(u.items, func(o *simItem) bool {
		return o.owner == t.owner && o.key == t.key && t.key != ""
	})
	if i >= 0 {
		first := u.items[i]
		t.slot, t.plaintext, t.wrongContext = first.slot, first.plaintext, first.wrongContext
	}
}

// store is a write of the application.
func (u *universe) store(t *simItem, key, plaintext string) {
	u.serial++
	t.plaintext, t.key, t.writes = plaintext, key, 0
	t.generation++
	c := cipher{
		Key:       key,
		Plaintext: plaintext,
		Context:   contextOf(t.owner),
		Serial:    fmt.Sprint(u.serial),
	}
	if u.wrongHeaders && u.chance(100, "token of", t.name, t.generation) {
		c.TokenOf = []string{oldKey, newKey, otherKey}[u.number(3, "as", t.name, t.generation)]
	}
	if t.wrongContext = u.wrongHeaders && !u.noExceptions &&
		u.chance(50, "wrong context", t.name, t.generation); t.wrongContext {
		c.Context = "wrong"
	}
	t.slot = c.blob()
}

// contextOf returns the encryption context of an item in the notation of the simulated KMS.
func contextOf(name string) string { return "name=" + name }

func (u *universe) violation(format string, args ...any) {
	u.violations = append(u.violations, fmt.Sprintf(format, args...))
}

// item returns the current state of the item. It must be called with mu held.
func (t *simItem) item() scan.Item {
	return scan.Item{Ref: scan.Ref(t.name), Payload: &scan.Row{Attributes: map[string]scan.Value{
		"name": {Kind: scan.KindS, Text: t.owner},
		"slot": {Kind: scan.KindB, Bytes: bytes.Clone(t.slot)},
		"note": {Kind: scan.KindN, Text: fmt.Sprint(t.note)},
	}}}
}

func (u *universe) find(ref scan.Ref) *simItem {
	i := slices.IndexFunc(u.items, func(t *simItem) bool { return t.name == string(ref) })
	if u.items[i].slot == nil {
		return nil
	}
	return u.items[i]
}

// page reads a page of a partition. Slots that headers decide take no time. Therefore the last
// item has no content and must be loaded, so that each page ends at a different time.
func (u *universe) page(part int, cursor scan.Cursor) (page scan.Page) {
	u.mu.Lock()
	defer u.mu.Unlock()
	page.Last = true
	for _, t := range u.items {
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
	if last := len(page.Items) - 1; last >= 0 && !u.policy.exact {
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

// replace writes the slot, on the condition that it has not changed since it was read.
func (u *universe) replace(change scan.Change) (result scan.Result) {
	u.mu.Lock()
	defer u.mu.Unlock()
	t := u.find(change.Item.Ref)
	if t == nil {
		return scan.Result{Err: scan.ErrGone}
	}
	oldRow, newRow := change.Item.Payload.(*scan.Row).Attributes, change.New.(*scan.Row).Attributes
	if !bytes.Equal(t.slot, oldRow["slot"].Bytes) {
		now := t.item()
		return scan.Result{Err: scan.ErrChanged, Current: &now}
	}
	for _, name := range slices.Sorted(maps.Keys(newRow)) {
		if name != "slot" && newRow[name].Text != oldRow[name].Text {
			u.violation("%s: attribute %s was written", t.name, name)
		}
	}
	before, _ := open(t.slot)
	after, ok := open(newRow["slot"].Bytes)
	switch {
	case !ok || after.Key != newKey || after.Plaintext != before.Plaintext ||
		after.Context != contextOf(t.owner):
		u.violation("%s: %v replaced %v", t.name, after, before)
	case before.Key == newKey:
		u.violation("%s was written although it was current", t.name)
	case t.writes > 0:
		u.violation("%s was written twice", t.name)
	}
	t.writes++
	t.slot = bytes.Clone(newRow["slot"].Bytes)
	return scan.Result{}
}

func apiError(code string) error {
	return &smithy.GenericAPIError{Code: code, Message: "simulated"}
}

// reencrypt simulates ReEncrypt of KMS.
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

// application is one write of the application.
type application struct {
	at   time.Duration
	item int // index
	what string
}

// applications returns the writes of the application, all of which happen within span.
func (u *universe) applications(span time.Duration) (list []application) {
	for i := range u.number(30, "changes") {
		what := []string{"old", "old", "new", "note", "note", "delete", "repair"}[u.number(7,
			"change", i)]
		list = append(list, application{
			u.span(span, "when", i),
			u.number(len(u.items), "which", i),
			what,
		})
	}
	slices.SortFunc(list, func(a, b application) int { return int(a.at - b.at) })
	return list
}

func (u *universe) apply(a application) {
	u.mu.Lock()
	defer u.mu.Unlock()
	t := u.items[a.item]
	exception := t.key != oldKey && t.key != newKey
	if t.slot == nil || exception != (a.what == "repair") {
		return
	}
	switch a.what {
	case "old", "repair":
		u.store(t, oldKey, fmt.Sprintf("plaintext %s.%d", t.name, t.generation))
	case "new":
		u.store(t, newKey, fmt.Sprintf("plaintext %s.%d", t.name, t.generation))
	case "note":
		t.note++
	case "delete":
		t.slot = nil
	}
	u.record("application", a.what, t.name)
}

// record adds a line to the trace. It must be called with mu held.
func (u *universe) record(actor, what, about string) {
	u.trace = append(u.trace, fmt.Sprintf("%12d %s %s %s", time.Since(u.began), actor, what, about))
}

// check compares the final state with the expected state. If converged is true, every slot that
// a key can decrypt must be under the new key.
func (u *universe) check(converged bool) []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, t := range u.items {
		c, ok := open(t.slot)
		switch {
		case t.slot == nil:
		case t.key == "":
			if string(t.slot) != "poison "+t.name {
				u.violation("%s: a slot that cannot be decrypted was changed", t.name)
			}
		case !ok || c.Plaintext != t.plaintext || c.Context != contextOf(t.owner) &&
			!t.wrongContext:
			u.violation("%s contains %+v, but the application stored %q last", t.name, c,
				t.plaintext)
		case (t.key == otherKey || t.wrongContext) && c.Key != t.key:
			u.violation("%s was moved, but it is foreign or has a wrong context", t.name)
		case converged && t.key != otherKey && !t.wrongContext && c.Key != newKey:
			u.violation("%s is still under %s", t.name, c.Key)
		}
	}
	return u.violations
}

// log is what was applied, in the order of virtual time.
func (u *universe) log() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := slices.Clone(u.trace)
	slices.Sort(list)
	return strings.Join(list, "\n")
}
