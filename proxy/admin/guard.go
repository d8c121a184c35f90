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

// user is the name that goes with the password.
const user = "admin"

// guard lets the operator through to a page, by the password. Without one the
// page is served on loopback only, and not through another proxy: who asks is
// then on this machine.
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
		case !given: // the browser does not know yet that it must ask
			askPassword(w)
		case a.letsIn(w, r, name, password):
			page(w, r)
		}
	}
}

// password returns the operator's password as it is now, empty if there is none.
func (a *Admin) password() secret.Text {
	if changed := a.changed.Load(); changed != nil {
		return *changed
	}
	return a.options.Password
}

// SetPassword changes the operator's password.
func (a *Admin) SetPassword(to secret.Text) { a.changed.Store(&to) }

// letsIn reports whether the password is the operator's. If it is not, or its
// address has tried too many to be asked again now, letsIn has answered.
func (a *Admin) letsIn(w http.ResponseWriter, r *http.Request, name, password string) bool {
	from := addressOf(r.RemoteAddr)
	// Taken before the password is looked at, so that many at once are no more.
	if wait := a.tries.take(from, a.now()); wait > 0 {
		seconds := strconv.Itoa(int(math.Ceil(wait.Seconds())))
		w.Header().Set("Retry-After", seconds)
		a.refuse(w, http.StatusTooManyRequests, "too_many_passwords", message{
			Title: "Too many wrong passwords",
			Text:  []string{"They came from your address. Wait " + seconds + " seconds, and reload this page: even the right password is not looked at before."},
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

// askPassword makes the browser ask for the password.
func askPassword(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Basic realm="hubspot-auth-proxy", charset="UTF-8"`)
	show(w, http.StatusUnauthorized, message{
		Title: "Password needed",
		Text:  []string{"Log in as " + user + " with the password that ADMIN_PASSWORD sets."},
	}.page())
}

// isOperator compares hashes, so that the time it takes tells nothing, not
// even the password's length.
func isOperator(want secret.Text, name, password string) bool {
	same := func(a, b string) int {
		x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
		return subtle.ConstantTimeCompare(x[:], y[:])
	}
	return same(name, user)&same(password, want.Reveal()) == 1
}

// refuse shows a page that says why nothing was done, and logs the reason's
// class: nothing of what came from the browser or from HubSpot, which may hold
// a code, a state or a token.
func (a *Admin) refuse(w http.ResponseWriter, status int, reason string, m message) {
	a.refused(reason)
	show(w, status, m.page())
}

func (a *Admin) refused(reason string, fields ...zap.Field) {
	// By its category, the log tells many of one reason together.
	a.faults.Warn("a request to the admin listener was refused", append(fields, zap.String("category", reason))...)
}
