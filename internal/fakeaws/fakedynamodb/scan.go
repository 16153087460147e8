package fakedynamodb

import "math/bits"

// maxPage is the maximum size of the items that one page evaluates, in bytes (API_Scan).
const maxPage = 1 << 20

type scanInput struct {
	TableName              string
	Segment, TotalSegments *int
	Limit                  int
	ExclusiveStartKey      item
	ConsistentRead         bool
	ReturnConsumedCapacity string
	Select                 string
	expressions
}

func (s *Service) scan(r request) (any, error) {
	var in scanInput
	if err := r.into(&in); err != nil {
		return nil, err
	}
	t, err := s.table(r, "dynamodb:Scan", in.TableName)
	if err != nil {
		return nil, err
	}
	c, err := in.compile()
	if err != nil {
		return nil, err
	}
	segment, total, err := in.segments()
	if err != nil {
		return nil, err
	}
	if in.ExclusiveStartKey != nil {
		if err := t.exactKey(in.ExclusiveStartKey); err != nil {
			return nil, invalid("The provided starting key is invalid")
		}
		if _, hash := t.id(in.ExclusiveStartKey); segmentOf(hash, total) != segment {
			return nil, invalid(
				"The provided starting key is invalid: Invalid ExclusiveStartKey. Please use "+
					"ExclusiveStartKey with correct Segment. TotalSegments: %d Segment: %d", total,
				segment,
			)
		}
	}
	return t.page(in, c, segment, total)
}

func (in *scanInput) segments() (segment, total uint64, err error) {
	switch {
	case in.Segment == nil && in.TotalSegments == nil:
		return 0, 1, nil
	case in.Segment == nil || in.TotalSegments == nil:
		return 0, 0, invalid(
			"The Segment parameter and the TotalSegments parameter are both required, " +
				"or neither is",
		)
	case *in.TotalSegments < 1 || *in.TotalSegments > 1000000 || *in.Segment < 0 ||
		*in.Segment >= *in.TotalSegments:
		return 0, 0, invalid(
			"The Segment parameter is zero-based and must be less than parameter TotalSegments: "+
				"Segment: %d is not less than TotalSegments: %d", *in.Segment, *in.TotalSegments,
		)
	}
	return uint64(*in.Segment), uint64(*in.TotalSegments), nil
}

// segmentOf returns the segment of a hash. The segments are ranges of equal size.
func segmentOf(hash, total uint64) uint64 {
	high, _ := bits.Mul64(hash, total)
	return high
}

// page evaluates rows after the start key, up to the limit or 1 MB, and returns those that
// satisfy the filter.
func (t *table) page(in scanInput, c *compiled, segment, total uint64) (any, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := 0
	if in.ExclusiveStartKey != nil {
		id, hash := t.id(in.ExclusiveStartKey)
		at = t.after(hash, id)
	} else if segment > 0 {
		first, _ := bits.Div64(segment, 0, total) // a lower bound of the hashes
		at = max(0, t.after(first, "")-1)
	}
	items := []item{}
	size, seen := 0, 0
	var last item
	for ; at < len(t.rows); at++ {
		r := t.rows[at]
		of := segmentOf(r.hash, total)
		if of < segment {
			continue
		}
		if of > segment {
			break
		}
		if size >= maxPage || in.Limit > 0 && seen == in.Limit {
			key, _ := t.key(last)
			return t.scanned(in, c, items, seen, size, key), nil
		}
		size += r.item.size()
		seen++
		last = r.item
		ok, err := c.filter(r.item)
		if err != nil {
			return nil, err
		}
		if ok {
			items = append(items, r.item)
		}
	}
	if in.Limit > 0 && seen == in.Limit {
		// Like DynamoDB, do not check whether the segment has more items after the limit.
		key, _ := t.key(last)
		return t.scanned(in, c, items, seen, size, key), nil
	}
	return t.scanned(in, c, items, seen, size, nil), nil
}

func (t *table) scanned(in scanInput, c *compiled, items []item, seen, size int, last item) any {
	out := map[string]any{"Count": len(items), "ScannedCount": seen}
	if in.Select != "COUNT" {
		projected := make([]item, len(items))
		for i := range items {
			projected[i] = project(items[i], c.projection)
		}
		out["Items"] = projected
	}
	if last != nil {
		out["LastEvaluatedKey"] = last
	}
	if used := consumed(in.ReturnConsumedCapacity, t.name,
		readUnits(size, in.ConsistentRead)); used != nil {
		out["ConsumedCapacity"] = used
	}
	return out
}
