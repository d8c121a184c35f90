package hubspottest

import (
	"net/http"
	"strings"
)

func isRevokePath(path string) bool {
	token, isRevoke := strings.CutSuffix(path, "/revoke")
	return isRevoke && isTokenPath(token) && token != "/oauth/v1/token"
}

// serveRevoke ends the grant of a refresh token. Access tokens that were issued before stay
// valid until they expire. The answer is the same for an unknown token.
func (s *Server) serveRevoke(w http.ResponseWriter, r *http.Request) {
	s.admit(r) // counts the request
	form := readForm(w, r)
	switch {
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		writeJSON(w, http.StatusMethodNotAllowed, otherStatus(http.StatusMethodNotAllowed))
	case secrets[form.Get("client_id")] == "":
		writeTokenError(w, http.StatusBadRequest, "BAD_CLIENT_ID", false)
	case form.Get("client_secret") != secrets[form.Get("client_id")]:
		writeTokenError(w, http.StatusBadRequest, "BAD_CLIENT_SECRET", false)
	default:
		s.mu.Lock()
		defer s.mu.Unlock()
		if g := s.ledger.grants[form.Get("token")]; g != nil {
			g.ended = true
		}
		w.WriteHeader(http.StatusOK)
	}
}
