package hubspottest

import (
	"io"
	"net/http"
	"strings"
)

const failNextPath = "/fake/fail-next/"

// FailNext makes the API answer the portal's next n requests that have a valid credential
// with this status. A 429 has the body that HubSpot sends for too many searches in a second;
// other statuses have HubSpot's general error body.
func (s *Server) FailNext(portal string, n, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.ledger.portal(portal)
	p.failures, p.failure = n, status
}

// failing returns the status with which the portal's current request is to fail, and
// counts the failure. 0 means that the request is not to fail.
func (s *Server) failing(portal string) (status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.ledger.portals[portal]
	if p == nil || p.failures == 0 {
		return 0
	}
	p.failures--
	return p.failure
}

func writeFailure(w http.ResponseWriter, r *http.Request, portal string, status int) {
	readBody(r)
	if status == http.StatusTooManyRequests {
		writeJSON(w, status, secondLimit(portal))
		return
	}
	writeJSON(w, status, otherStatus(status))
}

// secondLimit returns HubSpot's answer to too many searches in a second.
func secondLimit(portal string) apiError {
	return apiError{
		Status:        "error",
		Message:       "You have reached your secondly limit.",
		ErrorType:     "RATE_LIMIT",
		CorrelationID: newCorrelationID(),
		PolicyName:    "SECONDLY",
		GroupName:     "publicapi:crm:search:oauth:1111111:" + portal,
	}
}

// serveFailNext serves FailNext to other programs.
func (s *Server) serveFailNext(w http.ResponseWriter, r *http.Request) {
	n, ok := number(w, r, "n", 0)
	if !ok {
		return
	}
	status, ok := number(w, r, "code", 200)
	if !ok {
		return
	}
	s.FailNext(strings.TrimPrefix(r.URL.Path, failNextPath), int(n), int(min(status, 999)))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "the portal's next requests fail\n")
}
