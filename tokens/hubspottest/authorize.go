package hubspottest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

// RequiredScope is the scope that the fake app's settings have ticked as
// required: the authorize page refuses a request without it.
const RequiredScope = "oauth"

// authorizePath is where a person lets the app into a portal.
const authorizePath = "/oauth/authorize"

// code is what a browser carries from the authorize page to the app. It stays
// known after its use.
type code struct {
	portal      string
	redirectURI string
	scopes      []string
	used        bool
	expired     bool
}

// AuthorizeURL is the address of the authorize page, without parameters.
func (s *Server) AuthorizeURL() string { return s.URL + authorizePath }

// Authorize does what a person does who opens the address of the authorize
// page, chooses the portal, and connects: it returns where HubSpot would send
// the browser, with a code and the state. The error says what the page would
// say instead.
func (s *Server) Authorize(address, portal string) (redirect string, err error) {
	request, err := s.authorizeRequestOf(address)
	if err != nil {
		return "", err
	}
	return s.allow(request, portal)
}

// Decline is Authorize for a person who cancels: the address it returns has
// error=access_denied and an error_description. It has no state, which
// HubSpot's documentation does not promise there.
func (s *Server) Decline(address string) (redirect string, err error) {
	request, err := s.authorizeRequestOf(address)
	if err != nil {
		return "", err
	}
	return request.decline(), nil
}

// ExpireCodes makes every code given out so far expired: the token endpoint
// answers 400 EXPIRED_AUTH_CODE to it, unless it was used.
func (s *Server) ExpireCodes() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.ledger.codes {
		c.expired = true
	}
}

// authorizeRequest is what an app asks a person for.
type authorizeRequest struct {
	redirect *url.URL
	given    string // redirect, as it was sent
	scopes   []string
	state    string
}

func (s *Server) authorizeRequestOf(address string) (authorizeRequest, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme+"://"+u.Host+u.Path != s.AuthorizeURL() {
		return authorizeRequest{}, fmt.Errorf("hubspottest: not the address of the authorize page, %s", s.AuthorizeURL())
	}
	return parseAuthorizeRequest(u.Query())
}

// parseAuthorizeRequest returns an error where HubSpot shows an error page.
func parseAuthorizeRequest(query url.Values) (authorizeRequest, error) {
	a := authorizeRequest{
		given:  query.Get("redirect_uri"),
		scopes: strings.Fields(query.Get("scope")),
		state:  query.Get("state"),
	}
	var err error
	a.redirect, err = url.Parse(a.given)
	switch {
	case query.Get("client_id") != ClientID:
		return a, errors.New("there is no app with this client_id")
	case err != nil || !mayRedirect(a.redirect):
		return a, errors.New("the redirect_uri is missing, or neither https nor http to loopback")
	case !slices.Contains(a.scopes, RequiredScope):
		return a, errors.New("the app requires a scope that scope does not have: " + RequiredScope)
	}
	// The fake's portals have all that an app may ask for.
	a.scopes = append(a.scopes, strings.Fields(query.Get("optional_scope"))...)
	return a, nil
}

// mayRedirect is more lenient than HubSpot, which takes localhost, but no IP.
func mayRedirect(u *url.URL) bool {
	if u.Host == "" || u.Fragment != "" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && ip.IsLoopback())
}

// allow makes a code for the portal, and returns where to go with it.
func (s *Server) allow(a authorizeRequest, portal string) (redirect string, err error) {
	if portal == "" {
		return "", errors.New("no portal was chosen")
	}
	text := Canary + "-code-" + rand.Text()
	s.mu.Lock()
	s.ledger.codes[text] = &code{portal: portal, redirectURI: a.given, scopes: a.scopes}
	s.mu.Unlock()
	return a.back("code", text, "state", a.state), nil
}

func (a authorizeRequest) decline() string {
	return a.back("error", "access_denied", "error_description", "The user declined to connect the app.")
}

// back returns the redirect address with parameters added, but for empty ones.
func (a authorizeRequest) back(namesAndValues ...string) string {
	u := *a.redirect
	query := u.Query()
	for pair := range slices.Chunk(namesAndValues, 2) {
		if pair[1] != "" {
			query.Set(pair[0], pair[1])
		}
	}
	u.RawQuery = query.Encode()
	return u.String()
}

type authorizePageData struct {
	Problem string
	Scopes  []string
	Host    string
	Portal  string
}

// node returns the content of the page, which posts to its own address, parameters and all.
func (d authorizePageData) node() g.Node {
	content := g.Group{
		h.P(g.Textf("An app asks for %s. It will be sent to %s.", strings.Join(d.Scopes, ", "), d.Host)),
		h.Form(h.Method("post"),
			h.P(h.Label(g.Text("Portal "), h.Input(h.Name("portal"), h.Value(d.Portal), h.Pattern("[1-9][0-9]*"), h.Required()))),
			h.P(h.Button(h.Name("answer"), h.Value("connect"), g.Text("Connect")), g.Text(" "),
				h.Button(h.Name("answer"), h.Value("cancel"), g.Attr("formnovalidate"), g.Text("Cancel"))),
		),
	}
	if d.Problem != "" {
		content = g.Group{h.P(g.Textf("This authorization cannot go on: %s.", d.Problem))}
	}
	return content
}

// serveAuthorize shows the authorize page, and takes its form.
func (s *Server) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	s.admit(r) // counts it
	request, err := parseAuthorizeRequest(r.URL.Query())
	if err != nil {
		writeAuthorizePage(w, http.StatusBadRequest, authorizePageData{Problem: err.Error()})
		return
	}
	if r.Method != http.MethodPost {
		writeAuthorizePage(w, http.StatusOK, authorizePageData{Scopes: request.scopes, Host: request.redirect.Host, Portal: s.anyPortal()})
		return
	}
	form, redirect := readForm(w, r), request.decline()
	if form.Get("answer") == "connect" {
		redirect, err = s.allow(request, form.Get("portal"))
	}
	if err != nil {
		writeAuthorizePage(w, http.StatusBadRequest, authorizePageData{Problem: err.Error()})
		return
	}
	w.Header().Set("Location", redirect)
	w.WriteHeader(http.StatusFound)
}

func writeAuthorizePage(w http.ResponseWriter, status int, data authorizePageData) {
	writePage(w, status, "Fake HubSpot", data.node())
}

// anyPortal returns what the page proposes: the known portal with the least
// number, if there is one.
func (s *Server) anyPortal() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	least := int64(0)
	for name := range s.ledger.portals {
		if n, err := strconv.ParseInt(name, 10, 64); err == nil && n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	if least == 0 {
		return "62515"
	}
	return strconv.FormatInt(least, 10)
}
