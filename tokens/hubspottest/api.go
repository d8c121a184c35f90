package hubspottest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

const jsonType = "application/json;charset=utf-8"

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
	if s.gzip401.Load() && acceptsGzip(r) {
		writeGzippedJSON(w, http.StatusUnauthorized, body)
		return
	}
	writeJSON(w, http.StatusUnauthorized, body)
}

// writeJSON answers with a JSON body and its Content-Length.
func writeJSON(w http.ResponseWriter, status int, body any) {
	writeBody(w, status, body, marshal(body))
}

// writeGzippedJSON is writeJSON with Content-Encoding gzip.
func writeGzippedJSON(w http.ResponseWriter, status int, body any) {
	var buffer bytes.Buffer
	zipped := gzip.NewWriter(&buffer)
	_, _ = zipped.Write(marshal(body)) // a bytes.Buffer never fails
	_ = zipped.Close()
	w.Header().Set("Content-Encoding", "gzip")
	w.Header().Set("Vary", "origin, Accept-Encoding")
	writeBody(w, status, body, buffer.Bytes())
}

// writeBody sends encoded, which is body after encoding. As in HubSpot's answers, the header
// has the same correlation id as the body.
func writeBody(w http.ResponseWriter, status int, body any, encoded []byte) {
	correlation := newCorrelationID()
	if e, ok := body.(apiError); ok {
		correlation = e.CorrelationID
	}
	w.Header().Set("X-Hubspot-Correlation-Id", correlation)
	w.Header().Set("Content-Type", jsonType)
	if status != http.StatusNoContent && status != http.StatusNotModified {
		w.Header().Set("Content-Length", strconv.Itoa(len(encoded)))
	}
	w.WriteHeader(status)
	_, _ = w.Write(encoded)
}

// marshal returns body as JSON. It does not escape & and <, so that people who use curl
// can read targets.
func marshal(body any) []byte {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		panic("hubspottest: " + err.Error()) // all bodies are the fake's own
	}
	return buffer.Bytes()
}

// acceptsGzip reports whether the request's Accept-Encoding names gzip without q=0.
func acceptsGzip(r *http.Request) bool {
	for _, header := range r.Header.Values("Accept-Encoding") {
		for coding := range strings.SplitSeq(header, ",") {
			name, parameters, _ := strings.Cut(coding, ";")
			if strings.EqualFold(strings.TrimSpace(name), "gzip") {
				quality, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(parameters), "q="), 64)
				return err != nil || quality > 0
			}
		}
	}
	return false
}
