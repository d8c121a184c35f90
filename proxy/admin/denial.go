package admin

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"go.uber.org/zap"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
)

// A denial is the answer to a callback that connects no portal.
type denial struct {
	status  int
	reason  string // the category for the log
	code    string // HubSpot's code for the log; usually empty
	err     error  // for the log; nil means none
	wait    int    // Retry-After in seconds; 0 means none
	message message
}

// newDenial returns a denial whose page links to /connect if again is true.
func newDenial(status int, reason string, again bool, title string, text ...string) *denial {
	d := &denial{status: status, reason: reason, message: message{Title: title, Text: text, Again: again}}
	if status == http.StatusServiceUnavailable {
		d.wait = 5
	}
	return d
}

// deny logs a denial and answers with its page.
func (a *Admin) deny(w http.ResponseWriter, d *denial) {
	fields := []zap.Field{}
	if d.code != "" {
		fields = append(fields, zap.String("hubspot", d.code))
	}
	if d.err != nil {
		fields = append(fields, zap.Error(d.err))
	}
	a.refused(d.reason, fields...)
	if d.wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(d.wait))
	}
	show(w, d.status, d.message.page())
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

// declined returns the denial for an error that HubSpot's authorize page sent instead of a code.
func declined(query url.Values, again bool) *denial {
	said := query.Get("error")
	if description := query.Get("error_description"); description != "" {
		said += ": " + description
	}
	d := newDenial(http.StatusBadRequest, "declined", again, "Not connected",
		"HubSpot did not give the proxy access. Nothing was stored. Start again if you want to, or open your link again. The address that HubSpot sent you to gives this reason:")
	d.message.Quote = quote(said, query.Get("code"), query.Get("state"))
	return d
}

// stateDenial returns the denial for a callback whose parameters cannot be used.
func stateDenial(again restart, reason, why string) *denial {
	return newDenial(http.StatusBadRequest, reason, again.link, "This address cannot be used", why, again.sentence)
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

// storeAway returns the denial for a request that needs Redis while Redis does not answer.
func storeAway(again restart) *denial {
	return newDenial(http.StatusServiceUnavailable, "store_away", again.link, "Not connected yet",
		"The proxy's storage (Redis) does not answer, so nothing was done. Try again: reload this page in a moment. "+
			"If it then says that HubSpot refuses the code, start again.")
}

// storeDenial returns the denial for an error of [Portals.Connect].
func storeDenial(again restart, portal string, err error) *denial {
	conflict := func(reason, title, why string) *denial {
		return newDenial(http.StatusConflict, reason, again.link, "Not connected: portal "+portal+" "+title, why)
	}
	operator := "Nothing was stored. Ask the proxy's operator for a link to connect portal " + portal + "."
	switch {
	case errors.Is(err, tokens.ErrChangedSince):
		return conflict("portal_changed", "was changed since",
			"Portal "+portal+" was removed, connected or given a credential after this was begun. Nothing was stored. "+again.sentence)
	case errors.Is(err, tokens.ErrNotNamed):
		named := "Ask the proxy's operator for a link that is for portal " + portal + "."
		if again.link {
			named = "To replace it, connect portal " + portal + " below, or, if you were sent a link, ask for a new one that is for portal " + portal + "."
		}
		d := conflict("portal_not_named", "has a token already",
			"Portal "+portal+" has an access token or API key that its operator has stored. It is replaced only if the request names the portal. Nothing was stored. "+named)
		if again.link {
			d.message.Again, d.message.Portal = false, portal
		}
		return d
	case errors.Is(err, tokens.ErrWasRemoved):
		return conflict("portal_removed", "was removed", "The proxy's operator has removed portal "+portal+", and an installation does not bring it back. "+operator)
	case errors.Is(err, tokens.ErrConnected):
		return conflict("portal_connected", "is connected already", "The proxy has a valid grant of portal "+portal+", and keeps using it. "+
			"If the app was uninstalled a moment ago, the proxy notices that within 30 minutes; begin again after that. "+operator)
	}
	why := "The proxy's log has the reason. "
	if tokens.IsRedisError(err) {
		why = "The proxy's storage (Redis) does not answer, or refuses to store them. Try again in a moment. "
	}
	d := newDenial(http.StatusServiceUnavailable, "store_failed", again.link, "Not connected",
		"Portal "+portal+" gave access, but the tokens could not be stored. "+why+again.sentence)
	d.err = err
	return d
}

// hubspotDenial returns the denial for an error of HubSpot. step is the call that failed. The
// page quotes HubSpot's message. hidden has the secrets to remove from that message.
func hubspotDenial(again restart, step string, err error, hidden ...string) *denial {
	e, is := errors.AsType[*hubspot.Error](err)
	if !is {
		e = &hubspot.Error{}
	}
	status, reason := http.StatusServiceUnavailable, step+"_failed"
	why := "HubSpot did not answer properly, which is usually temporary. Nothing was stored. " + again.sentence
	switch {
	case e.Kind == hubspot.AppRefused:
		status, reason = http.StatusBadGateway, step+"_app_refused"
		why = "HubSpot does not accept the proxy's app. The proxy's operator must check HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET. Nothing was stored."
	case e.Status >= 400 && e.Status < 500 && e.Status != http.StatusTooManyRequests:
		status, reason = http.StatusBadRequest, step+"_refused"
		why = "HubSpot refused the request. Nothing was stored. " + again.sentence
	}
	d := newDenial(status, reason, again.link, "Not connected", why)
	d.code, d.message.Quote = e.Code, quote(e.Message, hidden...)
	if d.message.Quote != "" {
		d.message.Text = append(d.message.Text, "HubSpot says:")
	}
	return d
}
