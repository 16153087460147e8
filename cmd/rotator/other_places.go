package main

import (
	"context"
	"fmt"

	"rotator/internal/checkpoint"
	"rotator/internal/report"
)

// noteOtherPlaces adds a doubt to the record of a resumed pass for each target that this run reads
// in another account or directory than the pass did before. Its figures are then no evidence,
// because they are about two places. It must be called before the run reads a target. It returns
// the stored record.
func (s *session) noteOtherPlaces(
	ctx context.Context, passes *checkpoint.Passes, record checkpoint.Pass,
) (checkpoint.Pass, error) {
	var doubts []string
	places := s.places()
	for _, t := range record.Targets {
		now, known := places[t.Name]
		if t.Location == nil || !known {
			continue
		}
		before := report.PlaceOf(*t.Location)
		if how := before.Elsewhere(&now); how != "" {
			doubts = append(doubts, fmt.Sprintf("target %s was read %s", t.Name, how))
		}
	}
	if len(doubts) == 0 {
		return record, nil
	}
	for _, doubt := range doubts {
		s.logger.Warn(fmt.Sprintf("%s. Pass %d reads both places, so it proves nothing about a "+
			"source key; run rotator verify afterwards", doubt, record.Number))
	}
	record, err := passes.Update(ctx, record.Number, func(p *checkpoint.Pass) {
		p.AddDoubts(doubts)
	})
	if err != nil {
		return record, &storageError{what: "save the pass", err: err}
	}
	return record, nil
}
