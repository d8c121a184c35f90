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

// Portals stores the portals; *tokens.Source implements it. It must be safe for concurrent use.
type Portals interface {
	// Connect stores the token as the portal's credential, and logs the actor. If the
	// request may not replace the portal's record, the error is tokens.ErrChangedSince,
	// tokens.ErrNotNamed, tokens.ErrConnected or tokens.ErrWasRemoved.
	Connect(ctx context.Context, portal string, token hubspot.Token, request tokens.ConnectRequest, actor string) error

	// Burn stores the nonce for the time life, and reports whether this is the first call
	// with it, in all replicas. The error is tokens.ErrNonceLost if the storage has lost
	// its data since the nonce was issued.
	Burn(ctx context.Context, nonce string, issued time.Time, life time.Duration) (first bool, err error)

	// Overview returns what is known of the portals that the query selects.
	Overview(ctx context.Context, query tokens.Query) tokens.Overview

	// Portal returns what is known of one portal. The error is tokens.ErrNotConnected if
	// there is no record.
	Portal(ctx context.Context, id string) (tokens.Portal, error)
}

// callbackPath is the path to which HubSpot redirects the browser.
const callbackPath = hubspot.CallbackPath

// The names of the cookies that bind a state to a browser: one for /connect and one for
// installations. The names differ because another site can begin an installation. That must not
// end a connection that is under way.
const (
	cookieName        = "hubspot_connect"
	installCookieName = "hubspot_install"
)

// whatToSet names the settings that the connect flow needs and that are not set.
func (a *Admin) whatToSet() string {
	var names []string
	if !isSetUp(a.options.App) {
		names = append(names, "HUBSPOT_CLIENT_ID", "HUBSPOT_CLIENT_SECRET")
	}
	if a.options.Scopes == "" {
		names = append(names, "HUBSPOT_SCOPES")
	}
	if a.options.RedirectURL == "" {
		names = append(names, "HUBSPOT_REDIRECT_URL (the address of /callback as browsers reach it, registered in the HubSpot app's settings)")
	}
	if last := len(names) - 1; last > 0 {
		return strings.Join(names[:last], ", ") + " and " + names[last]
	}
	return strings.Join(names, "")
}

// notSetUp answers requests of the connect flow if the flow is not set up. The answer
// names the settings to set.
func (a *Admin) notSetUp(w http.ResponseWriter, _ *http.Request) {
	show(w, http.StatusNotFound, message{
		Title: "Connecting portals is not set up",
		Text:  []string{"Set " + a.whatToSet() + ", and restart the proxy."},
	}.page())
}

// sentParameter is the query parameter with a state of purposeHome. The state proves that this
// listener has redirected the browser.
const sentParameter = "sent"

// isOwnAct reports whether a person has opened the address, or has followed a link of this
// listener. Another site must not open /connect in the browser, because a second connection would
// end the one that is under way. Old browsers do not send Sec-Fetch-Site; for them isOwnAct returns
// true.
func (a *Admin) isOwnAct(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return true
	}
	_, err := a.states.open(r.URL.Query().Get(sentParameter), purposeHome)
	return err == nil
}

// connect redirects the browser to HubSpot's authorize page.
func (a *Admin) connect(w http.ResponseWriter, r *http.Request) {
	if !a.isOwnAct(r) {
		a.refuse(w, http.StatusForbidden, "other_site", message{
			Title: "Another site has sent you here",
			Text:  []string{"Nothing was done, because that would end a connection that you may have begun yourself. If you want to connect a portal, start here."},
			Again: true,
		})
		return
	}
	portal := r.URL.Query().Get("portal")
	if portal != "" && !hubspot.ValidPortal(portal) {
		a.refuse(w, http.StatusBadRequest, "portal_invalid", message{
			Title: "This is not a portal id",
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
	redirect(w, a.options.App.AuthorizeURL(a.options.AuthorizeURL, a.options.RedirectURL, a.options.Scopes, a.options.OptionalScopes, state))
}

// sendHome makes the browser use the host name of the redirect URL. If the browser uses another
// host name, sendHome answers with a redirect or a page, and returns false. With another host
// name, the browser would not send the cookie to /callback, and /callback would refuse the
// connection.
func (a *Admin) sendHome(w http.ResponseWriter, r *http.Request) bool {
	home, here := a.redirect.Hostname(), hostname(r.Host)
	switch {
	case strings.EqualFold(home, here):
		return true
	case wire.IsLoopback(home) && wire.IsLoopback(here):
		// HubSpot accepts localhost only, and people may open 127.0.0.1. The port stays as
		// the person has opened it, because cookies do not depend on the port.
		query := r.URL.Query()
		query.Set(sentParameter, a.states.Sign(State{Purpose: purposeHome}))
		u := url.URL{Scheme: a.redirect.Scheme, Host: home, Path: "/connect", RawQuery: query.Encode()}
		if _, port, err := net.SplitHostPort(r.Host); err == nil {
			u.Host = net.JoinHostPort(home, port)
		}
		redirect(w, u.String())
	default:
		a.refuse(w, http.StatusMisdirectedRequest, "other_host", message{
			Title: "This is not the address to connect from",
			Text: []string{
				"HubSpot will send you back to " + a.redirect.Host + ", and the proxy recognizes your browser by a cookie of that host only.",
				"Open /connect at that host, if it can be reached there. Otherwise make a link with the command “hubspot-auth-proxy portal link”: it works in any browser.",
			},
		})
	}
	return false
}

// setCookie sets the cookie for age seconds; a negative age deletes it.
func (a *Admin) setCookie(w http.ResponseWriter, name, value string, age int) {
	sameSite := http.SameSiteLaxMode // with Strict, the browser would not send the cookie after HubSpot's page
	if name == installCookieName && a.redirect.Scheme == "https" {
		sameSite = http.SameSiteNoneMode // HubSpot requires SameSite=None for installations
	}
	http.SetCookie(w, &http.Cookie{
		Name:     name,
		Value:    value,
		Path:     cmp.Or(a.redirect.EscapedPath(), "/"), // the path of /callback as browsers see it
		MaxAge:   age,
		Secure:   a.redirect.Scheme == "https",
		HttpOnly: true,
		SameSite: sameSite,
	})
}

// browserHash returns the hash of a cookie that a state contains. The state passes through HubSpot
// and the address bar, which must not get the cookie itself.
func browserHash(cookie string) string {
	sum := sha256.Sum256([]byte(cookie))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// isBrowserOf reports whether the request comes from the browser for which the state was signed.
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
