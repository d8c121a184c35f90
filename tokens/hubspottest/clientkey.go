package hubspottest

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
)

// clientKey is the form of the proxy's client keys, none of which may ever get
// here.
var clientKey = regexp.MustCompile(`hap_[A-Za-z0-9_-]{20}`)

// watch notes it as a violation if the request has a client key anywhere, in
// its body and trailers too as they are read. [Server.Close] panics then.
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

// AllowClientKeys lets [Server.Close] return although client keys arrived: where
// people may send requests by hand.
func (s *Server) AllowClientKeys() { s.allowKeys.Store(true) }

// refuseKeys panics if a client key has arrived. That the caller looks at
// violations is not relied on: a key that leaves is never what a test wants.
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
	see     func(part string) // nil: it was seen
	last    []byte            // of what was read, less than a key
}

// Read implements io.Reader.
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
