package admin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
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

	// callbackActor and installActor are who connects a portal, to the audit log.
	callbackActor = "callback"
	installActor  = "marketplace"
)

// A visit is a callback that may connect a portal.
type visit struct {
	code    string
	state   string // as it was sent, to be hidden
	portal  string // the only one that may be connected; empty is any
	request tokens.ConnectRequest
	actor   string
	restart restart
}

// restart is what a person does whose connection has failed: the sentence for the
// page, and whether the page links to /connect.
type restart struct {
	sentence string
	link     bool
}

var (
	atConnect     = restart{"Start again at /connect, or, if you were sent a link, ask for a new one.", true}
	atMarketplace = restart{"Begin the installation again in HubSpot's marketplace.", false}
)

// A denial is a callback that connects nothing.
type denial struct {
	status  int
	reason  string // its class, for the log
	code    string // HubSpot's, for the log; mostly empty
	wait    int    // seconds after which the same request may be answered otherwise; zero: not said
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
	if isInstall(query) && a.options.MarketplaceInstall {
		a.install(ctx, w, r, query)
		return
	}
	state, denied := a.admit(ctx, r, query)
	portal := ""
	if denied == nil {
		connlimit.Keep(r.Context())
		a.setCookie(w, cookieName, "", -1)
		portal, denied = a.connectPortal(ctx, visit{
			code: query.Get("code"), state: query.Get("state"), portal: state.Portal, actor: callbackActor, restart: atConnect,
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
	if !query.Has("state") {
		return State{}, stateDenial(atConnect, "state_missing", "It lacks its state, without which nobody can tell who began this.")
	}
	state, err := a.states.Open(query.Get("state"))
	if err != nil {
		return state, unopened(atConnect, err)
	}
	if state.Purpose == PurposeConnect && !isBrowserOf(state, r, cookieName) {
		return state, stateDenial(atConnect, "foreign_browser", "It was begun in another browser, at another address of the proxy, or begun once more since.")
	}
	if query.Get("code") == "" {
		return state, stateDenial(atConnect, "code_missing", "HubSpot sent no code with it.")
	}
	// Before the code is exchanged, so that of two requests one goes on.
	return state, a.burn(ctx, atConnect, state.Nonce, state.Issued, state.Expiry.Sub(a.now())+burnMargin)
}

// unopened refuses a state that does not open.
func unopened(again restart, err error) *denial {
	switch {
	case errors.Is(err, ErrStateExpired):
		return stateDenial(again, "state_expired", "It has expired.")
	case errors.Is(err, ErrStateApp):
		return stateDenial(again, "state_app", "It was made with another HUBSPOT_CLIENT_ID or HUBSPOT_REDIRECT_URL than this proxy has.")
	case errors.Is(err, ErrStatePurpose):
		return stateDenial(again, "state_purpose", "It was not made for connecting a portal in this way.")
	}
	return stateDenial(again, "state_forged", "It was not made by this proxy, or by an earlier version of it, or the app's client secret was changed since.")
}

// burn sees to it that what has the nonce is used once.
func (a *Admin) burn(ctx context.Context, again restart, nonce string, issued time.Time, life time.Duration) *denial {
	first, err := a.options.Portals.Burn(ctx, nonce, issued, life)
	switch {
	case errors.Is(err, tokens.ErrNonceLost):
		return stateDenial(again, "state_lost", "The proxy's storage (Redis) has lost its data after it was made, so nobody can tell whether it was used before.")
	case err != nil:
		return storeAway(again)
	case !first:
		return stateDenial(again, "state_used", "It was used before. If that was you and the page said that the portal is connected, it is.")
	}
	return nil
}

// storeAway refuses what needs a Redis that does not answer.
func storeAway(again restart) *denial {
	return &denial{status: http.StatusServiceUnavailable, reason: "store_away", message: message{
		Title: "Not connected yet",
		Text: []string{"The proxy's storage (Redis) does not answer, so nothing was done. Try again: reload this page in a moment. " +
			"Should that say that HubSpot refuses the code, start again."},
		Again: again.link,
	}}
}

// connectPortal exchanges the code and stores what it gives.
func (a *Admin) connectPortal(ctx context.Context, v visit) (portal string, denied *denial) {
	token, err := a.options.App.Exchange(ctx, v.code, a.options.RedirectURL)
	if err != nil {
		return "", hubspotDenial(v.restart, "exchange", err, v.code, v.state)
	}
	// HubSpot says whose token it is. The browser is not asked: it could name
	// a portal that others rely on.
	portal = token.Portal
	if portal == "" {
		if portal, err = a.options.App.Introspect(ctx, token.Access); err != nil {
			return "", hubspotDenial(v.restart, "introspection", err, v.code, v.state, token.Access.Reveal(), token.Refresh.Reveal())
		}
	}
	switch {
	case !hubspot.ValidPortal(portal):
		return "", &denial{status: http.StatusBadGateway, reason: "portal_unknown", message: message{
			Title: "Not connected", Text: []string{"HubSpot did not say which portal this is. Nothing was stored."}, Again: v.restart.link,
		}}
	case v.portal != "" && portal != v.portal:
		return "", &denial{status: http.StatusForbidden, reason: "other_portal", message: message{
			Title: "Not connected: another portal was expected",
			Text: []string{
				"You chose portal " + portal + " at HubSpot, but this is for portal " + v.portal + ". Nothing was stored.",
				"Log in to portal " + v.portal + " and start again, or ask for a new link. In portal " + portal + " you may remove the app again, under Connected apps.",
			},
		}}
	}
	if err := a.options.Portals.Connect(ctx, portal, token, v.request, v.actor); err != nil {
		return "", storeDenial(v.restart, portal, err)
	}
	return portal, nil
}

// storeDenial tells why what the portal allowed was not stored.
func storeDenial(again restart, portal string, err error) *denial {
	refused := func(reason, title, why string) *denial {
		return &denial{status: http.StatusConflict, reason: reason, message: message{
			Title: "Not connected: portal " + portal + " " + title, Text: []string{why}, Again: again.link,
		}}
	}
	named := "Open /connect?portal=" + portal + ", or, if you were sent a link, ask for a new one that is for portal " + portal + "."
	operator := "Nothing was stored. Ask the proxy's operator for a link to connect portal " + portal + "."
	if !again.link {
		named = "Ask the proxy's operator for a link that is for portal " + portal + "."
	}
	switch {
	case errors.Is(err, tokens.ErrChangedSince):
		return refused("portal_changed", "was changed since",
			"Portal "+portal+" was removed, connected or given a credential after this was begun. Nothing was stored. "+again.sentence)
	case errors.Is(err, tokens.ErrNotNamed):
		d := refused("portal_not_named", "has a token already",
			"Portal "+portal+" is served with an access token or API key that its operator stored, and that is replaced only if the portal is named. Nothing was stored. "+named)
		d.message.Again = false
		return d
	case errors.Is(err, tokens.ErrWasRemoved):
		return refused("portal_removed", "was removed", "The proxy's operator has removed portal "+portal+", and an installation does not bring it back. "+operator)
	case errors.Is(err, tokens.ErrConnected):
		return refused("portal_connected", "is connected already", "The proxy has a grant of portal "+portal+" that it takes for good, and goes on with that one. "+
			"If the app was uninstalled a moment ago, the proxy learns that within 30 minutes; begin again then. "+operator)
	}
	return &denial{status: http.StatusServiceUnavailable, reason: "store_failed", message: message{
		Title: "Not connected",
		Text:  []string{"Portal " + portal + " allowed it, but it could not be stored: the proxy's storage (Redis) does not answer. Try again in a moment. " + again.sentence},
		Again: again.link,
	}}
}

// deny shows why nothing was connected.
func (a *Admin) deny(w http.ResponseWriter, d *denial) {
	fields := []zap.Field{}
	if d.code != "" {
		fields = append(fields, zap.String("hubspot", d.code))
	}
	a.refused(d.reason, fields...)
	if d.status == http.StatusServiceUnavailable {
		d.wait = 5
	}
	if d.wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(d.wait))
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
func stateDenial(again restart, reason, why string) *denial {
	return &denial{status: http.StatusBadRequest, reason: reason, message: message{
		Title: "This address cannot be used", Text: []string{why, again.sentence}, Again: again.link,
	}}
}

// hubspotDenial tells what went wrong at HubSpot; step is what was asked of it.
func hubspotDenial(again restart, step string, err error, hidden ...string) *denial {
	var e *hubspot.Error
	if !errors.As(err, &e) {
		e = &hubspot.Error{}
	}
	said := quote(e.Message, hidden...)
	d := &denial{status: http.StatusBadGateway, reason: step + "_failed", code: e.Code, message: message{Title: "Not connected", Quote: said, Again: again.link}}
	nothing := "Nothing was stored. " + again.sentence
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
