package checkpoint

import "context"

// Moved is the number of slots that a pass counts as moved, and what is known about how they were
// counted.
type Moved struct {
	Slots     int64
	ByRetries int64 // of Slots: those that retries have moved
	// Once is true if the records show that one run read every partition, without an
	// interruption, and that no slot was tried again. Each write of the pass was then counted. A
	// checkpoint in a file does not have these records.
	Once bool
	// LogsLeftOut is true if the records may lack the names of further audit logs of the pass.
	LogsLeftOut bool
}

// Moved returns the number of moved slots of a pass, including those that retries have moved.
func (p *Passes) Moved(ctx context.Context, pass Pass) (m Moved, err error) {
	all, err := p.readAll(ctx, pass)
	if err != nil {
		return m, err
	}
	m.Once = pass.Status == Finished && len(pass.Runs) <= 1
	m.LogsLeftOut = len(pass.Logs) >= maxLogs
	for _, r := range all {
		m.Slots += r.Counts.Slots.Rotated
		m.Once = m.Once && r.Epoch == 1 && len(r.Chunks) == 0
		m.LogsLeftOut = m.LogsLeftOut || len(r.Earlier) >= maxEarlier
	}
	for chunk, err := range p.ledgerOf(ctx, pass, all) {
		if err != nil {
			return m, err
		}
		m.ByRetries += chunk.Adjust.Slots.Rotated
	}
	m.Slots += m.ByRetries
	return m, nil
}
