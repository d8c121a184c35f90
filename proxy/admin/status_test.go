package admin_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubspot-auth-proxy/proxy/admin"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens/secret"
)

// page opens the status page and checks that it has these texts, in this order.
func (r *rig) page(texts ...string) string {
	r.Helper()
	return r.pageAt("/", texts...)
}

// pageAt is like page, for any address.
func (r *rig) pageAt(address string, texts ...string) string {
	r.Helper()
	_ = r.portals.Survey(r.Context()) // fails without Redis
	a := r.get(address)
	rest := a.body
	for _, text := range texts {
		_, after, found := strings.Cut(rest, text)
		if !found {
			r.Errorf("no %q where it should be: %s", text, a.body)
			continue
		}
		rest = after
	}
	if a.StatusCode != http.StatusOK || !strings.Contains(a.Header.Get("Content-Security-Policy"), "form-action 'self'; script-src 'sha256-") {
		r.Errorf("%d %v %s", a.StatusCode, a.Header, a.body)
	}
	return a.body
}

func TestTheStatusPageShowsPortalsThatNeedAttentionFirst(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.options.Metrics = prometheus.NewRegistry()
		r.options.Clients = func() []clients.Client {
			return []clients.Client{{Name: "reporting", Portals: []string{"*"}}, {Name: "billing", Portals: []string{"1", "2"}, ReadOnly: true,
				Paths: []string{"/crm"}, Seeded: true, Expires: time.Now().Add(9*24*time.Hour + time.Hour)}}
		}
	})
	r.portals.record(t, "9", "name", "Acme")
	r.portals.record(t, "10", "state", "ended", "ended_code", "BAD_REFRESH_TOKEN")
	r.portals.record(t, "11", "state", "removed", "name", "Removed")
	r.admin.Joined()
	body := r.page("Ready", "Redis answers", "1 portal needs attention", `<a href="/metrics">`, "2 portals,",
		"<strong>10</strong>", "Ended", "BAD_REFRESH_TOKEN", `href="/connect?portal=10"`, "<strong>Acme</strong>", "9 · OAuth", "Healthy", "min left",
		"Client keys", "billing", "portals 1, 2, read only, paths: 1, from the seed file", "key expires in 9 days", "client rotate", "reporting", "all portals")
	if strings.Contains(body, "Removed") || strings.Contains(body, "<svg class=\"chart\"") {
		t.Error(body)
	}
	r.admin.Stopping()
	r.page("Stopping")
}

func TestTheStatusPageIsAtItsPathOnly(t *testing.T) {
	r := newRig(t, nil)
	for path, status := range map[string]int{"/": 200, "/?x=y": 200, "/index.html": 404, "/status": 404, "/favicon.ico": 404, "/connect/": 404} {
		if a := r.get(path); a.StatusCode != status {
			t.Errorf("%s: %d", path, a.StatusCode)
		}
	}
	head := func(request *http.Request) { request.Method = http.MethodHead }
	if a := r.get("/", head); a.StatusCode != http.StatusOK || a.body != "" || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") {
		t.Errorf("HEAD: %d %v", a.StatusCode, a.Header)
	}
	if a := r.get("/", func(request *http.Request) { request.Method = http.MethodPost }); a.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", a.StatusCode)
	}
}

func TestTheStatusPageRequiresThePassword(t *testing.T) {
	r := newRig(t, nil)
	if a := r.get("/", func(request *http.Request) { request.Host = "evil.example" }); a.StatusCode != http.StatusForbidden || strings.Contains(a.body, "Portals") {
		t.Errorf("another host: %d %s", a.StatusCode, a.body)
	}
	r = newRig(t, func(r *rig) { r.options.Loopback = false })
	r.refuses(r.get("/"), http.StatusForbidden, "no_password", "ADMIN_PASSWORD")
	r = newRig(t, func(r *rig) { r.options.Password = secret.New(password) })
	if a := r.get("/"); a.StatusCode != http.StatusUnauthorized || strings.Contains(a.body, "Portals") {
		t.Errorf("no password: %d %s", a.StatusCode, a.body)
	}
	r.refuses(r.get("/", func(request *http.Request) { request.SetBasicAuth("admin", "x") }), http.StatusUnauthorized, "wrong_password")
	if a := r.get("/", func(request *http.Request) { request.SetBasicAuth("admin", password) }); a.StatusCode != http.StatusOK {
		t.Errorf("the password: %d", a.StatusCode)
	}
}

