package main

import (
	"net"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"hubspot-auth-proxy/cmd/hubspot-auth-proxy/seeding"
	"hubspot-auth-proxy/config"
	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/proxy/activity"
	"hubspot-auth-proxy/proxy/admin"
	"hubspot-auth-proxy/proxy/budget"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/proxy/intercept"
)

// A service is the running proxy with its admin listener.
type service struct {
	*store
	secrets *config.SecretFiles

	metrics       *prometheus.Registry
	activity      *activity.Log
	clientSet     *clients.Set
	budget        *budget.Budget
	seeder        *seeding.Seeder
	joined        bool                 // Redis has answered, and the portals of the settings are stored
	missingRights []string             // the rights that were logged last as missing
	authority     *intercept.Authority // nil if clients are not intercepted
	proxy         *proxy.Proxy
	admin         *admin.Admin
	server        *http.Server // of the proxy
	listener      net.Listener // of the proxy
	adminListener net.Listener
	failed        chan error // receives the error of a server that fails
	closers       []func()   // in the order of opening; close calls them in reverse
}

// anonymous reports whether clients need no key.
func (s *service) anonymous() bool {
	if s.settings.AllowAnonymous != nil {
		return *s.settings.AllowAnonymous
	}
	return isLoopback(s.listener)
}

// portalDomain returns the domain whose subdomains name portals; "" if there is none. On
// loopback the default is localhost, whose subdomains need no DNS.
func (s *service) portalDomain() string {
	if s.settings.PortalDomain == "" && isLoopback(s.listener) {
		return "localhost"
	}
	return s.settings.PortalDomain
}

// close closes what was opened, in reverse order.
func (s *service) close() {
	for _, end := range slices.Backward(s.closers) {
		end()
	}
}

// isLoopback reports whether the listener can be reached from this machine only. It checks the
// address of the socket, because the setting may be a name.
func isLoopback(listener net.Listener) bool {
	addr, ok := listener.Addr().(*net.TCPAddr)
	return ok && addr.IP.IsLoopback()
}
