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

// CameThroughProxy reports whether another proxy says by a header field that it has
// forwarded the request.
func CameThroughProxy(header http.Header) bool {
	for name := range header {
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
