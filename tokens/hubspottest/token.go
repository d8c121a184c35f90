package hubspottest

import (
	"cmp"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"time"
)

// maxForm is the longest body of a token call, in bytes.
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

func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	s.observe(r, verdict{})
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
		refuseMethod(w)
	default:
		s.give(w, r, form, b)
	}
}

// readForm returns the parameters in the body. As at HubSpot, there are none if the
// Content-Type is not that of a form.
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

// countTokenCall counts the call, in total and for the portal of its refresh token.
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

// tokenCallViolation describes a secret that the call has in the wrong place. It returns ""
// if there is none.
func tokenCallViolation(r *http.Request) string {
	query := r.URL.Query()
	switch {
	case query.Has("client_secret"):
		return "client_secret in the query"
	case query.Has("refresh_token"):
		return "refresh_token in the query"
	case query.Has("code"):
		return "code in the query"
	case len(r.Header.Values("Authorization")) > 0:
		return "Authorization header"
	}
	return ""
}

// give answers a call with a token or with HubSpot's error.
func (s *Server) give(w http.ResponseWriter, r *http.Request, form url.Values, b TokenBehaviour) {
	take := map[string]func(url.Values, TokenBehaviour) (tokenAnswer, string){
		"refresh_token":      s.renew,
		"authorization_code": s.exchange,
	}[form.Get("grant_type")]
	problem := clientProblem(form)
	if take == nil || tokenCallViolation(r) != "" {
		problem = "BAD_GRANT_TYPE"
	}
	var answer tokenAnswer
	if problem == "" {
		answer, problem = take(form, b)
	}
	if problem != "" {
		writeTokenError(w, http.StatusBadRequest, problem, b.OldShape)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// clientProblem returns HubSpot's error code if the form has no app's id and secret, and
// otherwise "".
func clientProblem(form url.Values) string {
	switch secret := secrets[form.Get("client_id")]; {
	case secret == "":
		return "BAD_CLIENT_ID"
	case form.Get("client_secret") != secret:
		return "BAD_CLIENT_SECRET"
	}
	return ""
}

// exchange gives the app a new grant for a code, which can be used once. problem is
// HubSpot's error code if the code cannot be used.
func (s *Server) exchange(form url.Values, b TokenBehaviour) (answer tokenAnswer, problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.ledger.codes[form.Get("code")]
	switch {
	case c == nil || c.used || form.Get("client_id") != ClientID:
		return tokenAnswer{}, "BAD_AUTH_CODE"
	case c.expired:
		return tokenAnswer{}, "EXPIRED_AUTH_CODE"
	case form.Get("redirect_uri") != c.redirectURI:
		return tokenAnswer{}, "BAD_REDIRECT_URI"
	}
	c.used = true
	return s.ledger.answer(s.ledger.connect(s.ledger.portal(c.portal), c.scopes), b), ""
}

// renew issues an access token for a refresh token. problem is HubSpot's error code if the
// refresh token is unknown or its grant has ended.
func (s *Server) renew(form url.Values, b TokenBehaviour) (answer tokenAnswer, problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.ledger.grants[form.Get("refresh_token")]
	if g == nil || g.ended || form.Get("client_id") != ClientID {
		return tokenAnswer{}, "BAD_REFRESH_TOKEN"
	}
	if b.Rotate && !b.OmitRefreshToken {
		g = s.ledger.connect(g.portal, g.scopes)
	}
	return s.ledger.answer(g, b), ""
}

// answer issues an access token for the grant and returns the endpoint's answer.
func (l *ledger) answer(g *grant, b TokenBehaviour) tokenAnswer {
	life := cmp.Or(b.Life, defaultLife)
	answer := tokenAnswer{
		RefreshToken: g.token,
		ExpiresIn:    secondsUp(life),
		TokenType:    "bearer",
		TokenUse:     "access_token",
		Scopes:       g.scopes,
	}
	if !b.OmitHubID {
		answer.HubID = portalID(g.portal.name)
	}
	if !b.EmptyAccessToken {
		answer.AccessToken = l.issue(g.portal, life)
	}
	if b.OmitRefreshToken {
		answer.RefreshToken = ""
	}
	return answer
}

// secondsUp returns d in seconds, rounded up.
func secondsUp(d time.Duration) int64 { return int64(math.Ceil(d.Seconds())) }
