package page

import (
	"rotator/internal/checkpoint"
	"rotator/internal/report"
	"rotator/internal/report/document"
)

// needs states whether the slots with a reason need a source key, as far as the listed exceptions
// show it.
func needs(r report.Reason, listed []checkpoint.LedgerEntry, d *document.Document) string {
	if r.Outcome == "foreign" && r.Reason == "foreign-key" {
		return "no: they are under another key"
	}
	var of, other, none, unknown int64
	for _, e := range listed {
		if e.Outcome != r.Outcome || e.Reason != r.Reason {
			continue
		}
		switch {
		case d.RoleOf(e.Key) == document.Source || d.RoleOf(e.HeaderKey) == document.Source &&
			e.HeaderKey != "":
			of++
		case e.Key != "" || d.RoleOf(e.HeaderKey) == document.Foreign &&
			e.HeaderKey != checkpoint.HeaderUnknown && e.HeaderKey != checkpoint.HeaderNone:
			other++
		case e.HeaderKey == checkpoint.HeaderNone:
			none++
		default:
			unknown++
		}
	}
	switch {
	case of > 0:
		return "yes: their header or KMS names a source key"
	case other == r.Slots:
		return "no: they are under another key"
	case other+none == r.Slots:
		return "not a symmetric source key: they have no ciphertext header"
	case unknown == 0 && other+none > 0:
		return "none of those listed has the header of a source key"
	}
	return "possibly: the key of some is not known"
}
