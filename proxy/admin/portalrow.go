package admin

import (
	"strings"
	"time"
	"unicode/utf8"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
)

const (
	// usualLife is that of HubSpot's access tokens, for those of which it is
	// not known when they were renewed: the first one of a connection.
	usualLife = 30 * time.Minute

	// maxName is how many characters of a name are shown.
	maxName = 100
)

// A portalRow is one portal on the status page.
type portalRow struct {
	ID, Name, Kind string
	Level, State   string // as a tag's
	Note           string // what is wrong, and what to do
	Connect        bool   // offer to connect it again
	Left           int    // percent of the token's life, -1 if it has none
	Life, Renewed  string
	Limit          string // HubSpot's, as last seen
}

// newPortalRow tells a portal; canConnect that there is a connect flow.
func newPortalRow(s tokens.Portal, now time.Time, canConnect bool) portalRow {
	row := portalRow{ID: clip(s.ID, maxName), Name: clip(s.Name, maxName), Kind: kindName(s.Kind)}
	row.Level, row.State, row.Note = judge(s, now)
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

// judge tells how a portal is, and what to do if it is not well.
func judge(s tokens.Portal, now time.Time) (level, state, note string) {
	live := now.Before(s.Expires)
	switch {
	case s.State == tokens.Ended:
		note = "HubSpot has ended the grant (" + clip(s.Problem, maxName) + "). Calls get 403 until the portal is connected again"
		if live {
			note += ", if not at once, then when the token at hand ends"
		}
		return "bad", "Ended", note + "."
	case s.State == tokens.Unusable:
		return "bad", "Unusable", sentence(s.Problem) + " Calls get 503. " + sentence(s.Remedy())
	case s.State == tokens.Rejected:
		return "bad", "Rejected", sentence(s.Problem) + " " + sentence(s.Remedy())
	case s.State != tokens.Active:
		return "bad", clip(string(s.State), maxName), ""
	case s.Failure != "" && live:
		return "warn", "Not renewed", sentence(s.Failure) + again(s.Retry, now) + " Calls are served until the token at hand ends."
	case s.Failure != "":
		return "bad", "No token", sentence(s.Failure) + again(s.Retry, now) + " Calls get 503 meanwhile."
	case s.Unsaved:
		return "warn", "Not stored", "It was renewed, and Redis could not store that yet. Only this process has the token: let it run until Redis answers."
	case s.Kind != tokens.OAuth || live:
		return "good", "Healthy", ""
	case s.Expires.IsZero():
		return "idle", "Not used yet", "The first call gets its token."
	default:
		return "idle", "At rest", "The next call renews its token."
	}
}

// life tells how much of a token's life is left.
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
	// At least a sliver, for it lives.
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

// again tells when something is tried again, if it is.
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

// sentence makes an error's text one.
func sentence(text string) string {
	text = strings.TrimSuffix(clip(text, maxQuote), ".")
	_, first := utf8.DecodeRuneInString(text)
	return strings.ToUpper(text[:first]) + text[first:] + "."
}
