package auditlog

import (
	"bytes"
	"strconv"
	"time"

	"rotator/internal/rotate"
	"rotator/internal/scan"
)

// writer makes the stored form of the lines of one segment.
type writer struct {
	chain
	table
	old   bool  // the stored form is the plain form, as earlier versions wrote it
	plain int64 // bytes of the plain lines of the segment
	// latest has the number of the last intent of each change in table.intents, and possibly
	// of older changes.
	latest map[place]int64

	line, change, name []byte // buffers
	at                 []byte // time of the pending lines
	pending            []int64
}

// place is the item into which a blob with this digest was written. Items may share a blob.
type place struct {
	target string
	ref    scan.Ref
	after  string
}

func placeOf(r *rotate.Record) place { return place{r.Target, r.Ref, r.After} }

func newWriter(c chain) *writer {
	return &writer{chain: c, table: newTable(), latest: map[place]int64{}}
}

// first appends the first line of a log.
func (w *writer) first(text []byte, job string, at time.Time) []byte {
	stamp := appendTime(nil, at)
	w.line = w.begin(w.line[:0], eventLog, stamp)
	w.line = appendText(append(w.line, `,"job":`...), job)
	w.finish()
	if w.old {
		return append(text, w.line...)
	}
	return w.check(append(append(text, `["l",`...), stamp...))
}

// finish completes the plain line in w.line.
func (w *writer) finish() {
	w.line = w.link(w.line, 0)
	w.plain += int64(len(w.line))
	w.forget(w.seq - window)
}

// check appends the end of a stored line.
func (w *writer) check(text []byte) []byte {
	return append(append(append(text, `,"`...), w.head[:checkLength]...), "\"]\n"...)
}

// intended appends a line for each record that is about to be written.
func (w *writer) intended(text []byte, records []rotate.Record) []byte {
	for i := range records {
		r := &records[i]
		w.at = appendTime(w.at[:0], r.At)
		w.change = appendChange(w.change[:0], r)
		w.line = append(w.begin(w.line[:0], eventIntent, w.at), w.change...)
		w.line = appendOrigin(w.line, &r.Origin)
		w.finish()
		if w.old {
			text = append(text, w.line...)
			continue
		}
		text = w.stored(append(text, `["i",`...), r)
		text = appendText(append(text, ','), r.Origin.RequestID)
		text = w.storedName(text, r.Origin.FromMaterial)
		text = w.check(w.storedName(text, r.Origin.ToMaterial))
		w.refer(r)
	}
	return text
}

// refer makes an intent known to later lines. w.change has its common members.
func (w *writer) refer(r *rotate.Record) {
	w.intend(w.seq, w.change)
	w.latest[placeOf(r)] = w.seq
	if len(w.latest) > 2*window { // it has places of changes that the table forgot
		for at, seq := range w.latest {
			if _, ok := w.table.intents[seq]; !ok {
				delete(w.latest, at)
			}
		}
	}
}

// stored appends time and CHANGE.
func (w *writer) stored(text []byte, r *rotate.Record) []byte {
	text = append(append(text, w.at...), ',')
	text = strconv.AppendInt(text, int64(r.Pass), 10)
	text = w.storedName(text, r.Target)
	text = appendText(append(text, ','), string(r.Ref))
	text = appendPath(append(text, ','), r.Path)
	text = w.storedName(text, r.From)
	text = w.storedName(text, r.To)
	text = appendText(append(text, ','), r.Before)
	text = appendText(append(text, ','), r.After)
	return appendText(append(text, ','), r.Binding)
}

func (w *writer) storedName(text []byte, name string) []byte {
	w.name = appendText(w.name[:0], name)
	return w.appendName(append(text, ','), w.name)
}

// rotated appends a line for each record that was written.
func (w *writer) rotated(text []byte, records []rotate.Record) []byte {
	var now [64]byte
	for i := range records {
		r := &records[i]
		at := appendTime(now[:0], r.At)
		w.change = appendChange(w.change[:0], r)
		intent, ok := w.latest[placeOf(r)]
		ok = ok && !w.old && bytes.Equal(w.table.intents[intent], w.change)
		if !ok || len(w.pending) == maxRange || !bytes.Equal(at, w.at) {
			text = w.flush(text)
		}
		w.at = append(w.at[:0], at...)
		w.line = append(w.begin(w.line[:0], eventRotated, at), w.change...)
		w.finish()
		switch {
		case ok:
			w.pending = append(w.pending, intent)
			w.forget(intent)
			delete(w.latest, placeOf(r))
		case w.old:
			text = append(text, w.line...)
		default:
			text = w.check(w.stored(append(text, `["w",`...), r))
		}
	}
	return w.flush(text)
}

// flush appends the pending lines as RANGES.
func (w *writer) flush(text []byte) []byte {
	if len(w.pending) == 0 {
		return text
	}
	text = append(append(append(text, `["r",`...), w.at...), `,"`...)
	text = append(appendRanges(text, w.pending), '"')
	w.pending = w.pending[:0]
	return w.check(text)
}
