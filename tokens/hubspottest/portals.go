package hubspottest

import (
	"crypto/rand"
	"strings"
	"time"
)

// Canary is part of every access token, every refresh token, every code of the
// authorize page and of [ClientSecret], so that a test can search any output for leaks. Tokens and
// keys that the test itself sets should contain it too.
const Canary = "hst-canary"

// ClientID and ClientSecret are those of the fake app. The authorize page takes no
// others.
const (
	ClientID     = "5fca1b2e-0000-4000-8000-hubspottest0"
	ClientSecret = Canary + "-client-secret-6f1c0a"
)

// OtherClientID and OtherClientSecret are those of another app, to which nobody has
// given a grant: the token endpoint takes them, and refuses each refresh token.
const (
	OtherClientID     = "5fca1b2e-0000-4000-8000-hubspottest1"
	OtherClientSecret = Canary + "-other-client-secret-77b0"
)

// secrets are the client secrets of the apps.
var secrets = map[string]string{ClientID: ClientSecret, OtherClientID: OtherClientSecret}

// accessTokenLength is about what real access tokens have.
const accessTokenLength = 300

// ledger holds the portals and every credential ever given out. Server.mu
// guards it.
type ledger struct {
	portals map[string]*portal
	grants  map[string]*grant       // by refresh token
	bearers map[string]*accessToken // by token, static ones too
	apiKeys map[string]*portal      // by hapikey
	codes   map[string]*code        // of the authorize page and the marketplace, by code

	installations map[string]*installation // by their id
}

type portal struct {
	name       string
	grant      *grant         // the live one, or nil
	issued     []*accessToken // OAuth only
	static     string
	apiKey     string
	rejected   bool // RejectAll
	requests   int
	tokenCalls int
	failures   int // FailNext: how many requests are still to fail
	failure    int // with which status
	limited    limited
}

// grant is one refresh token. It stays known after its end, so that calls
// with it still count for its portal.
type grant struct {
	portal *portal
	token  string
	scopes []string
	ended  bool
}

// defaultScopes are those of a grant that did not come by the authorize page.
func defaultScopes() []string { return []string{RequiredScope, "crm.objects.contacts.read"} }

type accessToken struct {
	portal  *portal
	kind    string
	expires time.Time // zero: never
	revoked bool
}

func newLedger() ledger {
	return ledger{
		portals: map[string]*portal{},
		grants:  map[string]*grant{},
		bearers: map[string]*accessToken{},
		apiKeys: map[string]*portal{},
		codes:   map[string]*code{},

		installations: map[string]*installation{},
	}
}

// portal returns the portal of that name, made if need be.
func (l *ledger) portal(name string) *portal {
	p := l.portals[name]
	if p == nil {
		p = &portal{name: name}
		l.portals[name] = p
	}
	return p
}

// connect gives the portal a new grant and ends the former.
func (l *ledger) connect(p *portal, scopes []string) *grant {
	if p.grant != nil {
		p.grant.ended = true
	}
	p.grant = &grant{portal: p, token: "na1-" + Canary + "-refresh-" + rand.Text(), scopes: scopes}
	l.grants[p.grant.token] = p.grant
	return p.grant
}

// issue mints an access token of that life.
func (l *ledger) issue(p *portal, life time.Duration) string {
	token := newAccessToken()
	issued := &accessToken{portal: p, kind: CredentialOAuth, expires: time.Now().Add(life)}
	p.issued = append(p.issued, issued)
	l.bearers[token] = issued
	return token
}

func newAccessToken() string {
	var b strings.Builder
	b.WriteString(Canary + "-access-")
	for b.Len() < accessTokenLength {
		b.WriteString(rand.Text())
	}
	return b.String()[:accessTokenLength]
}

// Connect gives the fake app an OAuth grant of the portal, as if someone had
// installed it, and returns the grant's refresh token. Connecting a portal
// again ends the former grant; access tokens issued from it live on.
//
// A portal is named by its number; with another name the token endpoint
// leaves out hub_id.
func (s *Server) Connect(portal string) (refreshToken string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger.connect(s.ledger.portal(portal), defaultScopes()).token
}

// Disconnect ends the portal's grant, as if someone had uninstalled the app:
// refreshing answers 400 BAD_REFRESH_TOKEN from now on, until it is connected
// again. Access tokens issued so far live on.
func (s *Server) Disconnect(portal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.ledger.portal(portal)
	if p.grant != nil {
		p.grant.ended = true
		p.grant = nil
	}
}

// Issue mints an OAuth access token that dies when life has passed, without a
// call of the token endpoint; it is dead at once if life is not positive. The
// portal need not be connected.
func (s *Server) Issue(portal string, life time.Duration) (accessToken string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger.issue(s.ledger.portal(portal), life)
}

// SetAccessToken makes token the portal's static token, that of a private app
// (pat-na1-…). It replaces the former, which is unknown from now on; an empty
// one only removes it. It never expires; see [Server.RejectAll].
func (s *Server) SetAccessToken(portal, token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.ledger.portal(portal)
	delete(s.ledger.bearers, p.static)
	p.static = token
	if token != "" {
		s.ledger.bearers[token] = &accessToken{portal: p, kind: CredentialAccessToken}
	}
}

// SetAPIKey makes key the portal's API key, the one sent as hapikey. It
// replaces the former, which is unknown from now on; an empty one only
// removes it.
func (s *Server) SetAPIKey(portal, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.ledger.portal(portal)
	delete(s.ledger.apiKeys, p.apiKey)
	p.apiKey = key
	if key != "" {
		s.ledger.apiKeys[key] = p
	}
}

// Expire makes every OAuth access token issued to the portal so far expired:
// the API answers 401 EXPIRED_AUTHENTICATION to it.
func (s *Server) Expire(portal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, t := range s.ledger.portal(portal).issued {
		if now.Before(t.expires) {
			t.expires = now
		}
	}
}

// Revoke makes every OAuth access token issued to the portal so far unknown:
// the API answers 401 INVALID_AUTHENTICATION to it, also if it has expired.
func (s *Server) Revoke(portal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.ledger.portal(portal).issued {
		t.revoked = true
	}
}

// RejectAll makes the API answer 401 INVALID_AUTHENTICATION to every
// credential of the portal, of any kind, also to new ones; false ends that.
func (s *Server) RejectAll(portal string, reject bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.portal(portal).rejected = reject
}

// knows reports whether the portal was ever named.
func (s *Server) knows(portal string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger.portals[portal] != nil
}
