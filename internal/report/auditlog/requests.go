package auditlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// Request is the ReEncrypt request of an intent.
type Request struct {
	// ID is "" if the line has none. Lines of older versions have none.
	ID string
	At time.Time // of the intent, just after the response
}

// LastRequests returns the last n requests of the log at path, in any order. more is true if the
// log has earlier ones. It reads the segments from the newest one backwards, as far as needed, and
// keeps at most n requests in memory. Every line that it reads is verified, but the chain between
// the segments is not. The error is a *ChainError for a damaged line, and fs.ErrNotExist if there
// is no log. After an error, list has what was read before.
func LastRequests(path string, n int) (list []Request, more bool, err error) {
	for range maxWalks {
		var before, now []int64
		if before, err = closedSegments(path); err != nil {
			return nil, false, err
		}
		list, more, err = lastRequests(path, n)
		now, listing := closedSegments(path)
		if err == nil || listing != nil || slices.Equal(before, now) {
			break // otherwise a segment was closed meanwhile
		}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return list, more, err
}

// lastRequests implements LastRequests. It reads the open segment before it lists the closed ones,
// so that no line is missed if the segment is closed meanwhile.
func lastRequests(path string, n int) (list []Request, more bool, err error) {
	open, none := openRegular(path, os.O_RDONLY)
	if none == nil {
		tail := requestTail{most: n}
		_, err = tail.reader().read(open)
		_ = open.Close()
		list, more = tail.ring, tail.more
	} else if !errors.Is(none, fs.ErrNotExist) {
		err = none
	}
	if err != nil {
		return list, more, err
	}
	segments, err := Segments(path)
	if err == nil && none != nil && len(segments) == 0 {
		err = none
	}
	if err != nil || more {
		return list, more, err
	}
	earlier, more, _, err := LastRequestsIn(segments, n-len(list))
	return append(list, earlier...), more, err
}

// LastRequestsIn is LastRequests for the closed segments of one log, which may be elsewhere. lines
// is the number of its last plain line. The error can be that of ClosedSegment.Open.
func LastRequestsIn(
	segments []ClosedSegment, n int,
) (list []Request, more bool, lines int64, err error) {
	for _, segment := range slices.Backward(segments) {
		if err != nil || more {
			break
		}
		tail := requestTail{most: n - len(list)}
		r := tail.reader()
		err = r.readSegment(segment)
		lines = max(lines, r.seq)
		list, more = append(list, tail.ring...), tail.more
	}
	return list, more, lines, err
}

// requestTail keeps the last requests of one segment.
type requestTail struct {
	most int
	ring []Request
	next int  // index of the oldest one, if ring is full
	more bool // there are earlier ones
}

// reader returns a reader of one segment that adds its requests.
func (q *requestTail) reader() *reader {
	r := newReader(newChain(0, genesis), func(_ int64, text []byte) error {
		if request, ok := requestOf(text); ok {
			q.add(request)
		}
		return nil
	})
	r.anywhere = true
	return r
}

func (q *requestTail) add(request Request) {
	if len(q.ring) < q.most {
		q.ring = append(q.ring, request)
		return
	}
	q.more = true
	if q.most > 0 {
		q.ring[q.next] = request
		q.next = (q.next + 1) % q.most
	}
}

// requestOf returns the request of a plain line. ok is false if the line is not an intent. It
// does not parse the whole line, because a segment has many. A quote within a string is escaped,
// so the names of members are found nowhere else.
func requestOf(text []byte) (request Request, ok bool) {
	_, rest, _ := bytes.Cut(text, []byte(`,"event":"`))
	at, ok := bytes.CutPrefix(rest, []byte(eventIntent+`","at":`))
	if !ok {
		return request, false
	}
	if n, err := fieldLength(at); err == nil {
		_ = request.At.UnmarshalJSON(at[:n]) // zero after an error
	}
	if _, id, found := bytes.Cut(at, []byte(`,"request_id":`)); found {
		if n, err := fieldLength(id); err == nil {
			_ = json.Unmarshal(id[:n], &request.ID) // "" after an error
		}
	}
	return request, true
}
