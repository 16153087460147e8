package dynamoscan

import (
	"context"
	"crypto/rand"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"rotator/internal/awserr"
	"rotator/internal/scan"
)

// support is what is known about batched updates of one form.
type support uint8

const (
	unknown           support = iota // not probed, or the result was unclear
	supportedListed                  // with one SET clause for all fields
	supportedRepeated                // with one SET clause for each field
	unsupported
)

func (s support) usable() bool { return s == supportedListed || s == supportedRepeated }

// supports reports whether batches may contain statements of the form of the
// update. Before the first of them, one goroutine sends a probe and the others
// wait for its result. If the result is unclear (throttled, lost), the next batch
// sends the probe again.
func (t *Table) supports(ctx context.Context, u *update) bool {
	f := u.shape.form
	if known, enough := t.knownFor(u); enough {
		return known.usable()
	}
	select {
	case t.probing <- struct{}{}:
		defer func() { <-t.probing }()
	case <-ctx.Done():
		return false
	}
	learned, enough := t.knownFor(u)
	if enough {
		return learned.usable()
	}
	var why cause
	if learned == unknown {
		learned, why = t.ask(ctx, u, supportedListed)
	}
	if learned == unsupported && f&severalFields != 0 && why.ofForm {
		learned, why = t.ask(ctx, u, supportedRepeated)
	}
	if learned.usable() && !t.onAWS() {
		learned, why = t.contradict(ctx, u, learned)
	}
	switch {
	case learned == unsupported && why.ofForm:
		t.refuse(f, why.text)
	case learned == unsupported:
		t.refuse(0, why.text)
	case learned != unknown:
		t.accept(u, learned)
	}
	return learned.usable()
}

func (t *Table) knownSupport(f form) support {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.batch[f]
}

// knownFor returns what is known about the form of an update, and whether it is enough for
// the update: a server that checks two comparisons may ignore the third.
func (t *Table) knownFor(u *update) (known support, enough bool) {
	onAWS := t.onAWS()
	t.mu.Lock()
	defer t.mu.Unlock()
	known = t.batch[u.shape.form]
	compared := onAWS || u.shape.comparisons() <= t.compared[u.shape.form]
	return known, known == unsupported || known.usable() && compared
}

// accept records that the form of an update, and all forms with fewer features, are supported,
// with as many comparisons as the update has.
func (t *Table) accept(u *update, learned support) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for g := range form(forms) {
		if g&^u.shape.form != 0 {
			continue
		}
		if t.batch[g] == unknown {
			t.batch[g] = learned
		}
		if t.batch[g].usable() {
			t.compared[g] = max(t.compared[g], u.shape.comparisons())
		}
	}
}

// refuse records that a form, and all forms with more features, are not supported.
// Every form has the features of form 0.
func (t *Table) refuse(f form, why string) {
	t.mu.Lock()
	known := t.batch[f] == unsupported
	for g := range form(forms) {
		if f&^g == 0 {
			t.batch[g] = unsupported
		}
	}
	t.mu.Unlock()
	switch {
	case known:
	case f == 0:
		t.note("table %s: batched conditional updates cannot be used (%s), so items are "+
			"updated one by one", t.config.Table, why)
	default:
		t.note("table %s: batched updates with %s cannot be used (%s), so these items are "+
			"updated one by one", t.config.Table, f, why)
	}
}

// cause is the reason why batched updates are not supported.
type cause struct {
	text   string
	ofForm bool // other forms may be supported
	ofItem bool // the server understands the form but does not check conditions first
}

// ask sends a probe. The probe's item does not exist. If the server responds that
// the item lacks the path, a second probe, which sets the whole attribute, shows
// whether the server checks conditions.
func (t *Table) ask(ctx context.Context, u *update, style support) (support, cause) {
	learned, why := t.probe(ctx, u, style)
	if !why.ofItem {
		return learned, why
	}
	first := u.edits[0]
	first.path = first.path[:1]
	whole := update{key: u.key, edits: []edit{first}}
	whole.checks = []check{{path: first.path, value: first.old}}
	whole.shape = newShape(t.config.Table, &whole)
	learned, why = t.probe(ctx, &whole, supportedListed)
	if learned == supportedListed {
		learned = style
	}
	return learned, why
}

