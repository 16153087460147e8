package harness

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Outcome is the outcome of a slot in the reports of rotator.
type Outcome string

// The outcomes that an Env can expect.
const (
	OutcomeRotated Outcome = "rotated"
	OutcomeCurrent Outcome = "current"
	OutcomeForeign Outcome = "foreign"
	OutcomeFailed  Outcome = "failed"
)

// Entry is one item or object and its expected state.
type Entry struct {
	Target string
	ID     string // the value of the table's key, or the key of the object
	Kind   Kind

	number int
	tenant string

	// mu serialises the application's writes of the entry, so that the write that the server
	// acknowledged last determines the expected state. It guards the fields below.
	mu     sync.Mutex
	slots  []*slot
	note   string // the value of another attribute, or of metadata
	region string // an attribute of a Bound item
	city   string // an attribute of a Bound item
	// the stored data outside the slots, with placeholders for values that change
	restTemplate string
	deleted      bool
}

// slot is one ciphertext of an entry.
type slot struct {
	path    string // in the notation of the job file
	context map[string]string
	secret  string  // plaintext
	blob    []byte  // the blob that the application stored last
	want    Outcome // the expected outcome of that blob
	denied  bool    // set by Deny
}

// Tenant returns the tenant in the encryption contexts of the entry.
func (e *Entry) Tenant() string { return e.tenant }

// Ref returns the name of the entry in the ledger.
func (e *Entry) Ref() string {
	if e.Target == Table {
		return fmt.Sprintf(`{"id":{"S":%q}}`, e.ID)
	}
	return e.ID
}

// newEntry creates an entry of a kind and its blobs.
func (w *Env) newEntry(target string, kind Kind, number int) (*Entry, error) {
	return w.newEntryAt(target, kind, number, "")
}

// newEntryAt creates an entry whose ID has a prefix before its number.
func (w *Env) newEntryAt(target string, kind Kind, number int, prefix string) (*Entry, error) {
	e := &Entry{
		Target: target,
		Kind:   kind,
		number: number,
		tenant: fmt.Sprintf("tenant-%d", number%7),
		note:   "first-" + rand.Text(),
	}
	switch target {
	case Table:
		e.ID = fmt.Sprintf("customer-%s%06d", prefix, number)
	case Objects:
		e.ID = fmt.Sprintf("%s%s%06d.enc", objectPrefix, prefix, number)
	case Documents:
		e.ID = fmt.Sprintf("%s%s%06d.json", documentPrefix, prefix, number)
	}
	type slotSpec struct {
		path string
		kind Kind
	}
	first := map[string]string{Table: "ssn", Documents: "database.password"}[target]
	specs := []slotSpec{{first, kind}}
	switch kind {
	case Bound:
		specs = []slotSpec{{"pin", Ordinary}}
		e.region, e.city = "region-"+rand.Text(), "city-"+rand.Text()
	case Bare:
		specs = nil
	case Nested:
		specs = []slotSpec{{"ssn", Ordinary}}
		for i, k := range []Kind{Ordinary, Current, Poison} {
			specs = append(specs, slotSpec{fmt.Sprintf("profile.cards[%d].secret", i), k})
		}
	}
	for _, p := range specs {
		s, err := w.newSlot(e, p.path, p.kind)
		if err != nil {
			return nil, err
		}
		e.slots = append(e.slots, s)
	}
	return e, nil
}

func (e *Entry) contextOf(path string) map[string]string {
	switch {
	case e.Target != Table:
		return map[string]string{"app": "trial", "tenant": e.tenant}
	case path == "ssn":
		return map[string]string{"tenant": e.tenant, "purpose": "pii"}
	case path == "pin":
		return map[string]string{"purpose": "pin"}
	}
	return map[string]string{"tenant": e.tenant, "purpose": "card"}
}

// contextUnder returns the context of a slot under a key. It must be called
// with mu held.
func (w *Env) contextUnder(key string, e *Entry, s *slot) map[string]string {
	if e.Kind != Bound || key != w.New {
		return s.context
	}
	return map[string]string{"purpose": "pin", "region": e.region, "city": e.city}
}

func (w *Env) newSlot(e *Entry, path string, kind Kind) (*slot, error) {
	s := &slot{path: path, context: e.contextOf(path), secret: w.plaintext()}
	key, context := w.Old, s.context
	switch kind {
	case Poison:
		s.want = OutcomeFailed
		context = map[string]string{"of": "another"}
	case Foreign:
		key, s.want = w.Third, OutcomeForeign
	case Current:
		key, s.want = w.New, OutcomeCurrent
	case Archived:
		s.want = OutcomeFailed
	default:
		s.want = OutcomeRotated
	}
	blob, err := w.seal(key, s.secret, context)
	if err != nil {
		return nil, err
	}
	if kind == Poison {
		switch e.number % 3 {
		case 0:
			_, _ = rand.Read(blob) // never fails
		case 1:
			blob = blob[:len(blob)-5]
		}
		w.secrets.addBlob("a poison blob", blob)
	}
	s.blob = blob
	return s, nil
}

func (w *Env) plaintext() string {
	text := "plaintext-" + rand.Text()
	for len(text) < w.config.Plaintext {
		text += rand.Text()
	}
	return text
}

// seal encrypts a plaintext, and adds the plaintext and the blob to the secrets.
func (w *Env) seal(key, secret string, context map[string]string) ([]byte, error) {
	blob, err := w.Server.KMS().Encrypt(key, []byte(secret), context)
	if err == nil {
		w.secrets.add("a plaintext", secret)
		w.secrets.addBlob("a blob of the application", blob)
	}
	return blob, err
}

