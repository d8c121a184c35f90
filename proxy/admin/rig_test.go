package admin_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"hubspot-auth-proxy/proxy/admin"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const portal = "62515"

// portals is a source with a real Redis. It records what Connect has stored.
type portals struct {
	*tokens.Source
	redis redis.UniversalClient

	mu      sync.Mutex
	before  func() // called before Connect stores the tokens; nil means no callback
	stored  map[string]hubspot.Token
	actors  []string
	changed chan struct{} // gets one element for every Connect
}

func (p *portals) Connect(ctx context.Context, portal string, token hubspot.Token, request tokens.ConnectRequest, actor string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { p.changed <- struct{}{} }()
	if p.before != nil {
		p.before()
	}
	if err := p.Source.Connect(ctx, portal, token, request, actor); err != nil {
		return err
	}
	p.stored[portal] = token
	p.actors = append(p.actors, actor)
	return nil
}

// record stores fields of a portal's record as package tokens has them, in the
// place of those of an OAuth portal that was renewed 10 minutes ago.
func (p *portals) record(t *testing.T, id string, fields ...any) {
	t.Helper()
	now := time.Now()
	all := append([]any{
		"schema", "1", "generation", "1", "state", "active", "kind", "oauth", "name", "",
		"access_token", hubspottest.Canary + "-access", "refresh_token", hubspottest.Canary + "-refresh", "api_key", "",
		"renewed_at", now.Add(-10 * time.Minute).UnixMilli(), "expires_at", now.Add(20 * time.Minute).UnixMilli(),
	}, fields...)
	if err := p.redis.HSet(t.Context(), "hubspot:portal:{"+id+"}", all...).Err(); err != nil {
		t.Fatal(err)
	}
}

func (p *portals) all() map[string]hubspot.Token {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stored
}

// rig is an admin listener, a fake HubSpot and a browser.
type rig struct {
	*testing.T
	hub      *hubspottest.Server
	admin    *admin.Admin
	server   *httptest.Server
	options  admin.Options
	portals  *portals
	redisEnd func()
	states   *admin.States
	browser  *http.Client
	later    atomic.Int64 // the time by which the clock is ahead, in ns
	logs     *observer.ObservedLogs
	logged   *testkit.Output
	reasons  map[string]bool // reasons that were logged
}

// newRig starts a rig, on loopback and without a password. change may change its options.
func newRig(t *testing.T, change func(*rig)) *rig {
	t.Helper()
	r := &rig{T: t, hub: hubspottest.NewServer(), logged: new(testkit.Output)}
	t.Cleanup(r.hub.Close)
	client, end := store.Embedded()
	r.redisEnd = sync.OnceFunc(end)
	t.Cleanup(r.redisEnd)
	r.portals = &portals{redis: client, stored: map[string]hubspot.Token{}, changed: make(chan struct{}, 100)}
	r.server = httptest.NewUnstartedServer(nil)
	r.options = r.defaults()
	if change != nil {
		change(r)
	}
	r.portals.Source = tokens.NewSource(tokens.Options{
		Redis: client, Prefix: "hubspot:", App: r.options.App, RefreshAhead: 5 * time.Minute, Now: r.options.Now,
	})
	t.Cleanup(func() {
		// The source tries until then to store portals that a test without Redis leaves
		// unsaved.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = r.portals.Close(ctx)
	})
	r.states = r.statesOf(hubspottest.ClientID, hubspottest.ClientSecret, r.options.RedirectURL)
	if err := r.portals.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.survey()
	r.admin = admin.New(r.options)
	r.server.Config, r.server.Listener = r.admin.Server(r.server.Listener)
	r.server.Start()
	t.Cleanup(r.server.Close)
	r.browser = r.newBrowser()
	return r
}

// survey makes the source read all records.
func (r *rig) survey() {
	r.Helper()
	if err := r.portals.Survey(r.Context()); err != nil {
		r.Fatal(err)
	}
}

// statesOf returns the States of a proxy with the app and the redirect URL.
func (r *rig) statesOf(clientID, clientSecret, redirect string) *admin.States {
	return admin.NewStates(&hubspot.App{ClientID: clientID, ClientSecret: secret.New(clientSecret)}, redirect, r.options.Now)
}

// defaults are the options of a rig on loopback with an app.
func (r *rig) defaults() admin.Options {
	core, logs := observer.New(zapcore.DebugLevel)
	r.logs = logs
	lines := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), r.logged, zapcore.DebugLevel)
	transport := &http.Transport{}
	r.Cleanup(transport.CloseIdleConnections)
	return admin.Options{
		RedisAnswers: func() bool { return true },
		Loopback:     true,
		App: &hubspot.App{
			ClientID:     hubspottest.ClientID,
			ClientSecret: secret.New(hubspottest.ClientSecret),
			TokenURL:     r.hub.TokenURL(),
			Client:       hubspot.NewClient(transport, 10*time.Second),
		},
		RedirectURL:    "http://" + r.server.Listener.Addr().String() + "/callback",
		AuthorizeURL:   r.hub.AuthorizeURL(),
		Scopes:         "oauth crm.objects.contacts.read",
		OptionalScopes: "tickets",
		Portals:        r.portals,
		Log:            zap.New(zapcore.NewTee(core, lines)),
		Now:            func() time.Time { return time.Now().Add(time.Duration(r.later.Load())) },
	}
}

