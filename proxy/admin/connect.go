package admin

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
)

// Portals is where portals are stored. It must be safe for concurrent use.
type Portals interface {
	// Connect stores the token as the portal's credential, in place of what
	// the request may replace, and writes to the log who did it. The error is
	// tokens.ErrChangedSince, tokens.ErrNotNamed, tokens.ErrConnected or
	// tokens.ErrWasRemoved where it may not.
	Connect(ctx context.Context, portal string, token hubspot.Token, request tokens.ConnectRequest, actor string) error

	// Burn reports whether it is the first call with this nonce, by any
	// replica, and remembers it for life. The error is tokens.ErrNonceLost if
	// the storage has lost its data after the nonce was issued.
	Burn(ctx context.Context, nonce string, issued time.Time, life time.Duration) (first bool, err error)

	// Overview returns what is known of the portals that the query selects.
	Overview(ctx context.Context, query tokens.Query) tokens.Overview

	// Portal returns what is known of one portal. The error is
	// tokens.ErrNotConnected if there is no record of it.
	Portal(ctx context.Context, id string) (tokens.Portal, error)
}

// callbackPath is where HubSpot sends the browser.
const callbackPath = "/callback"

// The names of the cookies that bind a state to a browser: one of /connect, one of
// an installation, which another site may begin and so must not end the other.
const (
	cookieName        = "hubspot_connect"
	installCookieName = "hubspot_install"
)

// whatToSet is what the connect flow needs.
const whatToSet = "HUBSPOT_CLIENT_ID, HUBSPOT_CLIENT_SECRET, HUBSPOT_SCOPES and HUBSPOT_REDIRECT_URL " +
	"(the address of /callback as browsers reach it, registered in the HubSpot app's settings)"

// notSetUp answers for the connect flow where there is no app to connect.
func notSetUp(w http.ResponseWriter, _ *http.Request) {
	show(w, http.StatusNotFound, message{
		Title: "Connecting portals is not set up",
		Text:  []string{"Set " + whatToSet + ", and restart the proxy."},
	}.page())
}

// sentParameter is of a state that proves that the browser comes from this
// listener.
const sentParameter = "sent"

// isOwnAct reports whether a person opened the address, or followed a link of
// this listener: another site must not end a connection that is under way, by
// leading the browser to one of its own. Browsers that do not say are old.
func (a *Admin) isOwnAct(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return true
	}
	_, err := a.states.open(r.URL.Query().Get(sentParameter), purposeHome)
	return err == nil
}

// connect sends the browser to HubSpot's authorize page.
func (a *Admin) connect(w http.ResponseWriter, r *http.Request) {
	if !a.isOwnAct(r) {
		a.refuse(w, http.StatusForbidden, "other_site", message{
			Title: "Another site has sent you here",
			Text:  []string{"Nothing was done, because a connection that you have begun yourself would end. If you want to connect a portal, start here."},
			Again: true,
		})
		return
	}
	portal := r.URL.Query().Get("portal")
	if portal != "" && !hubspot.ValidPortal(portal) {
		a.refuse(w, http.StatusBadRequest, "portal_invalid", message{
			Title: "That is no portal",
			Text:  []string{"A portal's id is a number, such as 62515: /connect?portal=62515. Without one, any portal may be connected."},
		})
		return
	}
	if !a.sendHome(w, r) {
		return
	}
	browser := rand.Text()
	state := a.states.Sign(State{Purpose: PurposeConnect, Portal: portal, Browser: browserHash(browser)})
	a.setCookie(w, cookieName, browser, int(connectLife/time.Second))
	guardHeaders(w.Header())
	w.Header().Set("Location", a.options.App.AuthorizeURL(a.options.AuthorizeURL, a.options.RedirectURL,
		a.options.Scopes, a.options.OptionalScopes, state))
	w.WriteHeader(http.StatusFound)
}

// sendHome reports whether the browser calls this listener by the host name of
// the redirect URL. The cookie would not come back with another one, so that
// the callback would refuse what the person has just allowed at HubSpot.
func (a *Admin) sendHome(w http.ResponseWriter, r *http.Request) bool {
	home, here := a.redirect.Hostname(), hostname(r.Host)
	switch {
	case strings.EqualFold(home, here):
		return true
	case wire.IsLoopback(home) && wire.IsLoopback(here):
		// HubSpot takes localhost only, where people type 127.0.0.1. The port
		// is theirs: cookies do not mind it.
		query := r.URL.Query()
		query.Set(sentParameter, a.states.Sign(State{Purpose: purposeHome}))
		u := url.URL{Scheme: a.redirect.Scheme, Host: home, Path: "/connect", RawQuery: query.Encode()}
		if _, port, err := net.SplitHostPort(r.Host); err == nil {
			u.Host = net.JoinHostPort(home, port)
		}
		guardHeaders(w.Header())
		w.Header().Set("Location", u.String())
		w.WriteHeader(http.StatusFound)
	default:
		a.refuse(w, http.StatusMisdirectedRequest, "other_host", message{
			Title: "This is not the address to connect from",
			Text: []string{
				"HubSpot will send you back to " + a.redirect.Host + ", and whether it is you who comes back is known by a cookie of that host only.",
				"Open /connect there, if it can be reached there. Otherwise get a link by the command “hubspot-auth-proxy portal link”: it works from any browser.",
			},
		})
	}
	return false
}

// setCookie sets the cookie for age seconds; a negative age deletes it.
func (a *Admin) setCookie(w http.ResponseWriter, name, value string, age int) {
	sameSite := http.SameSiteLaxMode // Strict would not come along from HubSpot's page
	if name == installCookieName && a.redirect.Scheme == "https" {
		sameSite = http.SameSiteNoneMode // as HubSpot wants it for installations
	}
	http.SetCookie(w, &http.Cookie{
		Name:     name,
		Value:    value,
		Path:     cmp.Or(a.redirect.EscapedPath(), "/"), // /callback, as browsers see it
		MaxAge:   age,
		Secure:   a.redirect.Scheme == "https",
		HttpOnly: true,
		SameSite: sameSite,
	})
}

// browserHash returns what a state has of a cookie: it passes through HubSpot
// and the address bar, where the cookie must not be learnt.
func browserHash(cookie string) string {
	sum := sha256.Sum256([]byte(cookie))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// isBrowserOf reports whether the request comes from the browser that the
// state was given to.
func isBrowserOf(state State, r *http.Request, name string) bool {
	for _, cookie := range r.CookiesNamed(name) {
		if subtle.ConstantTimeCompare([]byte(browserHash(cookie.Value)), []byte(state.Browser)) == 1 {
			return true
		}
	}
	return false
}

// hostname returns a Host header without its port.
func hostname(host string) string {
	u := url.URL{Host: host}
	return u.Hostname()
}
