package proxy_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/testkit"
)

// logLine is what the tests read of a line of the access log.
type logLine struct {
	Msg         string `json:"msg"`
	Portal      string `json:"portal"`
	Method      string `json:"method"`
	Path        string `json:"path"`
	Status      int    `json:"status"`
	Received    int64  `json:"received"`
	Bytes       int64  `json:"bytes"`
	Attempts    int    `json:"attempts"`
	Category    string `json:"category"`
	Correlation string `json:"correlation_id"`
	Complete    bool   `json:"complete"`
}

// accessLog returns the lines of requests, when there are n: a line is written
// after the client has its answer.
func (r *rig) accessLog(n int) (lines []logLine) {
	r.t.Helper()
	r.answersSettle(func() bool {
		lines = nil
		for text := range strings.Lines(r.logs.String()) {
			var line logLine
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				r.t.Fatalf("%q: %v", text, err)
			}
			if line.Msg == "request" {
				lines = append(lines, line)
			}
		}
		return len(lines) >= n
	})
	if len(lines) != n {
		r.t.Fatalf("%d lines, not %d", len(lines), n)
	}
	return lines
}

// answersSettle makes requests on a connection of its own, which take time
// without sleeping, until the condition is true.
func (r *rig) answersSettle(condition func() bool) {
	r.t.Helper()
	for range 2000 {
		if condition() {
			return
		}
		conn := r.raw("") // a round trip through the kernel
		_ = conn.Close()
	}
}

