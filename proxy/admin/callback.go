package admin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/connlimit"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
)

const (
	// CallbackTimeout is how long connecting a portal may take: two calls of
	// HubSpot, of 15 seconds each, and two of Redis. Who shuts the server down
	// waits for so long, or a grant may be lost.
	CallbackTimeout = 40 * time.Second

	// burnMargin is how much longer than its state a nonce is remembered,
	// should the clocks of replicas and Redis differ.
	burnMargin = time.Hour

	// callbackActor is who connects a portal, to the audit log.
	callbackActor = "callback"
)

// A denial is a callback that connects nothing.
type denial struct {
	status  int
	reason  string // its class, for the log
	code    string // HubSpot's, for the log; mostly empty
	message message
}

// callback takes the browser back from HubSpot. Its authority is the signed
// state: neither password nor Host is asked for.
func (a *Admin) callback(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		// Something that only looks where a link leads must not use it up.
		w.Header().Set("Allow", http.MethodGet)
		show(w, http.StatusMethodNotAllowed, message{Title: "Open this address in a browser"}.page())
		return
	}
	// The server's own write timeout is for answers without a call of HubSpot.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(CallbackTimeout + 5*time.Second))
	// A person who leaves now has allowed it all the same, and the code serves
	// once: what was begun is finished.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), CallbackTimeout)
	defer cancel()

	query := r.URL.Query()
	state, denied := a.admit(ctx, r, query)
	portal := ""
	if denied == nil {
		connlimit.Keep(r.Context())
		a.setCookie(w, "", -1)
		portal, denied = a.connectPortal(ctx, state, query)
	}
	if denied != nil {
		a.deny(w, denied)
		return
	}
	show(w, http.StatusOK, message{
		Title: "Portal " + portal + " is connected",
		Text:  []string{"The proxy serves it from now on. You can close this page."},
		// Who came by a link is mostly somebody else, and where the public
		// address has another path, / may be another program's.
		Home: state.Purpose == PurposeConnect && a.redirect.Path == callbackPath,
	}.page())
}

// admit decides whether what the browser brings may be used, and sees to it
// that it is used once.
func (a *Admin) admit(ctx context.Context, r *http.Request, query url.Values) (State, *denial) {
	// HubSpot promises no state with an error, and nothing is done but telling
	// it. It could come from anybody, so the page does not make it its own.
	if query.Has("error") || query.Has("error_description") {
		return State{}, declined(query)
	}
	state, err := a.states.Open(query.Get("state"))
	switch {
	case !query.Has("state"):
		return state, stateDenial("state_missing", "It lacks its state, without which nobody can tell who began this.")
	case errors.Is(err, ErrStateExpired):
		return state, stateDenial("state_expired", "It has expired.")
	case errors.Is(err, ErrStateApp):
		return state, stateDenial("state_app", "It was made with another HUBSPOT_CLIENT_ID or HUBSPOT_REDIRECT_URL than this proxy has.")
	case errors.Is(err, ErrStatePurpose):
		return state, stateDenial("state_purpose", "It was not made for connecting a portal.")
	case err != nil:
		return state, stateDenial("state_forged", "It was not made by this proxy, or by an earlier version of it, or the app's client secret was changed since.")
	case state.Purpose == PurposeConnect && !isBrowserOf(state, r):
		return state, stateDenial("foreign_browser", "It was begun in another browser, at another address of the proxy, or begun once more since.")
	case query.Get("code") == "":
		return state, stateDenial("code_missing", "HubSpot sent no code with it.")
	}
	// Before the code is exchanged, so that of two requests one goes on.
	first, err := a.options.Portals.Burn(ctx, state.Nonce, state.Issued, state.Expiry.Sub(a.now())+burnMargin)
	switch {
	case errors.Is(err, tokens.ErrNonceLost):
		return state, stateDenial("state_lost", "The proxy's storage (Redis) has lost its data after it was made, so nobody can tell whether it was used before.")
	case err != nil:
		return state, &denial{status: http.StatusServiceUnavailable, reason: "store_away", message: message{
			Title: "Not connected yet",
			Text: []string{"The proxy's storage (Redis) does not answer, so nothing was done. Try again: reload this page in a moment. " +
				"Should that say that HubSpot refuses the code, start again."},
			Again: true,
		}}
	case !first:
		return state, stateDenial("state_used", "It was used before. If that was you and the page said that the portal is connected, it is.")
	}
	return state, nil
}

