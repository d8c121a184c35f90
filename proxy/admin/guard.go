package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"math"
	"net/http"
	"strconv"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens/secret"
)

// user is the user name for the password.
const user = "admin"

// guard serves a page only to requests with the operator's password. If no password is set, guard
// serves the page on loopback only, and refuses requests that another proxy has forwarded. So only
// programs on this machine can read the page.
func (a *Admin) guard(page http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name, password, given := r.BasicAuth()
		switch {
		case a.password().IsZero() && a.options.Loopback && wire.CameThroughProxy(r):
			a.refuse(w, http.StatusForbidden, "forwarded", message{
				Title: "This page needs a password",
				Text: []string{"It is not served, because no password is set and the request came through another proxy, so that anyone may have sent it. " +
					"Set ADMIN_PASSWORD and restart the proxy, or open this page at the proxy's own address."},
			})
		case a.password().IsZero() && a.options.Loopback:
			page(w, r)
		case a.password().IsZero():
			a.refuse(w, http.StatusForbidden, "no_password", message{
				Title: "This page needs a password",
				Text: []string{"It is not served, because no password is set and this listener can be reached from other machines. " +
					"Set ADMIN_PASSWORD and restart the proxy, or set ADMIN_ADDR to a loopback address."},
			})
		case !given: // a browser sends no password until it is asked for one
			askPassword(w)
		case a.letsIn(w, r, name, password):
			page(w, r)
		}
	}
}

// password returns the operator's current password. Empty means that none is set.
func (a *Admin) password() secret.Text {
	if changed := a.changed.Load(); changed != nil {
		return *changed
	}
	return a.options.Password
}

// SetPassword replaces the operator's password. An empty password means that none is
// set. Requests that arrive later need the new password. SetPassword is safe for
// concurrent use.
func (a *Admin) SetPassword(to secret.Text) { a.changed.Store(&to) }

// letsIn returns true if the name and the password are the operator's. If they are not, or if too
// many wrong passwords came from the same address, letsIn answers the request, and returns false.
func (a *Admin) letsIn(w http.ResponseWriter, r *http.Request, name, password string) bool {
	from := addressOf(r.RemoteAddr)
	// The try is counted before the password is checked, so that requests at the same time
	// cannot exceed the limit.
	if wait := a.tries.take(from, a.now()); wait > 0 {
		seconds := strconv.Itoa(int(math.Ceil(wait.Seconds())))
		w.Header().Set("Retry-After", seconds)
		a.refuse(w, http.StatusTooManyRequests, "too_many_passwords", message{
			Title: "Too many wrong passwords",
			Text:  []string{"They came from your address. Wait " + seconds + " seconds, and reload this page: even the right password is not accepted before."},
		})
		return false
	}
	if isOperator(a.password(), name, password) {
		a.tries.giveBack(from, a.now())
		return true
	}
	a.refused("wrong_password")
	askPassword(w)
	return false
}

// askPassword answers 401, which makes the browser ask for the password.
func askPassword(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Basic realm="hubspot-auth-proxy", charset="UTF-8"`)
	show(w, http.StatusUnauthorized, message{
		Title: "Password needed",
		Text:  []string{"Log in as " + user + " with the password that ADMIN_PASSWORD sets."},
	}.page())
}

// isOperator compares hashes, so that its running time reveals nothing, not even the password's
// length.
func isOperator(want secret.Text, name, password string) bool {
	same := func(a, b string) int {
		x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
		return subtle.ConstantTimeCompare(x[:], y[:])
	}
	return same(name, user)&same(password, want.Reveal()) == 1
}

// refuse answers with a page that gives the reason, and logs the reason's category. It logs no text
// that came from the browser or from HubSpot, because that text may be a code, a state or a token.
func (a *Admin) refuse(w http.ResponseWriter, status int, reason string, m message) {
	a.refused(reason)
	show(w, status, m.page())
}

func (a *Admin) refused(reason string, fields ...zap.Field) {
	// The throttled logger combines refusals with the same category.
	a.throttled.Warn("a request to the admin listener was refused", append(fields, zap.String("category", reason))...)
}
