package proxy_test

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
)

// serveHubPaths is a handler of the fake HubSpot with paths for this package's tests:
//
//	/fake/gzip             a gzipped body
//	/fake/trailers         chunked, trailers X-Fake-Sum and X-Fake-Part (two values)
//	/fake/two-writes       head and body in two writes; the body is the request body's SHA-256 in hex
//	/fake/redirect?to=URL  302 to URL, with the request's hapikey appended, as HubSpot does
//	/fake/reflect          the request's credential in X-Reflected and Link
func serveHubPaths(w http.ResponseWriter, r *http.Request, _ string) bool {
	switch r.URL.Path {
	case "/fake/gzip":
		w.Header().Set("Content-Encoding", "gzip")
		zipped := gzip.NewWriter(w)
		_, _ = io.WriteString(zipped, strings.Repeat("HubSpot ", 200))
		_ = zipped.Close()
	case "/fake/trailers":
		w.Header().Set("Trailer", "X-Fake-Sum, X-Fake-Part")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "a body that is followed by trailers")
		w.Header().Set("X-Fake-Sum", "1")
		w.Header()["X-Fake-Part"] = []string{"one", "two"}
	case "/fake/two-writes":
		sum := sha256.New()
		if _, err := io.Copy(sum, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, hex.EncodeToString(sum.Sum(nil)))
	case "/fake/redirect":
		redirect(w, r)
	case "/fake/reflect":
		reflect(w, r)
	default:
		return false
	}
	return true
}

func redirect(w http.ResponseWriter, r *http.Request) {
	location := r.URL.Query().Get("to")
	if key := r.URL.Query().Get("hapikey"); key != "" {
		separator := "?"
		if strings.Contains(location, "?") {
			separator = "&"
		}
		location += separator + "hapikey=" + key
	}
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusFound)
}

func reflect(w http.ResponseWriter, r *http.Request) {
	reflected := r.Header.Get("Authorization")
	value, parameter := strings.TrimPrefix(reflected, "Bearer "), "access_token"
	if key := r.URL.Query().Get("hapikey"); key != "" {
		reflected, value, parameter = key, key, "hapikey"
	}
	w.Header().Set("X-Reflected", reflected)
	w.Header().Set("Link", "<https://api.hubapi.com/next?"+parameter+"="+value+`>; rel="next"`)
	_, _ = io.WriteString(w, "see the headers")
}
