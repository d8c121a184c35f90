package proxy_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/tokens"
)

// rawAnswer returns all that the proxy sends on a connection of one request.
func (r *rig) rawAnswer(request string) string {
	r.t.Helper()
	conn := r.raw(request)
	text, err := io.ReadAll(reading(conn))
	if err != nil {
		r.t.Fatalf("%q, then %v", text, err)
	}
	return string(text)
}

// sortedHeader sorts the lines of each head in an answer: their order means
// nothing.
func sortedHeader(answer string) []string {
	parts := strings.Split(answer, "\r\n\r\n")
	for i, part := range parts {
		if strings.HasPrefix(part, "HTTP/") {
			lines := strings.Split(part, "\r\n")
			slices.Sort(lines[1:])
			parts[i] = strings.Join(lines, "\n")
		}
	}
	return parts
}

// date is added by net/http to what has none.
const date = "Date: Mon, 02 Jan 2006 15:04:05 GMT\r\n"

func TestTheClientGetsTheAnswerAsHubSpotSentIt(t *testing.T) {
	for name, answer := range map[string]string{
		"no Content-Type is sniffed":   "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 13\r\n\r\n<html></html>",
		"an empty Content-Type":        "HTTP/1.1 200 OK\r\n" + date + "Content-Type: \r\nContent-Length: 1\r\n\r\n<",
		"Set-Cookie and Alt-Svc":       "HTTP/1.1 200 OK\r\n" + date + "Alt-Svc: h3=\":443\"\r\nContent-Length: 0\r\nSet-Cookie: __cf_bm=a; Secure\r\nSet-Cookie: b=c\r\n\r\n",
		"no content":                   "HTTP/1.1 204 No Content\r\n" + date + "X-A: b\r\n\r\n",
		"not modified":                 "HTTP/1.1 304 Not Modified\r\n" + date + "Etag: \"a\"\r\n\r\n",
		"not modified, with a length":  "HTTP/1.1 304 Not Modified\r\ncontent-length: 500\r\n" + date + "Etag: \"a\"\r\ncontent-type: text/csv\r\n\r\n",
		"a redirect, not followed":     "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n" + date + "Location: https://api.hubapi.com/b?c=1;d\r\n\r\n",
		"a status that is nobody's":    "HTTP/1.1 477 status code 477\r\nContent-Length: 1\r\n" + date + "\r\nx",
		"gzip is not decoded":          "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n" + date + "\r\n\x1f\x8bx",
		"a rate limit, byte for byte":  rateLimit,
		"chunked stays chunked":        "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"trailers":                     "HTTP/1.1 200 OK\r\n" + date + "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n",
		"informational, with a header": "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n" + date + "Content-Length: 1\r\n\r\n<",
		"a server's own timing":        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + date + "Server: cloudflare\r\nServer-Timing: hcid;desc=\"a\"\r\nX-Robots-Tag: none\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, setup{proxy: script(t, answer).set})
			r.connect(portalID)
			got := r.rawAnswer("GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			got = strings.Replace(got, "Connection: close\r\n", "", 1)
			if diff := cmp.Diff(sortedHeader(answer), sortedHeader(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

const rateLimit = "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 19\r\nContent-Type: application/json\r\n" + date +
	"Retry-After: 10\r\nX-Hubspot-Ratelimit-Max: 110\r\n\r\n{\"status\": \"error\"}"

func TestHopByHopHeadersOfAnAnswerAreTakenOut(t *testing.T) {
	r := start(t, setup{proxy: script(t, "HTTP/1.1 200 OK\r\n"+date+"Connection: x-a\r\nX-A: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2\r\nContent-Length: 0\r\n\r\n").set})
	r.connect(portalID)
	got := r.answerTo(head())
	if diff := cmp.Diff(http.Header{"Date": {"Mon, 02 Jan 2006 15:04:05 GMT"}, "Content-Length": {"0"}}, got.Header); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestHopByHopHeadersOfAnInformationalAnswerAreTakenOut(t *testing.T) {
	for _, request := range []string{head("Connection: close"), "POST /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"} {
		set, _ := byHand(t, func(_ int64, conn net.Conn, from *bufio.Reader) {
			_, _ = http.ReadRequest(from)
			_, _ = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nConnection: x-a,, Keep-Alive ,Upgrade\r\nX-A: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2\r\nLink: </a>\r\n\r\n"+
				"HTTP/1.1 200 OK\r\n"+date+"X-A: 2\r\nContent-Length: 0\r\n\r\n")
		})
		r := start(t, setup{proxy: set})
		r.connect(portalID)
		want := "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n" + date + "X-A: 2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
		if diff := cmp.Diff(sortedHeader(want), sortedHeader(r.rawAnswer(request))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// Connection names trailers too (RFC 9110 section 7.6.1).
func TestHopByHopTrailersOfAnAnswerAreTakenOut(t *testing.T) {
	const chunked = "Transfer-Encoding: chunked\r\n"
	for name, announced := range map[string]string{"announced": "Trailer: X-A, X-B\r\n", "one announced": "Trailer: X-A\r\n", "not announced": ""} {
		r := start(t, setup{proxy: script(t, "HTTP/1.1 200 OK\r\n"+date+"Connection: x-a, keep-alive\r\n"+announced+chunked+"\r\n3\r\nabc\r\n0\r\nX-A: 1\r\nX-B: 2\r\nConnection: x-c\r\nKeep-Alive: 1\r\nX-C: 3\r\n\r\n").set})
		r.connect(portalID)
		got := r.rawAnswer(head("Connection: close"))
		if strings.Contains(got, "X-A") || strings.Contains(got, "Keep-Alive") || strings.Contains(got, "x-c") || !strings.Contains(got, "X-B: 2\r\n") || !strings.Contains(got, "X-C: 3\r\n") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestAnUnmodifiedAnswerKeepsItsContentLengthInEachProtocol(t *testing.T) {
	r := start(t, setup{proxy: script(t, "HTTP/1.1 304 Not Modified\r\n"+date+"Content-Length: 500\r\nContent-Type: text/csv\r\n\r\n").set})
	r.connect(portalID)
	want := http.Header{"Date": {"Mon, 02 Jan 2006 15:04:05 GMT"}, "Content-Length": {"500"}, "Content-Type": {"text/csv"}}
	for _, method := range []string{"GET", "HEAD"} {
		got := r.answerTo(method + " /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if diff := cmp.Diff(want, got.Header); diff != "" || got.StatusCode != http.StatusNotModified || got.Close || got.err != nil {
			t.Errorf("%s: %d, closed %v, %v (-want +got):\n%s", method, got.StatusCode, got.Close, got.err, diff)
		}
		for _, secured := range []bool{false, true} {
			server := r.overHTTP2(secured)
			request, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/a", nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := server.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, response.Header); diff != "" || response.ProtoMajor != 2 {
				t.Errorf("%s over %s (-want +got):\n%s", method, response.Proto, diff)
			}
			_ = response.Body.Close()
		}
	}
}

func TestHeadKeepsItsContentLength(t *testing.T) {
	r := start(t, setup{proxy: script(t, "HTTP/1.1 200 OK\r\n"+date+"Content-Length: 12345\r\n\r\n").set})
	r.connect(portalID)
	got := r.answerTo("HEAD /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if diff := cmp.Diff(http.Header{"Date": {"Mon, 02 Jan 2006 15:04:05 GMT"}, "Content-Length": {"12345"}}, got.Header); diff != "" || got.Close {
		t.Errorf("closed: %v (-want +got):\n%s", got.Close, diff)
	}
}

func TestWhatTheFakeHubSpotAnswersPasses(t *testing.T) {
	r := startKinds(t, setup{})
	zipped := r.answerTo("GET /fake/gzip HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n")
	if reader, err := gzip.NewReader(bytes.NewReader([]byte(zipped.text))); err != nil {
		t.Error("gzip was decoded:", err)
	} else if text, err := io.ReadAll(reader); err != nil || !strings.Contains(string(text), "HubSpot") {
		t.Errorf("%q, %v", text, err)
	}
	trailers := r.answerTo("GET /fake/trailers HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if diff := cmp.Diff([]string{"one", "two"}, trailers.Trailer["X-Fake-Part"]); diff != "" {
		t.Error(diff)
	}
	if hints := r.answerTo("GET /fake/hints HTTP/1.1\r\nHost: localhost\r\n\r\n"); hints.Header["Content-Type"] != nil || hints.Header["Link"] != nil {
		t.Errorf("after the hints: %v", hints.Header)
	}
	limited := r.answerTo("GET /fake/status?code=429 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if limited.StatusCode != http.StatusTooManyRequests || limited.Header.Get("X-Hubspot-Ratelimit-Max") != "110" || !strings.Contains(limited.text, "RATE_LIMIT") {
		t.Errorf("%d %v %s", limited.StatusCode, limited.Header, limited.text)
	}
}

func TestACredentialThatHubSpotReflectsIsTakenOut(t *testing.T) {
	r := startKinds(t, setup{})
	for _, portal := range []string{portalID, staticPortal, keyPortal} {
		for _, path := range []string{
			"/fake/reflect",
			"/fake/redirect?to=" + url.QueryEscape("https://api.hubapi.com/b"),
			"/fake/redirect?to=" + url.QueryEscape("https://api.hubapi.com/b?c=1"),
			"/fake/redirect?to=/b",
		} {
			got := r.rawAnswer("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-HubSpot-Portal-Id: " + portal + "\r\n\r\n")
			noSecret(t, path+" of "+portal, got)
		}
	}
	got := r.answerTo("GET /fake/redirect?to=/b?c=1%23d HTTP/1.1\r\nHost: localhost\r\nX-HubSpot-Portal-Id: " + keyPortal + "\r\n\r\n")
	if location := got.Header.Get("Location"); !strings.HasPrefix(location, "/b?c=1#d") {
		t.Errorf("Location is %q", location)
	}
}

func TestACredentialIsTakenOutOfHintsTrailersAndWhatEscapesIt(t *testing.T) {
	const key = "hst-canary/with+more=" // is escaped in a query
	answer := "HTTP/1.1 103 Early Hints\r\nLink: </a?hapikey=" + key + ">\r\n\r\n" +
		"HTTP/1.1 302 Found\r\nLocation: https://h/a?b=1&hapikey=" + url.QueryEscape(key) + "&c=2#d\r\nX-A: " + key + "\r\n" +
		"Trailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-T: " + key + "\r\nX-Late: " + key + "\r\n\r\n"
	upstream := script(t, answer)
	r := start(t, setup{proxy: upstream.set})
	r.seed(portalID, tokens.APIKey, key)
	got := r.rawAnswer("GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	noSecret(t, "the answer", got)
	for _, want := range []string{"Location: https://h/a?b=1&c=2#d\r\n", "X-A: [redacted]\r\n", "X-T: [redacted]\r\n", "X-Late: [redacted]\r\n", "</a?hapikey=[redacted]>"} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
	if line, _, _ := strings.Cut(upstream.request(t), "\r\n"); line != "GET /a?hapikey="+url.QueryEscape(key)+" HTTP/1.1" {
		t.Errorf("sent as %q", line)
	}
}

func TestARedirectThatReflectsNothingPassesAsItIs(t *testing.T) {
	const location = "Location: https://app.hubspot.com/x?hapikey=somebody-elses&a=b"
	r := start(t, setup{proxy: script(t, "HTTP/1.1 302 Found\r\n"+location+"\r\nContent-Length: 0\r\n\r\n").set})
	r.connect(portalID)
	if got := r.rawAnswer(head("Connection: close")); !strings.Contains(got, location+"\r\n") {
		t.Error(got)
	}
}