// connectPortal exchanges the code and stores what it gives.
func (a *Admin) connectPortal(ctx context.Context, state State, query url.Values) (portal string, denied *denial) {
	code := query.Get("code")
	token, err := a.options.App.Exchange(ctx, code, a.options.RedirectURL)
	if err != nil {
		return "", hubspotDenial("exchange", err, code, query.Get("state"))
	}
	// HubSpot says whose token it is. The browser is not asked: it could name
	// a portal that others rely on.
	portal = token.Portal
	if portal == "" {
		if portal, err = a.options.App.Introspect(ctx, token.Access); err != nil {
			return "", hubspotDenial("introspection", err, code, query.Get("state"), token.Access.Reveal(), token.Refresh.Reveal())
		}
	}
	switch {
	case !hubspot.ValidPortal(portal):
		return "", &denial{status: http.StatusBadGateway, reason: "portal_unknown", message: message{
			Title: "Not connected", Text: []string{"HubSpot did not say which portal this is. Nothing was stored."}, Again: true,
		}}
	case state.Portal != "" && portal != state.Portal:
		return "", &denial{status: http.StatusForbidden, reason: "other_portal", message: message{
			Title: "Not connected: another portal was expected",
			Text: []string{
				"You chose portal " + portal + " at HubSpot, but this is for portal " + state.Portal + ". Nothing was stored.",
				"Log in to portal " + state.Portal + " and start again, or ask for a new link. In portal " + portal + " you may remove the app again, under Connected apps.",
			},
		}}
	}
	request := tokens.ConnectRequest{Issued: state.Issued, AnyPortal: state.Portal == ""}
	if err := a.options.Portals.Connect(ctx, portal, token, request, callbackActor); err != nil {
		return "", storeDenial(portal, err)
	}
	return portal, nil
}

// storeDenial tells why what the portal allowed was not stored.
func storeDenial(portal string, err error) *denial {
	switch {
	case errors.Is(err, tokens.ErrChangedSince):
		return &denial{status: http.StatusConflict, reason: "portal_changed", message: message{
			Title: "Not connected: portal " + portal + " was changed since",
			Text:  []string{"Portal " + portal + " was removed, connected or given a credential after this was begun. Nothing was stored. Start again at /connect, or, if you were sent a link, ask for a new one."},
			Again: true,
		}}
	case errors.Is(err, tokens.ErrNotNamed):
		return &denial{status: http.StatusConflict, reason: "portal_not_named", message: message{
			Title: "Not connected: portal " + portal + " has a token already",
			Text:  []string{"Portal " + portal + " is served with an access token or API key that its operator stored, and that is replaced only if the portal is named. Nothing was stored. Open /connect?portal=" + portal + ", or, if you were sent a link, ask for a new one that is for portal " + portal + "."},
		}}
	default:
		return &denial{status: http.StatusServiceUnavailable, reason: "store_failed", message: message{
			Title: "Not connected",
			Text:  []string{"Portal " + portal + " allowed it, but it could not be stored: the proxy's storage (Redis) does not answer. Try again in a moment: start again, or ask for a new link."},
			Again: true,
		}}
	}
}

// deny shows why nothing was connected.
func (a *Admin) deny(w http.ResponseWriter, d *denial) {
	fields := []zap.Field{}
	if d.code != "" {
		fields = append(fields, zap.String("hubspot", d.code))
	}
	a.refused(d.reason, fields...)
	if d.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	show(w, d.status, d.message.page())
}

// declined tells what HubSpot's authorize page sent instead of a code.
func declined(query url.Values) *denial {
	said := query.Get("error")
	if description := query.Get("error_description"); description != "" {
		said += ": " + description
	}
	return &denial{status: http.StatusBadRequest, reason: "declined", message: message{
		Title: "Not connected",
		Text:  []string{"HubSpot did not let the proxy in. Nothing was stored. Start again if you want to, or open your link once more. The reason that came with your browser:"},
		Quote: quote(said, query.Get("code"), query.Get("state")),
		Again: true,
	}}
}

// stateDenial refuses what the browser brought.
func stateDenial(reason, why string) *denial {
	return &denial{status: http.StatusBadRequest, reason: reason, message: message{
		Title: "This address cannot be used",
		Text:  []string{why, "Start again at /connect, or, if you were sent a link, ask for a new one."},
		Again: true,
	}}
}

// hubspotDenial tells what went wrong at HubSpot; step is what was asked of it.
func hubspotDenial(step string, err error, hidden ...string) *denial {
	var e *hubspot.Error
	if !errors.As(err, &e) {
		e = &hubspot.Error{}
	}
	said := quote(e.Message, hidden...)
	d := &denial{status: http.StatusBadGateway, reason: step + "_failed", code: e.Code, message: message{Title: "Not connected", Quote: said, Again: true}}
	nothing := "Nothing was stored. Start again, or, if you were sent a link, ask for a new one."
	switch {
	case e.Kind == hubspot.AppRefused:
		d.reason = step + "_app_refused"
		d.message.Text = []string{"HubSpot does not take the proxy's app. Its operator must check HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET. Nothing was stored."}
	case e.Status >= 400 && e.Status < 500 && e.Status != http.StatusTooManyRequests:
		d.status, d.reason = http.StatusBadRequest, step+"_refused"
		d.message.Text = []string{"HubSpot refused. " + nothing}
	default:
		d.status = http.StatusServiceUnavailable
		d.message.Text = []string{"HubSpot did not answer as it should, which mostly passes. " + nothing}
	}
	if said != "" {
		d.message.Text = append(d.message.Text, "HubSpot says:")
	}
	return d
}
