package hubspottest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// privateAppPath is the path of the endpoint that returns the portal of a private app's
// token.
const privateAppPath = "/oauth/v2/private-apps/get/access-token-info"

// withClient returns the handler of an endpoint of the OAuth service that an app calls with
// its id and secret.
func (s *Server) withClient(serve func(w http.ResponseWriter, form url.Values)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.admit(r) // counts the request
		form := readForm(w, r)
		switch problem := clientProblem(form); {
		case r.Method != http.MethodPost:
			refuseMethod(w)
		case problem != "":
			writeTokenError(w, http.StatusBadRequest, problem, false)
		default:
			serve(w, form)
		}
	}
}

// serveRevoke ends the grant of a refresh token. Access tokens that were issued before stay
// valid until they expire. The answer is the same for an unknown token.
func (s *Server) serveRevoke(w http.ResponseWriter, form url.Values) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.ledger.grants[form.Get("token")]; g != nil {
		g.ended = true
	}
	w.WriteHeader(http.StatusOK)
}

// serveIntrospect answers with the portal of a token. The answer repeats the token. For an
// unknown, expired or static token, it says only that the token is not active.
func (s *Server) serveIntrospect(w http.ResponseWriter, form url.Values) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token, now := form.Get("token"), time.Now()
	t, g := s.ledger.bearers[token], s.ledger.grants[token]
	answer := map[string]any{"active": false}
	switch {
	case form.Get("client_id") != ClientID: // the other app has no grant
	case t != nil && t.kind == CredentialOAuth && !t.revoked && now.Before(t.expires):
		answer = introspection(token, "access_token", t.portal)
		answer["expires_in"] = secondsUp(t.expires.Sub(now))
		answer["signed_access_token"] = map[string]any{
			"expiresAt": t.expires.UnixMilli(), "hubId": portalID(t.portal.name), "userId": userID, "appId": appID,
			"hublet": "na1", "signature": Canary + "-signature",
		}
	case g != nil && !g.ended:
		answer = introspection(token, "refresh_token", g.portal)
	}
	writeJSON(w, http.StatusOK, answer)
}

const (
	userID = 1234567
	appID  = 7654321
)

func introspection(token, use string, p *portal) map[string]any {
	scopes := defaultScopes()
	if p.grant != nil {
		scopes = p.grant.scopes
	}
	answer := map[string]any{
		"active": true, "token": token, "token_use": use, "token_type": "Bearer",
		"hub_domain": "example.com", "user_id": userID, "user": "installer@example.com",
		"client_id": ClientID, "app_id": appID, "scopes": scopes,
	}
	if id := portalID(p.name); id != 0 {
		answer["hub_id"] = id
	}
	return answer
}

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
	writeJSON(w, http.StatusOK, map[string]any{"userId": 1, "hubId": portalID(v.portal), "appId": 2, "scopes": []string{RequiredScope}})
}

// serveAccount answers with the portal of the request's credential.
func serveAccount(w http.ResponseWriter, v verdict) {
	writeJSON(w, http.StatusOK, map[string]any{
		"portalId": portalID(v.portal), "accountType": "DEVELOPER_TEST", "timeZone": "US/Eastern", "companyCurrency": "USD",
		"utcOffset": "-05:00", "uiDomain": "app.hubspot.com", "dataHostingLocation": "na1",
	})
}
