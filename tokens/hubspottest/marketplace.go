package hubspottest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
)

// MarketplaceOrigin is the origin of the pages of HubSpot's marketplace. An app accepts no
// other origin in a returnUrl. The fake does not serve these pages.
const MarketplaceOrigin = "https://app.hubspot.com"

// returnPage is the page to which the app sends the browser back.
const returnPage = MarketplaceOrigin + "/marketplace/return"

// installation is an installation of the app that a person has begun in the marketplace.
type installation struct {
	authorizeRequest        // its redirect URL is the app's install URL
	portal           string // the portal in which the app is installed
	signIn           bool   // with partner sign-in
	coded            bool   // the code was issued
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
	id := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	i := &installation{authorizeRequest: authorizeRequest{redirect: redirect, given: redirectURL, scopes: defaultScopes()}, portal: portal, signIn: signIn}
	s.ledger.installations[id] = i
	if signIn {
		return i.back("step", "authorize", "returnUrl", returnURL(id)), nil
	}
	return i.back("code", s.ledger.codeFor(i), "returnUrl", returnURL(id)), nil
}

// Finalize acts as a person whom the app has sent back to the returnUrl with a state. It
// returns the address to which HubSpot then redirects the browser, with step=finalize, a
// code, the state and a returnUrl.
func (s *Server) Finalize(returned string) (address string, err error) {
	u, err := url.Parse(returned)
	if err != nil || u.Scheme+"://"+u.Host+u.Path != returnPage {
		return "", fmt.Errorf("hubspottest: not the address to go back to, %s", returnPage)
	}
	id, state := u.Query().Get("installation"), u.Query().Get("state")
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.ledger.installations[id]
	switch {
	case i == nil || !i.signIn:
		return "", errors.New("hubspottest: there is no such installation with partner sign-in")
	case state == "":
		return "", errors.New("hubspottest: the app has sent no state")
	case i.coded:
		return "", errors.New("hubspottest: the installation has had its code")
	}
	return i.back("step", "finalize", "code", s.ledger.codeFor(i), "state", state, "returnUrl", returnURL(id)), nil
}

// returnURL returns the address to which the app has to send the browser back.
func returnURL(id string) string { return returnPage + "?installation=" + id }

// codeFor issues the code of the installation.
func (l *ledger) codeFor(i *installation) string {
	i.coded = true
	return l.issueCode(i.portal, i.authorizeRequest)
}
