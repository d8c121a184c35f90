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
	actor   string
	restart restart
}

// restart says how a person can start again after a failure: a sentence for the page, and whether
// the page links to /connect.
type restart struct {
	sentence string
	link     bool
}

var (
	atConnect     = restart{"Start again at /connect, or, if you were sent a link, ask for a new one.", true}
	atMarketplace = restart{"Begin the installation again in HubSpot's marketplace.", false}
)

// A denial is the answer to a callback that connects no portal.
type denial struct {
	status  int
	reason  string // the category for the log
	code    string // HubSpot's code for the log; usually empty
	wait    int    // Retry-After in seconds; 0 means none
	message message
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
		// A person with a link is usually not an operator, so the page does not link to the
		// status page. If the public address has another path than /callback, the path / may
		// belong to another program.
		Home: state.Purpose == PurposeConnect && a.redirect.Path == callbackPath,
	}.page())
}

// admit checks the parameters of a callback, and burns the state's nonce so that the state is used
// only once.
func (a *Admin) admit(ctx context.Context, r *http.Request, query url.Values) (State, *denial) {
	// HubSpot does not promise a state together with an error. The page only quotes the error,
	// because anyone can make a browser open such an address.
	if query.Has("error") || query.Has("error_description") {
		return State{}, declined(query)
	}
	if !query.Has("state") {
		return State{}, stateDenial(atConnect, "state_missing", "It has no state, so the proxy cannot know who began this.")
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
	return state, a.burn(ctx, atConnect, state.Nonce, state.Issued, state.Expiry.Sub(a.now())+burnMargin)
}

// unopened returns the denial for a state for which [States.Open] returns err.
func unopened(again restart, err error) *denial {
	switch {
	case errors.Is(err, ErrStateExpired):
		return stateDenial(again, "state_expired", "It has expired.")
	case errors.Is(err, ErrStateApp):
		return stateDenial(again, "state_app", "It was made with another HUBSPOT_CLIENT_ID or HUBSPOT_REDIRECT_URL than this proxy has.")
	case errors.Is(err, ErrStatePurpose):
		return stateDenial(again, "state_purpose", "It was not made for connecting a portal in this way.")
	}
	return stateDenial(again, "state_forged", "It was not made by this proxy, it was made by an earlier version, or the app's client secret was changed since.")
}

// burn records that a nonce is used, in all replicas, for the time life. It returns nil
// if this is the nonce's first use, and otherwise the denial.
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

// storeAway returns the denial for a request that needs Redis while Redis does not answer.
func storeAway(again restart) *denial {
	return &denial{status: http.StatusServiceUnavailable, reason: "store_away", message: message{
		Title: "Not connected yet",
		Text: []string{"The proxy's storage (Redis) does not answer, so nothing was done. Try again: reload this page in a moment. " +
			"If it then says that HubSpot refuses the code, start again."},
		Again: again.link,
	}}
}

// connectPortal exchanges the code for tokens and stores them.
func (a *Admin) connectPortal(ctx context.Context, v visit) (portal string, denied *denial) {
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

// storeDenial returns the denial for an error of [Portals.Connect].
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
			"Portal "+portal+" has an access token or API key that its operator has stored. It is replaced only if the request names the portal. Nothing was stored. "+named)
		d.message.Again = false
		return d
	case errors.Is(err, tokens.ErrWasRemoved):
		return refused("portal_removed", "was removed", "The proxy's operator has removed portal "+portal+", and an installation does not bring it back. "+operator)
	case errors.Is(err, tokens.ErrConnected):
		return refused("portal_connected", "is connected already", "The proxy has a valid grant of portal "+portal+", and keeps using it. "+
			"If the app was uninstalled a moment ago, the proxy notices that within 30 minutes; begin again after that. "+operator)
	}
	return &denial{status: http.StatusServiceUnavailable, reason: "store_failed", message: message{
		Title: "Not connected",
		Text:  []string{"Portal " + portal + " gave access, but the tokens could not be stored: the proxy's storage (Redis) does not answer. Try again in a moment. " + again.sentence},
		Again: again.link,
	}}
}

// deny logs a denial and answers with its page.
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

// declined returns the denial for an error that HubSpot's authorize page sent instead of a code.
func declined(query url.Values) *denial {
	said := query.Get("error")
	if description := query.Get("error_description"); description != "" {
		said += ": " + description
	}
	return &denial{status: http.StatusBadRequest, reason: "declined", message: message{
		Title: "Not connected",
		Text:  []string{"HubSpot did not give the proxy access. Nothing was stored. Start again if you want to, or open your link again. The reason that your browser brought:"},
		Quote: quote(said, query.Get("code"), query.Get("state")),
		Again: true,
	}}
}

// stateDenial returns the denial for a callback whose parameters cannot be used.
func stateDenial(again restart, reason, why string) *denial {
	return &denial{status: http.StatusBadRequest, reason: reason, message: message{
		Title: "This address cannot be used", Text: []string{why, again.sentence}, Again: again.link,
	}}
}

// hubspotDenial returns the denial for an error of HubSpot. step is the call that failed. The texts
// hidden are removed from HubSpot's message.
func hubspotDenial(again restart, step string, err error, hidden ...string) *denial {
	e, is := errors.AsType[*hubspot.Error](err)
	if !is {
		e = &hubspot.Error{}
	}
	said := quote(e.Message, hidden...)
	d := &denial{status: http.StatusBadGateway, reason: step + "_failed", code: e.Code, message: message{Title: "Not connected", Quote: said, Again: again.link}}
	nothing := "Nothing was stored. " + again.sentence
	switch {
	case e.Kind == hubspot.AppRefused:
		d.reason = step + "_app_refused"
		d.message.Text = []string{"HubSpot does not accept the proxy's app. The proxy's operator must check HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET. Nothing was stored."}
	case e.Status >= 400 && e.Status < 500 && e.Status != http.StatusTooManyRequests:
		d.status, d.reason = http.StatusBadRequest, step+"_refused"
		d.message.Text = []string{"HubSpot refused the request. " + nothing}
	default:
		d.status = http.StatusServiceUnavailable
		d.message.Text = []string{"HubSpot did not answer properly, which is usually temporary. " + nothing}
	}
	if said != "" {
		d.message.Text = append(d.message.Text, "HubSpot says:")
	}
	return d
}
