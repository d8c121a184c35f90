package wire

import (
	"net/http"
	"strings"
)

// FromPage reports whether a header has a field that only browsers add to a web
// page's requests (https://www.w3.org/TR/fetch-metadata/). A lone Sec-Fetch-Mode:
// cors does not count: Node's fetch, which HubSpot's newer SDK for TypeScript uses,
// always adds it.
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

// CameThroughProxy reports whether another proxy has forwarded the request: the
// request has a header field that only proxies add, or uses HTTP/1.0. Until version
// 1.29.7, nginx forwards by HTTP/1.0 and adds no such field unless it is configured
// otherwise. No browser and no SDK uses HTTP/1.0.
func CameThroughProxy(r *http.Request) bool {
	if !r.ProtoAtLeast(1, 1) {
		return true
	}
	for name := range r.Header {
		if name == "" || !strings.Contains("FVXfvx", name[:1]) {
			continue // most fields need no copy in lower case
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
