package admin_test

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"hubspot-auth-proxy/proxy/activity"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// The flag writes pictures of the pages. statuspage.png is the picture in the README:
//
//	go test ./proxy/admin -run Browser -screenshots /tmp/pages
var screenshots = flag.String("screenshots", "", "write pictures of the pages into the folder `DIR`")

// chrome is a real browser with one tab.
type chrome struct {
	*testing.T
	ctx context.Context

	mu   sync.Mutex
	said []string // warnings and errors of its console

	fitted int // pages that were checked by fits
}

// newChrome starts a browser. It resolves the names to 127.0.0.1, or to the address that follows a
// name after a space.
func newChrome(t *testing.T, names ...string) *chrome {
	t.Helper()
	path := testkit.Need(t, "chromium", "chromium-browser", "google-chrome")
	rules := "" // the browser can reach loopback only
	for _, name := range names {
		if !strings.Contains(name, " ") {
			name += " 127.0.0.1"
		}
		rules += "MAP " + name + " , "
	}
	bounded, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	t.Cleanup(cancel)
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("ignore-certificate-errors", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("host-resolver-rules", rules+"MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost"))
	allocator, end := chromedp.NewExecAllocator(bounded, options...)
	t.Cleanup(end)
	ctx, closeTab := chromedp.NewContext(allocator)
	c := &chrome{T: t, ctx: ctx}
	var listening sync.WaitGroup
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for the browser's end
		closeTab()
		listening.Wait()
	})
	c.do(func(context.Context, *chromedp.Target) (chromedp.Void, error) { return chromedp.Void{}, nil }) // starts it
	console := chromedp.Console(ctx)
	listening.Go(func() {
		for message, err := range console {
			if err != nil {
				return
			}
			c.mu.Lock()
			c.said = append(c.said, message.String())
			c.mu.Unlock()
		}
	})
	return c
}

func (c *chrome) do(steps ...chromedp.Action[chromedp.Void]) {
	c.Helper()
	if err := chromedp.Do(c.ctx, steps...); err != nil {
		c.Fatal(err)
	}
}

// open opens an address; click follows a link or a button to another page.
func (c *chrome) open(address string) { c.Helper(); c.do(chromedp.Navigate(address)) }

func (c *chrome) click(selector string) {
	c.Helper()
	if _, err := chromedp.RunResponse(c.ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
		c.Fatalf("click %s: %v", selector, err)
	}
}

// evaluating runs a script whose value does not count.
func evaluating(script string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Evaluate[any](script)(ctx, t)
		return chromedp.Void{}, err
	}
}

func evaluate[T any](c *chrome, expression string) T {
	c.Helper()
	value, err := chromedp.Run(c.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		c.Fatalf("%s: %v", expression, err)
	}
	return value
}

// says checks that the page has these texts.
func (c *chrome) says(words ...string) {
	c.Helper()
	text := evaluate[string](c, "document.body.innerText")
	for _, w := range words {
		if !strings.Contains(text, w) {
			c.Errorf("the page does not say %q:\n%s", w, text)
		}
	}
}

// emulating sets the colour scheme: light or dark.
func emulating(scheme string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return chromedp.Void{}, err
	}
}

// fits checks the page on a phone and on a desk, by day and by night: nothing
// may be wider than the window, and axe-core finds nothing, by day or by night in
// turn.
func (c *chrome) fits(name string) {
	c.Helper()
	for _, width := range []int64{360, 1200} {
		for _, scheme := range []string{"light", "dark"} {
			c.do(chromedp.EmulateViewport(width, 800), emulating(scheme))
			if wide := evaluate[int64](c, "document.documentElement.scrollWidth"); wide > width || evaluate[int64](c, "window.innerWidth") != width {
				c.Errorf("%s is %d wide at %d", name, wide, width)
			}
			if width == 360 && (scheme == "dark") == (c.fitted%2 == 0) { // it takes a while
				c.accessible(name)
			}
			c.picture(fmt.Sprintf("%s-%d-%s.png", name, width, scheme))
		}
	}
	c.fitted++
}

func (c *chrome) picture(name string) { c.Helper(); c.save(name, chromedp.FullScreenshot(100)) }

