package config

import (
	"net/url"
	"regexp"
	"strings"

	"hubspot-auth-proxy/proxy/wire"
)

var scopeName = regexp.MustCompile(`^[A-Za-z0-9._:-]+$`)

// checkUpstream quotes neither URL: a wrong one may hold a password.
func (l *loader) checkUpstream() {
	u := l.UpstreamURL
	l.checkServer("UPSTREAM_URL", u)
	if u.Host != "" && (u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "") {
		l.fault("UPSTREAM_URL", "has a path, a query or a fragment", "give scheme, host and port only, such as https://api.hubapi.com")
	}
	if l.given("HUBSPOT_TOKEN_URL") {
		l.checkServer("HUBSPOT_TOKEN_URL", l.HubSpotTokenURL)
		l.checkNoFragment("HUBSPOT_TOKEN_URL", l.HubSpotTokenURL)
	}
}

// checkServer checks what comes before a URL's path.
func (l *loader) checkServer(name string, u *url.URL) {
	switch {
	case u.Scheme != "https" && u.Scheme != "http", !hasHost(u):
		l.fault(name, "is not an absolute https URL with a host", "give one such as "+urlExample(name))
	case u.Scheme == "http" && !wire.IsLoopback(u.Hostname()):
		l.fault(name, "is http to a host that is not loopback, which would send credentials in the clear", "use https")
	}
	if u.User != nil {
		l.fault(name, "has a user name or password", "leave out what stands before the @")
	}
}

// checkNotify checks the address that gets notifications. It is a secret, mostly by
// its path.
func (l *loader) checkNotify() {
	const name = "NOTIFY_URL"
	if l.NotifyURL.IsZero() {
		return
	}
	u, err := url.Parse(l.NotifyURL.Reveal())
	if err != nil {
		l.fault(name, "is not a URL", "give one such as "+urlExample(name))
		return
	}
	l.checkServer(name, u)
	l.checkNoFragment(name, u)
}

// hasHost tells whether u has a host and, if it has a port, a possible one.
func hasHost(u *url.URL) bool {
	port := u.Port()
	return u.Hostname() != "" && !strings.HasSuffix(u.Host, ":") && (port == "" || isPort(port))
}

// checkConnect checks the connect flow. Scopes do nothing without a redirect
// URL; who sets them wants the flow, and would find it missing.
func (l *loader) checkConnect() {
	l.require([]string{redirectURL}, scopes, optScopes)
	if l.HubSpotMarketplaceInstall {
		l.require([]string{redirectURL}, marketplace)
	}
	if l.given(redirectURL) && l.HubSpotRedirectURL != nil {
		l.checkServer(redirectURL, l.HubSpotRedirectURL)
		l.checkNoFragment(redirectURL, l.HubSpotRedirectURL)
	}
	if u := l.HubSpotAuthorizeURL; u != nil {
		l.checkServer(authorizeURL, u)
		l.checkNoFragment(authorizeURL, u)
		if u.RawQuery != "" || u.ForceQuery {
			l.fault(authorizeURL, "has a query", "leave out the ? and what follows it, which is added for each connection")
		}
	}
	l.checkScopes(scopes, l.HubSpotScopes)
	l.checkScopes(optScopes, l.HubSpotOptionalScopes)
}

func (l *loader) checkNoFragment(name string, u *url.URL) {
	if u.Fragment != "" {
		l.fault(name, "has a fragment", "leave out the # and what follows it")
	}
}

// checkScopes takes only what HubSpot's scopes are made of, so that a list with
// commas is told here, and not by HubSpot to whoever wants to connect.
func (l *loader) checkScopes(name, list string) {
	for scope := range strings.FieldsSeq(list) {
		if !scopeName.MatchString(scope) {
			l.fault(name, quote(scope)+" is not a scope", "give scopes separated by spaces, such as oauth crm.objects.contacts.read")
		}
	}
}

// urlExample returns what to write instead of a wrong URL.
func urlExample(name string) string {
	switch name {
	case redirectURL:
		return "https://proxy.example.com/callback, exactly as the HubSpot app has it"
	case "NOTIFY_URL":
		return "https://hooks.example.com/hubspot"
	case authorizeURL:
		return "https://app.hubspot.com/oauth/authorize"
	}
	return "https://api.hubapi.com"
}
