package config

import (
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"hubspot-auth-proxy/proxy/wire"
	"hubspot-auth-proxy/tokens/hubspot"
)

var scopeName = regexp.MustCompile(`^[A-Za-z0-9._:-]+$`)

// checkUpstream checks the URLs of HubSpot's API and token endpoint. Faults do not quote
// them, because a wrong URL may contain a password.
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

// checkServer checks the part of a URL before its path.
func (l *loader) checkServer(name string, u *url.URL) {
	switch {
	case u.Scheme != "https" && u.Scheme != "http", !hasHost(u):
		l.fault(name, "is not an absolute https URL with a host", "give a URL such as "+urlExample(name))
	case u.Scheme == "http" && !wire.IsLoopback(u.Hostname()):
		l.fault(name, "is http to a host that is not loopback, which would send credentials unencrypted", "use https")
	}
	if u.User != nil {
		l.fault(name, "has a user name or password", "remove the part before the @")
	}
}

// checkNotify checks NOTIFY_URL. The faults do not quote the URL, because the path of
// such a URL is often a secret that authorizes its use.
func (l *loader) checkNotify() {
	const name = "NOTIFY_URL"
	if l.NotifyURL.IsZero() {
		return
	}
	u, err := url.Parse(l.NotifyURL.Reveal())
	if err != nil {
		l.fault(name, "is not a URL", "give a URL such as "+urlExample(name))
		return
	}
	l.checkServer(name, u)
	l.checkNoFragment(name, u)
}

// hasHost reports whether u has a host and either no port or a valid one.
func hasHost(u *url.URL) bool {
	port := u.Port()
	return u.Hostname() != "" && !strings.HasSuffix(u.Host, ":") && (port == "" || isPort(port))
}

func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}

// checkConnect checks the settings of the connect flow. Scopes require a redirect URL,
// because an operator who sets scopes wants the connect flow, which needs the redirect
// URL.
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
			l.fault(authorizeURL, "has a query", "remove the ? and everything after it, because the proxy adds the query")
		}
	}
	l.checkScopes(scopes, l.HubSpotScopes)
	l.checkScopes(optScopes, l.HubSpotOptionalScopes)
}

// ConnectWarnings returns what is probably wrong with the settings of the connect flow, and
// what to do. They are no faults, because the settings may be right: a server in front of the
// proxy may change the path, and a container's ports may be published as other ports.
func (c Config) ConnectWarnings() (warnings []string) {
	u := c.HubSpotRedirectURL
	if u == nil {
		return nil
	}
	if u.Path != hubspot.CallbackPath {
		warnings = append(warnings, redirectURL+" has another path than "+hubspot.CallbackPath+": people who connect a portal get 404 when HubSpot sends them back, "+
			"unless a server in front of the proxy changes the path to "+hubspot.CallbackPath)
	}
	if _, port, err := net.SplitHostPort(c.ListenAddr); err == nil && port == portOf(u) && u.Port() != "" {
		warnings = append(warnings, redirectURL+" has the port of LISTEN_ADDR: the proxy has no callback there, so portals cannot be connected, "+
			"unless this port leads to ADMIN_ADDR outside of this machine or container")
	}
	if c.HubSpotScopes == "" && !c.HubSpotMarketplaceInstall {
		warnings = append(warnings, scopes+" is not set, although "+redirectURL+" is: /connect only says so, and HubSpot accepts no link without scopes; set it to the HubSpot app's scopes, separated by spaces")
	}
	return warnings
}

// portOf returns the URL's port, or the default port of its scheme.
func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

func (l *loader) checkNoFragment(name string, u *url.URL) {
	if u.Fragment != "" {
		l.fault(name, "has a fragment", "remove the # and everything after it")
	}
}

// checkScopes accepts only the characters of HubSpot's scopes. So the program reports a
// list with commas when it starts. Otherwise HubSpot would refuse the list when
// somebody connects a portal.
func (l *loader) checkScopes(name, list string) {
	for scope := range strings.FieldsSeq(list) {
		if !scopeName.MatchString(scope) {
			l.fault(name, quote(scope)+" is not a scope", "give scopes separated by spaces, such as oauth crm.objects.contacts.read")
		}
	}
}

// urlExample returns a valid value of a variable that is a URL.
func urlExample(name string) string {
	switch name {
	case redirectURL:
		return "https://proxy.example.com/callback, exactly as in the HubSpot app's settings"
	case "NOTIFY_URL":
		return "https://hooks.example.com/hubspot"
	case authorizeURL:
		return "https://app.hubspot.com/oauth/authorize"
	}
	return "https://api.hubapi.com"
}