func (c *chrome) save(name string, take chromedp.Action[[]byte]) {
	c.Helper()
	if *screenshots == "" {
		return
	}
	image, err := chromedp.Run(c.ctx, take)
	if err == nil {
		err = os.WriteFile(filepath.Join(*screenshots, name), image, 0o644)
	}
	if err != nil {
		c.Error(err)
	}
}

// silent checks that the console has no warnings and errors, for example of the content security
// policy.
func (c *chrome) silent() {
	c.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.said) > 0 {
		c.Errorf("the console says %q", c.said)
	}
}

func TestInABrowserAPortalIsConnectedByClicks(t *testing.T) {
	r, c := newRig(t, func(r *rig) { r.options.Activity = activity.New(nil) }), newChrome(t)
	r.admin.Joined()
	c.open(r.server.URL)
	c.says("No portal is connected yet.", "Ready", "Redis answers", "No calls in the last hour.")
	c.fits("empty")
	c.click("a.button")
	c.says("Fake HubSpot")
	c.do(chromedp.SetValue(chromedp.CSS("input[name=portal]"), portal))
	c.click("button[value=connect]")
	c.says("Portal 62515 is connected")
	c.fits("connected")
	c.click("a[href='/']")
	c.says("62515", "OAuth", "Healthy", "min left", "All portals are healthy")
	if actors := r.portals.actors; !slices.Equal(actors, []string{"callback"}) {
		t.Errorf("connected by %v", actors)
	}
	c.silent()
}