// item returns the entry as an item of the table, with padding bytes outside the slots.
func (e *Entry) item(padding int) map[string]types.AttributeValue {
	item := map[string]types.AttributeValue{
		"id":     &types.AttributeValueMemberS{Value: e.ID},
		"tenant": &types.AttributeValueMemberS{Value: e.tenant},
		"note":   &types.AttributeValueMemberS{Value: e.note},
		"ttl": &types.AttributeValueMemberN{
			Value: "946684800",
		}, // in the past: expired, but not yet deleted
		"scores": &types.AttributeValueMemberNS{Value: []string{"1.50", "2"}},
	}
	if padding > 0 {
		item["padding"] = &types.AttributeValueMemberS{
			Value: string(bytes.Repeat([]byte("x"), padding)),
		}
	}
	if e.Kind == Bound {
		item["region"] = &types.AttributeValueMemberS{Value: e.region}
		item["home"] = &types.AttributeValueMemberM{Value: map[string]types.AttributeValue{
			"city": &types.AttributeValueMemberS{Value: e.city},
		}}
	}
	var cards []types.AttributeValue
	for _, s := range e.slots {
		if s.path == "ssn" || s.path == "pin" {
			item[s.path] = &types.AttributeValueMemberB{Value: s.blob}
			continue
		}
		cards = append(cards, &types.AttributeValueMemberM{Value: map[string]types.AttributeValue{
			"brand": &types.AttributeValueMemberS{Value: "visa"},
			"secret": &types.AttributeValueMemberS{
				Value: base64.StdEncoding.EncodeToString(s.blob),
			}}})
	}
	if len(cards) > 0 {
		item["profile"] = &types.AttributeValueMemberM{Value: map[string]types.AttributeValue{
			"since": &types.AttributeValueMemberN{
				Value: "2019",
			}, "cards": &types.AttributeValueMemberL{Value: cards}}}
	}
	return item
}

// body returns the body of the entry as an object. Only documents have padding.
func (e *Entry) body(padding int) []byte {
	text := base64.StdEncoding.EncodeToString(e.slots[0].blob)
	if e.Target == Objects {
		return []byte(text + "\n")
	}
	return fmt.Appendf(nil,
		"{\n  \"service\" : \"billing\", \"limits\": [1.0, 2e3],\n  \"padding\": \"%s\",\n  "+
			"\"database\": {\"password\":\"%s\", \"user\": \"app\"}\n}\n",
		bytes.Repeat([]byte("x"), padding), text)
}

// stored is the stored data of an entry: its blobs by path, and the rest as text.
type stored struct {
	blobs map[string][]byte
	rest  string
}

// recordRest records the stored data of a new entry outside its slots.
func (e *Entry) recordRest(s stored) {
	e.restTemplate = strings.Replace(s.rest, e.note, "(note)", 1)
	if e.Kind == Bound {
		e.restTemplate = strings.NewReplacer(e.region, "(region)", e.city,
			"(city)").Replace(e.restTemplate)
	}
}

// expectedRest returns the data that must be stored outside the slots.
func (e *Entry) expectedRest() string {
	placeholders := strings.NewReplacer("(note)", e.note, "(region)", e.region, "(city)", e.city)
	return placeholders.Replace(e.restTemplate)
}

// masked replaces each slot in the rest of an entry.
const masked = "(slot)"

// parseItem parses the JSON of an item and separates its slots from the rest.
func parseItem(text []byte) (stored, error) {
	s := stored{blobs: map[string][]byte{}}
	var item map[string]any
	if err := json.Unmarshal(text, &item); err != nil {
		return s, err
	}
	extract := func(path string, in map[string]any, name string) {
		value, ok := in[name].(map[string]any)
		if !ok {
			return
		}
		for _, kind := range []string{"B", "S"} {
			if text, ok := value[kind].(string); ok {
				if blob, err := base64.StdEncoding.DecodeString(text); err == nil {
					s.blobs[path] = blob
					value[kind] = masked
				}
			}
		}
	}
	extract("ssn", item, "ssn")
	extract("pin", item, "pin")
	cards, _ := member(item, "profile", "M", "cards", "L").([]any)
	for i, card := range cards {
		if fields, ok := member(card, "M").(map[string]any); ok {
			extract(fmt.Sprintf("profile.cards[%d].secret", i), fields, "secret")
		}
	}
	rest, err := json.Marshal(item)
	s.rest = string(rest)
	return s, err
}

// member returns the value at a path of member names in decoded JSON, or nil.
func member(v any, names ...string) any {
	for _, name := range names {
		fields, _ := v.(map[string]any)
		v = fields[name]
	}
	return v
}

// parseBody separates the slot of an object's body from the rest.
func parseBody(target string, body []byte) stored {
	s := stored{blobs: map[string][]byte{}}
	path, text := "", bytes.TrimSpace(body)
	if target == Documents {
		path = "database.password"
		_, after, _ := bytes.Cut(body, []byte(`"password":"`))
		text, _, _ = bytes.Cut(after, []byte(`"`))
	}
	blob, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil || len(text) == 0 {
		s.rest = string(body)
		return s
	}
	s.blobs[path] = blob
	s.rest = string(bytes.Replace(body, text, []byte(masked), 1))
	return s
}
