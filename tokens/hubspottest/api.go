package hubspottest

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"
)

// SetEarly401 sets when the API sends a 401. true means before it reads the request's body.
// false, which is the default, means after it has read the whole body.
func (s *Server) SetEarly401(early bool) { s.early401.Store(early) }

// SetGzip401 sets whether the body of a 401 is gzipped if the request accepts gzip. The
// default is false.
func (s *Server) SetGzip401(gzipped bool) { s.gzip401.Store(gzipped) }

// A Handler answers requests of the API. It returns false if it has not answered. portal is
// the portal of the request's credential, or empty for /oauth/….
type Handler func(w http.ResponseWriter, r *http.Request, portal string) bool

// Handle makes the API call h for each request from now on whose credential is valid and
// which is within the limits. If h returns false, the server answers the request itself.
func (s *Server) Handle(h Handler) { s.handler.Store(&h) }

func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	v := s.admit(r)
	s.observe(r, v)
	if v.refusal != nil {
		s.refuse(w, r, v.refusal)
		return
	}
	if body := s.limit(w, r, v); body != nil {
		readBody(r)
		writeJSON(w, http.StatusTooManyRequests, body)
		return
	}
	s.serveAccepted(w, r, v)
}

// refuse answers 401.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, body any) {
	if s.early401.Load() {
		// Without full duplex, net/http reads the body before it sends the header.
		_ = http.NewResponseController(w).EnableFullDuplex()
		if r.ProtoMajor == 1 {
			// The rest of the body must not be read as the next request.
			w.Header().Set("Connection", "close")
		}
	} else {
		readBody(r)
	}
	s.write401(w, r, body)
}

func (s *Server) write401(w http.ResponseWriter, r *http.Request, body any) {
	s.change(func(c *counts) { c.unauthorized++ })
	w.Header().Set("X-Hubspot-Auth-Failure", "401 Unauthorized")
	encoded := marshal(body)
	if s.gzip401.Load() && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		var buffer bytes.Buffer
		zipped := gzip.NewWriter(&buffer)
		_, _ = zipped.Write(encoded) // a bytes.Buffer never fails
		_ = zipped.Close()
		encoded = buffer.Bytes()
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Vary", "origin, Accept-Encoding")
	}
	writeBody(w, http.StatusUnauthorized, body, encoded)
}
