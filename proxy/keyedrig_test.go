package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/store"
)

// A keyedRig is a rig with the three portals of startKinds, and clients with keys.
type keyedRig struct {
	*rig
	key   map[string]string // by the client's name
	store clients.Store
	set   *clients.Set
}

// startKeyed starts a proxy whose clients need a key; change may set other options.
func startKeyed(t testing.TB, change ...func(*proxy.Options)) keyedRig {
	t.Helper()
	redis, end := store.Embedded()
	t.Cleanup(end)
	store := clients.Store{Redis: redis, Prefix: "hubspot:"}
	c := keyedRig{key: map[string]string{}, store: store}
	for _, client := range []clients.Client{
		{Name: "one", Portals: []string{portalID}},
		{Name: "static", Portals: []string{staticPortal}},
		{Name: "two", Portals: []string{portalID, staticPortal}},
		{Name: "all", Portals: []string{"*"}},
		{Name: "reader", Portals: []string{portalID}, ReadOnly: true},
		{Name: "unconnected", Portals: []string{"99"}},
		{Name: "contacts", Portals: []string{portalID}, Paths: []string{"/crm/v3/objects/contacts", "/crm/v3/owners"}},
		{Name: "plain", Portals: []string{portalID}, Paths: []string{"/"}},
		{Name: "expired", Portals: []string{"*"}, Expires: time.Now().Add(-time.Second)},
		{Name: "expiring", Portals: []string{portalID}, Expires: time.Now().Add(time.Hour)},
	} {
		key := clients.NewKey()
		client.KeySHA256 = clients.Hash(key)
		if err := store.Add(t.Context(), client); err != nil {
			t.Fatal(err)
		}
		c.key[client.Name] = key.Reveal()
	}
	set := clients.NewSet(store, zap.NewNop())
	c.set = set
	t.Cleanup(set.Close)
	if err := set.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.rig = startKinds(t, setup{redis: redis, proxy: func(o *proxy.Options) {
		o.Clients, o.AllowAnonymous, o.DefaultPortal = set, false, ""
		for _, change := range change {
			change(o)
		}
	}})
	t.Cleanup(func() {
		c.noKey("the log", c.logs.String())
		for _, violation := range c.hub.Violations() {
			// What a client has in the body of a call of the API is its own matter.
			if strings.Contains(violation, "client key in its head") || strings.Contains(violation, "client key") && strings.Contains(violation, " /oauth/") {
				t.Error(violation)
			}
		}
	})
	return c
}

// noKey fails the test if text has the random part of a key.
func (c keyedRig) noKey(where, text string) {
	c.t.Helper()
	for name, key := range c.key {
		if strings.Contains(text, key[len("hap_"):]) {
			c.t.Errorf("%s has the key of %s", where, name)
		}
	}
}

// ask sends a request: method and target, and lines of its header, in which
// {name} stands for the key of that client.
func (c keyedRig) ask(request string, lines ...string) received {
	c.t.Helper()
	all := append([]string{request + " HTTP/1.1", "Host: localhost"}, lines...)
	text := strings.Join(all, "\r\n") + "\r\n\r\n"
	for name, key := range c.key {
		text = strings.ReplaceAll(text, "{"+name+"}", key)
	}
	got := c.answerTo(text)
	c.noKey("the answer", fmt.Sprint(got.Header, got.text))
	return got
}

// wantPortal fails the test unless HubSpot was asked with that portal's
// credential.
func wantPortal(t *testing.T, got received, portal string) {
	t.Helper()
	echo, err := hubspottest.DecodeEcho(strings.NewReader(got.text))
	if err != nil || got.StatusCode != 200 || echo.Portal != portal {
		t.Errorf("%d %s, portal %q, want %q", got.StatusCode, got.Header.Get("X-Hubspot-Auth-Proxy-Error"), echo.Portal, portal)
	}
}

func (c keyedRig) wantNoRequests(t *testing.T) {
	t.Helper()
	if n := c.hub.Requests(); n != 0 {
		t.Errorf("%d requests reached HubSpot", n)
	}
}

var unauthenticated, forbidden = refused{401, "CLIENT_UNAUTHENTICATED"}, refused{403, "CLIENT_FORBIDDEN"}

func anonymous(o *proxy.Options) { o.AllowAnonymous, o.DefaultPortal = true, staticPortal }

const unknownKey = "hap_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
