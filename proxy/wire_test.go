package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
	"hubspot-auth-proxy/tokens/hubspottest"
)

const (
	staticPortal = "62516" // has a private app's token
	keyPortal    = "62517" // has an API key
	staticToken  = "pat-na1-" + hubspottest.Canary + "-static"
	apiKey       = hubspottest.Canary + "-api-key-0b5e"
)

// startKinds starts a rig that has a portal of each kind.
func startKinds(t testing.TB, s setup) *rig {
	t.Helper()
	r := start(t, s)
	r.connect(portalID)
	r.hub.SetAccessToken(staticPortal, staticToken)
	r.seed(staticPortal, tokens.AccessToken, staticToken)
	r.hub.SetAPIKey(keyPortal, apiKey)
	r.seed(keyPortal, tokens.APIKey, apiKey)
	return r
}

// received is an answer that came over a raw connection.
type received struct {
	*http.Response
	text string // the whole body
	err  error  // that the body ended with
}

// receive reads the next answer on the connection. HEAD is the one method that
// it has to know.
func receive(t testing.TB, from *bufio.Reader, method string) received {
	t.Helper()
	response, err := http.ReadResponse(from, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	text, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	return received{response, string(text), err}
}

// reading bounds how long the connection is waited for.
func reading(conn net.Conn) *bufio.Reader {
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	return bufio.NewReader(conn)
}

// answerTo sends one request as it stands, and returns the final answer.
func (r *rig) answerTo(request string) received {
	r.t.Helper()
	conn := r.raw(request)
	defer conn.Close()
	method, _, _ := strings.Cut(request, " ")
	from := reading(conn)
	for {
		if got := receive(r.t, from, method); got.StatusCode >= 200 {
			return got
		}
	}
}

// arrived sends one request as it stands, and returns what HubSpot got.
func (r *rig) arrived(request string) hubspottest.Echo {
	r.t.Helper()
	got := r.answerTo(request)
	echo, err := hubspottest.DecodeEcho(strings.NewReader(got.text))
	if err != nil || echo.Method == "" {
		r.t.Fatalf("%q was answered %d %q", request, got.StatusCode, got.text)
	}
	return echo
}

// wireTargets are targets, and what is left of them without credentials.
var wireTargets = map[string]string{
	"/":                                     "/",
	"/crm/v3/objects/contacts":              "/crm/v3/objects/contacts",
	"/a?":                                   "/a?",
	"/a??":                                  "/a??",
	"/a?b=1&c=2;d=3":                        "/a?b=1&c=2;d=3",
	"/a?b=%zz&%&c=100%":                     "/a?b=%zz&%&c=100%",
	"/a?z=1&a=2&&b":                         "/a?z=1&a=2&&b",
	"/a?b&":                                 "/a?b&",
	"/a?b=\"<>|^`{}[]\\":                    "/a?b=\"<>|^`{}[]\\",
	"/a?b=\xff\xfe":                         "/a?b=\xff\xfe",
	"/a?b=%20+c":                            "/a?b=%20+c",
	"/a%2Fb%2f%2e%2E":                       "/a%2Fb%2f%2e%2E",
	"//a//b":                                "//a//b",
	"//":                                    "//",
	"//a%2Fb?c":                             "//a%2Fb?c",
	"/a/../b/./c/..":                        "/a/../b/./c/..",
	"/a|b^c{d}e\"f<g>`[h]\\i":               "/a|b^c{d}e\"f<g>`[h]\\i",
	"/a;b=1;c":                              "/a;b=1;c",
	"/a:b@c!$'()*,":                         "/a:b@c!$'()*,",
	"/é/\xff":                               "/é/\xff",
	"/http://elsewhere/a":                   "/http://elsewhere/a",
	"/a?hapikey=K":                          "/a",
	"/a?HapiKey=K&b=1":                      "/a?b=1",
	"/a?b=1&hapi%6bey=K":                    "/a?b=1",
	"/a?b=1;hapikey=K;c=2":                  "/a?b=1;c=2",
	"/a?access_token=K&hapikey&b=1&hapikey": "/a?b=1",
	"//a?access%5ftoken=K":                  "//a",
	"/a?b=%zz&hapikey=K&c=;":                "/a?b=%zz&c=;",
}

// withKey is the target with the API key, as HubSpot gets it.
func withKey(target string) string {
	switch _, query, has := strings.Cut(target, "?"); {
	case !has:
		return target + "?hapikey=" + apiKey
	case query == "" || strings.HasSuffix(query, "&"):
		return target + "hapikey=" + apiKey
	default:
		return target + "&hapikey=" + apiKey
	}
}

func TestHubSpotGetsTheVeryTargetAndTheOneRightCredential(t *testing.T) {
	for name, s := range map[string]setup{
		"HTTP/1.1": {},
		"HTTP/2.0": {hub: tlsHub(t), proxy: func(o *proxy.Options) { o.UpstreamHTTP2 = true }},
	} {
		t.Run(name, func(t *testing.T) {
			r := startKinds(t, s)
			for sent, want := range wireTargets {
				r.checkWire(portalID, tokens.OAuth, "/portals/"+portalID+sent, want, name)
				r.checkWire(portalID, tokens.OAuth, sent, want, name)
				r.checkWire(staticPortal, tokens.AccessToken, sent, want, name)
				r.checkWire(keyPortal, tokens.APIKey, sent, withKey(want), name)
				r.checkWire(keyPortal, tokens.APIKey, "http://localhost/portals/"+keyPortal+sent, withKey(want), name)
			}
			if diff := cmp.Diff([]string(nil), r.hub.Violations()); diff != "" {
				t.Error(diff)
			}
			noSecret(t, "the log", r.logs.String())
		})
	}
}

func tlsHub(t *testing.T) *hubspottest.Server {
	hub := hubspottest.NewTLSServer(true)
	t.Cleanup(hub.Close)
	return hub
}

// checkWire sends a target for the portal, with credentials of the client's
// own in its header.
func (r *rig) checkWire(portal string, kind tokens.Kind, sent, want, protocol string) {
	r.t.Helper()
	echo := r.arrived("GET " + sent + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer mine\r\nX-HubSpot-Portal-Id: " + portal + "\r\n\r\n")
	got := []string{echo.Portal, echo.Credential, echo.Proto, echo.Target}
	// One that no URL can have goes in absolute form.
	got[3] = strings.TrimPrefix(got[3], r.hub.URL)
	if diff := cmp.Diff([]string{portal, string(kind), protocol, want}, got); diff != "" {
		r.t.Errorf("%q of %s (-want +got):\n%s", sent, kind, diff)
	}
}

func TestWhatIsNoPathOfHubSpotsIsForwardedAsWell(t *testing.T) {
	for _, request := range []string{"OPTIONS * HTTP/1.1", "GET * HTTP/1.1"} {
		upstream := script(t, "HTTP/1.1 204 No Content\r\n\r\n")
		r := start(t, setup{proxy: upstream.set})
		r.connect(portalID)
		got := r.answerTo(request + "\r\nHost: localhost\r\n\r\n")
		line, _, _ := strings.Cut(upstream.request(t), "\r\n")
		if got.StatusCode != http.StatusNoContent || line != request {
			t.Errorf("%s: answered %d, sent as %q", request, got.StatusCode, line)
		}
	}
}

func TestATargetWithoutAQueryGetsNoAPIKey(t *testing.T) {
	upstream := script(t, "HTTP/1.1 204 No Content\r\n\r\n")
	r := start(t, setup{proxy: upstream.set})
	r.seed(portalID, tokens.APIKey, apiKey)
	message := refusal(t, r.answerTo("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"), refused{400, "REQUEST_INVALID"})
	if !strings.Contains(message, "API key") || !strings.Contains(message, "path") {
		t.Errorf("message %q", message)
	}
	if n := len(upstream.sent); n != 0 {
		t.Errorf("HubSpot got %q", <-upstream.sent)
	}
}

// FuzzForwardedTarget sends what net/http's server takes for a target.
func FuzzForwardedTarget(f *testing.F) {
	for sent := range wireTargets {
		f.Add(sent, false)
		f.Add(sent, true)
		f.Add("/portals/"+portalID+sent, true)
	}
	r := startKinds(f, setup{})
	line := &line{addr: r.addr}
	f.Cleanup(line.close)
	f.Fuzz(func(t *testing.T, sent string, key bool) {
		if parsed, err := url.ParseRequestURI(sent); err != nil || strings.ContainsAny(sent, " \r\n") || len(sent) > 1000 ||
			strings.HasPrefix(parsed.Path, "/fake/") || strings.HasPrefix(parsed.Path, "/oauth/") || strings.HasPrefix(sent, "*") {
			return
		}
		portal, kind := portalID, "oauth"
		if key {
			portal, kind = keyPortal, "api_key"
		}
		got := line.exchange(t, "GET "+sent+" HTTP/1.1\r\nHost: localhost\r\nX-HubSpot-Portal-Id: "+portal+"\r\n\r\n")
		if violations := r.hub.Violations(); len(violations) > 0 {
			t.Fatalf("%q: %q", sent, violations)
		}
		if category := got.Header.Get("X-Hubspot-Auth-Proxy-Error"); category != "" {
			checkRefusedTarget(t, sent, category)
			return
		}
		echo, err := hubspottest.DecodeEcho(strings.NewReader(got.text))
		if err != nil {
			if strings.HasPrefix(strings.TrimPrefix(sent, "/portals/"+portalID), "/oauth/") {
				return // the token endpoint of the fake
			}
			t.Fatalf("%q was answered %d %q", sent, got.StatusCode, got.text)
		}
		if echo.Portal != portal || echo.Credential != kind {
			if !strings.HasPrefix(expectedTarget(sent), "/oauth/") {
				t.Fatalf("%q came as portal %q with %q", sent, echo.Portal, echo.Credential)
			}
			key = false
		}
		want := expectedTarget(sent)
		if key {
			want = withKey(want)
		}
		if target := echo.Target; target != want && target != r.hub.URL+want {
			t.Fatalf("%q became %q, not %q", sent, target, want)
		}
	})
}

// checkRefusedTarget checks that there was a reason to refuse it.
func checkRefusedTarget(t *testing.T, sent, category string) {
	switch {
	case category == "REQUEST_INVALID" && strings.Contains(sent, "#"):
	case category == "REQUEST_INVALID" && !strings.HasPrefix(sent, "/"):
	case category == "BROWSER_REFUSED" && !strings.HasPrefix(sent, "/"):
	case strings.HasPrefix(category, "PORTAL_") && strings.Contains(sent, "/portals/"):
	default:
		t.Fatalf("%q was refused as %s", sent, category)
	}
}

var (
	authority  = regexp.MustCompile(`^[^:/?#]+://[^/?]*`)
	prefix     = regexp.MustCompile(`^/portals/[1-9][0-9]*(/|$)`)
	anEscape   = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
	credential = regexp.MustCompile(`(?i)^(hapikey|access_token)$`)
)

// expectedTarget is an oracle that shares no code with what it judges.
func expectedTarget(sent string) string {
	if !strings.HasPrefix(sent, "/") {
		sent = authority.ReplaceAllString(sent, "")
	}
	path, query, has := strings.Cut(sent, "?")
	if path == "" {
		path = "/"
	}
	path = prefix.ReplaceAllString(path, "/")
	if strings.HasPrefix(path, "//oauth/") {
		path = path[1:]
	}
	if !has {
		return path
	}
	parts := regexp.MustCompile(`[^&;]*[&;]?`).FindAllString(query, -1)
	var kept string
	stripped, lastGone := false, false
	for i, part := range parts {
		name, _, _ := strings.Cut(strings.TrimRight(part, "&;"), "=")
		name = anEscape.ReplaceAllStringFunc(name, func(s string) string {
			decoded, _ := url.PathUnescape(s)
			return decoded
		})
		if !credential.MatchString(strings.TrimFunc(strings.ReplaceAll(name, "+", " "), func(c rune) bool { return c <= ' ' || c == 0x7f || unicode.IsSpace(c) })) {
			kept += part
			continue
		}
		stripped = true
		lastGone = i == len(parts)-1 && !strings.HasSuffix(part, "&") && !strings.HasSuffix(part, ";")
	}
	if lastGone && kept != "" {
		kept = kept[:len(kept)-1]
	}
	if stripped && kept == "" {
		return path
	}
	return path + "?" + kept
}

// line is a connection to the proxy that is used as long as it lives.
type line struct {
	addr string
	conn net.Conn
	from *bufio.Reader
}

func (l *line) exchange(t *testing.T, request string) received {
	if l.conn == nil {
		conn, err := net.Dial("tcp", l.addr)
		if err != nil {
			t.Fatal(err)
		}
		l.conn, l.from = conn, bufio.NewReader(conn)
	}
	_ = l.conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(l.conn, request); err != nil {
		t.Fatal(err)
	}
	got := receive(t, l.from, http.MethodGet)
	if got.Close {
		l.close()
	}
	return got
}

func (l *line) close() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
}
