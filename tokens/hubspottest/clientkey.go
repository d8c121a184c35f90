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
// its body too as that is read.
func (s *Server) watch(r *http.Request) {
	target, err := url.PathUnescape(r.RequestURI)
	if err != nil {
		target = r.RequestURI
	}
	if clientKey.MatchString(target) || clientKey.MatchString(fmt.Sprint(r.Header)) {
		s.seeKey(r, "head")
	}
	r.Body = &watchedBody{ReadCloser: r.Body, see: func() { s.seeKey(r, "body") }}
}

func (s *Server) seeKey(r *http.Request, part string) {
	s.change(func(c *counts) {
		c.violations = append(c.violations, r.Method+" "+r.URL.Path+": has a client key in its "+part)
	})
}

type watchedBody struct {
	io.ReadCloser
	see  func()
	last []byte // of what was read, less than a key
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.see != nil && n > 0 {
		b.last = append(b.last, p[:n]...)
		if clientKey.Match(b.last) {
			b.see()
			b.see = nil
		}
		b.last = append(b.last[:0], b.last[max(0, len(b.last)-23):]...)
	}
	return n, err
}
