package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/testkit"
)

// A person is a browser that follows redirects step by step, and records everything that it
// is shown.
type person struct {
	t       *testing.T
	cookies map[string]string
	shown   strings.Builder
}

// open opens an address, and returns the page and the address of a redirect.
func (p *person) open(address string, change ...func(*http.Request)) (status int, page, location string) {
	p.t.Helper()
	request, err := http.NewRequest("GET", address, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	for name, value := range p.cookies {
		request.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	for _, c := range change {
		c(request)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, cookie := range response.Cookies() {
		if p.cookies == nil {
			p.cookies = make(map[string]string)
		}
		if p.cookies[cookie.Name] = cookie.Value; cookie.MaxAge < 0 {
			delete(p.cookies, cookie.Name)
		}
	}
	p.shown.Write(body)
	_ = response.Header.Write(&p.shown)
	return response.StatusCode, string(body), response.Header.Get("Location")
}

// freePort returns an address of 127.0.0.1 with a free port, below those that the system
// gives to other sockets, so that no other socket takes the port before the test does.
func freePort(t *testing.T) string {
	t.Helper()
	for {
		address := fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000))
		if _, given := givenPorts.LoadOrStore(address, true); given {
			continue
		}
		if listener, err := net.Listen("tcp", address); err == nil {
			_ = listener.Close()
			return address
		}
	}
}

// givenPorts are the ports that freePort has tried. One that it returned stays free
// until the program of its test listens on it.
var givenPorts sync.Map

// connectable runs a proxy with the connect flow.
func (s *stage) connectable(settings ...string) (p *process, admin string) {
	s.t.Helper()
	address := freePort(s.t)
	return s.launch(append([]string{
		"ADMIN_ADDR=" + address,
		"HUBSPOT_REDIRECT_URL=http://" + address + "/callback",
		"HUBSPOT_AUTHORIZE_URL=" + s.hub.AuthorizeURL(),
		"HUBSPOT_SCOPES=oauth crm.objects.contacts.read",
		"HUBSPOT_OPTIONAL_SCOPES=crm.objects.deals.read",
	}, settings...)...), "http://" + address
}

func asAdmin(password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth("admin", password) }
}

func TestAPortalIsConnectedByABrowser(t *testing.T) {
	t.Parallel()
	const password = "password-" + hubspottest.Canary
	s := newStage(t)
	a, adminA := s.connectable("ADMIN_PASSWORD="+password, "LOG_LEVEL=debug")
	b, adminB := s.connectable("ADMIN_PASSWORD="+password, "LOG_LEVEL=debug", "HUBSPOT_REDIRECT_URL="+adminA+"/callback")
	if r := b.portal("62515", ""); r.category != "PORTAL_NOT_CONNECTED" {
		t.Fatalf("before: %v", r)
	}
	a.address()
	someone := &person{t: t}

	for _, change := range [][]func(*http.Request){nil, {asAdmin("wrong")}, {asAdmin("")}} {
		if status, _, location := someone.open(adminA+"/connect", change...); status != http.StatusUnauthorized || location != "" || len(someone.cookies) != 0 {
			t.Errorf("without the password: status %d, Location %q, cookies %v", status, location, someone.cookies)
		}
	}
	status, _, authorize := someone.open(adminA+"/connect", asAdmin(password))
	if status != http.StatusFound || !strings.HasPrefix(authorize, s.hub.AuthorizeURL()+"?") {
		t.Fatalf("status %d, Location %q", status, authorize)
	}
	wantAuthorizeQuery(t, authorize, adminA+"/callback")
	back, err := s.hub.Authorize(authorize, "62515")
	if err != nil {
		t.Fatal(err)
	}
	if status, page, _ := (&person{t: t}).open(back); status != http.StatusBadRequest || !strings.Contains(page, "another browser") {
		t.Errorf("in another browser: status %d\n%s", status, page)
	}
	cookie := someone.cookies["hubspot_connect"]
	status, page, _ := someone.open(back)
	if status != http.StatusOK || !strings.Contains(page, "Portal 62515 is connected") {
		t.Fatalf("status %d\n%s", status, page)
	}
	// At once, although b has cached that the portal is not connected.
	for name, p := range map[string]*process{"a": a, "b": b} {
		if r := p.portal("62515", ""); !r.served("62515") || r.echo.Credential != hubspottest.CredentialOAuth {
			t.Errorf("process %s: %v", name, r)
		}
	}
	if n := s.hub.TokenCallsTotal(); n != 1 {
		t.Errorf("%d calls of the token endpoint, the exchange only is due", n)
	}

	someone.cookies = map[string]string{"hubspot_connect": cookie} // an attacker who replays the address has it too
	for _, address := range []string{back, strings.Replace(back, adminA, adminB, 1)} {
		status, page, _ := someone.open(address)
		if status != http.StatusBadRequest || !strings.Contains(page, "It was used before") {
			t.Errorf("replayed: status %d\n%s", status, page)
		}
		someone.cookies = map[string]string{"hubspot_connect": cookie}
	}
	if n := s.hub.TokenCallsTotal(); n != 1 {
		t.Errorf("a replay called the token endpoint: %d calls", n)
	}
	u, _ := url.Parse(back)
	for _, p := range []*process{a, b} {
		printed := p.end()
		wantNoSecret(t, printed)
		if strings.Contains(printed, cookie) || strings.Contains(printed, u.Query().Get("state")) {
			t.Errorf("a state or its cookie is printed:\n%s", printed)
		}
	}
	// Addresses contain a code and states. Pages contain no token and no password.
	wantNoSecret(t, someone.shown.String())
	if v := s.hub.Violations(); len(v) > 0 {
		t.Errorf("violations: %q", v)
	}
}

