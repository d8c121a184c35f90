package admin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"hubspot-auth-proxy/proxy/connlimit"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
)

const (
	// CallbackTimeout is the longest time in which a portal is connected: two calls of
	// HubSpot of 15 seconds each, and two of Redis. A shutdown must wait for
	// CallbackTimeout. If it waits for less, a grant may be lost.
	CallbackTimeout = 40 * time.Second

	// burnMargin is the time for which a nonce is stored after its state has expired,
	// because the clocks of replicas and Redis may differ.
	burnMargin = time.Hour

	// callbackActor and installActor are the actors in the log when a portal is connected.
	callbackActor = "callback"
	installActor  = "marketplace"
)

// A visit is a callback that may connect a portal.
type visit struct {
	code    string
	state   string // the text of the state, which is removed from HubSpot's messages
	portal  string // the only portal that may be connected; empty means any
	request tokens.ConnectRequest
	cookie  string // the cookie of the state, which is deleted; empty means none
	actor   string
	restart restart
}

// callback serves the browser that HubSpot has redirected. The signed state authorizes the request,
// so neither the password nor the Host is checked.
func (a *Admin) callback(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		// A HEAD request, which programs that check links send, must not use up the code.
		w.Header().Set("Allow", http.MethodGet)
		show(w, http.StatusMethodNotAllowed, message{Title: "Open this address in a browser"}.page())
		return
	}
	// The server's write timeout is too short for answers that need calls of HubSpot.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(CallbackTimeout + 5*time.Second))
	// Even if the browser disconnects, the portal is connected, because the person has given
	// access and the code can be used only once.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), CallbackTimeout)
	defer cancel()

	query := r.URL.Query()
	if isInstall(query) && a.options.MarketplaceInstall {
		a.install(ctx, w, r, query)
		return
	}
	state, denied := a.admit(ctx, r, query)
	portal := ""
	if denied == nil {
		portal, denied = a.connectPortal(ctx, w, visit{
			code: query.Get("code"), state: query.Get("state"), portal: state.Portal, cookie: cookieName, actor: callbackActor, restart: atConnect,
			request: tokens.ConnectRequest{Issued: state.Issued, AnyPortal: state.Portal == ""},
		})
	}
	if denied != nil {
		if isInstall(query) {
			denied.message.Text = append(denied.message.Text, installsOff)
		}
		a.deny(w, denied)
		return
	}
	show(w, http.StatusOK, message{
		Title: "Portal " + portal + " is connected",
		Text:  []string{"The proxy serves it from now on. You can close this page."},
		// A person with a link is usually not an operator, so the page does not link to the
		// status page. If the public address has another path than /callback, the path / may
		// belong to another program.
		Home: state.Purpose == PurposeConnect && a.redirect.Path == callbackPath,
	}.page())
}

// isLostCallback reports whether HubSpot has redirected the browser to a path that the listener does
// not serve, because HUBSPOT_REDIRECT_URL has this path.
func (a *Admin) isLostCallback(r *http.Request) bool {
	query := r.URL.Query()
	if r.Method != http.MethodGet || !query.Has("state") || !query.Has("code") && !query.Has("error") {
		return false
	}
	_, pattern := a.mux.Handler(r)
	return pattern == ""
}

// lostCallback answers 404 with what to do. Neither the page nor the log has a part of the address,
// which contains the code.
func (a *Admin) lostCallback(w http.ResponseWriter) {
	a.refuse(w, http.StatusNotFound, "callback_path", message{
		Title: "Not connected: this address is not the callback",
		Text: []string{
			"HubSpot sent you to this address because HUBSPOT_REDIRECT_URL has its path. The proxy handles HubSpot's answer only at the path " + callbackPath + ". Nothing was stored, and the code was not used.",
			"Correct HUBSPOT_REDIRECT_URL to the address of " + callbackPath + ", such as http://localhost:8081" + callbackPath +
				". Register the same URL in the HubSpot app's settings, restart the proxy, and start again. " +
				"If another server in front of the proxy is to change the path to " + callbackPath + ", correct that server.",
		},
	})
}