// HubSpot accepts localhost only, and people open 127.0.0.1. For a browser, these are two sites.
func TestInABrowserAConnectionBeginsAtBothLoopbackNamesAndNotFromAnotherSite(t *testing.T) {
	r, c := newRig(t, func(r *rig) {
		r.options.RedirectURL = strings.Replace(r.options.RedirectURL, "127.0.0.1", "localhost", 1)
	}), newChrome(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<a id="lure" href="%s/connect">lure</a>`, r.server.URL)
	}))
	defer elsewhere.Close()
	for _, address := range []string{r.server.URL, strings.Replace(r.server.URL, "127.0.0.1", "localhost", 1)} {
		c.open(address)
		c.click("a.button")
		c.says("Fake HubSpot")
		c.open(address + "/connect")
		c.says("Fake HubSpot")
	}
	c.silent()
	c.open(elsewhere.URL)
	c.click("#lure")
	c.says("Another site has sent you here")
	c.click("a[href='/connect']")
	c.says("Fake HubSpot")
}

func TestInABrowserADeclinedConnectionIsShown(t *testing.T) {
	r, c := newRig(t, nil), newChrome(t)
	r.portals.record(t, portal, "state", "ended", "ended_code", "BAD_REFRESH_TOKEN")
	r.survey()
	c.open(r.server.URL)
	c.click("a[href='/connect?portal=62515']")
	c.click("button[value=cancel]")
	c.says("Not connected", "access_denied: The user declined to connect the app.")
	c.fits("declined")
	c.click("a[href='/connect']")
	c.says("Fake HubSpot")
	if len(r.portals.all()) != 0 {
		t.Errorf("stored %v", r.portals.all())
	}
	// The console reports the page with status 400 as an error, and nothing else.
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.said) != 1 || !strings.Contains(c.said[0], "400 (Bad Request)") {
		t.Errorf("the console says %q", c.said)
	}
}

func TestInABrowserEveryStateOfAPortalFits(t *testing.T) {
	t.Parallel()
	c := newChrome(t)
	r := newRig(t, func(r *rig) {
		r.options.Activity = busy(r)
		r.options.Clients = func() []clients.Client {
			return []clients.Client{{Name: "reporting", Portals: []string{"*"}, ReadOnly: true}, {Name: "billing", Portals: []string{"62515"}},
				{Name: strings.Repeat("long-name.", 6), Portals: strings.Fields(strings.Repeat("9223372036854775807 ", 30))}}
		}
	})
	r.admin.Joined()
	mixedPortals(r)
	r.survey()
	c.open(r.server.URL)
	c.says("Ended", "Unusable", "No token", "At rest", "Not used yet", "does not expire", "19 min left", "3 portals need attention", "renewed 10 min ago", "read only")
	c.fits("mixed")
	c.do(chromedp.EmulateViewport(1000, 860), emulating("light"))
	c.save("statuspage.png", chromedp.CaptureScreenshot()) // the README's picture
	for name, path := range map[string]string{"portal": "/portals/62515", "portal-ended": "/portals/70006", "nothing-found": "/?q=nothing"} {
		c.open(r.server.URL + path)
		c.fits(name)
	}
	r.redisEnd()
	r.later.Store(int64(25 * time.Minute))
	if _, err := r.portals.Credential(t.Context(), "70010"); err != nil {
		t.Error(err)
	}
	c.open(r.server.URL)
	c.says("Redis does not answer", "Redis does not answer.", "No token", "Not stored", "does not expire", "At rest")
	c.fits("redis-away")
	c.silent()
}

// mixedPortals stores portals in all states.
func mixedPortals(r *rig) {
	now := time.Now()
	minutes := func(n int) int64 { return now.Add(time.Duration(n) * time.Minute).UnixMilli() }
	for i := range 24 {
		r.portals.record(r.T, fmt.Sprint(62500+i), "name", []string{"Acme", "Northwind Traders", "", "Globex", "Initech GmbH & Co. KG"}[i%5])
	}
	r.portals.record(r.T, "70001", "name", "Soon due", "renewed_at", minutes(-29), "expires_at", minutes(1))
	r.portals.record(r.T, "70002", "name", "Resting", "renewed_at", minutes(-300), "expires_at", minutes(-270))
	r.portals.record(r.T, "70003", "name", "Seeded", "access_token", "", "renewed_at", "", "expires_at", "")
	r.portals.record(r.T, "70004", "kind", "access_token", "name", "A private app")
	r.portals.record(r.T, "70005", "kind", "api_key", "api_key", hubspottest.Canary)
	r.portals.record(r.T, "70006", "state", "ended", "ended_code", "BAD_REFRESH_TOKEN", "name", "Umbrella Corporation")
	r.portals.record(r.T, "70007", "access_token", "sealed:2025:x", "schema", "7")
	r.portals.record(r.T, "70008", "state", "removed", "name", "Removed")
	r.portals.record(r.T, "70009", "name", "Fails "+strings.Repeat("Longname", 12), "renewed_at", minutes(-31), "expires_at", minutes(-1))
	r.portals.record(r.T, "70010", "name", "Renewed later", "refresh_token", r.hub.Connect("70010"))
	r.hub.SetToken(hubspottest.TokenBehaviour{Status: 502})
	if _, err := r.portals.Credential(r.Context(), "70009"); err == nil {
		r.Error("70009 is renewed")
	}
	r.hub.SetToken(hubspottest.TokenBehaviour{})
	for _, id := range []string{"62500", "62501", "70004", "70010"} {
		if _, err := r.portals.Credential(r.Context(), id); err != nil {
			r.Error(err)
		}
	}
}

// busy returns the activity of a proxy that was called every minute of an hour, up to 12 times,
// a few of them in vain, and then as [called] does.
func busy(r *rig) *activity.Log {
	r.Helper()
	begin := time.Now().Add(-time.Hour)
	var minute atomic.Int64
	log := activity.New(func() time.Time { return begin.Add(time.Duration(minute.Load()) * time.Minute) })
	call := caller(r, log)
	for m := range 60 {
		minute.Store(int64(m))
		for n := range m * 7 % 13 {
			path := "/crm/v3/objects/contacts"
			if m%11 == 3 && n%4 == 0 {
				path = "/portals/none"
			}
			call(path)
		}
	}
	minute.Store(60)
	callAll(r, call)
	return log
}

// onlyCredential is a source of one credential.
type onlyCredential struct{ credential *tokens.Credential }

func (o onlyCredential) Credential(context.Context, string) (*tokens.Credential, error) {
	return o.credential, nil
}

func (o onlyCredential) Renew(context.Context, *tokens.Credential, bool) (*tokens.Credential, error) {
	return nil, tokens.ErrNoOther
}
