package hubspottest

import (
	"encoding/json"
	"net/http"
)

// privateAppPath is the path of the endpoint that returns the portal of a private app's
// token.
const privateAppPath = "/oauth/v2/private-apps/get/access-token-info"

// servePrivateApp answers with the portal of the token that the body has as tokenKey.
func (s *Server) servePrivateApp(w http.ResponseWriter, r *http.Request) {
	s.admit(r) // counts the request
	var asked struct {
		TokenKey string `json:"tokenKey"`
	}
	if r.Method != http.MethodPost || json.NewDecoder(r.Body).Decode(&asked) != nil {
		writeJSON(w, http.StatusBadRequest, otherStatus(http.StatusBadRequest))
		return
	}
	s.mu.Lock()
	v := s.ledger.judgeBearer("Bearer " + asked.TokenKey)
	s.mu.Unlock()
	if v.refusal != nil {
		writeJSON(w, http.StatusNotFound, otherStatus(http.StatusNotFound))
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"userId": 1, "hubId": json.Number(v.portal), "appId": 2, "scopes": []string{RequiredScope}})
}