func TestNothingStoredGetsMarkupOntoTheStatusPage(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.options.Clients = func() (all []clients.Client) {
			for _, attack := range attacks {
				all = append(all, clients.Client{Name: attack, Portals: []string{attack, attack}})
			}
			return all
		}
	})
	for i, attack := range attacks {
		r.portals.record(t, fmt.Sprint(100+i), "name", attack)
		r.portals.record(t, fmt.Sprint(200+i), "kind", attack, "state", attack)
		r.portals.record(t, fmt.Sprint(300+i), "state", "ended", "ended_code", attack)
		r.portals.record(t, fmt.Sprint(400+i), "expires_at", attack)
		r.portals.record(t, fmt.Sprint(500+i), "expires_at", "9223372036854775807", "renewed_at", "-9223372036854775808")
		r.portals.record(t, attack, "state", "ended")
	}
	body := bare(r.page("Portals"))
	if n := strings.Count(body, `<li class="portal"`); n != 5*len(attacks) { // what is no id, no request can name
		t.Errorf("%d portals are shown, want %d", n, 5*len(attacks))
	}
	for _, attack := range attacks {
		if len(attack) > 1000 {
			continue // too long for a header field
		}
		body += bare(r.pageAt("/?" + url.Values{"q": {attack}, "state": {attack}, "page": {attack}}.Encode()))
		body += bare(r.pageAt("/?" + url.Values{"q": {attack}}.Encode()))
	}
	for _, bad := range []string{"<script", "<img", "<svg/", "<b>", "\u202e", "\x00", "\x1b", `"">`} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %q: %s", bad, body)
		}
	}
	if n := strings.Count(body, `href="/connect?portal=`); n != len(attacks) {
		t.Errorf("%d portals can be connected, want %d", n, len(attacks))
	}
}

func TestTheStatusPageSaysWhatToSetWithoutAnApp(t *testing.T) {
	r := newRig(t, func(r *rig) { r.options.App = nil })
	r.portals.record(t, "1")
	r.portals.record(t, "2", "state", "ended")
	body := r.page("2 portals need attention", "Tokens cannot be renewed.", "HUBSPOT_CLIENT_ID", "set HUBSPOT_CLIENT_ID", "see above", "portal set 2 refresh_token")
	if strings.Contains(body, "/connect") {
		t.Errorf("the page leads to /connect: %s", body)
	}
	r = newRig(t, func(r *rig) {
		r.options = admin.Options{Loopback: true, RedisAnswers: func() bool { return true }}
	})
	r.page("Starting", "No portal", "No portal is connected yet.")
}