// admit checks the parameters of a callback, and burns the state's nonce so that the state is used
// only once.
func (a *Admin) admit(ctx context.Context, r *http.Request, query url.Values) (State, *denial) {
	// HubSpot does not promise a state together with an error. The page only quotes the error,
	// because anyone can make a browser open such an address.
	if query.Has("error") || query.Has("error_description") {
		return State{}, declined(query, true)
	}
	if !query.Has("state") {
		return State{}, stateDenial(atConnect, "state_missing", "The address has no state parameter, so it does not come from a connection that this proxy started.")
	}
	state, err := a.states.Open(query.Get("state"))
	if err != nil {
		return state, unopened(atConnect, err)
	}
	if state.Purpose == PurposeConnect && !isBrowserOf(state, r, cookieName) {
		return state, stateDenial(atConnect, "foreign_browser", "It was begun in another browser, at another address of the proxy, or it was begun again since.")
	}
	if query.Get("code") == "" {
		return state, stateDenial(atConnect, "code_missing", "HubSpot sent no code with it.")
	}
	// The nonce is burned before the code is exchanged, so that only one of two requests
	// continues.
	return state, a.burnState(ctx, atConnect, state)
}

// burnState calls burn for the nonce of a state.
func (a *Admin) burnState(ctx context.Context, again restart, state State) *denial {
	return a.burn(ctx, again, state.Nonce, state.Issued, state.Expiry.Sub(a.now())+burnMargin)
}

// burn stores in Redis that a nonce was used, so that all replicas refuse the nonce from now
// on. Redis forgets the nonce after the time life. burn returns nil if this is the first use
// of the nonce, and otherwise the denial.
func (a *Admin) burn(ctx context.Context, again restart, nonce string, issued time.Time, life time.Duration) *denial {
	first, err := a.options.Portals.Burn(ctx, nonce, issued, life)
	switch {
	case errors.Is(err, tokens.ErrNonceLost):
		return stateDenial(again, "state_lost", "The proxy's storage (Redis) has lost its data since it was made, so it is not known whether it was used before.")
	case err != nil:
		return storeAway(again)
	case !first:
		return stateDenial(again, "state_used", "It was used before. If that was you and the page said that the portal is connected, it is.")
	}
	return nil
}

// connectPortal exchanges the code for tokens and stores them.
func (a *Admin) connectPortal(ctx context.Context, w http.ResponseWriter, v visit) (portal string, denied *denial) {
	connlimit.Keep(ctx)
	if v.cookie != "" {
		a.setCookie(w, v.cookie, "", -1)
	}
	hidden := []string{v.code, v.state, a.options.App.Secret().Reveal()}
	token, err := a.options.App.Exchange(ctx, v.code, a.options.RedirectURL)
	if err != nil {
		return "", hubspotDenial(v.restart, "exchange", err, hidden...)
	}
	// The portal is the one that HubSpot reports for the token, not one that the browser names,
	// because a browser could name a portal of others.
	portal = token.Portal
	if portal == "" {
		if portal, err = a.options.App.Introspect(ctx, token.Access); err != nil {
			return "", hubspotDenial(v.restart, "introspection", err, append(hidden, token.Access.Reveal(), token.Refresh.Reveal())...)
		}
	}
	switch {
	case !hubspot.ValidPortal(portal):
		return "", newDenial(http.StatusBadGateway, "portal_unknown", v.restart.link, "Not connected", "HubSpot did not say which portal this is. Nothing was stored.")
	case v.portal != "" && portal != v.portal:
		return "", newDenial(http.StatusForbidden, "other_portal", false, "Not connected: another portal was expected",
			"You chose portal "+portal+" at HubSpot, but this is for portal "+v.portal+". Nothing was stored.",
			"Log in to portal "+v.portal+" and start again, or ask for a new link. In portal "+portal+" you may remove the app again, under Connected apps.")
	}
	if err := a.options.Portals.Connect(ctx, portal, token, v.request, v.actor); err != nil {
		return "", storeDenial(v.restart, portal, err)
	}
	return portal, nil
}
