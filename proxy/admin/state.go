package admin

import (
	"cmp"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"hubspot-auth-proxy/tokens/hubspot"
)

// The purposes of a [State].
const (
	// PurposeConnect is the purpose of a state of /connect. Only the browser that got the
	// state may use it; a cookie identifies the browser.
	PurposeConnect = "connect"

	// PurposeLink is the purpose of a state of `portal link`. Anyone with the link may use
	// it.
	PurposeLink = "link"

	// PurposeInstall is the purpose of a state of an installation that begins in HubSpot's
	// marketplace. Only the browser that got the state may use it, in the step finalize.
	PurposeInstall = "install"

	// purposeHome is the purpose of a state that proves that this listener has redirected
	// the browser from one loopback name to another.
	purposeHome = "home"
)

// connectLife is the lifetime of a state that is signed without an expiry, unless lives has
// another lifetime for its purpose.
const connectLife = 10 * time.Minute

var lives = map[string]time.Duration{PurposeLink: 7 * 24 * time.Hour, purposeHome: time.Minute}

// The errors of [States.Open].
var (
	// ErrStateForged means that the text was not returned by Sign, or that the state was
	// signed with another client secret or by an incompatible version.
	ErrStateForged = errors.New("the state was not signed here")

	// ErrStateExpired means that the state was signed here and has expired.
	ErrStateExpired = errors.New("the state has expired")

	// ErrStateApp means that the state was signed for another client id or redirect URL.
	ErrStateApp = errors.New("the state is for another client id or redirect URL")

	// ErrStatePurpose means that the state was signed here for another purpose.
	ErrStatePurpose = errors.New("the state is for another purpose")
)

// A State is the state parameter that passes through HubSpot's authorize page and back. A State is
// signed. Its content is readable, because the browser's address bar shows the state.
type State struct {
	// Purpose is PurposeConnect, PurposeLink or PurposeInstall.
	Purpose string

	// Nonce identifies the state, so that it can be used only once.
	Nonce string

	// Portal is the only portal that may be connected with the state. Empty means any.
	Portal string

	// Browser is the hash of the cookie that the browser must send. It is empty for a link.
	Browser string

	// Issued is the time at which the state was signed, in whole microseconds.
	Issued time.Time

	// Expiry is the time at which the state expires, in whole seconds.
	Expiry time.Time
}

// States signs and opens the states of one app and redirect URL. All processes with the same app
// and redirect URL open each other's states. A new client secret, client id or redirect URL makes
// earlier states invalid. A States is safe for concurrent use.
type States struct {
	of  *hubspot.App
	app string // a hash of the client id and the redirect URL
	now func() time.Time
}

// NewStates returns a States whose key is derived from the app's client secret. It panics if the
// client secret is empty, because with an empty secret anyone could sign states. If now is nil,
// time.Now is used.
func NewStates(app *hubspot.App, redirectURL string, now func() time.Time) *States {
	if app.ClientSecret.IsZero() {
		panic("admin: no client secret to sign states with")
	}
	if now == nil {
		now = time.Now
	}
	sum := sha256.Sum256([]byte(app.ClientID + "\x00" + redirectURL))
	return &States{of: app, app: encoding.EncodeToString(sum[:12]), now: now}
}

// payload is the JSON form of a State. The names are short because the payload is part
// of a URL.
type payload struct {
	Purpose string `json:"p"`
	Nonce   string `json:"n"`
	Portal  string `json:"h,omitempty"`
	Browser string `json:"b,omitempty"`
	App     string `json:"a"`
	Issued  int64  `json:"i"` // µs since 1970
	Expiry  int64  `json:"e"` // seconds since 1970
}

// encoding needs no escapes in URLs.
var encoding = base64.RawURLEncoding

// Sign returns the state as text for a URL. If Nonce is empty, a random one is used. If Issued is
// zero, the current time is used. If Expiry is zero, the state expires after 10 minutes, or after 7
// days for a link.
func (s *States) Sign(state State) string {
	if state.Nonce == "" {
		state.Nonce = rand.Text()
	}
	if state.Issued.IsZero() {
		state.Issued = s.now()
	}
	if state.Expiry.IsZero() {
		state.Expiry = s.now().Add(cmp.Or(lives[state.Purpose], connectLife))
	}
	// Strings and numbers can always be encoded.
	body, _ := json.Marshal(payload{
		Purpose: state.Purpose,
		Nonce:   state.Nonce,
		Portal:  state.Portal,
		Browser: state.Browser,
		App:     s.app,
		Issued:  state.Issued.UnixMicro(),
		Expiry:  state.Expiry.Unix(),
	})
	text := encoding.EncodeToString(body)
	return text + "." + s.signature(text)
}

// Open returns the state of a text that Sign has returned for /connect or for a link. The error is
// ErrStateForged, ErrStateExpired, ErrStateApp or ErrStatePurpose.
//
// Open does not check whether the state was used before, or which browser sends the
// state.
func (s *States) Open(text string) (State, error) { return s.open(text, PurposeConnect, PurposeLink) }

// open is like Open, for a state with one of the purposes.
func (s *States) open(text string, purposes ...string) (State, error) {
	// The signature is made from the text and compared as text, so no other encoding of the
	// same state is valid.
	body, signature, _ := strings.Cut(text, ".")
	if !hmac.Equal([]byte(signature), []byte(s.signature(body))) {
		return State{}, ErrStateForged
	}
	var p payload
	decoded, err := encoding.DecodeString(body)
	if err != nil || json.Unmarshal(decoded, &p) != nil {
		return State{}, ErrStateForged
	}
	state := State{
		Purpose: p.Purpose, Nonce: p.Nonce, Portal: p.Portal, Browser: p.Browser,
		Issued: time.UnixMicro(p.Issued), Expiry: time.Unix(p.Expiry, 0),
	}
	switch {
	case !slices.Contains(purposes, p.Purpose):
		return State{}, ErrStatePurpose
	case p.App != s.app:
		return State{}, ErrStateApp
	case !s.now().Before(state.Expiry):
		return State{}, ErrStateExpired
	}
	return state, nil
}

func (s *States) signature(text string) string {
	// The info string makes this key different from every other key that is derived from the
	// client secret. So a signature made for another purpose is not valid here.
	key, err := hkdf.Key(sha256.New, []byte(s.of.Secret().Reveal()), nil, "hubspot-auth-proxy connect state v2", sha256.Size)
	if err != nil {
		panic("admin: derive the key of states: " + err.Error()) // fails for much longer keys only
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return encoding.EncodeToString(mac.Sum(nil))
}
