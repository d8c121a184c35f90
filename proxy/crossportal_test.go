package proxy_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens/hubspottest"
)

// rights are the portals that clients of startKeyed may use.
var rights = map[string][]string{
	"one": {portalID}, "reader": {portalID}, "static": {staticPortal}, "two": {portalID, staticPortal},
}

// stray is in bodies, extensions and trailers only: nobody may take it for a
// request.
const stray = "GET /stray HTTP/1.1\r\nHost: localhost\r\nX-HubSpot-Portal-Id: 62517\r\n\r\n"

// framings are ends of a header with a body, clear ones and others.
var framings = []struct {
	text    string
	endless bool // the server waits for more
}{
	{"\r\n", false},
	{"Content-Length: 0\r\n\r\n", false},
	{fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(stray), stray), false},
	{fmt.Sprintf("Content-Length:\r\n %d\r\n\r\n%s", len(stray), stray), false},
	{fmt.Sprintf("Content-Length: %d\r\nContent-Length: 0\r\n\r\n%s", len(stray), stray), false},
	{fmt.Sprintf("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(stray), stray), false},
	{fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x;a=b\r\n%s\r\n0\r\n\r\n", len(stray), stray), false},
	{fmt.Sprintf("Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n%x\r\n%s\r\n0\r\nAuthorization: Bearer {all}\r\nX-HubSpot-Portal-Id: 62517\r\n\r\n", len(stray), stray), false},
	{"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + stray, false},
	{"Transfer-Encoding: chunked\r\n\r\n0;\n" + stray + "\r\n0\r\n\r\n", false},
	{"Transfer-Encoding: xchunked\r\nContent-Length: 3\r\n\r\nabc" + stray, false},
	{"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + stray, false},
	{"Transfer-Encoding\x0b: chunked\r\n\r\n0\r\n\r\n" + stray, false},
	{"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n" + stray, false},
	{"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", false},
	{"Content-Length: 99999\r\n\r\n" + stray, true},
	{"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n" + stray, true},
}

// attack returns the bytes of a few requests on one connection by the client,
// each with the mark in its path, and whether they are all complete.
func attack(random *rand.Rand, client, mark string) (text string, complete bool) {
	pick := func(options ...string) string { return options[random.IntN(len(options))] }
	id := func() string {
		return pick("62515", "62516", "62517", "62515", "62516", "1", "%36", "x", "062516", "62516/", "62516%2f", "62517;", "")
	}
	for range 1 + random.IntN(3) {
		target := pick("", "", "", "http://api.hubapi.com", "http://62516", "http://u@h:1") +
			pick("", "", "/portals/"+id(), "/portals/"+id(), "//portals/"+id(), "/portals/"+id()+"/portals/"+id(), "/x/../portals/"+id(), "/portal%73/"+id(), "/portals\\"+id(), "/PORTALS/"+id(), "/oauth/v1") +
			"/" + mark + pick("", "", "/crm", "//a", "/../portals/62516/a", "/..%2f..", ";b=c", "%0d%0aAuthorization:%20Bearer%20x", "|") +
			pick("", "?b=1", "?portalId=62516", "?hapikey=", "?a&hapikey={"+client+"}", "?hapi%6bey={"+client+"};hapikey={"+client+"}", "?access_token={all}", "?%0d%0aX-HubSpot-Portal-Id:62517", "#?hapikey=x")
		framing := framings[random.IntN(len(framings))]
		text += pick("GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "get") + " " + target + pick(" HTTP/1.1", " HTTP/1.1", " HTTP/1.1", " HTTP/1.0") + "\r\nHost: localhost\r\n" +
			pick("Authorization: Bearer {"+client+"}\r\n", "authorization:bearer  {"+client+"}\r\n", "AUTHORIZATION: BEARER\r\n {"+client+"}\r\n")
		for range random.IntN(3) {
			text += pick("X-HubSpot-Portal-Id: ", "x-hubspot-portal-id:", "X_HubSpot_Portal_Id: ", "X-HubSpot-Portal-Id:\r\n ", "X-A: b\r\n X-HubSpot-Portal-Id: ") + id() + "\r\n"
		}
		if random.IntN(2) == 0 {
			text += pick("Connection: X-HubSpot-Portal-Id", "Connection: Authorization, Host, Content-Length", "Forwarded: for=62516", "Authorization: Bearer "+staticToken, "Origin: null", "Cookie: a=b",
				"Authorization: Basic YTpi", "Proxy-Authorization: Bearer {all}", "X-Original-URL: /portals/62517/", "X-HTTP-Method-Override: DELETE", "Idempotency-Key: a", "Connection: Upgrade\r\nUpgrade: h2c", "X-A: b\rX-HubSpot-Portal-Id: 62517", "Hapikey: {all}") + "\r\n"
		}
		text += framing.text
		if framing.endless {
			return text, false
		}
	}
	return text, true
}

// Many clients at once, each on connections of its own: whatever they send,
// HubSpot gets each one's requests with the credentials of its own portals,
// and no request that is none.
func TestNoBytesGetAnotherPortalsCredential(t *testing.T) {
	n := volume(8000, 3000)
	for mode, change := range map[string]func(*proxy.Options){
		"keys only": func(*proxy.Options) {},
		"a default": func(o *proxy.Options) { o.DefaultPortal = keyPortal },
	} {
		t.Run(mode, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("the seed is %d", seed)
			c := startKeyed(t, change)
			names := []string{"one", "reader", "static", "two"}
			seen := c.watchRights()
			together(t, n/2, 4, func(i int) error {
				random := rand.New(rand.NewPCG(seed, uint64(i)))
				client := names[random.IntN(len(names))]
				text, complete := attack(random, client, fmt.Sprintf("mark-%s-%d", client, i))
				for name, key := range c.key {
					text = strings.ReplaceAll(text, "{"+name+"}", key)
				}
				if err := c.attacked(text, complete); err != nil {
					return fmt.Errorf("%w, to %q", err, text)
				}
				return seen.fault(text)
			})
			seen.check(t, n/20)
		})
	}
}

// seen is what arrived at HubSpot.
type seen struct {
	hub      *hubspottest.Server
	rightful atomic.Int64

	mu     sync.Mutex
	faults []string
}

// watchRights checks whatever arrives at HubSpot from now on: each request has
// the name of its client in a mark, and must have that client's credential.
func (c keyedRig) watchRights() *seen {
	s := &seen{hub: c.hub}
	c.hub.Observe(func(e hubspottest.Echo) {
		fault := ""
		_, mark, _ := strings.Cut(e.Target, "mark-")
		owner, _, _ := strings.Cut(mark, "-")
		switch allowed := rights[owner]; {
		case strings.HasSuffix(e.Target, "/token") && e.Method == http.MethodPost: // a renewal
		case allowed == nil:
			fault = "a request that is none"
		case e.Portal == "" && !strings.HasPrefix(e.Target, "/oauth/"):
			fault = "a request without a credential"
		case e.Portal != "" && !slices.Contains(allowed, e.Portal):
			fault = "another's credential"
		default:
			s.rightful.Add(1)
		}
		if fault != "" {
			s.mu.Lock()
			s.faults = append(s.faults, fmt.Sprintf("%s: %s %s for %q", fault, e.Method, e.Target, e.Portal))
			s.mu.Unlock()
		}
	})
	return s
}

// fault returns the first thing that should not have arrived; text has just been
// sent.
func (s *seen) fault(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) > 0 {
		return fmt.Errorf("%s; just now sent: %q", s.faults[0], text)
	}
	return nil
}

// check fails the test if anything arrived that should not have, or too little.
func (s *seen) check(t *testing.T, least int) {
	t.Helper()
	if got := s.rightful.Load(); got < int64(least) {
		t.Errorf("%d requests by right: that shows little", got)
	}
	if v := s.hub.Violations(); len(v) > 0 {
		t.Error(v)
	}
}

// attacked sends the bytes, and reads what comes back until the connection
// ends.
func (c keyedRig) attacked(text string, complete bool) error {
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	return attackedOn(conn, text, complete)
}

// attackedOn is attacked on a connection that is there.
func attackedOn(conn net.Conn, text string, complete bool) error {
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = conn.Write([]byte(text)) // it may be refused before its end
	if complete {
		// Until the first answer the proxy may not learn that nothing follows:
		// it would give up for a client that has left.
		if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			return err
		}
	}
	_ = conn.(interface{ CloseWrite() error }).CloseWrite()
	_, err := io.Copy(io.Discard, conn)
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return err
	}
	return nil
}
