package hubspottest

import (
	"encoding/json"
	"net/http"
	"strings"
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
		writeNotFound(w)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"userId": 1, "hubId": json.Number(v.portal), "appId": 2, "scopes": []string{RequiredScope}})
}

// serveTokenInfo serves the introspection of v1, which has the token in the path, and
// reports whether it has answered.
func (s *Server) serveTokenInfo(w http.ResponseWriter, r *http.Request) bool {
	path, ok := strings.CutPrefix(r.URL.Path, "/oauth/v1/")
	if !ok || r.Method != http.MethodGet {
		return false
	}
	kind, token, _ := strings.Cut(path, "-tokens/")
	if kind != "access" && kind != "refresh" {
		return false
	}
	info := s.introspect(token)
	if info.TokenUse != kind+"_token" {
		writeNotFound(w)
		return true
	}
	answer := map[string]any{
		"token": token, "token_type": kind,
		"user": info.User, "user_id": info.UserID,
		"hub_domain": info.HubDomain, "hub_id": info.HubID, "scopes": info.Scopes,
	}
	if kind == "access" {
		answer["app_id"], answer["expires_in"] = info.AppID, info.ExpiresIn
	} else {
		answer["client_id"] = info.ClientID
	}
	writeJSON(w, http.StatusOK, answer)
	return true
}
