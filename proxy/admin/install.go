package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"hubspot-auth-proxy/tokens"
)

// The steps of an installation with partner sign-in. An installation without partner sign-in has no
// step.
// https://developers.hubspot.com/docs/apps/developer-platform/list-apps/understand-app-install-flow
const (
	stepAuthorize = "authorize"
	stepFinalize  = "finalize"
)

// installsOff is the text for the page that refuses an installation because installations are
// switched off.
const installsOff = "If you have begun an installation in HubSpot's marketplace: this proxy accepts none. Its operator can set HUBSPOT_MARKETPLACE_INSTALL=true and restart it."

// isInstall reports whether a callback is part of an installation that began in
// HubSpot's marketplace.
func isInstall(query url.Values) bool {
	switch query.Get("step") {
	case stepAuthorize, stepFinalize:
		return true
	}
	return query.Has("code") && query.Has("returnUrl") && !query.Has("state")
}

// install answers a callback that is part of an installation. At the end, it redirects the browser
// back to HubSpot, because HubSpot would otherwise begin the installation again.
func (a *Admin) install(ctx context.Context, w http.ResponseWriter, r *http.Request, query url.Values) {
	back, ok := parseReturnURL(query["returnUrl"])
	if !ok {
		a.deny(w, stateDenial(atMarketplace, "return_url_invalid", "It does not lead back to HubSpot: its returnUrl is missing, or not an address of https://app.hubspot.com."))
		return
	}
	if query.Get("step") == stepAuthorize {
		a.beginInstall(w, back)
		return
	}
	v, denied := a.admitInstall(ctx, r, query)
	if denied == nil {
		_, denied = a.connectPortal(ctx, w, v)
	}
	if denied != nil {
		a.deny(w, denied)
		return
	}
	redirect(w, back.String())
}

// beginInstall redirects the browser back to HubSpot with a state. When the person has chosen the
// portal, HubSpot redirects the browser to /callback with this state.
func (a *Admin) beginInstall(w http.ResponseWriter, back url.URL) {
	browser := rand.Text()
	query := back.Query()
	query.Set("state", a.states.Sign(State{Purpose: PurposeInstall, Browser: browserHash(browser)}))
	back.RawQuery = query.Encode()
	a.setCookie(w, installCookieName, browser, int(connectLife/time.Second))
	redirect(w, back.String())
}

// admitInstall checks the request of an installation that has the code, as admit checks
// a callback of /connect or of a link.
func (a *Admin) admitInstall(ctx context.Context, r *http.Request, query url.Values) (visit, *denial) {
	v := visit{code: query.Get("code"), state: query.Get("state"), actor: installActor, restart: atMarketplace}
	if query.Has("error") || query.Has("error_description") {
		return v, declined(query, false)
	}
	if v.code == "" {
		return v, stateDenial(atMarketplace, "code_missing", "HubSpot sent no code with it.")
	}
	if query.Get("step") == stepFinalize {
		state, err := a.states.open(v.state, PurposeInstall)
		if err != nil {
			return v, unopened(atMarketplace, err)
		}
		if !isBrowserOf(state, r, installCookieName) {
			return v, stateDenial(atMarketplace, "foreign_browser", "It was begun in another browser, or it was begun again since.")
		}
		if denied := a.takeTurn(ctx, &a.finalized, "finalize"); denied != nil {
			return v, denied
		}
		v.cookie, v.request = installCookieName, tokens.ConnectRequest{Issued: state.Issued, AnyPortal: true}
		return v, a.burnState(ctx, atMarketplace, state)
	}
	if denied := a.takeTurn(ctx, &a.installed, "install"); denied != nil {
		return v, denied
	}
	v.request = tokens.ConnectRequest{Unasked: true}
	// Without a state there is no nonce, so the hash of the code is used as the nonce.
	sum := sha256.Sum256([]byte(v.code))
	return v, a.burn(ctx, atMarketplace, "code-"+encoding.EncodeToString(sum[:]), a.now(), codeLife)
}

// codeLife is the time for which a used code of an installation is stored. HubSpot accepts a code
// once, and only for minutes.
const codeLife = 24 * time.Hour

// installsPerMinute is the number of installations of each flow that all processes together try in
// a minute. The number is limited because anyone can make the proxy try an installation.
const installsPerMinute = 10

// turns counts the turns of a flow that this process has tried to take in the current minute.
type turns struct {
	mu     sync.Mutex
	minute int64
	asked  int
}

// next returns the number of the next turn to try in the minute. ok is false if no turn is
// left.
func (t *turns) next(minute int64) (turn int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.minute != minute {
		t.minute, t.asked = minute, 0
	}
	if t.asked == installsPerMinute {
		return 0, false
	}
	t.asked++
	return t.asked - 1, true
}

// takeTurn takes one of the minute's turns of a flow. It returns nil if it has taken a turn, and a
// denial if no turn is left. Turns are nonces in Redis, so all processes share them. A process
// tries each turn once.
func (a *Admin) takeTurn(ctx context.Context, flow *turns, name string) *denial {
	now := a.now()
	minute := now.Unix() / 60
	for {
		turn, ok := flow.next(minute)
		if !ok {
			d := newDenial(http.StatusTooManyRequests, "too_many_installs", false, "Not connected yet",
				"Too many installations have begun within a minute. Nothing was done. Reload this page in a minute.")
			d.wait = 60 - int(now.Unix()%60)
			return d
		}
		nonce := name + "-" + strconv.FormatInt(minute, 10) + "-" + strconv.Itoa(turn)
		first, err := a.options.Portals.Burn(ctx, nonce, now, burnMargin)
		switch {
		case err != nil:
			return storeAway(atMarketplace)
		case first:
			return nil
		}
	}
}

// returnURL matches the beginning of a returnUrl: a page of HubSpot's in any of its regions.
var returnURL = regexp.MustCompile(`^https://app(-[a-z]{2}[0-9]{1,2})?\.hubspot\.com(/|\?|$)`)

// parseReturnURL returns the address at HubSpot to which the browser goes back. The proxy redirects
// the browser there, so no other address may pass. The result is rebuilt from the parts of the
// address that was sent. ok is false if sent is not one valid returnUrl.
func parseReturnURL(sent []string) (back url.URL, ok bool) {
	if len(sent) != 1 || !returnURL.MatchString(sent[0]) || strings.ContainsFunc(sent[0], isForeignInReturnURL) {
		return url.URL{}, false
	}
	u, err := url.Parse(sent[0])
	if err != nil || u.Scheme != "https" || u.User != nil || u.Port() != "" || u.Opaque != "" || !returnURL.MatchString("https://"+u.Host) {
		return url.URL{}, false
	}
	if _, err := url.ParseQuery(u.RawQuery); err != nil {
		return url.URL{}, false
	}
	return url.URL{Scheme: "https", Host: u.Host, Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}, true
}

// isForeignInReturnURL reports whether a returnUrl may not contain the character.
func isForeignInReturnURL(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`@\#`, r)
}
