package tokens

import (
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubspot-auth-proxy/tokens/hubspot"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/secret"
	"hubspot-auth-proxy/tokens/store"
)

// A request that read the cache before a renewal may start the next flight after it. That flight
// finds the portal renewed, and neither renews nor adopts anything.
func TestARenewalThatIsNoLongerNeededIsNotCounted(t *testing.T) {
	client, end := store.Embedded()
	defer end()
	hub := hubspottest.NewServer()
	defer hub.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	registry := prometheus.NewRegistry()
	s := NewSource(Options{Redis: client, Prefix: "hubspot:", Metrics: registry, App: &hubspot.App{
		ClientID: hubspottest.ClientID, ClientSecret: secret.New(hubspottest.ClientSecret),
		TokenURL: hub.TokenURL(), Client: hubspot.NewClient(transport, 15*time.Second),
	}})
	defer func() {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	if _, err := s.Seed(t.Context(), Seed{Portal: "1", Kind: OAuth, Secret: secret.New(hub.Connect("1"))}); err != nil {
		t.Fatal(err)
	}
	p := s.entry("1")
	old, err := s.read(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.renew(t.Context(), p, old, store.Expiry); err != nil {
			t.Fatal(err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "hubspot_auth_proxy_renewals_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			want := 0.0
			if m.GetLabel()[0].GetValue() == outcomeRenewed {
				want = 1
			}
			if n := m.GetCounter().GetValue(); n != want {
				t.Errorf("%s: %v, want %v", m.GetLabel()[0].GetValue(), n, want)
			}
		}
	}
}