// wantAuthorizeQuery checks that the authorize URL has the parameters that HubSpot requires, and
// no others.
func wantAuthorizeQuery(t *testing.T, address, redirect string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	var names []string
	for name := range query {
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{"client_id", "optional_scope", "redirect_uri", "scope", "state"}; !slices.Equal(names, want) {
		t.Errorf("HubSpot gets %v, want %v", names, want)
	}
	if query.Get("client_id") != hubspottest.ClientID || query.Get("redirect_uri") != redirect || query.Get("scope") != "oauth crm.objects.contacts.read" {
		t.Errorf("HubSpot gets %v", query)
	}
	if strings.Contains(address, hubspottest.Canary) {
		t.Errorf("a secret goes through the browser: %s", address)
	}
}

func TestADeclinedConnectionStoresNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p, admin := s.connectable()
	p.address()
	someone := &person{t: t}
	_, _, authorize := someone.open(admin + "/connect?portal=62515")
	back, err := s.hub.Decline(authorize)
	if err != nil {
		t.Fatal(err)
	}
	status, page, _ := someone.open(back)
	if status != http.StatusBadRequest || !strings.Contains(page, "The user declined to connect the app.") || !strings.Contains(page, "Nothing was stored") {
		t.Errorf("status %d\n%s", status, page)
	}
	wantNothingStored(t, s)

	// The state is still valid, and only for its portal.
	if back, err = s.hub.Authorize(authorize, "7"); err != nil {
		t.Fatal(err)
	}
	if status, page, _ = someone.open(back); status != http.StatusForbidden || !strings.Contains(page, "another portal was expected") {
		t.Errorf("another portal: status %d\n%s", status, page)
	}
	wantNothingStored(t, s)

	for reason, change := range map[string]func(url.Values){
		"a forged state":  func(q url.Values) { q.Set("state", q.Get("state")+"x") },
		"no state at all": func(q url.Values) { q.Del("state") },
		"no code":         func(q url.Values) { q.Del("code") },
		"a code of nobody's": func(q url.Values) {
			q.Set("code", hubspottest.Canary+"-nobodys")
		},
	} {
		_, _, authorize = someone.open(admin + "/connect")
		if back, err = s.hub.Authorize(authorize, "62515"); err != nil {
			t.Fatal(err)
		}
		u, _ := url.Parse(back)
		query := u.Query()
		change(query)
		u.RawQuery = query.Encode()
		if status, page, _ = someone.open(u.String()); status != http.StatusBadRequest {
			t.Errorf("%s: status %d\n%s", reason, status, page)
		}
		wantNothingStored(t, s)
	}
	wantNoSecret(t, p.end())
	wantNoSecret(t, someone.shown.String())
}