// probe sends the statement of the update with placeholder values, for an item that
// does not exist, so its condition cannot hold. The only correct response is
// ConditionalCheckFailed: some servers report success, and some policies deny
// dynamodb:PartiQLUpdate.
func (t *Table) probe(ctx context.Context, u *update, style support) (support, cause) {
	keys, err := t.primaryKey(ctx)
	if err != nil {
		return unknown, cause{}
	}
	p := probeUpdate(u, keys)
	learned, why, applied := t.try(ctx, u.shape.statement(&p, style), style)
	if applied {
		t.clean(ctx, &p)
	}
	return learned, why
}

// try sends a statement whose condition cannot hold, and reports whether the server
// responds that it was applied.
func (t *Table) try(
	ctx context.Context, statement types.BatchStatementRequest, style support,
) (learned support, why cause, applied bool) {
	responses, err := t.execute(ctx, []types.BatchStatementRequest{statement})
	if err == nil && responses[0].Error != nil {
		err = statementError(responses[0].Error)
	}
	if err == nil {
		return unsupported, cause{text: "this server reports success for a condition that does " +
			"not hold"}, true
	}
	learned, why = refusal(err, style)
	return learned, why, false
}

// refusal returns the support for a style, and the cause, from the error of a probe.
func refusal(err error, style support) (support, cause) {
	switch code := awserr.Code(err); code {
	case string(types.BatchStatementErrorCodeEnumConditionalCheckFailed):
		return style, cause{}
	case "AccessDeniedException":
		return unsupported, cause{text: "dynamodb:PartiQLUpdate is not allowed"}
	case "UnknownOperationException", "ResourceNotFoundException":
		return unsupported, cause{text: "this server returns " + code}
	case "ValidationException":
		return unsupported, cause{
			text:   "this server returns " + code,
			ofForm: true,
			ofItem: pathMissing(err),
		}
	}
	switch awserr.Status(err) {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return unsupported, cause{text: "this server does not know BatchExecuteStatement"}
	}
	return unknown, cause{}
}

// contradict sends statements for the item of the update, with conditions that do not hold: a
// server may check whether an item exists but ignore the other conditions. Each statement sets
// fields to the values that were read. A server that ignores the condition then changes
// nothing, unless the application has just changed the item.
func (t *Table) contradict(ctx context.Context, u *update, style support) (support, cause) {
	for _, p := range contradictions(u, t.config.Table) {
		learned, why, _ := t.try(ctx, p.shape.statement(&p, style), style)
		if why.ofItem {
			return unknown, cause{} // the item was changed
		}
		if learned != style {
			return learned, why
		}
	}
	return style, cause{}
}

// contradictions returns updates of the item of u whose conditions do not hold: one for each
// comparison, and one for each other kind of condition that u has.
func contradictions(u *update, table string) (all []update) {
	same := update{key: u.key, shape: u.shape, checks: u.checks}
	for _, e := range u.edits {
		same.edits = append(same.edits, edit{path: e.path, old: e.old, new: e.old})
	}
	for i, c := range u.checks {
		if c.state != scan.Equal {
			continue
		}
		p := same
		p.checks = slices.Clone(u.checks)
		p.checks[i].value = otherValue(c.value)
		all = append(all, p)
	}
	first := check{path: u.edits[0].path, value: u.edits[0].old}
	if u.shape.form&absence != 0 {
		all = append(all,
			first.contradictedBy(u, table, check{path: first.path, state: scan.Absent}))
	}
	if u.shape.form&presence != 0 {
		never := []scan.Step{{Name: probeName}} // the name of no attribute
		all = append(all, first.contradictedBy(u, table, check{path: never, state: scan.Present}))
	}
	return all
}

