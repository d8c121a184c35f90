package wire

import (
	"net/http"
	"strings"
)

// FromPage reports whether a header has what only browsers add to a page's
// requests (https://www.w3.org/TR/fetch-metadata/). Node's fetch, which
// HubSpot's newer SDK for TypeScript uses, always adds Sec-Fetch-Mode: cors,
// and nothing else of it.
func FromPage(header http.Header) bool {
	if _, has := header["Origin"]; has {
		return true
	}
	for name, values := range header {
		if !strings.HasPrefix(name, "Sec-Fetch-") {
			continue
		}
		if name != "Sec-Fetch-Mode" || len(values) != 1 || values[0] != "cors" {
			return true
		}
	}
	return false
}

// CameThroughProxy reports whether another proxy has forwarded the request: a header
// field says so, or the request is HTTP/1.0. nginx adds no header field unless it is
// configured to, and spoke HTTP/1.0 by default until version 1.29.7; no browser and
// no SDK speaks that.
func CameThroughProxy(r *http.Request) bool {
	if !r.ProtoAtLeast(1, 1) {
		return true
	}
	for name := range r.Header {
		if name == "" || !strings.Contains("FVXfvx", name[:1]) {
			continue // saves most fields the copy
		}
		switch dashed := dashes(name); dashed {
		case "forwarded", "via", "x-real-ip":
			return true
		default:
			if strings.HasPrefix(dashed, "x-forwarded-") {
				return true
			}
		}
	}
	return false
}
