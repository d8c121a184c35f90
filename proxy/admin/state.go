package admin

import (
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
	// PurposeConnect is of /connect: the browser that got it brings it back,
	// which a cookie proves.
	PurposeConnect = "connect"

	// PurposeLink is of `portal link`: whoever has the link may use it.
	PurposeLink = "link"

	// PurposeInstall is of an installation that begins in HubSpot's marketplace: the
	// browser that got it brings it back with step=finalize.
	PurposeInstall = "install"

	// purposeHome is of the redirect from one loopback name to another, within
	// /connect: that the browser was sent there by this listener.
	purposeHome = "home"
)

// How long a state lives that is signed without an expiry.
const (
	connectLife = 10 * time.Minute
	linkLife    = 7 * 24 * time.Hour
	homeLife    = time.Minute
)

// Why [States.Open] refuses a text.
var (
	// ErrStateForged: it is not what Sign returned, or was signed with another
	// client secret or by a version with other states.
	ErrStateForged = errors.New("the state is not one that was signed here")

	// ErrStateExpired: it was signed here, too long ago.
	ErrStateExpired = errors.New("the state has expired")

	// ErrStateApp: it was signed for another client id or redirect URL.
	ErrStateApp = errors.New("the state is for another client id or redirect URL")

	// ErrStatePurpose: it was signed here for something else than connecting a
	// portal in this way.
	ErrStatePurpose = errors.New("the state is for another purpose")
)

// A State is what travels with a person to HubSpot's authorize page and back.
// It is signed, not secret: it goes through the browser's address bar.
type State struct {
	// Purpose is PurposeConnect, PurposeLink or PurposeInstall.
	Purpose string

	// Nonce makes it serve once.
	Nonce string

	// Portal is the only portal that may be connected with it. Empty is any.
	Portal string

	// Browser is the hash of the value of the cookie that must come along. It
	// is empty for a link.
	Browser string

	// Issued is when it was signed, in whole microseconds.
	Issued time.Time

	// Expiry is when it ends, in whole seconds.
	Expiry time.Time
}

// States signs and opens the states of one app and redirect URL. All processes
// with the same ones open each other's; a new client secret, client id or
// redirect URL ends those that are under way. It is safe for concurrent use.
type States struct {
	of  *hubspot.App
	app string // the app and the redirect URL, as payloads name them
	now func() time.Time
}

// NewStates returns what signs with a key derived from the app's client
// secret. It panics if that is empty, for everybody could sign then. A nil now
// is time.Now.
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

// payload is a State as it travels. The names are short, because it is part
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

// encoding leaves URLs as they are.
var encoding = base64.RawURLEncoding

// Sign returns the state as text for a URL. An empty nonce is replaced by a
// random one, a zero time of issue by now, and a zero expiry by that of the
// purpose: 10 minutes from now, 7 days for a link.
func (s *States) Sign(state State) string {
	if state.Nonce == "" {
		state.Nonce = rand.Text()
	}
	if state.Issued.IsZero() {
		state.Issued = s.now()
	}
	if state.Expiry.IsZero() {
		state.Expiry = s.now().Add(lifeOf(state.Purpose))
	}
	// Cannot fail: strings and numbers.
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

func lifeOf(purpose string) time.Duration {
	switch purpose {
	case PurposeLink:
		return linkLife
	case purposeHome:
		return homeLife
	}
	return connectLife
}

// Open returns the state of /connect or a link that Sign returned as text. The error is
// ErrStateForged, ErrStateExpired, ErrStateApp or ErrStatePurpose; there is no
// state then.
//
// It does not know whether the state was used before, or by whom it is
// brought.
func (s *States) Open(text string) (State, error) { return s.open(text, PurposeConnect, PurposeLink) }

// open is Open for a state of one of the purposes.
func (s *States) open(text string, purposes ...string) (State, error) {
	// The signature is compared as text, and was made of text: so nothing that
	// base64 or JSON take for the same passes for it.
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
	// The info string makes it a key of its own: no other use of the client
	// secret can give a signature that is good here.
	key, err := hkdf.Key(sha256.New, []byte(s.of.Secret().Reveal()), nil, "hubspot-auth-proxy connect state v2", sha256.Size)
	if err != nil {
		panic("admin: derive the key of states: " + err.Error()) // only for far longer keys
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return encoding.EncodeToString(mac.Sum(nil))
}