func wantNothingStored(t *testing.T, s *stage) {
	t.Helper()
	if ids, err := s.source().Portals(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("portals %v are stored, %v", ids, err)
	}
}

func TestConnectingAgainRepairsAPortal(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, admin := s.connectable()
	b := s.launch()
	refresh := s.hub.Connect("62515")
	if err := s.source().Set(t.Context(), tokens.Seed{Portal: "62515", Kind: tokens.OAuth, Secret: secret.New(refresh)}, "test"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*process{a, b} {
		if r := p.portal("62515", ""); !r.served("62515") {
			t.Fatal(r)
		}
	}
	s.hub.Disconnect("62515")
	s.hub.Expire("62515")
	// HubSpot's 401 reaches the client once. The proxy then knows that the grant has ended.
	for _, p := range []*process{a, b} {
		testkit.Eventually(t, "the portal needs to be connected again", func() bool { return p.portal("62515", "").category == "PORTAL_REAUTHORIZATION_REQUIRED" })
	}
	someone := &person{t: t}
	_, _, authorize := someone.open(admin + "/connect")
	back, err := s.hub.Authorize(authorize, "62515")
	if err != nil {
		t.Fatal(err)
	}
	if status, page, _ := someone.open(back); status != http.StatusOK {
		t.Fatalf("status %d\n%s", status, page)
	}
	if r := a.portal("62515", ""); !r.served("62515") {
		t.Errorf("process a: %v", r)
	}
	testkit.Eventually(t, "process b serves it again", func() bool { return b.portal("62515", "").served("62515") })
	wantNoSecret(t, a.end())
	wantNoSecret(t, b.end())
}

func TestAPortalIsConnectedByAnInstallationFromTheMarketplace(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, admin := s.connectable("HUBSPOT_MARKETPLACE_INSTALL=true", "LOG_LEVEL=debug")
	off, adminOff := s.connectable()
	a.address()
	off.address()
	someone := &person{t: t}
	install := func(portal string, signIn bool, admin string) string {
		address, err := s.hub.Install(admin+"/callback", portal, signIn)
		if err != nil {
			t.Fatal(err)
		}
		return address
	}
	if status, page, _ := someone.open(install("62515", false, adminOff)); status != http.StatusBadRequest || !strings.Contains(page, "HUBSPOT_MARKETPLACE_INSTALL=true") {
		t.Errorf("switched off: status %d\n%s", status, page)
	}
	if status, page, location := someone.open(install("62515", false, admin)); status != http.StatusFound || !strings.HasPrefix(location, hubspottest.MarketplaceOrigin) {
		t.Errorf("without sign-in: status %d, Location %q\n%s", status, location, page)
	}
	_, _, returned := someone.open(install("62516", true, admin))
	finalize, err := s.hub.Finalize(returned)
	if err != nil {
		t.Fatal(err)
	}
	if status, page, _ := (&person{t: t}).open(finalize); status != http.StatusBadRequest || !strings.Contains(page, "another browser") {
		t.Errorf("in another browser: status %d\n%s", status, page)
	}
	if status, page, location := someone.open(finalize); status != http.StatusFound || !strings.HasPrefix(location, hubspottest.MarketplaceOrigin) {
		t.Errorf("with sign-in: status %d, Location %q\n%s", status, location, page)
	}
	for _, portal := range []string{"62515", "62516"} {
		if r := off.portal(portal, ""); !r.served(portal) || r.echo.Credential != hubspottest.CredentialOAuth {
			t.Errorf("portal %s in another process: %v", portal, r)
		}
	}
	for _, p := range []*process{a, off} {
		wantNoSecret(t, p.end())
	}
	wantNoSecret(t, someone.shown.String())
}

func TestARedirectURLThatIsProbablyWrongIsLoggedAtTheStart(t *testing.T) {
	t.Parallel()
	p := launch(t, "serve", "HUBSPOT_CLIENT_ID=a", "HUBSPOT_CLIENT_SECRET=b", "HUBSPOT_REDIRECT_URL=https://proxy.example.com/hubspot")
	p.until(`HUBSPOT_REDIRECT_URL has another path than /callback`)
	p.until(`HUBSPOT_SCOPES is not set, although HUBSPOT_REDIRECT_URL is`)
}