// newBrowser returns a browser with no cookies, which shows redirects.
func (r *rig) newBrowser() *http.Client {
	jar, _ := cookiejar.New(nil)
	transport := &http.Transport{}
	r.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Jar:           jar,
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type answer struct {
	*http.Response
	body string
}

// get opens an address, or a path of the listener, and checks what every answer must have.
func (r *rig) get(address string, change ...func(*http.Request)) answer {
	r.Helper()
	if strings.HasPrefix(address, "/") {
		address = r.server.URL + address
	}
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, address, nil)
	if err != nil {
		r.Fatal(err)
	}
	for _, c := range change {
		c(request)
	}
	response, err := r.browser.Do(request)
	if err != nil {
		r.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		r.Fatal(err)
	}
	a := answer{response, string(body)}
	r.check(a, request.URL.Query())
	return a
}

// check checks that an answer has no secrets, and that a page has the header fields that protect it.
func (r *rig) check(a answer, query url.Values) {
	r.Helper()
	all := fmt.Sprint(a.Header) + a.body + r.logged.String()
	if strings.Contains(all, hubspottest.Canary) {
		r.Errorf("a secret got out: %s", all)
	}
	if state := query.Get("state"); len(state) > 20 && strings.Contains(all, state) {
		r.Errorf("the state got out: %s", all)
	}
	if !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") || a.Request.Method == http.MethodHead {
		return
	}
	_, style, _ := strings.Cut(a.body, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	policy := a.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"} {
		if !strings.Contains(policy, want) {
			r.Errorf("Content-Security-Policy %q lacks %s", policy, want)
		}
	}
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Content-Type": "text/html; charset=utf-8",
	} {
		if got := a.Header.Get(name); got != want {
			r.Errorf("%s: %q", name, got)
		}
	}
	own := ownScript(a.body)
	if sum := sha256.Sum256([]byte(own)); own != "" && !strings.Contains(policy, "script-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"';") {
		r.Errorf("Content-Security-Policy %q does not name the script", policy)
	}
	a.body = bare(a.body)
	if strings.Contains(a.body, "<script") || strings.Contains(a.body, "<img") || strings.Contains(a.body, "style=") {
		r.Errorf("the page has foreign markup: %s", a.body)
	}
}

// ownScript returns the page's script, or "" if it has none.
func ownScript(body string) string {
	_, script, _ := strings.Cut(body, "<script>")
	script, _, _ = strings.Cut(script, "</script>")
	return script
}

// bare returns a page without its script and without the empty choice.
func bare(body string) string {
	return strings.NewReplacer("<script>"+ownScript(body)+"</script>", "", `<option value="">`, "").Replace(body)
}

// begin opens /connect and returns the authorize URL.
func (r *rig) begin(query string) string {
	r.Helper()
	a := r.get("/connect" + query)
	if a.StatusCode != http.StatusFound {
		r.Fatalf("/connect answers %d: %s", a.StatusCode, a.body)
	}
	return a.Header.Get("Location")
}

// allow gives the app access to the portal, and returns the address to which HubSpot redirects the
// browser.
func (r *rig) allow(authorizeURL, portal string) string {
	r.Helper()
	redirect, err := r.hub.Authorize(authorizeURL, portal)
	if err != nil {
		r.Fatal(err)
	}
	return redirect
}

// refuses checks that the answer is a page with the status and the texts, that the reason was logged
// the first time, and that nothing was stored.
func (r *rig) refuses(a answer, status int, reason string, words ...string) {
	r.Helper()
	if a.StatusCode != status {
		r.Errorf("status %d, want %d: %s", a.StatusCode, status, a.body)
	}
	for _, w := range words {
		if !strings.Contains(a.body, w) {
			r.Errorf("the page does not say %q: %s", w, a.body)
		}
	}
	entries := r.logs.TakeAll()
	if r.reasons[reason] {
		if len(entries) != 0 {
			r.Errorf("logged again: %v", entries)
		}
	} else if len(entries) != 1 || entries[0].Level != zapcore.WarnLevel || entries[0].ContextMap()["category"] != reason {
		r.Errorf("logged %v, want reason %s", entries, reason)
	}
	if r.reasons == nil {
		r.reasons = make(map[string]bool)
	}
	r.reasons[reason] = true
	if len(r.portals.all()) != 0 {
		r.Errorf("stored %v", r.portals.all())
	}
}

// with returns an address with one parameter changed.
func with(address, name, value string) string {
	u, _ := url.Parse(address)
	query := u.Query()
	query.Set(name, value)
	if value == "" {
		query.Del(name)
	}
	u.RawQuery = query.Encode()
	return u.String()
}

func parameter(address, name string) string {
	u, _ := url.Parse(address)
	return u.Query().Get(name)
}