func TestTheStatusPageShowsHeldPortalsWithoutRedis(t *testing.T) {
	r := newRig(t, func(r *rig) { r.options.RedisAnswers = func() bool { return r.portals.RedisAnswers() } })
	r.portals.record(t, "1", "name", "Known")
	r.portals.record(t, "2", "name", "Unknown")
	if _, err := r.portals.Credential(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	r.page("Redis answers", "Known", "Unknown")
	r.redisEnd()
	r.later.Store(int64(5 * time.Minute)) // so that the listing is read again
	if body := r.page("Redis does not answer", "Redis does not answer.", "1 portal", "Known"); strings.Contains(body, "Unknown") {
		t.Error(body)
	}
}

func TestTheStatusPageIsSearchedPageByPage(t *testing.T) {
	r := newRig(t, nil)
	for id := range 120 {
		r.portals.record(t, fmt.Sprint(1000+id), "name", fmt.Sprintf("Acme & Söhne %d", id))
	}
	r.portals.record(t, "7", "state", "ended", "ended_code", "BAD_HUB", "name", "Globex")
	r.portals.record(t, "8", "state", "removed")
	r.page("1 portal needs attention", `value=""`, "121 portals, and 1 that was removed. Portals that need attention come first.",
		`id="portal-7"`, `id="portal-1000"`, `id="portal-1048"`, "Page 1 of 3", `href="/?page=2"`)
	r.pageAt("/?page=3", `id="portal-1099"`, `id="portal-1119"`, `href="/?page=2"`, "Page 3 of 3")
	for _, beyond := range []string{"/?page=4", "/?page=99999999999999999999", "/?page=999999"} {
		if strings.HasSuffix(beyond, "999999999") {
			r.pageAt(beyond, `id="portal-7"`, "Page 1 of 3")
		} else {
			r.pageAt(beyond, `id="portal-1119"`, "Page 3 of 3")
		}
	}
	for _, c := range []struct{ address, has, lacks string }{
		{"/?q=acme+%26+s%C3%96HNE", "120 found.", "portal-7"},
		{"/?q=globex", "1 found.", "portal-1000"},
		{"/?q=1119&state=active", `id="portal-1119"`, "portal-1118"},
		{"/?state=attention", `id="portal-7"`, "portal-1000"},
		{"/?state=ended&q=acme", "No portal is found.", "<li class=\"portal\""},
		{"/?state=removed", `id="portal-8"`, "portal-7"},
		{"/?state=nonsense", "No portal is found.", "<li class=\"portal\""},
		{"/?q=1&state=active&page=2", `href="/?q=1&amp;state=active"`, "portal-7"},
		{"/?q=" + strings.Repeat("x", 5000), "No portal is found.", strings.Repeat("x", 101)},
		{"/?page=-1&page=2", `href="/?page=2"`, "Previous"},
	} {
		if body := r.pageAt(c.address, c.has); strings.Contains(body, c.lacks) {
			t.Errorf("%.50s has %s", c.address, c.lacks)
		}
	}
}

func TestTheStatusPageStaysSmallAndQuickWithManyPortals(t *testing.T) {
	r := newRig(t, nil)
	const many = 10_000
	for id := range many {
		r.portals.record(t, fmt.Sprint(1_000_000_000+id), "name", "A portal with a name of the usual length")
	}
	r.portals.record(t, "9000000000", "state", "ended", "expires_at", "1")
	body := r.page("1 portal needs attention", "10,001 portals", "9000000000", "1000000000", "1000000048", "Page 1 of 201")
	if len(body) > 60_000 || strings.Contains(body, "1000000049") {
		t.Errorf("%d bytes", len(body))
	}
	r.pageAt("/?q=usual+length&page=200", "10,000 found.", "1000009999")
}

func TestAConnectedPortalIsShownAtOnce(t *testing.T) {
	for purpose, linked := range map[string]bool{admin.PurposeConnect: true, admin.PurposeLink: false} {
		r := newRig(t, nil)
		r.page("No portal is connected yet.")
		address := r.begin("")
		if purpose == admin.PurposeLink {
			address = with(address, "state", r.states.Sign(admin.State{Purpose: purpose}))
		}
		a := r.get(r.allow(address, portal))
		if a.StatusCode != http.StatusOK || strings.Contains(a.body, `href="/"`) != linked {
			t.Errorf("%s: %d %s", purpose, a.StatusCode, a.body)
		}
		r.page("All portals are healthy", portal)
	}
	// Behind an ingress, / belongs to another program.
	r := newRig(t, func(r *rig) {
		r.options.RedirectURL = strings.Replace(r.options.RedirectURL, "/callback", "/hubspot/callback", 1)
	})
	begun := r.get("/connect")
	back := strings.Replace(r.allow(begun.Header.Get("Location"), portal), "/hubspot/callback", "/callback", 1)
	if a := r.get(back, func(request *http.Request) { request.AddCookie(begun.Cookies()[0]) }); a.StatusCode != http.StatusOK || strings.Contains(a.body, `href="/"`) {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

func TestTheFaultsOfTheSeedFileAreOnTheStatusPage(t *testing.T) {
	faults := ""
	r := newRig(t, func(r *rig) { r.options.SeedFault = func() string { return faults } })
	r.admin.Joined()
	if body := r.page("Ready"); strings.Contains(body, "seed file") {
		t.Error(body)
	}
	faults = "SEED_FILE: line 2, column 8: a; b\nSEED_FILE: line 9, column 1: c; d"
	r.page("Ready", "The seed file is faulty", "The seed file cannot be used any more. Its previous content stays in use.", "SEED_FILE: line 2, column 8: a; b. SEED_FILE: line 9, column 1: c; d.")
}

func TestThePageAndReadyzNameTheStorage(t *testing.T) {
	for _, test := range []struct {
		storage     admin.Storage
		answers     bool
		page, ready string
	}{
		{admin.Redis, true, "Redis answers", "answers"},
		{admin.Redis, false, "Redis does not answer", "does not answer"},
		{admin.StateFile, true, "Stored in STATE_FILE", "not used: STATE_FILE is"},
		{admin.Memory, true, "In memory only", "not used: everything is in memory"},
	} {
		r := newRig(t, func(r *rig) {
			r.options.Storage, r.options.RedisAnswers = test.storage, func() bool { return test.answers }
		})
		r.admin.Joined()
		body := r.page("Ready", test.page)
		if test.storage != admin.Redis && strings.Contains(body, "Redis") {
			t.Errorf("the page names Redis: %s", body)
		}
		if a := r.get("/readyz"); !strings.Contains(a.body, `"redis":"`+test.ready+`"`) {
			t.Errorf("%v: %s", test, a.body)
		}
	}
}
