package admin

import (
	"cmp"
	"fmt"
	"net/url"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
)

// usualLife is the lifetime of HubSpot's access tokens. It is used for the first token of a
// connection, because the record has no time of renewal from which to compute the lifetime.
const usualLife = 30 * time.Minute

// A portalRow is one portal on the status page.
type portalRow struct {
	ID, Name, Kind string
	Level, State   string // as in a tag
	Note           string // the problem, and what to do
	Connect        bool   // show a button that connects the portal again
	Left           int    // remaining percent of the token's lifetime; -1 means that there is no expiry to show
	Life, Renewed  string
	Limit          string // HubSpot's limit, as last seen
}

// newPortalRow returns the row of a portal. canConnect means that the connect flow is set up.
func newPortalRow(s tokens.Portal, now time.Time, canConnect bool) portalRow {
	row := portalRow{ID: clip(s.ID, maxName), Name: clip(s.Name, maxName), Kind: kindName(s.Kind)}
	row.Level, row.State, row.Note = describe(s, now)
	row.Left, row.Life = life(s, now)
	if s.Kind == tokens.OAuth && !s.Renewed.IsZero() {
		row.Renewed = "renewed " + Span(now.Sub(s.Renewed)) + " ago"
	}
	grantIsLost := s.State == tokens.Ended || s.State == tokens.Unusable && s.Kind == tokens.OAuth
	if grantIsLost && hubspot.ValidPortal(s.ID) {
		row.Connect = canConnect
		if !canConnect {
			row.Note += " " + sentence(s.Remedy())
		}
	}
	return row
}

func (r portalRow) node() g.Node {
	kind := r.Kind
	if r.Name != "" {
		kind = r.ID + " · " + r.Kind
	}
	return h.Li(h.Class("portal"), h.ID("portal-"+r.ID),
		h.Div(r.title(), small(kind)),
		h.Div(
			h.Span(h.Class("tag "+r.Level), g.Text(r.State)),
			g.If(r.Note != "", h.P(h.Class("small"), g.Text(r.Note))),
			g.If(r.Connect, h.P(h.A(h.Class("button small"), h.Href("/connect?portal="+url.QueryEscape(r.ID)), g.Text("Connect "+r.ID+" again")))),
		),
		h.Div(
			g.If(r.Left >= 0, svg("bar "+r.Level, 100, 1, h.Role("img"), h.Aria("label", fmt.Sprintf("%d %% of the token's life is left", r.Left)),
				rect("", 0, 0, float64(r.Left), 1))),
			h.P(h.Class("ends soft small"), h.Span(g.Text(r.Life)), h.Span(g.Text(r.Renewed))),
			g.If(r.Limit != "", small("limit: "+r.Limit)),
		),
	)
}

// title returns the portal's name or id, as a link to the portal's page.
func (r portalRow) title() g.Node {
	title := h.Strong(g.Text(cmp.Or(r.Name, r.ID)))
	if !hubspot.ValidPortal(r.ID) {
		return title // the environment's static credential may have no portal id
	}
	return h.A(h.Href("/portals/"+r.ID), title)
}

// describe returns the portal's state, and a note that says what to do if the portal needs
// attention.
func describe(s tokens.Portal, now time.Time) (level, state, note string) {
	live := now.Before(s.Expires)
	switch {
	case s.State == tokens.Ended:
		effect := "Calls get 403 until the portal is connected again."
		if live {
			effect = "When the current token expires, calls get 403 until the portal is connected again."
		}
		return "bad", "Ended", "HubSpot refuses the grant (" + clip(s.Problem, maxName) + "). " + effect
	case s.State == tokens.Unusable:
		return "bad", "Unusable", sentence(s.Problem) + " Calls get 503. " + sentence(s.Remedy())
	case s.State == tokens.Rejected:
		return "bad", "Rejected", sentence(s.Problem) + " " + sentence(s.Remedy())
	case s.State != tokens.Active:
		return "bad", clip(string(s.State), maxName), ""
	case s.Failure != "" && live:
		return "warn", "Not renewed", sentence(s.Failure) + again(s.Retry, now) + " Calls are served until the current token expires."
	case s.Failure != "":
		return "bad", "No token", sentence(s.Failure) + again(s.Retry, now) + " Calls get 503 meanwhile."
	case s.Unsaved:
		return "warn", "Not stored", "The token was renewed, and Redis has not stored it yet. Only this process has the token: keep the process running until Redis answers."
	case s.Kind != tokens.OAuth || live:
		return "good", "Healthy", ""
	case s.Expires.IsZero():
		return "idle", "Not used yet", "The first call fetches its token."
	default:
		return "idle", "At rest", "The next call renews its token."
	}
}

// life returns the remaining lifetime of the portal's token, in percent and in words.
// -1 % means that there is no expiry to show.
func life(s tokens.Portal, now time.Time) (percent int, text string) {
	switch {
	case s.State == tokens.Ended, s.State == tokens.Unusable:
		return -1, ""
	case s.Kind != tokens.OAuth:
		return -1, "does not expire"
	case s.Expires.IsZero():
		return -1, "no token yet"
	}
	left := s.Expires.Sub(now)
	if left <= 0 {
		return 0, "expired " + Span(-left) + " ago"
	}
	whole := usualLife
	if !s.Renewed.IsZero() && s.Expires.After(s.Renewed) {
		whole = s.Expires.Sub(s.Renewed)
	}
	// A token that has not expired shows at least 1 %.
	return max(1, min(100, int(100*left.Seconds()/whole.Seconds()))), Span(left) + " left"
}

func kindName(kind tokens.Kind) string {
	switch kind {
	case tokens.OAuth:
		return "OAuth"
	case tokens.AccessToken:
		return "access token"
	case tokens.APIKey:
		return "API key"
	default:
		return "unknown kind"
	}
}

// again returns a sentence with the time of the next try, or "" if there is none.
func again(at, now time.Time) string {
	switch {
	case at.IsZero():
		return ""
	case at.Sub(now) < time.Second:
		return " The next call tries again."
	default:
		return " The first call after " + Span(at.Sub(now)) + " tries again."
	}
}
