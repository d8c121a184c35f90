package hubspottest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

const (
	// MarketplaceOrigin is the origin of the marketplace's pages. An app accepts no
	// other origin in a returnUrl, so a test makes its browser resolve this origin to
	// the server.
	MarketplaceOrigin = "https://app.hubspot.com"

	marketplacePath = "/fake/marketplace"
	returnPath      = "/fake/marketplace/return"
)

// installation is an installation of the app that a person has begun in the marketplace.
type installation struct {
	redirect *url.URL // the app's install URL, which is its redirect URL
	given    string   // the install URL as it was sent
	portal   string
	signIn   bool // with partner sign-in
	code     bool // the code was issued
}

// MarketplaceURL returns the address of the marketplace's page on which a person installs
// the app. The app's redirect URL is also its install URL.
func (s *Server) MarketplaceURL(redirectURL string) string {
	return s.URL + marketplacePath + "?" + url.Values{"install_url": {redirectURL}}.Encode()
}

// Install acts as a person who installs the app in the portal from the marketplace. It
// returns the address to which HubSpot redirects the browser. Without partner sign-in, the
// address has a code and a returnUrl. With partner sign-in, the address has step=authorize
// and a returnUrl, and [Server.Finalize] is the next step.
func (s *Server) Install(redirectURL, portal string, signIn bool) (address string, err error) {
	redirect, err := url.Parse(redirectURL)
	if err != nil || !mayRedirect(redirect) {
		return "", errors.New("hubspottest: the install URL is missing, or neither https nor http to loopback")
	}
	if portal == "" {
		return "", errors.New("hubspottest: no portal was chosen")
	}
	id := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	i := &installation{redirect: redirect, given: redirectURL, portal: portal, signIn: signIn}
	s.ledger.installations[id] = i
	if signIn {
		return i.to("step", "authorize", "returnUrl", returnURL(id)), nil
	}
	return i.to("code", s.ledger.codeFor(i), "returnUrl", returnURL(id)), nil
}

// Finalize acts as a person whom the app has sent back to the returnUrl with a state. It
// returns the address to which HubSpot then redirects the browser, with step=finalize, a
// code, the state and a returnUrl.
func (s *Server) Finalize(returned string) (address string, err error) {
	u, err := url.Parse(returned)
	if err != nil || u.Scheme+"://"+u.Host+u.Path != MarketplaceOrigin+returnPath {
		return "", fmt.Errorf("hubspottest: not the address to go back to, %s", MarketplaceOrigin+returnPath)
	}
	return s.finalize(u.Query())
}

func (s *Server) finalize(query url.Values) (address string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := query.Get("installation")
	i := s.ledger.installations[id]
	switch {
	case i == nil || !i.signIn:
		return "", errors.New("hubspottest: there is no such installation with partner sign-in")
	case query.Get("state") == "":
		return "", errors.New("hubspottest: the app has sent no state")
	case i.code:
		return "", errors.New("hubspottest: the installation has had its code")
	}
	return i.to("step", "finalize", "code", s.ledger.codeFor(i), "state", query.Get("state"), "returnUrl", returnURL(id)), nil
}

// returnURL returns the address to which the app has to send the browser back.
func returnURL(id string) string {
	return MarketplaceOrigin + returnPath + "?installation=" + id
}

// codeFor issues the code of the installation.
func (l *ledger) codeFor(i *installation) string {
	i.code = true
	text := Canary + "-code-" + rand.Text()
	l.codes[text] = &code{portal: i.portal, redirectURI: i.given, scopes: defaultScopes()}
	return text
}

func (i *installation) to(namesAndValues ...string) string {
	return authorizeRequest{redirect: i.redirect}.back(namesAndValues...)
}

// serveMarketplace serves the page on which an installation begins, and its form.
func (s *Server) serveMarketplace(w http.ResponseWriter, r *http.Request) {
	s.admit(r) // counts the request
	if r.Method != http.MethodPost {
		writePage(w, http.StatusOK, "Fake marketplace", h.Form(h.Method("post"),
			h.P(g.Textf("The app's install URL is %s.", r.URL.Query().Get("install_url"))),
			h.P(h.Label(g.Text("Portal "), h.Input(h.Name("portal"), h.Value(s.anyPortal()), h.Pattern("[1-9][0-9]*"), h.Required()))),
			h.P(h.Button(h.Name("flow"), h.Value("plain"), g.Text("Install")), g.Text(" "),
				h.Button(h.Name("flow"), h.Value("sign-in"), g.Text("Install with partner sign-in"))),
		))
		return
	}
	form := readForm(w, r)
	s.lead(w)(s.Install(r.URL.Query().Get("install_url"), form.Get("portal"), form.Get("flow") == "sign-in"))
}

// serveReturn serves the page to which the app sends the browser back: with a state, so
// that the person connects the app, and at the end of the installation.
func (s *Server) serveReturn(w http.ResponseWriter, r *http.Request) {
	s.admit(r) // counts the request
	query := r.URL.Query()
	s.mu.Lock()
	i := s.ledger.installations[query.Get("installation")]
	s.mu.Unlock()
	switch {
	case r.Method == http.MethodPost:
		s.lead(w)(s.finalize(query))
	case i == nil:
		writePage(w, http.StatusNotFound, "Fake HubSpot", h.P(g.Text("There is no such installation.")))
	case query.Has("state"):
		writePage(w, http.StatusOK, "Fake HubSpot", h.Form(h.Method("post"),
			h.P(g.Textf("The app is to be connected to portal %s.", i.portal)), h.P(h.Button(g.Text("Connect app")))))
	case !i.code:
		writePage(w, http.StatusOK, "Fake HubSpot", h.P(g.Text("The app is not installed yet.")))
	default:
		writePage(w, http.StatusOK, "Fake HubSpot", h.P(g.Textf("The app is installed in portal %s.", i.portal)))
	}
}

// lead returns a function that redirects the browser to an address, or shows the error.
func (s *Server) lead(w http.ResponseWriter) func(address string, err error) {
	return func(address string, err error) {
		if err != nil {
			writePage(w, http.StatusBadRequest, "Fake HubSpot", h.P(g.Text(err.Error())))
			return
		}
		w.Header().Set("Location", address)
		w.WriteHeader(http.StatusFound)
	}
}

// writePage answers with a page that has the title and the content.
func writePage(w http.ResponseWriter, status int, title string, content g.Node) {
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
