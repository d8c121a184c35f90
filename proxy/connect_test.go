package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// askConnect sends a CONNECT request on a connection, and returns the answer,
// with its body if it is a refusal.
func askConnect(t *testing.T, conn net.Conn, target, lines string) received {
	t.Helper()
	response, err := connectOn(conn, target, lines)
	if err != nil {
		t.Fatalf("CONNECT %s: %v", target, err)
	}
	text := ""
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(response.Body)
		text = string(body)
	}
	response.Request = &http.Request{Method: http.MethodConnect}
	return received{response, text, nil}
}

func TestARefusedCONNECTOpensNoConnection(t *testing.T) {
	set, _ := intercepting(t)
	c := startKeyed(t, set)
	address, visits := decoy(t)
	_, port, _ := net.SplitHostPort(address)
	hub := strings.TrimPrefix(c.hub.URL, "http://")
	for _, target := range []string{
		address, "localhost:" + port, hub, "127.0.0.1:443", "[::1]:443", "localhost:443", c.addr,
		"evil.example:443", "app.hubspot.com:443", "hubapi.com:443", "x.api.hubapi.com:443", "api.hubapi.com.evil.example:443",
		"api.hubapi.com:80", "api.hubapi.com:8443", "api.hubapi.com:" + port, "api.hubapi.com:0443", "api.hubapi.com.:443", "api.hubapi.com",
		"[api.hubapi.com]:443", "api%2ehubapi.com:443", "user@api.hubapi.com:443", "http://" + address, "https://api.hubapi.com:443", "/a",
	} {
		for _, key := range []string{c.key["all"], ""} { // for every client
			got := askConnect(t, c.raw(""), target, "Proxy-Authorization: "+basic("62515", key)+"\r\nX-Forwarded-Host: "+address+"\r\n")
			if got.StatusCode == http.StatusBadRequest && strings.ContainsAny(target, "@%[") {
				continue // by net/http
			}
			message := refusal(t, got, refused{403, "CONNECT_REFUSED"})
			if !strings.Contains(message, "api.hubapi.com, api.hubspot.com") || !strings.Contains(message, "NO_PROXY") {
				t.Errorf("%s: it does not say what to do: %q", target, message)
			}
		}
	}
	if n := visits.Load(); n != 0 {
		t.Errorf("%d connections were opened", n)
	}
	c.wantNoRequests(t)
}

func TestWithoutACACONNECTIsRefused(t *testing.T) {
	c := startKeyed(t)
	got := askConnect(t, c.raw(""), "api.hubapi.com:443", "Proxy-Authorization: "+basic("62515", c.key["all"])+"\r\n")
	refusal(t, got, refused{405, "METHOD_REFUSED"})
	if got.Header.Get("Allow") == "" {
		t.Error("no Allow")
	}
}

func TestWhoHasNoKeyGets407BeforeTheHandshake(t *testing.T) {
	set, _ := intercepting(t)
	c := startKeyed(t, set)
	for name, lines := range map[string][]string{
		"nothing":                   nil,
		"a portal":                  {basic("62515", "")},
		"an unknown key":            {basic("62515", unknownKey)},
		"a placeholder":             {basic("62515", "x")},
		"a HubSpot token":           {basic("62515", staticToken)},
		"the key as user name":      {basic(c.key["one"], "")},
		"as both":                   {basic(c.key["one"], c.key["one"])},
		"another as user name":      {basic(c.key["two"], c.key["one"])},
		"an unknown Bearer":         {"Bearer " + unknownKey},
		"Basic without base64":      {"Basic " + c.key["one"]},
		"another scheme":            {"Digest " + c.key["one"]},
		"two keys":                  {basic("62515", c.key["one"]), basic("62515", c.key["two"])},
		"two portals":               {basic("62515", c.key["two"]), basic("62516", c.key["two"])},
		"a known and an unknown":    {basic("", c.key["one"]), "Bearer " + unknownKey},
		"a key that is cut":         {basic("", c.key["one"][:46])},
		"a key and what follows":    {basic("", c.key["one"]+":x")},
		"a key of another spelling": {basic("", strings.ToUpper(c.key["one"]))},
	} {
		t.Run(name, func(t *testing.T) {
			text := "Authorization: Bearer " + c.key["one"] + "\r\n" // which does not count
			for _, line := range lines {
				text += "Proxy-Authorization: " + line + "\r\n"
			}
			conn := c.raw("")
			got := askConnect(t, conn, "api.hubapi.com:443", text)
			message := refusal(t, got, refused{407, "CLIENT_UNAUTHENTICATED"})
			if !strings.HasPrefix(got.Header.Get("Proxy-Authenticate"), "Basic ") || got.Header.Get("Www-Authenticate") != "" {
				t.Errorf("Proxy-Authenticate: %q", got.Header.Get("Proxy-Authenticate"))
			}
			if !strings.Contains(message, "HTTPS_PROXY=http://{portal id}:hap_…@") {
				t.Errorf("it does not say what to do: %q", message)
			}
			// A client that asks without a key first goes on with it.
			if got := askConnect(t, conn, "api.hubapi.com:443", "Proxy-Authorization: "+basic("", c.key["one"])+"\r\n"); got.StatusCode != 200 {
				t.Errorf("and then %d", got.StatusCode)
			}
		})
	}
	c.wantNoRequests(t)
}

