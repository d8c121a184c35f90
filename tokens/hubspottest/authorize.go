package hubspottest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

// RequiredScope is the scope that the fake app requires: the authorize page refuses a
// request without it.
const RequiredScope = "oauth"

// authorizePath is the path of the page on which a person gives the app access to a
// portal.
const authorizePath = "/oauth/authorize"

// code is a code that the authorize page has issued. Used codes are kept.
type code struct {
	portal      string
	redirectURI string
	scopes      []string
	used        bool
	expired     bool
}

// AuthorizeURL returns the address of the authorize page, without parameters.
func (s *Server) AuthorizeURL() string { return s.URL + authorizePath }

// Authorize acts as a person who opens address, which is the authorize page with
// parameters, chooses the portal, and connects it. Authorize returns the address to which
// HubSpot redirects the browser, with a code and the state. The error has the message of
// the page if HubSpot would show an error page.
func (s *Server) Authorize(address, portal string) (redirect string, err error) {
	request, err := s.authorizeRequestOf(address)
	if err != nil {
		return "", err
	}
	return s.allow(request, portal)
}

// Decline acts as a person who opens address and cancels. The address that it returns has
// error=access_denied and an error_description. It has no state, because HubSpot's
// documentation does not promise a state there.
func (s *Server) Decline(address string) (redirect string, err error) {
	request, err := s.authorizeRequestOf(address)
	if err != nil {
		return "", err
	}
	return request.decline(), nil
}

// ExpireCodes makes every code that was issued so far expire. The token endpoint answers
// 400 EXPIRED_AUTH_CODE to an expired code, unless the code was used.
func (s *Server) ExpireCodes() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.ledger.codes {
		c.expired = true
	}
}

// authorizeRequest is the parameters of the authorize page.
type authorizeRequest struct {
	redirect *url.URL
	given    string // the redirect_uri as it was sent
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

// parseAuthorizeRequest returns an error if HubSpot would show an error page.
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
	// The fake's portals have every optional scope.
	a.scopes = append(a.scopes, strings.Fields(query.Get("optional_scope"))...)
	return a, nil
}

// mayRedirect reports whether u is a valid redirect URL. Unlike HubSpot, which accepts
// http only for localhost, mayRedirect also accepts loopback addresses.
func mayRedirect(u *url.URL) bool {
	if u.Host == "" || u.Fragment != "" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && ip.IsLoopback())
}

// allow issues a code for the portal, and returns the address to which the browser is
// redirected.
func (s *Server) allow(a authorizeRequest, portal string) (redirect string, err error) {
	if portal == "" {
		return "", errors.New("no portal was chosen")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return a.back("code", s.ledger.issueCode(portal, a), "state", a.state), nil
}

// issueCode issues a code that gives the app what a has asked for.
func (l *ledger) issueCode(portal string, a authorizeRequest) string {
	text := Canary + "-code-" + rand.Text()
	l.codes[text] = &code{portal: portal, redirectURI: a.given, scopes: a.scopes}
	return text
}

func (a authorizeRequest) decline() string {
	return a.back("error", "access_denied", "error_description", "The user declined to connect the app.")
}

// back returns the redirect address with the parameters added. It leaves out parameters
// without a value.
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

// serveAuthorize serves the authorize page and its form.
func (s *Server) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	s.admit(r) // counts the request
	request, err := parseAuthorizeRequest(r.URL.Query())
	if err == nil && r.Method != http.MethodPost {
		writePage(w, http.StatusOK, request.form())
		return
	}
	redirect := ""
	if err == nil {
		if form := readForm(w, r); form.Get("answer") == "connect" {
			redirect, err = s.allow(request, form.Get("portal"))
		} else {
			redirect = request.decline()
		}
	}
	if err != nil {
		writePage(w, http.StatusBadRequest, h.P(g.Textf("This authorization cannot go on: %s.", err)))
		return
	}
	w.Header().Set("Location", redirect)
	w.WriteHeader(http.StatusFound)
}

// form is posted to the page's own address with all parameters.
func (a authorizeRequest) form() g.Node {
	return h.Form(h.Method("post"),
		h.P(g.Textf("An app asks for %s. It will be sent to %s.", strings.Join(a.scopes, ", "), a.redirect.Host)),
		h.P(h.Label(g.Text("Portal "), h.Input(h.Name("portal"), h.Value("62515"), h.Pattern("[1-9][0-9]*"), h.Required()))),
		h.P(h.Button(h.Name("answer"), h.Value("connect"), g.Text("Connect")), g.Text(" "),
			h.Button(h.Name("answer"), h.Value("cancel"), g.Attr("formnovalidate"), g.Text("Cancel"))),
	)
}

func writePage(w http.ResponseWriter, status int, content g.Node) {
	const title = "Fake HubSpot"
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = h.Doctype(h.HTML(h.Lang("en"),
		h.Head(
			h.Meta(h.Charset("utf-8")),
			h.Meta(h.Name("viewport"), h.Content("width=device-width, initial-scale=1")),
			h.Link(h.Rel("icon"), h.Href("data:,")),
			h.TitleEl(g.Text(title)),
		),
		h.Body(h.H1(g.Text(title)), content),
	)).Render(w)
}
