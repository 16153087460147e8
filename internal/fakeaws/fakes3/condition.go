package fakes3

import (
	"net/http"
	"strings"
	"time"
)

// matches reports whether the ETag is one of those in a condition header.
func matches(condition, etag string) bool {
	return condition == "*" || strings.Trim(condition, `"`) == strings.Trim(etag, `"`)
}

func preconditionFailed() error {
	return errorf(http.StatusPreconditionFailed, "PreconditionFailed",
		"At least one of the pre-conditions you specified did not hold")
}

// writeConditions checks If-Match and If-None-Match of a write against the current version,
// which is nil if there is none (Conditional writes).
func writeConditions(h http.Header, now *version) error {
	if match := h.Get("If-Match"); match != "" {
		if now == nil {
			return errorf(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
		}
		if !matches(match, now.etag) {
			return preconditionFailed()
		}
	}
	if none := h.Get("If-None-Match"); none != "" {
		if none != "*" {
			return errorf(http.StatusNotImplemented, "NotImplemented",
				"A header you provided implies functionality that is not implemented")
		}
		if now != nil {
			return preconditionFailed()
		}
	}
	return nil
}

// readConditions checks the conditions of a GET, a HEAD, or the source of a copy. The names
// of the headers begin with prefix (RFC 9110; API_GetObject, API_CopyObject).
func readConditions(h http.Header, v *version, prefix string) error {
	get := func(name string) string { return h.Get(prefix + name) }
	notModified := preconditionFailed
	if prefix == "" {
		notModified = func() error {
			return errorf(http.StatusNotModified, "NotModified", "Not Modified")
		}
	}
	if match := get("If-Match"); match != "" && !matches(match, v.etag) {
		return preconditionFailed()
	}
	if since, err := http.ParseTime(get("If-Unmodified-Since")); err == nil &&
		get("If-Match") == "" && v.modified.After(since) {
		return preconditionFailed()
	}
	if none := get("If-None-Match"); none != "" && matches(none, v.etag) {
		return notModified()
	}
	if since, err := http.ParseTime(get("If-Modified-Since")); err == nil &&
		get("If-None-Match") == "" && !v.modified.Truncate(time.Second).After(since) {
		return notModified()
	}
	return nil
}