func TestACONNECTThatIsNoneIsRefused(t *testing.T) {
	set, _ := intercepting(t)
	c := startKeyed(t, set)
	auth := "Proxy-Authorization: " + basic("", c.key["one"]) + "\r\n"
	for name, lines := range map[string]string{
		"a length":  auth + "Content-Length: 3\r\n\r\nabc",
		"chunks":    auth + "Transfer-Encoding: chunked\r\n\r\n0\r\n",
		"a request": auth + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(smuggled), smuggled),
	} {
		statuses, ended := c.answersOn("CONNECT api.hubapi.com:443 HTTP/1.1\r\nHost: api.hubapi.com\r\n" + lines + "\r\n" + smuggled)
		if len(statuses) != 1 || statuses[0] != 400 || !ended {
			t.Errorf("%s: %v, ended: %v", name, statuses, ended)
		}
	}
	for _, lines := range []string{"Origin: https://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n"} {
		refusal(t, askConnect(t, c.raw(""), "api.hubapi.com:443", auth+lines), refused{403, "BROWSER_REFUSED"})
	}
	c.wantNoRequests(t)
}

// A client may send the handshake's first bytes with the CONNECT request.
func TestBytesThatComeWithTheCONNECTAreTheTunnels(t *testing.T) {
	set, trusted := intercepting(t)
	c := startKeyed(t, set)
	conn := c.raw("")
	inside, err := tunnel(&eager{Conn: conn}, trusted, basic("", c.key["one"]))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(inside, "GET /a HTTP/1.1\r\nHost: api.hubapi.com\r\n\r\n")
	wantPortal(t, receive(t, reading(inside), http.MethodGet), portalID)
}

// eager holds the CONNECT request back until the handshake begins, and answers
// it itself.
type eager struct {
	net.Conn
	held     string
	pretends *strings.Reader
	from     *bufio.Reader
}

const established = "HTTP/1.1 200 Connection established\r\n\r\n"

func (e *eager) Write(p []byte) (int, error) {
	if e.held == "" {
		e.held, e.pretends = string(p), strings.NewReader(established)
		return len(p), nil
	}
	if e.from == nil {
		e.from = bufio.NewReader(e.Conn)
		_, err := e.Conn.Write(append([]byte(e.held), p...))
		return len(p), err
	}
	return e.Conn.Write(p)
}

func (e *eager) Read(p []byte) (int, error) {
	if e.pretends.Len() > 0 {
		return e.pretends.Read(p)
	}
	if e.held != established {
		_ = e.Conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := http.ReadResponse(e.from, &http.Request{Method: http.MethodConnect}); err != nil {
			return 0, err
		}
		e.held = established
	}
	return e.from.Read(p)
}

func TestWhereNoKeyIsNeededATunnelNeedsNone(t *testing.T) {
	set, trusted := intercepting(t)
	c := startKeyed(t, set, anonymous)
	for name, test := range map[string]struct {
		authorization string
		portal        string // or 407
	}{
		"nothing":                  {"", staticPortal},
		"a portal":                 {basic("62517", ""), keyPortal},
		"a portal, a placeholder":  {basic("62515", "x"), portalID},
		"no portal":                {basic("anybody", "x"), staticPortal},
		"a known key":              {basic("", c.key["one"]), portalID},
		"a known key, its portal":  {basic("62515", c.key["one"]), portalID},
		"an unknown key":           {basic("62515", unknownKey), ""},
		"the prefix":               {"Bearer hap_", ""},
		"a key that is none's":     {basic("", "hap_x"), ""},
		"a key as the user's name": {basic(c.key["one"], ""), ""},
	} {
		t.Run(name, func(t *testing.T) {
			conn := c.raw("")
			if test.portal == "" {
				got := askConnect(t, conn, "api.hubapi.com:443", "Proxy-Authorization: "+test.authorization+"\r\n")
				refusal(t, got, refused{407, "CLIENT_UNAUTHENTICATED"})
				return
			}
			inside, err := tunnel(conn, trusted, test.authorization)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(inside, "GET /a HTTP/1.1\r\nHost: api.hubapi.com\r\nAuthorization: Bearer pat-placeholder\r\n\r\n")
			wantPortal(t, receive(t, reading(inside), http.MethodGet), test.portal)
		})
	}
}