// contradictedBy returns an update of the item of u that sets the value of the check to
// itself, under the check and another one.
func (c check) contradictedBy(u *update, table string, other check) update {
	p := update{
		key:    u.key,
		edits:  []edit{{path: c.path, old: c.value, new: c.value}},
		checks: []check{c, other},
	}
	p.shape = newShape(table, &p)
	return p
}

// onAWS reports whether the table is one of DynamoDB itself, which checks all conditions.
func (t *Table) onAWS() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	endpoint, err := url.Parse(t.endpoint)
	if err != nil {
		return false
	}
	host := endpoint.Hostname()
	return strings.HasSuffix(host, ".amazonaws.com") ||
		strings.HasSuffix(host, ".amazonaws.com.cn") ||
		strings.HasSuffix(host, ".api.aws")
}

// probeUpdate returns the update that a probe sends. It has the shape of u, a key
// that no item has, and placeholder values.
func probeUpdate(u *update, keys keyTypes) update {
	p := update{key: u.key, checks: slices.Clone(u.checks)}
	for i, part := range u.key.attributes() {
		p.key.parts[i].value = randomKey(keys[part.name])
	}
	for _, e := range u.edits {
		p.edits = append(p.edits, edit{path: e.path, new: standIn(e.new.Kind, "new")})
	}
	for i, c := range p.checks {
		p.checks[i].value = standIn(c.value.Kind, "old")
	}
	return p
}

// otherValue returns a value of the same kind that differs from v.
func otherValue(v scan.Value) scan.Value {
	other := standIn(v.Kind, "old")
	switch {
	case v.Kind == scan.KindN && v.Text == other.Text:
		other.Text = "2"
	case v.Kind == scan.KindNS && slices.Equal(v.Texts, other.Texts):
		other.Texts = []string{"2"}
	}
	return other
}

// standIn returns a placeholder value of the given kind.
func standIn(kind scan.Kind, text string) scan.Value {
	v := scan.Value{Kind: kind}
	switch kind {
	case scan.KindS:
		v.Text = probeName + "-" + text
	case scan.KindN:
		v.Text = "1"
	case scan.KindB:
		v.Bytes = []byte(probeName + "-" + text)
	case scan.KindSS:
		v.Texts = []string{probeName + "-" + text}
	case scan.KindNS:
		v.Texts = []string{"1"}
	case scan.KindBS:
		v.ByteSet = [][]byte{[]byte(probeName + "-" + text)}
	}
	return v
}

// probeName is the prefix of the text and binary values of a probe.
const probeName = "rotator-probe"

// clean deletes the item that a server which ignores conditions may have created
// from a probe. No other item has its key.
func (t *Table) clean(ctx context.Context, p *update) {
	names := aliases{}
	first := names.path(p.edits[0].path)
	_, err := t.config.Client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName:                 &t.config.Table,
		Key:                       p.key.item(),
		ConditionExpression:       aws.String(first + " = :new"),
		ExpressionAttributeNames:  names.expression(),
		ExpressionAttributeValues: map[string]types.AttributeValue{":new": toSDK(p.edits[0].new)},
	})
	if failed := (*types.ConditionalCheckFailedException)(nil); err == nil ||
		errors.As(err, &failed) {
		return
	}
	if text, printErr := printKey(p.key.item()); printErr == nil {
		t.note("table %s: the probe of batched updates may have left an item with the key %s; "+
			"delete it", t.config.Table, text)
	}
}

// randomKey makes a key value that no item has.
func randomKey(kind types.ScalarAttributeType) types.AttributeValue {
	switch kind {
	case types.ScalarAttributeTypeN:
		return &types.AttributeValueMemberN{
			Value: new(big.Int).SetBytes([]byte(rand.Text())[:15]).String(),
		}
	case types.ScalarAttributeTypeB:
		return &types.AttributeValueMemberB{Value: []byte(probeName + "-" + rand.Text())}
	}
	return &types.AttributeValueMemberS{Value: probeName + "-" + rand.Text()}
}
