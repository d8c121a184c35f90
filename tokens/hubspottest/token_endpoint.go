package hubspottest

import (
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// maxForm is the most bytes of a token call that are read.
const maxForm = 1 << 20

// tokenAnswer is the body of a successful token call.
type tokenAnswer struct {
	AccessToken  string   `json:"access_token"`
	RefreshToken string   `json:"refresh_token,omitempty"`
	ExpiresIn    int64    `json:"expires_in"`
	TokenType    string   `json:"token_type"`
	TokenUse     string   `json:"token_use"`
	HubID        int64    `json:"hub_id,omitempty"`
	Scopes       []string `json:"scopes"`
}

func isTokenPath(path string) bool {
	switch path {
	case "/oauth/v1/token", "/oauth/v3/token", "/oauth/2026-03/token", "/oauth/2026-09/token":
		return true
	}
	return false
}

func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	form := readForm(w, r)
	s.countTokenCall(r, form.Get("refresh_token"))
	b, wanted := s.awaitBehaviour(r)
	switch {
	case !wanted:
		panic(http.ErrAbortHandler)
	case b.Reset:
		resetConnection(w)
	case b.Status != 0 || b.Code != "":
		writeTokenFailure(w, b)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		writeJSON(w, http.StatusMethodNotAllowed, otherStatus(http.StatusMethodNotAllowed))
	default:
		s.refresh(w, r, form, b)
	}
}

// readForm returns the parameters in the body. They are none if the body is
// not declared to be a form, which is also how HubSpot takes it.
func readForm(w http.ResponseWriter, r *http.Request) url.Values {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return url.Values{}
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return url.Values{}
	}
	return form
}

// countTokenCall counts the call, for the portal of its refresh token too.
func (s *Server) countTokenCall(r *http.Request, refreshToken string) {
	violation := tokenCallViolation(r)
	s.change(func(c *counts) {
		c.tokenCalls++
		if violation != "" {
			c.violations = append(c.violations, r.Method+" "+r.URL.Path+": "+violation)
		}
		if g := s.ledger.grants[refreshToken]; g != nil {
			g.portal.tokenCalls++
		}
	})
}

// tokenCallViolation says how the call sends a secret where it must not be.
func tokenCallViolation(r *http.Request) string {
	query := r.URL.Query()
	switch {
	case query.Has("client_secret"):
		return "client_secret in the query"
	case query.Has("refresh_token"):
		return "refresh_token in the query"
	case len(r.Header.Values("Authorization")) > 0:
		return "Authorization header"
	}
	return ""
}

// refresh is the regular answer.
func (s *Server) refresh(w http.ResponseWriter, r *http.Request, form url.Values, b TokenBehaviour) {
	switch {
	case tokenCallViolation(r) != "", form.Get("grant_type") != "refresh_token":
		writeTokenError(w, http.StatusBadRequest, "BAD_GRANT_TYPE", b.OldShape)
		return
	case form.Get("client_id") != ClientID:
		writeTokenError(w, http.StatusBadRequest, "BAD_CLIENT_ID", b.OldShape)
		return
	case form.Get("client_secret") != ClientSecret:
		writeTokenError(w, http.StatusBadRequest, "BAD_CLIENT_SECRET", b.OldShape)
		return
	}
	answer, ok := s.renew(form.Get("refresh_token"), b)
	if !ok {
		writeTokenError(w, http.StatusBadRequest, "BAD_REFRESH_TOKEN", b.OldShape)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// renew issues an access token for a refresh token. It reports false if that
// is unknown or has ended.
func (s *Server) renew(refreshToken string, b TokenBehaviour) (tokenAnswer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.ledger.grants[refreshToken]
	if g == nil || g.ended {
		return tokenAnswer{}, false
	}
	life := b.Life
	if life == 0 {
		life = defaultLife
	}
	answer := tokenAnswer{
		RefreshToken: g.token,
		ExpiresIn:    secondsUp(life),
		TokenType:    "bearer",
		TokenUse:     "access_token",
		Scopes:       []string{"oauth", "crm.objects.contacts.read"},
	}
	answer.HubID, _ = strconv.ParseInt(g.portal.name, 10, 64)
	if !b.EmptyAccessToken {
		answer.AccessToken = s.ledger.issue(g.portal, life)
	}
	switch {
	case b.OmitRefreshToken:
		answer.RefreshToken = ""
	case b.Rotate:
		answer.RefreshToken = s.ledger.connect(g.portal).token
	}
	return answer, true
}

// secondsUp rounds up to whole seconds.
func secondsUp(d time.Duration) int64 {
	seconds := int64(d / time.Second)
	if d%time.Second > 0 {
		seconds++
	}
	return seconds
}