func TestEachRequestHasALineInTheLog(t *testing.T) {
	r := startKinds(t, setup{})
	first := r.answerTo("GET /crm/v3/a%2Fb?email=a%40b HTTP/1.1\r\nHost: localhost\r\n\r\n")
	second := r.answerTo("POST /portals/62517/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc")
	r.hub.Expire(portalID)
	third := r.answerTo(head())
	fourth := r.answerTo("GET /portals/1/c?d HTTP/1.1\r\nHost: localhost\r\n\r\n")
	r.answerTo("CONNECT a:1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	fifth := r.answerTo("GET /oauth/v1/access-tokens/TOKEN HTTP/1.1\r\nHost: localhost\r\n\r\n")

	var body struct {
		CorrelationID string `json:"correlationId"`
	}
	if err := json.Unmarshal([]byte(fourth.text), &body); err != nil || body.CorrelationID == "" {
		t.Fatalf("%q: %v", fourth.text, err)
	}
	const correlation = "X-Hubspot-Correlation-Id"
	size := func(a received) int64 { return int64(len(a.text)) }
	lines := r.accessLog(6)
	want := []logLine{
		{"request", portalID, "GET", "/crm/v3/a%2Fb", 200, 0, size(first), 1, "", first.Header.Get(correlation), true},
		{"request", keyPortal, "POST", "/b", 200, 3, size(second), 1, "", second.Header.Get(correlation), true},
		{"request", portalID, "GET", "/a", 200, 0, size(third), 2, "", third.Header.Get(correlation), true},
		{"request", "1", "GET", "/c", 403, 0, size(fourth), 0, "PORTAL_NOT_CONNECTED", body.CorrelationID, true},
		{"request", "", "CONNECT", "", 405, 0, lines[4].Bytes, 0, "METHOD_REFUSED", lines[4].Correlation, true},
		{"request", "", "GET", "/oauth/v1", 200, 0, size(fifth), 1, "", fifth.Header.Get(correlation), true},
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestThereIsNoAccessLogIfItIsOff(t *testing.T) {
	r := startKinds(t, setup{proxy: func(o *proxy.Options) { o.AccessLog = false }})
	r.arrived(head())
	if log := r.logs.String(); strings.Contains(log, `"path"`) {
		t.Error(log)
	}
}

func TestATokenInAPathIsNotLogged(t *testing.T) {
	for _, path := range []string{
		"/oauth/v1/access-tokens/TOKEN", "/oauth/v1/refresh-tokens/TOKEN?a=TOKEN", "//oauth/v1/access-tokens/TOKEN", "/oauth//v1/x/TOKEN",
		"/%6fauth/v1/access-tokens/TOKEN", "/%256fauth/v1/x/TOKEN", "/oauth%2Fv1%2Fx%2FTOKEN", "/oauth%252Fv1%252Fx%252FTOKEN", "/OAuth/v1/x/TOKEN",
		"/./oauth/v1/x/TOKEN", "/a/../oauth/v1/x/TOKEN", "/a/%2e%2e/oauth/v1/x/TOKEN", "/oauth/./v1/TOKEN", "/oauth/v1/x/TOKEN/../../../../a",
		"/oauth;a=b/v1/x/TOKEN", "/oauth/v1;TOKEN/x", "/oauth\\v1\\x\\TOKEN", "/%5Coauth%5Cv1%5CTOKEN", "/a/oauth/v1/x/TOKEN", "/oauth/oauth/v1/x/TOKEN",
		"/portals/1/oauth/v1/x/TOKEN", "/portals/x/oauth/v1/x/TOKEN", "/portals/x//oauth/v1/x/TOKEN", "//portals/1/oauth/v1/x/TOKEN", "/oauth%20/v1/x/TOKEN",
		"http://localhost/oauth/v1/x/TOKEN", "mailto:/oauth/v1/x/TOKEN", "mailto:TOKEN", "/" + strings.Repeat("a", 600) + "TOKEN",
	} {
		r := startKinds(t, setup{})
		got := r.answerTo("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
		line := r.accessLog(1)[0]
		if log := r.logs.String(); strings.Contains(log, "TOKEN") {
			t.Errorf("%s was answered %d, and the log has\n%s", path, got.StatusCode, log)
		}
		if strings.Contains(path, "auth") && !strings.HasPrefix(path, "mailto") && !strings.HasPrefix(line.Path, "/oauth") {
			t.Errorf("%s is logged as %q", path, line.Path)
		}
	}
}

func TestAClientKeyInTheWrongPlaceIsNotLogged(t *testing.T) {
	for _, line := range []string{
		"GET /hap_KEY", "GET /a/%68ap_KEY?b", "GET /a/%2568ap%5fKEY", "GET /%68ap_KEY/oauth/a", "GET /oauth/hap_KEY", "GET /oauth/%68ap_KEY/b", "GET /a/oauth/hap_KEY", "hap_KEY /a", strings.Repeat("A", 600) + " /a",
	} {
		r := startKinds(t, setup{})
		r.answerTo(line + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
		r.accessLog(1)
		if log := r.logs.String(); strings.Contains(log, "KEY") || strings.Contains(log, strings.Repeat("A", 33)) {
			t.Errorf("of %s, the log has\n%s", line, log)
		}
	}
}

func TestOtherPathsAreLoggedAsTheyAre(t *testing.T) {
	r := startKinds(t, setup{})
	paths := []string{"/", "//a", "/crm/v3/objects/oauth_clients", "/a/b-oauth/c", "/a%2Fb/../c", "/a;b", "/x\\y", "/%zz", "/oauthx/v1/a"}
	for _, path := range paths {
		r.answerTo("GET " + strings.ReplaceAll(path, "%zz", "%7A") + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
	}
	for i, line := range r.accessLog(len(paths)) {
		if want := strings.ReplaceAll(paths[i], "%zz", "%7A"); line.Path != want {
			t.Errorf("%q is logged as %q", want, line.Path)
		}
	}
}

func TestAClientThatLeftIsLoggedAndCountedAs499(t *testing.T) {
	for path, by := range map[string]string{"/fake/hang": "nobody", "/fake/events?n=2": "hubspot"} {
		r := startKinds(t, setup{})
		conn := r.raw("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if err := r.hub.Until(t.Context(), func() bool { return r.hub.Requests() == 1 }); err != nil {
			t.Fatal(err)
		}
		if by == "hubspot" { // the answer has begun
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		_ = conn.Close()
		if err := r.hub.Until(t.Context(), func() bool { return r.hub.Cancelled() == 1 }); err != nil {
			t.Fatal(err)
		}
		if line := r.accessLog(1)[0]; line.Status != 499 || line.Complete || line.Category != "" || line.Portal != portalID {
			t.Errorf("%s: %+v", path, line)
		}
		if got := r.counted()[requests("read", "499", by, "")]; got != 1 {
			t.Errorf("%s: counted %v times", path, got)
		}
	}
}

func TestAnAnswerThatHubSpotBrokeOffIsLoggedAsIncomplete(t *testing.T) {
	r := startKinds(t, setup{})
	if got := r.answerTo("GET /fake/break?bytes=100000 HTTP/1.1\r\nHost: localhost\r\n\r\n"); got.err == nil {
		t.Error("the answer ended cleanly")
	}
	if line := r.accessLog(1)[0]; line.Status != 200 || line.Complete {
		t.Errorf("%+v", line)
	}
}

// Every place that a secret can come in by, to every answer of the proxy's
// own and to its log at level debug.
func TestNoSecretIsLoggedOrAnswered(t *testing.T) {
	const canary = hubspottest.Canary + "-sent"
	r := startKinds(t, setup{})
	r.hub.SetGzip401(true)
	var targets []string
	for _, portal := range []string{"", "/portals/1", "/portals/62516", "/portals/62517", "/portals/x"} {
		for _, path := range []string{
			"/a?hapikey=" + canary + "&access_token=" + canary, "/oauth/v1/access-tokens/" + canary, "//oauth/v1/" + "x/" + canary,
			"/fake/reflect", "/fake/redirect?to=/b", "/fake/reset", "/fake/malformed", "/fake/break?bytes=10", "/fake/status?code=401", "/fake/trailers", "/fake/hints",
		} {
			targets = append(targets, portal+path)
		}
	}
	targets = append(targets, "http://"+canary+"/a", "http://u:"+canary+"@localhost/oauth/v1/x/"+canary, canary+":1", "mailto:"+canary, "*?"+canary)
	for _, target := range targets {
		for _, method := range []string{"GET", "POST", "TRACE"} {
			for _, host := range []string{"localhost", canary} {
				noSecret(t, method+" "+target, r.ownAnswer(method+" "+target+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\nAuthorization: Bearer "+canary+
					"\r\nProxy-Authorization: Basic "+canary+"\r\nX-HubSpot-Auth-Proxy-Debug: 1\r\nContent-Length: 0\r\n\r\n"))
			}
		}
	}
	for _, header := range []string{
		"X-HubSpot-Portal-Id: " + canary, "Origin: " + canary, "Upgrade: " + canary + "\r\nConnection: Upgrade", "Transfer-Encoding: " + canary,
		"Content-Length: " + canary, canary, "Expect: " + canary,
	} {
		noSecret(t, header, r.ownAnswer(head(header, "Connection: close")))
	}
	noSecret(t, "the log", r.logs.String())
}

// ownAnswer returns what of an answer must not have a secret: what HubSpot
// itself says in a body passes as it is.
func (r *rig) ownAnswer(request string) string {
	r.t.Helper()
	answer := r.rawAnswer(request)
	header, _, _ := strings.Cut(answer, "\r\n\r\n")
	if strings.Contains(header, own+"Error") || !strings.HasPrefix(header, "HTTP/1.1 2") {
		return answer
	}
	return header
}

func TestTheAnswerToHeadHasNoBody(t *testing.T) {
	r := startKinds(t, setup{})
	got := r.rawAnswer("HEAD /portals/x/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	if _, body, _ := strings.Cut(got, "\r\n\r\n"); body != "" || !strings.HasPrefix(got, "HTTP/1.1 400 ") {
		t.Errorf("%q", got)
	}
	response, err := r.client.Head(r.url("/a"))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK || response.ContentLength <= 0 {
		t.Errorf("status %d, length %d", response.StatusCode, response.ContentLength)
	}
}

// unprintable are characters that a terminal takes for commands, for another
// direction of the text or for a line's end, bytes that are no character, and
// others that nobody sees.
const unprintable = "\u009b2J\u202e\u2028\u2029\u0085\u200b\ufeff\u00ad\ue000\U000e0001\u0378\xff\x9b\xc2"

func TestWhatClientsSendIsPrintableInTheLog(t *testing.T) {
	c := startKeyed(t, anonymous)
	server := c.proxy.Server()
	server.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { panic(r.URL.Path + r.Host) })
	faulty := listen(t, func(l net.Listener) { _ = server.Serve(l) })
	t.Cleanup(func() { _ = server.Close() })
	for _, request := range []string{
		"GET /a" + unprintable, "GET /a" + unprintable + "?b" + unprintable, "GET /portals/" + unprintable + "/a", "GET /portals/62515/" + unprintable, "GET /oauth/" + unprintable + "/" + unprintable,
		"TRACE /" + unprintable, "GET mailto:" + unprintable, "GET http://" + unprintable + "/a", "GET /a/%c2%9b2J%e2%80%ae", "GET /oauth/%e2%80%ae/b", "GET /hap_" + unprintable,
	} {
		for _, line := range []string{"X-A: " + unprintable, "Authorization: Bearer {one}", "Authorization: Bearer " + unprintable, "X-HubSpot-Portal-Id: " + unprintable, "User-Agent: " + unprintable} {
			conn := c.raw(strings.NewReplacer("{one}", c.key["one"]).Replace(request + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + line + "\r\n\r\n"))
			_, _ = io.ReadAll(reading(conn))
			_ = conn.Close()
		}
		c.addr, faulty = faulty, c.addr
		_, _ = io.ReadAll(reading(c.raw(request + " HTTP/1.1\r\nHost: a\r\n\r\n")))
		c.addr, faulty = faulty, c.addr
	}
	testkit.Eventually(t, "all is logged", func() bool { return strings.Contains(c.logs.String(), "ended in a panic") })
	c.proxy.Close()
	if n := len(c.accessLog(55)); n != 55 {
		t.Errorf("%d lines", n)
	}
	for text := range strings.Lines(c.logs.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(text), &fields); err != nil {
			t.Fatal(err)
		}
		for name, value := range fields {
			value, _ := value.(string)
			if name != "stack" && (strings.ContainsFunc(value, func(c rune) bool { return !unicode.IsPrint(c) }) || strings.Contains(value, "\ufffd")) {
				t.Errorf("%s is %q", name, value)
			}
		}
		if !utf8.ValidString(text) || strings.ContainsFunc(strings.TrimSuffix(text, "\n"), func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Errorf("%q", text)
		}
	}
	if log := c.logs.String(); !strings.Contains(log, `/a\\u009b2J\\u202e\\u2028\\u2029\\u0085\\u200b\\ufeff\\u00ad\\ue000\\U000e0001\\u0378\\xff\\x9b\\xc2`) {
		t.Errorf("the path is not recognizable:\n%s", log)
	}
}

func TestALineSaysWhoCalled(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	for agent, want := range map[string]string{
		"curl/8.5.0":                         "curl/8.5.0",
		strings.Repeat("a", 200):             strings.Repeat("a", 100),
		"x\x9b31m":                           "",
		"key hap_AAAAAAAAAAAAAAAAAAAAAAAAA":  "key [redacted]",
		"key hap%5FAAAAAAAAAAAAAAAAAAAAAAAA": "[redacted]",
	} {
		r := startKinds(t, setup{})
		r.hub.AllowClientKeys() // nobody has that key, so that it is a text like others
		r.answerTo("GET /a HTTP/1.1\r\nHost: localhost\r\nUser-Agent: " + agent + "\r\nTraceparent: 00-" + id + "-00f067aa0ba902b7-01\r\n\r\n")
		r.accessLog(1)
		line := struct {
			Remote string  `json:"remote"`
			Agent  *string `json:"user_agent"`
			Trace  string  `json:"trace_id"`
		}{}
		for text := range strings.Lines(r.logs.String()) {
			if strings.Contains(text, `"msg":"request"`) {
				if err := json.Unmarshal([]byte(text), &line); err != nil {
					t.Fatal(err)
				}
			}
		}
		if line.Remote != "127.0.0.1" || line.Trace != id || line.Agent == nil || want != "" && *line.Agent != want {
			t.Errorf("%q: %+v", agent, line)
		}
		if strings.ContainsRune(r.logs.String(), '\u009b') || line.Agent != nil && strings.ContainsFunc(*line.Agent, func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Errorf("%q is logged as it is", agent)
		}
	}
}

func TestTheAccessLogOfErrorsHasNothingElse(t *testing.T) {
	r := startKinds(t, setup{proxy: func(o *proxy.Options) { o.AccessLogErrors = true }})
	r.answerTo("GET /good HTTP/1.1\r\nHost: localhost\r\n\r\n")
	r.answerTo("GET /portals/1/refused HTTP/1.1\r\nHost: localhost\r\n\r\n")
	r.answerTo("GET /fake/status?code=399 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	r.answerTo("GET /fake/status?code=400 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	r.answerTo("GET /fake/break?bytes=100000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	lines := r.accessLog(3)
	for i, want := range []int{403, 400, 200} {
		if lines[i].Status != want || lines[i].Complete == (want == 200) {
			t.Errorf("line %d: %+v", i, lines[i])
		}
	}
}
