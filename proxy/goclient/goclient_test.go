// Package goclient_test runs a Go client of the module proxy, resty, through the
// proxy to the fake HubSpot. It is a module of its own, for the program's to
// stay without it.
package goclient_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-resty/resty/v2"
	"go.uber.org/goleak"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/intercept"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	portal    = "62515"
	other     = "62516"
	keyOfOne  = "hap_" + hubspottest.Canary + "-one-portal-0123456789abcdef"
	keyOfMany = "hap_" + hubspottest.Canary + "-many-portals-0123456789abcdef"
)

// fixed has the credentials and the clients of the test.
type fixed struct{}

func token(portal string) string { return "pat-na1-" + hubspottest.Canary + "-" + portal }

func (fixed) Credential(_ context.Context, portal string) (*tokens.Credential, error) {
	return &tokens.Credential{Portal: portal, Kind: tokens.AccessToken, Secret: secret.New(token(portal))}, nil
}

func (f fixed) Renew(ctx context.Context, rejected *tokens.Credential, _ bool) (*tokens.Credential, error) {
	return f.Credential(ctx, rejected.Portal)
}

func (fixed) Find(key secret.Text) *clients.Client {
	switch {
	case key.Equal(secret.New(keyOfOne)):
		return &clients.Client{Name: "one", Portals: []string{portal}}
	case key.Equal(secret.New(keyOfMany)):
		return &clients.Client{Name: "many", Portals: []string{portal, other}}
	}
	return nil
}

func (fixed) Expired(secret.Text) bool { return false }

func (fixed) Loaded() bool { return true }

// start starts a fake HubSpot and a proxy that wants client keys, and returns the
// proxy's address, and the PEM text that clients in tunnels trust.
func start(t *testing.T) (hub *hubspottest.Server, address string, trusted []byte) {
	t.Helper()
	hub = hubspottest.NewServer()
	t.Cleanup(hub.Close)
	for _, id := range []string{portal, other} {
		hub.SetAccessToken(id, token(id))
	}
	trusted, key, err := intercept.Generate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	authority, faults := intercept.Load(trusted, key, "", nil)
	if faults != nil {
		t.Fatal(faults)
	}
	upstream, err := url.Parse(hub.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := proxy.New(proxy.Options{
		Credentials: fixed{}, Clients: fixed{}, Upstream: upstream, Loopback: true, PortalDomain: "localhost", Intercept: authority,
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := p.Server()
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		p.Close()
	})
	return hub, listener.Addr().String(), trusted
}

func TestAGoClientWorksInEveryWay(t *testing.T) {
	hub, address, trusted := start(t)
	for name, way := range map[string]struct {
		base, via, token string
	}{
		"by prefix":     {"http://" + address + "/portals/" + portal, "", keyOfMany},
		"by host":       {"http://" + strings.Replace(address, "127.0.0.1", portal+".localhost", 1), "", keyOfMany},
		"by client key": {"http://" + address, "", keyOfOne},
		"intercepted":   {"https://api.hubapi.com", "http://" + portal + ":" + keyOfMany + "@" + address, "placeholder"},
	} {
		t.Run(name, func(t *testing.T) {
			client := newClient(t, trusted).SetBaseURL(way.base).SetAuthToken(way.token)
			if way.via != "" {
				client.SetProxy(way.via)
			}
			var echo hubspottest.Echo
			response, err := client.R().SetBody(map[string]string{"a": "b"}).SetResult(&echo).SetQueryParam("limit", "1").Post("/any/v1/{id}")
			if err != nil || response.StatusCode() != http.StatusOK {
				t.Fatalf("%v, %s", err, response)
			}
			if echo.Portal != portal || echo.Target != "/any/v1/%7Bid%7D?limit=1" || echo.BodyBytes != int64(len(`{"a":"b"}`)) {
				t.Errorf("%+v", echo)
			}
			if text := fmt.Sprint(echo); strings.Contains(text, "hap_") || strings.Contains(text, "placeholder") {
				t.Errorf("the client's own credential arrived: %s", text)
			}
			// An error of HubSpot's arrives as it is.
			response, err = client.R().Get("/fake/status?code=429")
			if err != nil || response.StatusCode() != http.StatusTooManyRequests || !strings.Contains(response.String(), "RATE_LIMIT") {
				t.Errorf("%v, %s", err, response)
			}
		})
	}
	if violations := hub.Violations(); len(violations) > 0 {
		t.Error(violations)
	}
}

// newClient returns a client that trusts the text, and for which names below
// localhost are loopback, which not every system's resolver knows.
func newClient(t *testing.T, trusted []byte) *resty.Client {
	t.Helper()
	dialer := new(net.Dialer)
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, port, _ := net.SplitHostPort(address); strings.HasSuffix(host, ".localhost") {
			address = net.JoinHostPort("127.0.0.1", port)
		}
		return dialer.DialContext(ctx, network, address)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return resty.New().SetTransport(transport).SetRootCertificateFromString(string(trusted))
}
