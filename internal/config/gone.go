package config

import (
	"fmt"
	"time"
)

// Before returns the time before which a pass must have begun to be covered: the end of the day of
// Since, in UTC.
func (g *Gone) Before() time.Time {
	day, _ := time.Parse(time.DateOnly, g.Since) // validate has checked it
	return day.AddDate(0, 0, 1)
}

// gone checks one statement about data that is gone.
func (c *checker) gone(field string, g *Gone) {
	if g.Target == "" {
		c.add(field+".target", "is missing; set the name that the target had")
	}
	c.oneLine(field+".target", g.Target)
	_, err := time.Parse(time.DateOnly, g.Since)
	switch {
	case g.Since == "":
		c.add(field+".since", "is missing; set the day from which the data is gone, such as "+
			"2026-11-20")
	case err != nil:
		c.add(field+".since", fmt.Sprintf("%q is not a day, such as 2026-11-20", g.Since))
	case time.Until(g.Before()) > 48*time.Hour: // some clocks and time zones are ahead
		c.add(field+".since", "is in the future; state it when the data is gone")
	}
	if g.Because == "" && !c.job.source.written(field+".because") {
		c.add(field+".because", "is missing; state why this data needs no source key")
	}
	c.sentence(field+".because", g.Because)
}
