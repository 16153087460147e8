package dynamoscan

import (
	"context"

	"rotator/internal/scan/connect"
)

// connect opens the connections that writes and scans can need at once, by requests that
// take no capacity of the table (API_DescribeTable). Few items need few, and a pass that
// writes nothing has no more requests at once than it begins with.
func (t *Table) connect(ctx context.Context) {
	t.mu.Lock()
	pages := t.pages
	t.mu.Unlock()
	if !pages || t.config.Connections == 0 {
		return
	}
	connect.Ahead(ctx, t.config.Connections, t.config.Client.Options().Credentials, func(ctx context.Context) {
		_, _ = t.describe(ctx)
	})
}
