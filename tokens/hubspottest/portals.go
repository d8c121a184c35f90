package hubspottest

import (
	"crypto/rand"
	"strconv"
	"strings"
	"time"
)

// Canary is contained in every access token, refresh token and code that the server
// issues, and in [ClientSecret], so that a test can search any output for leaks. Tokens and
// keys that the test itself sets should contain Canary too.
const Canary = "hst-canary"

// ClientID and ClientSecret belong to the fake app. The authorize page accepts no other
// app.
const (
	ClientID     = "5fca1b2e-0000-4000-8000-hubspottest0"
	ClientSecret = Canary + "-client-secret-6f1c0a"
)

// OtherClientID and OtherClientSecret belong to another app, which has no grant. The token
// endpoint accepts them, and refuses every refresh token.
const (
	OtherClientID     = "5fca1b2e-0000-4000-8000-hubspottest1"
	OtherClientSecret = Canary + "-other-client-secret-77b0"
)

// secrets are the client secrets of the apps.
var secrets = map[string]string{ClientID: ClientSecret, OtherClientID: OtherClientSecret}

// accessTokenLength is about the length of HubSpot's access tokens, in bytes.
const accessTokenLength = 300

// ledger has the portals and every credential that was ever issued. Server.mu guards it.
type ledger struct {
	portals map[string]*portal
	grants  map[string]*grant       // by refresh token
	bearers map[string]*accessToken // by token, including static tokens
	apiKeys map[string]*portal      // by hapikey
	codes   map[string]*code        // by code of the authorize page or the marketplace

	installations map[string]*installation // by id, of the marketplace
}

type portal struct {
	name       string
	grant      *grant         // the valid grant, or nil
	issued     []*accessToken // OAuth only
	static     string
	apiKey     string
	rejected   bool // set by RejectAll
	requests   int
	tokenCalls int
	limited    limited
}

// grant is one refresh token. A grant that has ended is kept, so that calls with its token
// still count for its portal.
type grant struct {
	portal *portal
	token  string
	scopes []string
	ended  bool
}

// defaultScopes returns the scopes of a grant that was not given on the authorize page.
func defaultScopes() []string { return []string{RequiredScope, "crm.objects.contacts.read"} }

type accessToken struct {
	portal  *portal
	kind    string
	expires time.Time // zero means never
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

// portalID returns the number of a portal. 0 means that the portal's name is not a number.
func portalID(name string) (id int64) {
	id, _ = strconv.ParseInt(name, 10, 64)
	return id
}

// portal returns the portal with the name. If there is none, portal makes one.
func (l *ledger) portal(name string) *portal {
	p := l.portals[name]
	if p == nil {
		p = &portal{name: name}
		l.portals[name] = p
	}
	return p
}

// connect gives the portal a new grant and ends the former one.
func (l *ledger) connect(p *portal, scopes []string) *grant {
	if p.grant != nil {
		p.grant.ended = true
	}
	p.grant = &grant{portal: p, token: "na1-" + Canary + "-refresh-" + rand.Text(), scopes: scopes}
	l.grants[p.grant.token] = p.grant
	return p.grant
}

// issue issues an access token that expires after life.
func (l *ledger) issue(p *portal, life time.Duration) string {
	token := (Canary + "-access-" + strings.Repeat(rand.Text(), accessTokenLength))[:accessTokenLength]
	issued := &accessToken{portal: p, kind: CredentialOAuth, expires: time.Now().Add(life)}
	p.issued = append(p.issued, issued)
	l.bearers[token] = issued
	return token
}

// Connect gives the fake app an OAuth grant for the portal, as if someone had installed the
// app, and returns the grant's refresh token. Connecting a portal again ends the former
// grant. Access tokens of the former grant stay valid until they expire.
//
// The name of a portal is its number. If the name is not a number, the token endpoint
// leaves hub_id out.
func (s *Server) Connect(portal string) (refreshToken string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger.connect(s.ledger.portal(portal), defaultScopes()).token
}

// Disconnect ends the portal's grant, as if someone had uninstalled the app. From now on
// the token endpoint answers its refresh token with 400 BAD_REFRESH_TOKEN. Access tokens
// that were issued before stay valid until they expire.
func (s *Server) Disconnect(portal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.ledger.portal(portal)
	if p.grant != nil {
		p.grant.ended = true
		p.grant = nil
	}
}

// Issue issues an OAuth access token for the portal without a call of the token endpoint.
// The token expires after life; it has expired at once if life is not positive. The portal
// need not be connected.
func (s *Server) Issue(portal string, life time.Duration) (accessToken string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger.issue(s.ledger.portal(portal), life)
}

// SetAccessToken sets the portal's static token, the token of a private app (pat-na1-…).
// The former static token becomes unknown. An empty token only removes the former one. A
// static token never expires; see [Server.RejectAll].
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

// SetAPIKey sets the portal's API key, which requests send as hapikey. The former key
// becomes unknown. An empty key only removes the former one.
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

// Expire makes every OAuth access token that was issued to the portal so far expire. The
// API answers requests with an expired token with 401 EXPIRED_AUTHENTICATION.
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

// Revoke makes every OAuth access token that was issued to the portal so far unknown. The
// API answers requests with such a token with 401 INVALID_AUTHENTICATION, even if the token
// has expired.
func (s *Server) Revoke(portal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.ledger.portal(portal).issued {
		t.revoked = true
	}
}

// RejectAll makes the API answer 401 INVALID_AUTHENTICATION to every credential of the
// portal, of any kind, including new ones. If reject is false, the API accepts valid
// credentials again.
func (s *Server) RejectAll(portal string, reject bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.portal(portal).rejected = reject
}
