package hubspottest

import (
	"net/http"
	"strconv"
	"time"
)

// introspection is the answer of the introspection endpoint. It repeats the token.
type introspection struct {
	Active      bool               `json:"active"`
	Token       string             `json:"token,omitempty"`
	HubID       int64              `json:"hub_id,omitempty"`
	UserID      int64              `json:"user_id,omitempty"`
	ClientID    string             `json:"client_id,omitempty"`
	AppID       int64              `json:"app_id,omitempty"`
	User        string             `json:"user,omitempty"`
	HubDomain   string             `json:"hub_domain,omitempty"`
	Scopes      []string           `json:"scopes,omitempty"`
	SignedToken *signedAccessToken `json:"signed_access_token,omitempty"`
	ExpiresIn   int64              `json:"expires_in,omitempty"`
	TokenUse    string             `json:"token_use,omitempty"`
	TokenType   string             `json:"token_type,omitempty"`
}

type signedAccessToken struct {
	ExpiresAt int64  `json:"expiresAt"`
	HubID     int64  `json:"hubId"`
	UserID    int64  `json:"userId"`
	AppID     int64  `json:"appId"`
	Hublet    string `json:"hublet"`
	Signature string `json:"signature"`
}

func isIntrospectPath(path string) bool {
	switch path {
	case "/oauth/v3/token/introspect", "/oauth/2026-03/token/introspect", "/oauth/2026-09/token/introspect":
		return true
	}
	return false
}

// serveIntrospect serves the introspection of a token. The answer for an unknown, expired
// or static token says only that the token is not active.
func (s *Server) serveIntrospect(w http.ResponseWriter, r *http.Request) {
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
	case form.Get("client_id") != ClientID:
		writeJSON(w, http.StatusOK, introspection{})
	default:
		writeJSON(w, http.StatusOK, s.introspect(form.Get("token")))
	}
}

func (s *Server) introspect(token string) introspection {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if t := s.ledger.bearers[token]; t != nil && t.kind == CredentialOAuth && !t.revoked && now.Before(t.expires) {
		answer := introspectionOf(token, "access_token", t.portal)
		answer.ExpiresIn = secondsUp(t.expires.Sub(now))
		answer.SignedToken = &signedAccessToken{
			ExpiresAt: t.expires.UnixMilli(),
			HubID:     answer.HubID,
			UserID:    answer.UserID,
			AppID:     answer.AppID,
			Hublet:    "na1",
			Signature: Canary + "-signature",
		}
		return answer
	}
	if g := s.ledger.grants[token]; g != nil && !g.ended {
		return introspectionOf(token, "refresh_token", g.portal)
	}
	return introspection{}
}

func introspectionOf(token, use string, p *portal) introspection {
	answer := introspection{
		Active:    true,
		Token:     token,
		UserID:    1234567,
		ClientID:  ClientID,
		AppID:     7654321,
		User:      "installer@example.com",
		HubDomain: "example.com",
		Scopes:    defaultScopes(),
		TokenUse:  use,
		TokenType: "Bearer",
	}
	answer.HubID, _ = strconv.ParseInt(p.name, 10, 64)
	if p.grant != nil {
		answer.Scopes = p.grant.scopes
	}
	return answer
}

// account is the answer of the account information: the portal of the credential.
type account struct {
	PortalID            int64  `json:"portalId,omitempty"`
	AccountType         string `json:"accountType"`
	TimeZone            string `json:"timeZone"`
	CompanyCurrency     string `json:"companyCurrency"`
	UTCOffset           string `json:"utcOffset"`
	UIDomain            string `json:"uiDomain"`
	DataHostingLocation string `json:"dataHostingLocation"`
}

func serveAccount(w http.ResponseWriter, v verdict) {
	answer := account{
		AccountType:         "DEVELOPER_TEST",
		TimeZone:            "US/Eastern",
		CompanyCurrency:     "USD",
		UTCOffset:           "-05:00",
		UIDomain:            "app.hubspot.com",
		DataHostingLocation: "na1",
	}
	answer.PortalID, _ = strconv.ParseInt(v.portal, 10, 64)
	writeJSON(w, http.StatusOK, answer)
}
