package hubspottest

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
)

// clientKey matches the proxy's client keys, which must never reach HubSpot.
var clientKey = regexp.MustCompile(`hap_[A-Za-z0-9_-]{20}`)

// watch records a violation if the request has a client key anywhere. The body and the
// trailers are searched when they are read. After such a violation, [Server.Close] panics.
func (s *Server) watch(r *http.Request) {
	target, err := url.PathUnescape(r.RequestURI)
	if err != nil {
		target = r.RequestURI
	}
	if clientKey.MatchString(target) || clientKey.MatchString(fmt.Sprint(r.Host, r.Header)) {
		s.seeKey(r, "head")
	}
	r.Body = &watchedBody{ReadCloser: r.Body, request: r, see: func(part string) { s.seeKey(r, part) }}
}

func (s *Server) seeKey(r *http.Request, part string) {
	s.change(func(c *counts) {
		c.violations = append(c.violations, r.Method+" "+clientKey.ReplaceAllString(r.URL.Path, "[redacted]")+": has a client key in its "+part)
		c.clientKeys++
	})
}

// AllowClientKeys keeps [Server.Close] from panicking if client keys have arrived. Use it if
// people may send requests by hand.
func (s *Server) AllowClientKeys() { s.allowKeys.Store(true) }

// refuseKeys panics if a client key has arrived. It does not rely on the test to check
// [Server.Violations], because no test may send a client key to HubSpot.
func (s *Server) refuseKeys() {
	s.mu.Lock()
	seen, violations := s.counts.clientKeys, s.counts.violations
	s.mu.Unlock()
	if seen > 0 && !s.allowKeys.Load() {
		panic(fmt.Sprintf("hubspottest: %d requests with a client key arrived, among %q", seen, violations))
	}
}

type watchedBody struct {
	io.ReadCloser
	request *http.Request
	see     func(part string) // nil means that a key was already reported
	last    []byte            // the last bytes that were read, fewer than a key has
}

// Read implements [io.Reader].
func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.see != nil && n > 0 {
		b.last = append(b.last, p[:n]...)
		if clientKey.Match(b.last) {
			b.see("body")
			b.see = nil
		}
		b.last = append(b.last[:0], b.last[max(0, len(b.last)-23):]...)
	}
	if b.see != nil && err == io.EOF && clientKey.MatchString(fmt.Sprint(b.request.Trailer)) {
		b.see("trailers")
		b.see = nil
	}
	return n, err
}
