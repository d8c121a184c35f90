package proxy_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// inside is a client's tunnel.
type inside struct {
	keyedRig
	conn *tls.Conn
	from *bufio.Reader
}

// inside opens a tunnel for a user with the key of the client of that name.
func (c keyedRig) inside(trusted *x509.CertPool, user, client string) inside {
	c.t.Helper()
	conn, err := tunnel(c.raw(""), trusted, basic(user, c.key[client]))
	if err != nil {
		c.t.Fatal(err)
	}
	return inside{c, conn, reading(conn)}
}

// ask sends a request as keyedRig.ask does, in the tunnel.
func (i inside) ask(request string, lines ...string) received {
	i.t.Helper()
	text := request + " HTTP/1.1\r\n"
	if !strings.Contains(strings.Join(lines, "\n"), "Host:") {
		text += "Host: " + tunnelName + "\r\n"
	}
	for _, line := range lines {
		text += line + "\r\n"
	}
	for name, key := range i.key {
		text = strings.ReplaceAll(text, "{"+name+"}", key)
	}
	if _, err := io.WriteString(i.conn, text+"\r\n"); err != nil {
		i.t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	got := receive(i.t, i.from, method)
	i.noKey("the answer", fmt.Sprint(got.Header, got.text))
	return got
}

func TestARequestInATunnelHasTheRightsOfTheTunnelsKeyOnly(t *testing.T) {
	set, trusted := intercepting(t)
	c := startKeyed(t, set)
	conflict := refused{400, "PORTAL_CONFLICT"}
	for name, test := range map[string]struct {
		user, client string
		request      string
		lines        []string
		portal       string // or
		want         refused
	}{
		"the only portal":                    {"", "one", "GET /a", nil, portalID, refused{}},
		"the user's portal":                  {"62516", "two", "GET /a", nil, staticPortal, refused{}},
		"the user's portal, of all":          {"62517", "all", "GET /a", nil, keyPortal, refused{}},
		"a user that is no portal":           {"billing", "one", "GET /a", nil, portalID, refused{}},
		"a user that is almost one":          {"062515", "one", "GET /a", nil, portalID, refused{}},
		"a header":                           {"", "two", "GET /a", []string{"X-HubSpot-Portal-Id: 62516"}, staticPortal, refused{}},
		"a prefix":                           {"", "two", "GET /portals/62516/a", nil, staticPortal, refused{}},
		"all alike":                          {"62516", "two", "GET /portals/62516/a", []string{"X-HubSpot-Portal-Id: 62516"}, staticPortal, refused{}},
		"an inner credential":                {"62515", "two", "GET /a?hapikey=x&access_token=y", []string{"Authorization: Bearer pat-na1-x"}, portalID, refused{}},
		"an inner key of another's":          {"62515", "one", "GET /a?hapikey={all}", []string{"Authorization: Bearer {static}"}, portalID, refused{}},
		"an inner key that is unknown":       {"62515", "one", "GET /a", []string{"Authorization: Bearer " + unknownKey}, portalID, refused{}},
		"an inner Proxy-Authorization":       {"62515", "one", "GET /a", []string{"Proxy-Authorization: Bearer {static}"}, portalID, refused{}},
		"reading":                            {"", "reader", "POST /crm/v3/objects/contacts/search", []string{"Content-Length: 0"}, portalID, refused{}},
		"header against user":                {"62515", "two", "GET /a", []string{"X-HubSpot-Portal-Id: 62516"}, "", conflict},
		"prefix against user":                {"62515", "two", "GET /portals/62516/a", nil, "", conflict},
		"prefix against user, no rights":     {"62516", "one", "GET /portals/62515/a", nil, "", conflict},
		"an invalid header":                  {"62515", "two", "GET /a", []string{"X-HubSpot-Portal-Id: x"}, "", refused{400, "PORTAL_INVALID"}},
		"no portal":                          {"", "two", "GET /a", nil, "", refused{400, "PORTAL_REQUIRED"}},
		"another's portal":                   {"62516", "one", "GET /a", nil, "", forbidden},
		"another's portal, an inner key":     {"62516", "one", "GET /a", []string{"Authorization: Bearer {all}"}, "", forbidden},
		"another's portal, an inner hapikey": {"62516", "one", "GET /a?hapikey={all}", nil, "", forbidden},
		"another's portal by header":         {"", "one", "GET /a", []string{"X-HubSpot-Portal-Id: 62516", "Authorization: Bearer {static}"}, "", forbidden},
		"another's portal by prefix":         {"", "one", "GET /portals/62516/a", nil, "", forbidden},
		"an unknown portal":                  {"1", "one", "GET /a", nil, "", forbidden},
		"an unknown portal, of all":          {"1", "all", "GET /a", nil, "", refused{403, "PORTAL_NOT_CONNECTED"}},
		"writing":                            {"", "reader", "DELETE /a", nil, "", forbidden},
		"a page's":                           {"", "one", "GET /a", []string{"Origin: https://evil.example"}, "", refused{403, "BROWSER_REFUSED"}},
		"a page's, of a browser":             {"", "one", "GET /a", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"}, "", refused{403, "BROWSER_REFUSED"}},
		"Node's fetch":                       {"", "one", "GET /a", []string{"Sec-Fetch-Mode: cors"}, portalID, refused{}},
		"CONNECT":                            {"", "one", "CONNECT api.hubapi.com:443", nil, "", refused{405, "METHOD_REFUSED"}},
		"TRACE":                              {"", "one", "TRACE /a", nil, "", refused{405, "METHOD_REFUSED"}},
		"another host":                       {"", "one", "GET /a", []string{"Host: evil.example"}, "", refused{400, "REQUEST_INVALID"}},
		"HubSpot's other name":               {"", "one", "GET /a", []string{"Host: api.hubspot.com"}, "", refused{400, "REQUEST_INVALID"}},
		"another port":                       {"", "one", "GET /a", []string{"Host: api.hubapi.com:80"}, "", refused{400, "REQUEST_INVALID"}},
		"the port":                           {"", "one", "GET /a", []string{"Host: api.hubapi.com:443"}, portalID, refused{}},
		"in capitals":                        {"", "one", "GET /a", []string{"Host: API.HubAPI.com"}, portalID, refused{}},
		"a portal's host":                    {"", "one", "GET /a", []string{"Host: 62515.localhost"}, "", refused{400, "REQUEST_INVALID"}},
		"absolute, another host":             {"", "one", "GET https://evil.example/a", nil, "", refused{400, "REQUEST_INVALID"}},
		"absolute, the host":                 {"", "one", "GET https://api.hubapi.com/a", nil, portalID, refused{}},
	} {
		t.Run(name, func(t *testing.T) {
			i := c.inside(trusted, test.user, test.client)
			before := c.hub.Requests()
			got := i.ask(test.request, test.lines...)
			if test.portal != "" {
				wantPortal(t, got, test.portal)
				return
			}
			refusal(t, got, test.want)
			if n := c.hub.Requests() - before; n != 0 {
				t.Errorf("%d requests reached HubSpot", n)
			}
		})
	}
	if v := c.hub.Violations(); len(v) > 0 {
		t.Error(v)
	}
}

func TestATunnelOfARevokedKeyEndsAtItsNextRequest(t *testing.T) {
	set, trusted := intercepting(t)
	c := startKeyed(t, set)
	for _, name := range []string{"one", "static"} {
		i := c.inside(trusted, "", name)
		if got := i.ask("GET /a"); got.StatusCode != 200 {
			t.Fatal(got.StatusCode)
		}
		c.revoke(name)
		before := c.hub.Requests()
		got := i.ask("GET /a")
		message := refusal(t, got, unauthenticated)
		if !strings.Contains(message, "HTTPS proxy") || !got.Close || !ends(t, i.from) {
			t.Errorf("closed: %v, %q", got.Close, message)
		}
		if n := c.hub.Requests() - before; n != 0 {
			t.Errorf("%d requests reached HubSpot", n)
		}
		refusal(t, askConnect(t, c.raw(""), tunnelName+":443", "Proxy-Authorization: "+basic("", c.key[name])+"\r\n"), refused{407, "CLIENT_UNAUTHENTICATED"})
	}
}

func TestTheServersNameIsThatOfTheCONNECT(t *testing.T) {
	set, trusted := intercepting(t)
	c := startKeyed(t, set)
	for name, config := range map[string]func(*tls.Config){
		"HubSpot's other name": func(t *tls.Config) { t.ServerName, t.InsecureSkipVerify = "api.hubspot.com", true },
		"another":              func(t *tls.Config) { t.ServerName, t.InsecureSkipVerify = "evil.example", true },
		"below it":             func(t *tls.Config) { t.ServerName, t.InsecureSkipVerify = "x.api.hubapi.com", true },
		"none":                 func(t *tls.Config) { t.ServerName, t.InsecureSkipVerify = "", true },
		"an address":           func(t *tls.Config) { t.ServerName, t.InsecureSkipVerify = "127.0.0.1", true },
		"TLS 1.1":              func(t *tls.Config) { t.MaxVersion = tls.VersionTLS11 },
		"no HTTP":              func(t *tls.Config) { t.NextProtos = []string{"imap"} },
	} {
		if _, err := tunnel(c.raw(""), trusted, basic("", c.key["one"]), config); err == nil {
			t.Errorf("%s: the handshake succeeds", name)
		}
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		conn, err := tunnel(c.raw(""), trusted, basic("", c.key["one"]), func(t *tls.Config) {
			t.MinVersion, t.MaxVersion, t.ServerName = version, version, "API.hubapi.com"
			t.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		})
		if err != nil {
			t.Fatal(err)
		}
		if state := conn.ConnectionState(); state.Version != version || len(state.PeerCertificates) != 1 {
			t.Errorf("version %x, %d certificates", state.Version, len(state.PeerCertificates))
		}
	}
	testkit.Eventually(t, "the log says what to check", func() bool {
		return strings.Contains(c.logs.String(), "check that it trusts the CA of INTERCEPT_CA_CERT_FILE")
	})
}

// What goes through a tunnel arrives as what goes directly to the proxy.
func TestARequestArrivesFromATunnelAsItArrivesDirectly(t *testing.T) {
	set, trusted := intercepting(t)
	c := startKeyed(t, set)
	ask := func(client *http.Client, base string, method, target, body string) (hubspottest.Echo, *http.Response) {
		request, err := http.NewRequestWithContext(t.Context(), method, base+target, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+c.key["one"])
		request.Header.Set("X-Custom", "a")
		request.Header.Set("User-Agent", "a client")
		request.Trailer = http.Header{"X-Sum": {"b"}}
		request.ContentLength = -1
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		echo, err := hubspottest.DecodeEcho(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return echo, response
	}
	for _, http2 := range []bool{false, true} {
		client := c.interceptedClient(trusted, "62515", c.key["one"], http2)
		for _, target := range []string{"/a", "/a?b=1;c=2&d=%2F", "/a%2Fb//c/../d", "//a"} {
			for _, body := range []string{"a body", strings.Repeat("x", 200_000)} {
				want, _ := ask(c.client, "http://"+c.addr, http.MethodPost, target, body)
				got, response := ask(client, "https://"+tunnelName, http.MethodPost, target, body)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s, http2 %v (-direct +in a tunnel):\n%s", target, http2, diff)
				}
				if (response.ProtoMajor == 2) != http2 {
					t.Errorf("over %s", response.Proto)
				}
			}
		}
	}
	for name, key := range c.key {
		if strings.Contains(c.logs.String(), basic("62515", key)[6:]) {
			t.Errorf("the log has the Proxy-Authorization of %s", name)
		}
	}
}

// revoke removes a client.
func (c keyedRig) revoke(name string) {
	c.t.Helper()
	if err := errors.Join(c.store.Remove(c.t.Context(), name), c.set.Load(c.t.Context())); err != nil {
		c.t.Fatal(err)
	}
}

func TestHTTP2InATunnelHasTheSameRules(t *testing.T) {
	set, trusted := intercepting(t)
	c := startKeyed(t, set)
	client := c.interceptedClient(trusted, "", c.key["one"], true)
	ask := func(method, host string, header ...string) received {
		request, err := http.NewRequestWithContext(t.Context(), method, "https://"+tunnelName+"/a", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		request.Header.Set("Authorization", "Bearer "+c.key["all"])
		for i := 0; i < len(header); i += 2 {
			request.Header.Set(header[i], header[i+1])
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		if response.ProtoMajor != 2 {
			t.Errorf("over %s", response.Proto)
		}
		return received{response, string(text), nil}
	}
	wantPortal(t, ask("GET", ""), portalID)
	refusal(t, ask("GET", "", "X-HubSpot-Portal-Id", staticPortal), forbidden)
	refusal(t, ask("GET", "", "Origin", "https://evil.example"), refused{403, "BROWSER_REFUSED"})
	for _, host := range []string{"api.hubspot.com", "evil.example", "62516.localhost"} {
		refusal(t, ask("GET", host), refused{400, "REQUEST_INVALID"})
	}
	refusal(t, ask("TRACE", ""), refused{405, "METHOD_REFUSED"})
	refusal(t, ask("CONNECT", ""), refused{405, "METHOD_REFUSED"})
	c.revoke("one")
	refusal(t, ask("GET", ""), unauthenticated)
	if _, err := client.Get("https://" + tunnelName + "/a"); err == nil || !strings.Contains(err.Error(), "Proxy Authentication Required") {
		t.Errorf("another tunnel: %v", err)
	}
}

// A tunnel inside of a proxy that serves TLS, as clients with an https:// proxy
// open it.
func TestATunnelGoesThroughTLSToo(t *testing.T) {
	set, trusted := intercepting(t)
	c := startKeyed(t, set)
	server := c.overHTTP2(true)
	client := c.interceptedClient(trusted, "", "", false)
	transport := client.Transport.(*http.Transport)
	via, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	via.User = url.UserPassword("62515", c.key["one"])
	transport.Proxy = http.ProxyURL(via)
	transport.TLSClientConfig.RootCAs.AddCert(server.Certificate())
	response, err := client.Get("https://" + tunnelName + "/a")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	wantPortal(t, received{response, string(text), nil}, portalID)

	// Over HTTP/2 a CONNECT opens no tunnel.
	request, err := http.NewRequestWithContext(t.Context(), http.MethodConnect, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = tunnelName + ":443"
	request.Header.Set("Proxy-Authorization", basic("", c.key["one"]))
	response, err = server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	text, _ = io.ReadAll(response.Body)
	_ = response.Body.Close()
	refusal(t, received{response, string(text), nil}, refused{405, "METHOD_REFUSED"})
}
