package rotate_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"rotator/internal/contentdigest"
	"rotator/internal/fakeaws/fakekms"
	"rotator/internal/reencrypt"
	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// digestTarget lists some items without content, and has properties.
type digestTarget struct {
	*memoryTarget
	loads      map[scan.Ref]error // of items that are listed without content
	properties map[scan.Ref]error
	pages      int // number of requests for pages
}

func newDigestTarget() *digestTarget {
	denied := &smithy.GenericAPIError{Code: "AccessDenied"}
	refused := &scan.RefusedError{Reason: "too-large"}
	return &digestTarget{
		memoryTarget: newMemory(),
		loads: map[scan.Ref]error{
			"load-ok": nil, "load-gone": scan.ErrGone, "load-refused": refused,
		},
		properties: map[scan.Ref]error{
			"gone": scan.ErrGone, "refused": refused, "denied": denied,
		},
	}
}

// Page fails once for each page, after the request was sent.
func (d *digestTarget) Page(
	ctx context.Context, p scan.Partition, cursor scan.Cursor,
) (scan.Page, error) {
	page, err := d.memoryTarget.Page(ctx, p, cursor)
	for i, item := range page.Items {
		if _, ok := d.loads[item.Ref]; ok {
			page.Items[i].Payload = nil
		}
	}
	if d.pages++; d.pages%2 == 1 {
		return page, context.DeadlineExceeded
	}
	return page, err
}

func (d *digestTarget) Load(ctx context.Context, ref scan.Ref) (scan.Item, error) {
	if err := d.loads[ref]; err != nil {
		return scan.Item{}, err
	}
	return d.memoryTarget.Load(ctx, ref)
}

func (d *digestTarget) Properties(_ context.Context, item scan.Item) (map[string]string, error) {
	return map[string]string{"owner": "me"}, d.properties[item.Ref]
}

// received collects the digests of a pass.
type received struct {
	mu      sync.Mutex
	entries map[scan.Ref][]contentdigest.Entry
}

func (r *received) Add(_ string, entries []contentdigest.Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range entries {
		r.entries[e.Ref] = append(r.entries[e.Ref], e)
	}
	return nil
}

// TestContents: each item of a pass is digested once, although pages are read again. An item that
// cannot be read completely has a reason, and an item that was deleted meanwhile is left out.
func TestContents(t *testing.T) {
	cloud := newCloud(t)
	source := cloud.key(t, fakekms.Symmetric)
	target := newDigestTarget()
	want := map[scan.Ref]string{
		"load-ok": "", "load-refused": "too-large", "refused": "too-large",
		"denied": "accessDenied",
	}
	for i := range 30 {
		want[scan.Ref(fmt.Sprintf("item-%02d", i))] = ""
	}
	for _, refs := range []map[scan.Ref]string{want, {"load-gone": "", "gone": ""}} {
		for ref := range refs {
			target.put(string(ref), cloud.encrypt(t, source, "secret", nil))
		}
	}
	got := &received{entries: map[scan.Ref][]contentdigest.Entry{}}
	pass := &testPass{
		cloud:  cloud,
		target: target.memoryTarget,
		format: format(t, nil, nil),
		keys: cloud.resolve(t, reencrypt.KeyRequest{
			Destination: cloud.key(t, fakekms.Symmetric),
			Sources:     []string{source},
		}),
		contents: got,
	}
	if _, err := pass.runOn(t, rotate.Target{
		Name:   "target",
		Lister: target,
		Format: pass.format,
		Batch:  3,
	}); err != nil {
		t.Fatal(err)
	}
	reasons := map[scan.Ref]string{}
	for ref, entries := range got.entries {
		if reasons[ref] = entries[0].NotCovered; len(entries) != 1 {
			t.Errorf("item %s has %d digests", ref, len(entries))
		}
		if covered := entries[0].Digest != (contentdigest.Digest{}); covered ==
			(reasons[ref] != "") {
			t.Errorf("item %s: digest %x, reason %q", ref, entries[0].Digest, reasons[ref])
		}
	}
	if diff := cmp.Diff(want, reasons); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
	if target.pages < 4 {
		t.Errorf("%d requests for pages, so no page was read again", target.pages)
	}
}
